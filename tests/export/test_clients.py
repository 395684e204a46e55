"""``clients/`` of a bundle: other languages make the same pixels, bit for bit, and tell the same of an answer."""

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import helpers_clients
import numpy as np
import pytest
from helpers_clients import (
    DRIVERS,
    GXX,
    SOURCES,
    TOOLS,
    Case,
    answers,
    build,
    deviations,
    missing,
    random_case,
)
from helpers_export import small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.errors import UsageError
from keras_transfer.export import export_model, load_bundle
from keras_transfer.export.clients import CONTRACT, contract_header
from keras_transfer.export.standalone import classify
from keras_transfer.litert import TensorInfo, store
from keras_transfer.normalization import Normalization
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions
from keras_transfer.workflow.verify import verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session", params=TOOLS)
def language(request):
    if missing(request.param):
        pytest.skip(f"{missing(request.param)}: its client cannot be run")
    return request.param


@pytest.fixture(scope="session")
def compiler(tmp_path_factory):
    """Each language's folder of what was compiled, and the command that puts cases through its client; made once."""

    @functools.cache
    def compiled(language):
        folder = tmp_path_factory.mktemp(language)
        return folder, build(language, folder)

    return compiled


@pytest.fixture(scope="session")
def built(language, compiler):
    return compiler(language)


@pytest.fixture(scope="session")
def client(built):
    return built[1]


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


# What an answer means.

LABELS = ("day", "Straße", 'a "b" \\ ?', "d", "e")
NOTES = {
    "one": {
        "thresholds": dict(zip(LABELS, (0.5, 0.3, 0.2, 0.9, 0.1), strict=True)),
        "classes": {"ignore_index": 255},
        "comparison": {"kind": "weighted_l1", "weights": [0.5, -0.25, 2.0], "bias": 1.5, "threshold": 0.5},
    },
    "two": {
        "thresholds": None,
        "classes": {"ignore_index": 9},
        "comparison": {"kind": "cosine", "weights": None, "bias": None, "threshold": 0.7},
    },
    "values": {"comparison": {"kind": "euclidean", "weights": None, "bias": 0.0, "threshold": None}},
}
CONTRACTS = {
    "one": Preprocessing((6, 9), "crop"),
    "two": Preprocessing((8, 5), "pad"),
    "values": Preprocessing((4, 4)),
}

INPUTS = [
    replace(TensorInfo.plain("image", (None, 4, 4, 3), kind), normalization=Normalization.to_range(*reach))
    for kind, reach in (("float32", (0, 255)), ("float32", (0, 1)), ("float32", (-1, 1)), ("uint8", (0, 255)))
]
MODEL = "0123456789abcdef" * 4
GOLDEN = {"images": [{"image": "a.png", "input": "b.png"}], "pixel_tolerance": 1}
INPUTS.append(replace(INPUTS[1], dtype=np.dtype("uint8"), scale=1 / 255))
INPUTS.append(replace(INPUTS[0], dtype=np.dtype("int8"), scale=1.0, zero_point=-128))


@pytest.fixture(scope="session", params=NOTES)
def noted(request):
    """Which of :data:`NOTES`."""
    return request.param


