"""``clients/`` of a bundle: other languages make the same pixels, bit for bit."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from helpers_clients import SOURCES, Case, answers, build, deviations, missing, random_case
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_transfer.preprocessing import Preprocessing

pytestmark = pytest.mark.slow


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_same_pixels_bit_for_bit(client, tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    cases = [random_case(rng, scaled=place % 4 == 0) for place in range(150)]
    assert not deviations(client, cases, tmp_path_factory.mktemp("cases"))


def test_the_edges_of_the_contract(client, tmp_path):
    """One pixel, one row, one column, the size itself, every orientation, and pictures that are shrunk down first."""
    rng = np.random.default_rng(0)
    rules = [
        Preprocessing((7, 5), rule, name, antialias)
        for rule in ("squash", "crop", "pad")
        for name, antialias in (("nearest", True), ("bilinear", True), ("bicubic", False), ("lanczos", True))
    ]
    sizes = [(1, 1), (1, 300), (300, 1), (7, 5), (5, 7), (14, 10), (200, 31), (61, 40)]
    cases = [
        Case(contract, rng.integers(0, 256, (*size, 3), np.uint8), orientation)
        for contract in rules
        for size in sizes
        for orientation in (1, 2, 3, 4, 5, 6, 7, 8)
    ]
    assert not deviations(client, cases, tmp_path)


def test_a_camera_photo_and_very_thin_pictures(client, tmp_path):
    rng = np.random.default_rng(7)
    whole, narrow = Preprocessing((224, 224)), Preprocessing((96, 64), "pad", "lanczos")
    sizes = [(1, 1), (1, 4000), (4000, 1), (3, 2999), (2999, 2)]
    cases = [
        Case(rule, rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes for rule in (whole, narrow)
    ]
    cases.append(Case(whole, rng.integers(0, 256, (3000, 4000, 3), np.uint8), orientation=6))
    assert not deviations(client, cases, tmp_path)


def test_the_scale_of_a_jpeg(client, tmp_path):
    pixel = np.zeros((1, 1), np.uint8)
    contract = Preprocessing((32, 48), "pad", "bicubic")
    cases = [
        Case(contract, np.zeros(size, np.uint8), orientation, scaled=scaled)
        for size in ((512, 768), (511, 768), (768, 512), (128, 192), (127, 191))
        for orientation in (1, 6)
        for scaled in (True, False)
    ]
    told = [scale for scale, _ in answers(client, cases, tmp_path)]
    assert told == [case.expected()[0] for case in cases] and {1, 2, 4, 8} == set(told)
    nearest = Case(
        replace(contract, interpolation="nearest"), pixel.repeat(900, 0).repeat(900, 1), scaled=True
    )
    assert answers(client, [nearest], tmp_path)[0][0] == 1


def test_an_older_pillow_shrinks_across_first(client, tmp_path):
    """Only the order of the two passes differs, so a tall picture differs and a wide one does not."""
    rng = np.random.default_rng(3)
    contract = Preprocessing((20, 20), "squash", "bicubic")
    data = (rng.integers(0, 2, (200, 40, 3)) * 255).astype(np.uint8)
    cases = [Case(contract, data, pillow=pillow) for pillow in (13, 12)]
    cases += [replace(case, data=data.swapaxes(0, 1).copy()) for case in cases]
    (_, tall), (_, tall_before), (_, wide), (_, wide_before) = answers(client, cases, tmp_path)
    assert (tall != tall_before).any() and np.array_equal(wide, wide_before)
    # Each pass by itself: there is one order, in every version.
    across = Image.fromarray(data).resize((20, 200), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(tall_before, across.resize((20, 20), Image.Resampling.BICUBIC))


BROKEN = {
    "javascript": (
        "else weight[place++] = rounded;",
        "else weight[place++] = rounded ^ (i === 3 ? 1 << 16 : 0);",
    ),
    "java": ("kept++] = rounded;", "kept++] = rounded ^ (i == 3 ? 1 << 16 : 0);"),
    "cpp": ("+ share * (1 << kBits));", "+ share * (1 << kBits)) ^ (i == 3 ? 1 << 16 : 0);"),
}


def test_one_bit_of_one_pixels_weights_is_noticed(language, tmp_path):
    source = shutil.copytree(SOURCES / language, tmp_path / "source")
    was, becomes = BROKEN[language]
    (path,) = (path for path in source.iterdir() if path.stem.lower() == "preprocess")
    text = path.read_text()
    assert text.count(was) == 1
    path.write_text(text.replace(was, becomes))
    rng = np.random.default_rng(1)
    cases = [Case(Preprocessing((8, 8)), rng.integers(0, 256, (50, 60, 3), np.uint8)) for _ in range(4)]
    assert len(deviations(build(language, tmp_path, source), cases, tmp_path)) == len(cases)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (7, 0, "pixels"),
        (0, 0, "size"),
        (11, 3, "scale"),
        (11, 2, "at this scale|at 1/2"),
        (4, 0, "antialias"),
    ],
)
def test_what_cannot_be_is_refused(client, tmp_path, place, value, words):
    raw = bytearray(Case(Preprocessing((4, 4), interpolation="area"), np.zeros((6, 6), np.uint8)).encoded())
    raw[4 * place : 4 * place + 4] = np.int32(value).tobytes()
    (tmp_path / "bad.bin").write_bytes(raw)
    command = [*client, str(tmp_path / "bad.bin"), str(tmp_path / "none.bin")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode and any(word in done.stderr for word in words.split("|")), done.stderr
    assert not (tmp_path / "none.bin").exists() or not (tmp_path / "none.bin").stat().st_size


@pytest.mark.nightly
def test_the_arena_is_never_left(tmp_path):
    """What g++'s sanitizers watch: memory beyond the arena, and arithmetic that is not defined."""
    if missing("cpp"):
        pytest.skip(missing("cpp"))
    command = build("cpp", tmp_path, flags=["-fsanitize=address,undefined", "-fno-sanitize-recover"])
    rng = np.random.default_rng(2)
    assert not deviations(
        command, [random_case(rng, scaled=place % 2 == 0) for place in range(150)], tmp_path
    )
