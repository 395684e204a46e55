"""``clients/`` of a bundle: other languages tell the same of an answer, and refuse the same."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import helpers_clients
import numpy as np
import pytest
from helpers_clients import DRIVERS, GXX, SOURCES

from keras_transfer.export.clients import CONTRACT, contract_header
from keras_transfer.export.standalone import classify
from keras_transfer.litert import TensorInfo, store
from keras_transfer.normalization import Normalization
from keras_transfer.preprocessing import Preprocessing

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("noted", ["one"], indirect=True)
def test_masks_of_numbers_that_are_none_are_refused(decider):
    bundle, run = decider
    chances = np.full((*bundle["preprocessing"]["size"], len(LABELS)), 0.2, np.float32)
    chances[0, 0, 0] = np.nan
    assert run(chances, "mask", 5, 8)[0].startswith("refused: ")


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