@pytest.fixture(scope="session")
def decider(noted, language, compiler, tmp_path_factory):
    """A bundle's folder as far as it is needed, what it says, and ``run(numbers, what, ...)``, the lines it tells."""
    folder = tmp_path_factory.mktemp("decide")
    kind = "values" if noted == "values" else "probabilities"
    bundle = {
        "schema": 1,
        "labels": LABELS,
        "notes": NOTES[noted],
        "output": {"kind": kind},
        "preprocessing": CONTRACTS[noted].to_dict(),
        "training": {"model": MODEL},
        "versions": {"pillow": "13.0.0"},
        "artefacts": [
            {"file": f"{i}.tflite", "inputs": [one.to_dict()], "input_range": one.normalization.range}
            for i, one in enumerate(INPUTS)
        ],
    }
    (folder / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
    command = {
        "javascript": ["node", str(DRIVERS / "decide.mjs"), str(SOURCES / "javascript" / "decide.mjs")],
        "java": [*helpers_clients.java(compiler("java")[0]), "Decide"] if language == "java" else [],
        "cpp": [str(folder / "decide")],
    }
    if language == "cpp":
        (folder / CONTRACT).write_text(contract_header(bundle, GOLDEN), encoding="utf-8")
        places = ["-I", str(SOURCES / "cpp"), "-I", str(folder)]
        helpers_clients.run([*GXX, *places, str(DRIVERS / "decide.cc"), "-o", str(folder / "decide")])

    def run(numbers, what, *arguments, gallery=b"", folder=folder):
        (folder / "numbers.bin").write_bytes(np.asarray(numbers, "<f4").tobytes())
        (folder / "gallery.bin").write_bytes(gallery)
        command_line = [*command[language], str(folder), what, *map(str, arguments)]
        done = subprocess.run(command_line, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split("\n")[:-1]

    return bundle, run


@pytest.mark.parametrize(
    "numbers",
    [
        [0.2, 0.3, 0.2, 0.9, 0.1],
        [0.5, 0.29999, 0.2, 0.5, 0.0],
        [0.0, -0.0, 0.0, -0.0, 0.0],
        [0.5, 0.3, 0.2, 0.9, 0.1],  # each threshold itself
        [np.nextafter(np.float32(one), np.float32(0)) for one in (0.5, 0.3, 0.2, 0.9, 0.1)],
        [-3.5, 1e-30, 65504.0, -1e9, 1.0],
    ],
)
def test_labels_are_those_of_classify_py(decider, numbers):
    bundle, run = decider
    answer = np.array(numbers, np.float32)
    wanted = classify.told(bundle, answer, 2)
    told = [
        (int(index), float(value))
        for index, value in (line.split() for line in run(numbers, "classify") if line)
    ]
    if bundle["output"]["kind"] == "values":
        lines = [f"{LABELS[index]} {value:.4g}" for index, value in told]
    else:
        lines = [f"{LABELS[index]} {100 * np.float32(value):.1f} %" for index, value in told] or ["no label"]
    # JavaScript writes -0 as 0; where it stands among the others is what counts.
    assert [re.sub(r" -0(\.0 %)?$", r" 0\1", line) for line in lines] == [
        re.sub(r" -0(\.0 %)?$", r" 0\1", line) for line in wanted
    ]


def test_answers_that_are_no_numbers_are_refused(decider):
    _, run = decider
    assert run([0.1, float("nan"), 0.2, 0.3, 0.4], "classify")[0].startswith("refused: ")


def test_what_a_model_takes_is_what_ours_is_given(decider):
    """Pixels as they are, or scaled to the range of the file."""
    _, run = decider
    levels = np.arange(256, dtype=np.uint8)
    wanted = np.concatenate([store(levels, one).astype(np.float32) for one in INPUTS])
    np.testing.assert_array_equal(np.array(run([0.0], "input"), np.float64).astype(np.float32), wanted)


def script(monkeypatch, package, name):
    """A script that a plugin brings into bundles; beside it there is ``classify.py``."""
    place = Path(pytest.importorskip(package).__file__).with_name("standalone") / f"{name}.py"
    monkeypatch.setitem(sys.modules, "classify", classify)
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)  # the script sets it
    spec = importlib.util.spec_from_file_location(name, place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("noted", ["one", "two"], indirect=True)
@pytest.mark.parametrize("size", [(13, 31), (40, 7), (8, 5), (1, 1)])
def test_masks_are_those_of_segment_py(decider, monkeypatch, size):
    segment = script(monkeypatch, "keras_transfer_segmentation", "segment")
    bundle, run = decider
    height, width = bundle["preprocessing"]["size"]
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(len(LABELS)), (height, width)).astype(np.float32)
    ignored = bundle["notes"]["classes"]["ignore_index"]
    wanted = segment.restore_mask(chances, bundle["preprocessing"], size, ignored)
    told = np.array(run(chances, "mask", size[1], size[0]), np.int64).reshape(size)
    np.testing.assert_array_equal(told, wanted)


def test_likeness_is_that_of_recognise_py(decider, monkeypatch):
    recognise = script(monkeypatch, "keras_transfer_siamese", "recognise")
    bundle, run = decider
    pair = np.random.default_rng(4).normal(size=(2, 3)).astype(np.float32)
    wanted = recognise.alike(bundle["notes"]["comparison"], pair[0], pair[1][None])[0]
    assert float(run(pair, "alike")[0]) == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("language", ["javascript", "java"], indirect=True)
def test_a_name_or_none(decider):
    """Of embeddings that a program has; C++ takes a gallery's."""
    bundle, run = decider
    pair = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    told = run(pair, "match", 1.5)
    if bundle["notes"]["comparison"]["threshold"] is None:
        assert "threshold" in told[0] and told[0].startswith("refused")
    else:
        # Of two names with equal scores the first; above every score: unknown.
        assert told in (["a", "null"], ["a", ""])


def enrolled(bundle, path, threshold=0.5):
    """A gallery of the bundle's model with a few names, as SQLite in a file, and as its bytes for clients."""
    comparison = importlib.import_module("keras_transfer_siamese.comparison").Comparison
    module = importlib.import_module("keras_transfer_siamese.gallery")
    identity = importlib.import_module("keras_transfer_siamese.identity").Identity(
        MODEL, "one", "float32", MODEL
    )
    rule = comparison.from_dict({**bundle["notes"]["comparison"], "bias": 1.5, "threshold": threshold})
    binding = module.Binding(identity, CONTRACTS["one"], rule, 3)
    rng = np.random.default_rng(5)
    with module.create_gallery(path, binding) as gallery:
        for place, (name, count) in enumerate((("Zoë", 2), ("anna", 3), ("王", 1), ('Bo "b"', 2))):
            values = rng.normal(size=(count, 3)).astype(np.float32)
            gallery.enroll(
                name, [module.Picture("a.png", f"{place}{i}", one) for i, one in enumerate(values)]
            )
        twin = module.Picture("b.png", "twin", values[0])
        gallery.enroll("Aaron", [twin])  # as alike as another one
        entries = gallery.entries()
    exporting = importlib.import_module("keras_transfer_siamese.exporting")
    return entries, exporting.as_bytes(binding, entries)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_the_enrolled_name_is_that_of_recognise_py(decider, monkeypatch, tmp_path, threshold):
    recognise = script(monkeypatch, "keras_transfer_siamese", "recognise")
    bundle, run = decider
    entries, content = enrolled(bundle, tmp_path / "gallery.sqlite", threshold)
    reference = recognise.Gallery(tmp_path / "gallery.sqlite", bundle)
    queries = [*np.random.default_rng(6).normal(size=(3, 3)).astype(np.float32), entries.embeddings[-1]]
    for query in queries:
        best = reference.best(query, 3)
        known, *told = run(query, "gallery", gallery=content)
        if threshold is None:
            assert known == "refused: No threshold was chosen for this model; give one."
            continue
        assert known == (best[0][0] if np.float32(best[0][1]) >= np.float32(threshold) else "unknown")
        assert [line.rsplit(" ", 1)[0] for line in told] == [name for name, _ in best]
        scores = [float(line.rsplit(" ", 1)[1]) for line in told]
        np.testing.assert_allclose(scores, [score for _, score in best], atol=2e-6)


def changed(content, at, value):
    return content[:at] + value + content[at + len(value) :]


@pytest.mark.parametrize("noted", ["one"], indirect=True)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda content: b"SQLite format 3" + content,
            "This is no gallery.bin; `keras-transfer siamese gallery",
        ),
        (lambda content: content[:100], "This is no gallery.bin; `keras-transfer siamese gallery"),
        (lambda content: changed(content, 8, b"\2\0\0\0"), "version"),
        (lambda content: content[:-4], "The gallery is damaged: "),
        (lambda content: changed(content, 20, b"\xff\xff\xff\x7f"), "The gallery is damaged: "),
        (lambda content: changed(content, 24, b"\3\0\0\0"), "The gallery is damaged: "),
        (lambda content: changed(content, 124, b"\7\0\0\0"), "The gallery is damaged: "),  # a name's images
        (
            lambda content: changed(content, 48, b"f" * 64),
            "The gallery holds embeddings of another model than",
        ),
    ],
)
def test_a_gallery_that_cannot_be_read_is_refused(decider, tmp_path, change, words):
    pytest.importorskip("keras_transfer_siamese")
    bundle, run = decider
    _, content = enrolled(bundle, tmp_path / "gallery.sqlite")
    (told,) = run([1.0, 0.0, 0.0], "gallery", gallery=change(content))
    assert told.startswith("refused: ") and words in told


