"""``classify.py`` of a bundle: one file, no TensorFlow, the same pixels and the same answers."""

import importlib.util
import json
import re
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_export import run_here, run_script
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_transfer.decoding import decode
from keras_transfer.errors import BundleError, ExportError, PluginError, UsageError
from keras_transfer.export import load_bundle, standalone
from keras_transfer.export.benchmark import benchmark
from keras_transfer.export.folder import check_destination
from keras_transfer.export.parity import Judge
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.verify import verify

SCRIPT = Path(standalone.__file__).with_name("classify.py")
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16")


def script():
    spec = importlib.util.spec_from_file_location("classify", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@st.composite
def contracts(draw):
    interpolation = draw(st.sampled_from(["nearest", "bilinear", "bicubic", "area", "lanczos"]))
    return Preprocessing(
        (draw(st.integers(1, 64)), draw(st.integers(1, 64))),
        draw(st.sampled_from(["squash", "crop", "pad"])),
        interpolation,
        interpolation in ("area", "lanczos") or draw(st.booleans()),
    )


@pytest.mark.slow
@settings(max_examples=150)
@given(
    contract=contracts(),
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    mode=st.sampled_from(MODES),
    orientation=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_the_same_pixels_bit_for_bit(tmp_path_factory, contract, size, mode, orientation, seed):
    classify, noise = script(), np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(noise).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path_factory.mktemp("image") / ("image.jpg" if mode == "CMYK" else "image.png")
    picture.save(path, exif=exif)
    np.testing.assert_array_equal(classify.read_pixels(path, contract.to_dict()), contract.load(path))
    given = classify.preprocess(classify.read_image(path), contract.to_dict())
    np.testing.assert_array_equal(given, contract.apply(decode(path)))


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_same_pixels_of_photographs_that_are_decoded_at_a_part_of_their_size(
    tmp_path, photos, resize, orientation
):
    classify, path, exif = script(), tmp_path / "photo.jpg", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photos["china"][:413, :635]).save(path, exif=exif)
    full = [
        Preprocessing((41, 50), resize, decode="full"),
        Preprocessing((41, 50), resize, decode="full", version=1),
        Preprocessing((41, 50), resize, "area"),
        Preprocessing((41, 50), resize, antialias=False),
    ]
    scaled = [Preprocessing(size, resize, "lanczos") for size in ((41, 50), (20, 20), (90, 91))]
    for contract in (*scaled, *full):
        assert (contract.jpeg_scale(413, 635) > 1) == (contract in scaled)
        given = classify.read_pixels(path, json.loads(json.dumps(contract.to_dict())))
        np.testing.assert_array_equal(given, contract.load(path))


@pytest.mark.slow
def test_it_prints_what_the_bundle_predicts(small_bundle):
    bundle = load_bundle(small_bundle)
    images = [small_bundle / row["image"] for row in bundle.golden()["images"]][:3]
    for file, chosen in ((None, []), ("model_int8.tflite", ["--model", "model_int8.tflite"])):
        out, _ = run_script(small_bundle, *chosen, *images)
        lines = iter(out.splitlines())
        for image, expected in zip(images, bundle.predict(images, file), strict=True):
            assert next(lines) == str(image)
            for place in np.argsort(-expected):
                assert next(lines).strip() == f"{bundle.labels[place]} {100 * expected[place]:.1f} %"


def test_one_unreadable_image_stops_nothing(small_bundle, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    out, err = run_here(
        small_bundle,
        tmp_path / "broken.png",
        tmp_path / "absent.png",
        small_bundle / "golden/00_image.png",
        code=1,
    )
    assert "broken.png cannot be read" in err and "absent.png: no such file" in err and "china" in out
    _, err = run_here(small_bundle, "--model", "model_int4.tflite", tmp_path / "broken.png", code=1)
    assert "There are: model.tflite, model_int8.tflite" in err
    for wrong in ([], ["--self-test", "x.png"], ["--top", "0", "x.png"]):
        run_here(small_bundle, *wrong, code=2)


@pytest.mark.slow
def test_the_self_test_passes_also_where_only_some_files_were_copied(small_bundle, bundle_copy):
    out, _ = run_script(small_bundle, "--self-test")
    assert "pixels identical" in out and out.endswith("passed\n")
    shutil.rmtree(bundle_copy / "saved_model")
    for name in ("model.keras", "model.tflite", "README.md"):
        (bundle_copy / name).unlink()
    out, _ = run_here(bundle_copy, "--self-test")
    assert "model_int8.tflite" in out and "model.tflite" not in out
    (bundle_copy / "model_int8.tflite").unlink()
    _, err = run_here(bundle_copy, "--self-test", code=1)
    assert "There is no .tflite" in err


@pytest.mark.parametrize(
    "name", ["labels.txt", "golden/golden.json", "golden/02_input.png", "model_int8.tflite", "model.tflite"]
)
def test_the_self_test_fails_after_one_byte_is_changed(bundle_copy, name):
    content = bytearray((bundle_copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_copy / name).write_bytes(content)
    out, err = run_here(bundle_copy, "--self-test", code=1)
    assert f"{name} is not the file that was exported" in err and out.endswith("FAILED\n")
    (bundle_copy / name).unlink()
    if not name.endswith(".tflite"):
        _, err = run_here(bundle_copy, "--self-test", code=1)
        assert f"{name} is missing" in err


def test_the_self_test_measures_and_does_not_only_compare_hashes(bundle_copy):
    import hashlib

    path = bundle_copy / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    golden["expected"]["model.tflite"][1][0] += 0.01
    path.write_text(json.dumps(golden))
    info = json.loads((bundle_copy / "bundle.json").read_text())
    info["files"]["golden/golden.json"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle_copy / "bundle.json").write_text(json.dumps(info))
    _, err = run_here(bundle_copy, "--self-test", code=1)
    assert "model.tflite: a probability differs by 0.01" in err
    info["preprocessing"]["resize"], info["preprocessing"]["size"] = "pad", [64, 96]
    (bundle_copy / "bundle.json").write_text(json.dumps(info))
    _, err = run_here(bundle_copy, "--self-test", code=1)
    assert "becomes (64, 96, 3); (96, 96, 3) is expected" in err
    (bundle_copy / "bundle.json").write_text("{")
    _, err = run_here(bundle_copy, "--self-test", code=1)
    assert "bundle.json cannot be read" in err


@pytest.mark.slow
def test_labels_in_any_script_are_printed(export, table, tmp_path):
    classes = ("שלום עולם", "🪴 Blume")
    export(tmp_path / "edge", table=replace(table, classes=classes), classes=classes)
    out, _ = run_script(tmp_path / "edge", tmp_path / "edge/golden/00_image.png")
    assert all(name in out for name in classes)
    assert load_bundle(tmp_path / "edge").labels == classes


def judge(table, script):
    def measure(outputs, images):
        return {"hits": float((outputs.reshape(len(outputs), -1).argmax(axis=1) == images.labels).mean())}

    return Judge(
        table.classes,
        "telling",
        "probabilities",
        (1, 2),
        "hits",
        others=(),
        measure=measure,
        standalone=script,
    )


@pytest.mark.slow
def test_a_task_brings_a_script_of_its_own(export, small, table, tmp_path, monkeypatch):
    import keras

    package = tmp_path / "site" / "telling_task"
    package.mkdir(parents=True)
    text = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"\n(    import sys\n(?:(?:    .*)?\n)+)", text)
    (package / "tell.py").write_text(textwrap.dedent(block))
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(package.parent)
    model = keras.Model(small.inputs, keras.layers.Reshape((1, 2))(small.output))
    edge = tmp_path / "edge"
    export(edge, model=model, judge=judge(table, "telling_task.tell"))
    bundle = load_bundle(edge)
    assert bundle.info["script"] == "tell.py" and {"tell.py", "classify.py"} <= set(bundle.info["files"])
    assert "python tell.py --self-test" in (edge / "README.md").read_text()
    assert "passed" in run_script(edge, "--self-test", script="tell.py")[0]
    image = edge / bundle.golden()["images"][0]["image"]
    (answer,) = bundle.predict([image])
    out, _ = run_script(edge, image, script="tell.py")
    assert out.splitlines() == [str(image), f"  the largest of 2 numbers: {answer.max():.3f}"]
    assert run_script(edge, image)[0] == out  # classify.py hands over
    (tmp_path / "few").mkdir()
    for name in ("classify.py", "bundle.json", "model.tflite"):
        shutil.copy(edge / name, tmp_path / "few")
    _, err = run_script(tmp_path / "few", image, code=1)
    assert "Use tell.py" in err
    assert verify(edge).passed  # and no bytecode lies in it
    check_destination(edge, overwrite=True)  # it is no stranger's file
    (edge / "tell.py").write_text("")
    with pytest.raises(BundleError, match=r"tell\.py is not the file that was exported"):
        load_bundle(edge)


@pytest.mark.parametrize("module", ["no_such_task.tell", "json", "keras_transfer.export.standalone.classify"])
def test_a_script_that_cannot_be_is_refused_before_any_work(export, small, table, tmp_path, module):
    with pytest.raises(PluginError, match=f"standalone script is '{module}'"):
        export(tmp_path / "edge", judge=replace(judge(table, module), shape=(2,)))
    assert not (tmp_path / "edge").exists()


@pytest.mark.nightly
def test_benchmark_times_every_artefact(small_bundle):
    result = benchmark(load_bundle(small_bundle), threads=(1,), seconds=0.05)
    rows = {row["file"]: row for row in result["timings"]}
    assert list(rows) == ["model.keras", "saved_model/", "model.tflite", "model_int8.tflite"]
    for row in rows.values():
        assert 0 < row["p50"] <= row["p90"] <= row["p99"] and row["runs"] >= 10 and row["threads"] == 1
        assert row["load"] > 0 and row["throughput"] > 0 and row["memory"] > row["memory_added"] > 0
    assert rows["model.keras"]["ratio"] == 1
    # No clock is judged here, but the edge runtime does not carry TensorFlow's memory.
    assert rows["model.tflite"]["memory"] < rows["model.keras"]["memory"] / 2
    json.dumps(result)


@pytest.mark.slow
def test_benchmark_says_what_is_wrong(export, tmp_path):
    export(tmp_path / "edge")
    bundle = load_bundle(tmp_path / "edge")
    for wrong in ({"threads": (0,)}, {"seconds": 0}, {"rounds": 0}):
        with pytest.raises(UsageError, match="positive numbers"):
            benchmark(bundle, **wrong)
    (tmp_path / "edge" / "model.tflite").write_bytes(b"")
    with pytest.raises(ExportError, match=r"model\.tflite cannot be timed"):
        benchmark(bundle, threads=(1,), seconds=0.01)