REFUSED = {
    "javascript": {
        (0, 5, 0): "The picture is 0 x 5 pixels; whole numbers of at least 1 are expected.",
        (
            4,
            5,
            59,
        ): "The picture of 4 x 5 pixels has 59 values; 1, 3 or 4 a pixel are expected, of 16 bits 1.",
    },
    "java": {
        (0, 5, 0): "The picture is 0 x 5 pixels; at least 1 x 1 is expected.",
        (4, 5, 59): "The picture of 4 x 5 pixels has 59 values; 1, 3 or 4 a pixel are expected.",
    },
    "cpp": {
        (0, 5, 0): "The picture has no pixels; at least 1 x 1 is expected.",
        (4, 5, 59): "The picture's buffer is too short for its size and format.",
    },
}


@pytest.mark.parametrize("noted", ["two"], indirect=True)
@pytest.mark.parametrize("picture", [(0, 5, 0), (4, 5, 59)])
def test_a_picture_that_cannot_be_is_refused_in_a_sentence(decider, language, picture):
    """No size, or a buffer whose length does not fit."""
    _, run = decider
    assert run([0.0], "picture", *picture) == [f"refused: {REFUSED[language][picture]}"]
    assert run([0.0], "picture", 4, 5, 60) == ["fine"]


@pytest.mark.parametrize("noted", ["two"], indirect=True)
@pytest.mark.parametrize("language", ["javascript", "java"], indirect=True)
def test_a_newer_schema_is_refused_in_a_sentence(decider, tmp_path):
    bundle, run = decider
    (tmp_path / "bundle.json").write_text(json.dumps({**bundle, "schema": 2}))
    assert run([0.0], "picture", 4, 5, 60, folder=tmp_path) == [
        "refused: bundle.json has schema 2; this file knows 1. Use the one of the bundle."
    ]
    newer = {**bundle["preprocessing"], "version": 3}
    (tmp_path / "bundle.json").write_text(json.dumps({**bundle, "preprocessing": newer}))
    (told,) = run([0.0], "picture", 4, 5, 60, folder=tmp_path)
    assert re.match(
        r"refused: The preprocessing has version 3(\.0)?; this file knows up to 2. Use the ", told
    )


@pytest.mark.parametrize("noted", ["two"], indirect=True)
@pytest.mark.parametrize("language", ["cpp"], indirect=True)
def test_a_newer_contract_is_not_compiled_with_older_headers(decider, tmp_path):
    bundle, _ = decider
    (tmp_path / CONTRACT).write_text(contract_header({**bundle, "schema": 2}, GOLDEN), encoding="utf-8")
    command = [*GXX, "-I", str(SOURCES / "cpp"), "-fsyntax-only", "-x", "c++", str(tmp_path / CONTRACT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode
    assert "bundle.json has schema 2; these headers know an older one. Use the bundle's." in done.stderr


# In a bundle.


def self_test(language, folder, bundle):
    """Its exit code, and what it says. ``folder``: what was compiled, or where to compile to."""
    client = bundle / "clients" / language
    if language == "cpp" and not (folder / "selftest").exists():
        helpers_clients.run([*GXX, str(client / "selftest.cc"), "-o", str(folder / "selftest")])
    command = {
        "javascript": ["node", str(client / "selftest.mjs")],
        "java": [*helpers_clients.java(folder), "SelfTest", str(bundle)],
        "cpp": [str(folder / "selftest"), str(bundle)],
    }
    done = subprocess.run(command[language], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_the_self_test_of_a_bundle(language, built, bundle_copy):
    code, told = self_test(language, built[0], bundle_copy)
    images = load_bundle(bundle_copy).golden()["images"]
    assert code == 0 and told.count("pixels identical") == len(images) and told.endswith("passed\n"), told
    first, second = (bundle_copy / images[place]["input"] for place in (0, 1))
    shutil.copyfile(first, second)
    code, told = self_test(language, built[0], bundle_copy)
    assert code == 1 and "bytes differ" in told and told.endswith("FAILED\n"), told


@pytest.fixture(scope="session")
def camera_bundle(photos, shared):
    """A bundle whose photos are so large that they are decoded at a part of their size."""

    def make(folder):
        for name, photo in photos.items():
            (folder / "photos" / name).mkdir(parents=True)
            large = Image.fromarray(photo).resize((1641, 1231), Image.Resampling.BICUBIC)
            for number in range(5):
                large.rotate(number).save(folder / "photos" / name / f"{number}.jpg")
        export_model(
            small_network(),
            folder / "edge",
            formats=("tflite",),
            table=load_data(folder / "photos", val_fraction=0.0, test_fraction=0.8, min_per_class=1),
            preprocessing=Preprocessing((96, 96)),
            allow_parity_failure=True,
        )

    return shared("camera_bundle", make) / "edge"


def test_a_jpeg_that_is_decoded_at_a_part_of_its_size_is_replayed(language, built, camera_bundle, tmp_path):
    """Its pixels are there as the reference decoded them; what is not proven, the decoder, is counted."""
    golden = load_bundle(camera_bundle).golden()["images"]
    (row,) = (row for row in golden if "decoded" in row)
    own = tmp_path if language == "cpp" else built[0]
    code, told = self_test(language, own, camera_bundle)
    assert code == 0 and told.count("pixels identical") == len(golden), told
    assert f"{row['decoded']}: pixels identical" in told and f"{row['image']}: left out" in told
    assert told.endswith("passed; left out: 1\n"), told
    sizes = (camera_bundle / row["decoded"]).stat().st_size, (camera_bundle / row["image"]).stat().st_size
    assert sizes[0] < 300_000 and row["scale"] in (2, 4, 8), sizes
    # Another picture in its place, and a picture decoded at another part, turn it red.
    copy = Path(shutil.copytree(camera_bundle, tmp_path / "copy"))
    with Image.open(copy / row["decoded"]) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy / row["decoded"])
    code, told = self_test(language, own, copy)
    assert code == 1 and "FAILED; left out: 1" in told, told


@pytest.mark.parametrize("language", ["javascript", "java"], indirect=True)
def test_another_label_turns_the_self_test_red(language, built, bundle_copy):
    """In C++ they are compiled in."""
    info = json.loads((bundle_copy / "bundle.json").read_text())
    info["labels"] = info["labels"][::-1]
    (bundle_copy / "bundle.json").write_text(json.dumps(info))
    code, told = self_test(language, built[0], bundle_copy)
    assert code == 1 and "labels" in told and "WRONG" in told, told


def test_answers_are_replayed_where_a_runner_is_given(small_bundle, tmp_path):
    if missing("javascript"):
        pytest.skip(missing("javascript"))
    golden = json.loads((small_bundle / "golden" / "golden.json").read_text())
    (tmp_path / "run.mjs").write_text(
        f"""
        import {{ readFile }} from "node:fs/promises";
        import {{ selfTest }} from {json.dumps((small_bundle / "clients/javascript/selftest.mjs").as_uri())};
        const read = async (name) => new Uint8Array(await readFile({json.dumps(str(small_bundle))} + "/" + name));
        const expected = {json.dumps(golden["expected"])};
        for (const wrong of [0, 0.2, NaN]) {{
          let asked = 0;
          const next = (rows) => rows[asked++ % rows.length];
          const run = async (file) => next(expected[file]).map((x, i) => x + (i ? wrong : 0));
          console.log((await selfTest(read, {{ run }})).filter((row) => !row.passed).map((row) => row.what).join());
        }}
        """
    )
    done = subprocess.run(["node", str(tmp_path / "run.mjs")], capture_output=True, text=True, timeout=60)
    files = ",".join(
        golden["expected"][file] and file for file in golden["expected"] if file.endswith(".tflite")
    )
    assert done.stdout.split("\n") == ["", files, files, ""], done.stdout + done.stderr


def test_a_bundle_carries_and_proves_them(small_bundle, bundle_copy):
    listed = load_bundle(small_bundle).record.files
    names = {name.removeprefix("clients/") for name in listed if name.startswith("clients/")}
    assert names == {
        "javascript/preprocess.mjs", "javascript/decide.mjs", "javascript/selftest.mjs",
        "javascript/gallery.mjs",
        "java/Preprocess.java", "java/Bundle.java", "java/SelfTest.java", "java/Gallery.java",
        "cpp/preprocess.hpp", "cpp/decide.hpp", "cpp/gallery.hpp", "cpp/selftest.cc", "cpp/contract.hpp",
        "web/index.html", "web/page.css", "web/page.mjs", "web/answers.mjs", "web/model.mjs", "web/photo.mjs",
        "web/proof.mjs",
    }  # fmt: skip
    for name in names - {f"cpp/{CONTRACT}"}:
        assert (small_bundle / "clients" / name).read_bytes() == (SOURCES / name).read_bytes()
    changed = bundle_copy / "clients" / "cpp" / "contract.hpp"
    changed.write_text(changed.read_text().replace("bilinear", "bicubic"))
    with pytest.raises(Exception, match=r"clients/cpp/contract\.hpp"):
        verify(bundle_copy)


def test_the_examples_of_the_page_are_programs(small_bundle, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL))
    (tmp_path / "page.mjs").write_text(blocks["js"])
    (tmp_path / "page.cc").write_text(blocks["cpp"])
    if not missing("javascript"):
        helpers_clients.run(["node", "--check", str(tmp_path / "page.mjs")])
        for name in re.findall(r'from "./(.*?)"', blocks["js"]):
            assert (small_bundle / name).is_file()
    if not missing("cpp"):
        helpers_clients.run([*GXX, "-I", str(small_bundle), "-fsyntax-only", str(tmp_path / "page.cc")])


def test_which_languages_is_an_option():
    assert ExportOptions().clients == ("javascript", "java", "cpp", "web")
    assert (
        ExportOptions.of(clients=["cpp"]).clients == ("cpp",) and ExportOptions.of(clients=()).clients == ()
    )
    with pytest.raises(UsageError, match="javascript"):
        ExportOptions.of(clients=["javascrpt"])


def test_thresholds_of_an_embedding_are_no_labels_thresholds():
    """siamese notes some for rates of false acceptance: C++ knows the comparison, and none for numbers."""
    notes = {"thresholds": {"0.01": 0.7}, "comparison": {"kind": "cosine", "threshold": 0.5}}
    info = {
        "schema": 1,
        "labels": ["d0", "d1"],
        "output": {"kind": "embeddings"},
        "notes": notes,
        "preprocessing": Preprocessing((8, 8)).to_dict(),
        "versions": {"pillow": "13.0.0"},
        "artefacts": [],
    }
    header = contract_header(info, GOLDEN)
    assert "Comparison::Kind::cosine" in header and "thresholds" not in header
