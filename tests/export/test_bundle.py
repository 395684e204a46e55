"""A bundle keeps its promises, and one that is damaged, incomplete or tampered with is refused by name."""

import hashlib
import json
import os
import pickle
import shutil

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.errors import BundleError, DataError, ExportError, UsageError
from keras_transfer.export import load_bundle
from keras_transfer.export.carrying import carry
from keras_transfer.export.folder import check_destination
from keras_transfer.export.golden import choose_rows
from keras_transfer.workflow.verify import verify

ARTEFACTS = ["model.keras", "saved_model/", "model.tflite", "model_int8.tflite"]


def edit_manifest(folder, change):
    path = folder / "bundle.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def record_again(folder, name):
    """Give a changed file its new hash in the list: what someone would do who tampers with care."""
    content = (folder / name).read_bytes()
    row = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit_manifest(folder, lambda info: info["files"].update({name: row}))


def edit_golden(folder, change):
    path = folder / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    change(golden)
    path.write_text(json.dumps(golden))
    record_again(folder, "golden/golden.json")


def test_it_lists_every_file_and_describes_every_model(small_bundle, table, preprocessing):
    bundle = load_bundle(small_bundle)
    files = {path.relative_to(small_bundle).as_posix() for path in small_bundle.rglob("*") if path.is_file()}
    told = {row["file"]: row for row in bundle.info["artefacts"]}
    assert set(bundle.info["files"]) == files - {"bundle.json", "README.md"}
    assert bundle.labels == table.classes and bundle.preprocessing == preprocessing
    assert [one.file for one in bundle.artefacts] == ARTEFACTS
    for one in bundle.artefacts:
        (source,), (target,) = told[one.file]["inputs"], told[one.file]["outputs"]
        assert source["shape"] == [-1, 96, 96, 3] and target["shape"] == [-1, 2]
        assert source["dtype"] == ("uint8" if one.precision == "int8" else "float32")
        assert told[one.file]["metrics"]["log_loss"] > 0 and 0 <= told[one.file]["accuracy"] <= 1
    assert bundle.info["licences"] == {"weights": "none", "data": None}
    assert (small_bundle / "labels.txt").read_text() == "china\nflower\n"


def test_golden_images_are_real_and_cover_the_classes(small_bundle, photo_folder):
    golden = load_bundle(small_bundle).golden()
    originals = [np.asarray(Image.open(path)) for path in photo_folder.rglob("*.png")]
    assert len(golden["images"]) >= 8
    assert {row["label"] for row in golden["images"]} == {"china", "flower"}
    for row in golden["images"]:
        image = np.asarray(Image.open(small_bundle / row["image"]))
        assert any(np.array_equal(image, original) for original in originals)


@pytest.mark.slow
def test_predict_takes_paths_bytes_and_arrays_and_gives_the_recorded_answers(small_bundle):
    bundle = load_bundle(small_bundle)
    golden = bundle.golden()
    paths = [small_bundle / row["image"] for row in golden["images"]]
    arrays = [np.asarray(Image.open(path)) for path in paths]
    for one in bundle.artefacts:
        expected = np.array(golden["expected"][one.file], np.float32)
        for images in (paths, [path.read_bytes() for path in paths], arrays, np.stack(arrays)):
            np.testing.assert_allclose(bundle.predict(images, one.file), expected, atol=1e-6)
    assert bundle.predict([]).shape == (0, 2)
    assert bundle.artefact().file == "model.tflite"
    with pytest.raises(UsageError, match=r"Did you mean model_int8\.tflite"):
        bundle.predict(paths, "model_int4.tflite")
    with pytest.raises(DataError, match=r"nowhere\.png"):
        bundle.predict(["nowhere.png"])
    with pytest.raises(UsageError, match="float32"):
        bundle.predict([arrays[0].astype(np.float32)])
    with pytest.raises(UsageError, match="A int was given"):
        bundle.predict([3])


@pytest.mark.slow
def test_a_sound_bundle_passes_and_may_be_moved(small_bundle, bundle_copy):
    for folder in (small_bundle, bundle_copy):
        result = verify(folder)
        assert result.passed and result.pixel_difference == 0 and result.golden >= 8
        assert [one.file for one in result.artefacts] == ARTEFACTS
        assert all(one.difference == 0 for one in result.artefacts)
    (bundle_copy / "README.md").write_text("what it is for")  # the card is there to be completed
    assert verify(bundle_copy).passed


@pytest.mark.parametrize(
    "name",
    [
        "labels.txt",
        "model.tflite",
        "model_int8.tflite",
        "model.keras",
        "saved_model/variables/variables.data-00000-of-00001",
        "golden/golden.json",
        "golden/03_image.png",
        "classify.py",
    ],
)
def test_one_changed_byte_is_found_and_the_file_is_named(bundle_copy, name):
    content = bytearray((bundle_copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}.* is not the file that was exported"):
        load_bundle(bundle_copy)
    (bundle_copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name}.* is missing"):
        load_bundle(bundle_copy)


def test_links_are_refused(bundle_copy, tmp_path):
    secret = tmp_path / "secret"
    shutil.move(bundle_copy / "labels.txt", secret)
    (bundle_copy / "labels.txt").symlink_to(secret)
    with pytest.raises(BundleError, match=r"labels\.txt is a link"):
        load_bundle(bundle_copy)
    (bundle_copy / "labels.txt").unlink()
    shutil.move(secret, bundle_copy / "labels.txt")
    shutil.move(bundle_copy / "golden", tmp_path / "elsewhere")
    (bundle_copy / "golden").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"golden.* is a link"):
        load_bundle(bundle_copy)


@pytest.mark.parametrize(
    "name", ["../labels.txt", "golden/../../x", "/etc/hostname", "a\\..\\b", "C:x", "", "a\0b"]
)
def test_names_that_lead_outside_are_refused(bundle_copy, name):
    (bundle_copy.parent / "labels.txt").write_text("x\n")
    edit_manifest(bundle_copy, lambda info: info["files"].update({name: info["files"]["labels.txt"]}))
    with pytest.raises(BundleError, match="outside the bundle"):
        load_bundle(bundle_copy)


def test_a_list_of_a_gigabyte_is_not_read(bundle_copy):
    os.truncate(bundle_copy / "bundle.json", 1_000_000_000)
    with pytest.raises(BundleError, match="1000000000 bytes"):
        load_bundle(bundle_copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.update(schema=99), "schema 99.*Update keras_transfer"),
        (lambda info: info.update(kind="parcel"), "not written by"),
        (lambda info: info.update(schema="1"), "not written by"),
        (lambda info: info.pop("labels"), "'labels'"),
        (lambda info: info.update(labels=["china", 3]), "'labels'"),
        (lambda info: info.update(labels=["flower", "china"]), r"labels\.txt has other labels"),
        (lambda info: info.update(files=[]), "'files'"),
        (lambda info: info["files"].pop("golden/golden.json"), "'files' does not list"),
        (lambda info: info["files"].update({"classify.py": {}}), "no size and hash"),
        (lambda info: info.update(script="other.py"), "does not list the script"),
        (lambda info: info.update(script=["classify.py"]), "does not list the script"),
        (lambda info: info.update(script=None), "does not list the script"),
        (lambda info: info.update(artefacts=[]), "'artefacts'"),
        (lambda info: info["artefacts"][0].update(file="other.keras"), "is not an artefact of an export"),
        (lambda info: info["artefacts"][0].update(file="model_float16.tflite"), "not among 'files'"),
        (lambda info: info["artefacts"][0].update(precision="int3"), "unknown precision"),
        (lambda info: info["artefacts"][0].pop("bytes"), "no size"),
        (lambda info: info["artefacts"][0].update(tolerance=None), "no tolerance"),
        (lambda info: info["artefacts"][0]["tolerance"].update(agreement="all"), "is not a number"),
        (lambda info: info["preprocessing"].update(size=[float("inf"), 96]), "cannot be used"),
        (lambda info: info["files"].update({"x" * 300: info["files"]["labels.txt"]}), "cannot be read"),
        (lambda info: info["preprocessing"].update(resize="stretch"), "cannot be used"),
        (lambda info: info["preprocessing"].update(version=9), "Update keras_transfer"),
        (lambda info: info.update(preprocessing=[]), "'preprocessing' is a list, not an object"),
        (lambda info: info.update(title=7), "'title' is a whole number, not a text"),
        (lambda info: info.update(carried=[7]), "'carried' is not a list of texts"),
        (lambda info: info.update(training=[]), "'training' is a list, not an object"),
    ],
)
def test_a_list_that_was_changed_is_one_sentence(bundle_copy, change, message):
    edit_manifest(bundle_copy, change)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(bundle_copy)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"a":' * 100_000, b"3"])
def test_a_list_that_is_no_list(bundle_copy, content):
    (bundle_copy / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError):
        load_bundle(bundle_copy)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_replaces_a_field_nothing_but_a_sentence_comes_out(bundle_copy, data):
    info = json.loads((bundle_copy / "bundle.json").read_text())
    original = json.dumps(info)
    key = data.draw(st.sampled_from(sorted(info)))
    info[key] = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        )
    )
    (bundle_copy / "bundle.json").write_text(json.dumps(info))
    try:
        load_bundle(bundle_copy)
    except BundleError:
        pass  # expected, unless the field is one that nothing relies on
    else:
        assert key in (
            "keras_transfer",
            "title",
            "task",
            "notes",
            "options",
            "measured",
            "training",
            "licences",
            "versions",
        ) or info == json.loads(original)
    finally:
        (bundle_copy / "bundle.json").write_text(original)


def test_evaluate_and_predict_refuse_an_artefact_that_was_changed(bundle_copy, photo_folder):
    from keras_transfer.workflow.evaluate import evaluate
    from keras_transfer.workflow.predict import predict

    assert evaluate(bundle_copy / "model.tflite", photo_folder)["images"] == 40
    for name, changed in (
        ("model.tflite", "model.tflite"),
        ("saved_model", "saved_model/variables/variables.data-00000-of-00001"),
    ):
        content = bytearray((bundle_copy / changed).read_bytes())
        content[-1] ^= 1
        (bundle_copy / changed).write_bytes(content)
        with pytest.raises(BundleError, match="not the file that was exported"):
            evaluate(bundle_copy / name, photo_folder)
        with pytest.raises(BundleError, match="not the file that was exported"):
            list(predict(bundle_copy / name, [photo_folder]))
    assert evaluate(bundle_copy / "model.keras", photo_folder)["images"] == 40  # the others are as they were


@pytest.mark.slow
def test_verification_allows_what_the_export_allowed(bundle_copy, photo_folder):
    assert not verify(bundle_copy, photo_folder).artefacts[0].reasons

    def stricter(info):
        info["artefacts"][3]["tolerance"].update(max_difference=0.0, drop=None)

    edit_manifest(bundle_copy, stricter)
    result = verify(bundle_copy, photo_folder)
    assert [one.file for one in result.artefacts if one.reasons] == ["model_int8.tflite"]


def test_there_is_no_bundle(tmp_path, export, monkeypatch):
    with pytest.raises(UsageError, match="is not a bundle") as caught:
        load_bundle(tmp_path)
    assert caught.value.exit_code == 2
    (tmp_path / "parity.json").write_text("{}")
    with pytest.raises(UsageError, match="evidence of an export that failed"):
        load_bundle(tmp_path)


@pytest.mark.slow
def test_a_file_that_the_bundle_carries_is_verified_with_it(bundle_copy):
    assert carry(load_bundle(bundle_copy), "notes.bin", b"one") == bundle_copy / "notes.bin"
    carry(load_bundle(bundle_copy), "notes.bin", b"two")
    assert (bundle_copy / "notes.bin").read_bytes() == b"two"
    assert load_bundle(bundle_copy).info["carried"] == ["notes.bin"]
    assert verify(bundle_copy).passed
    with pytest.raises(UsageError, match="already holds an export"):
        check_destination(bundle_copy, overwrite=False)
    check_destination(bundle_copy, overwrite=True)  # it is no stranger's file
    for name in ("model.keras", "../notes.bin", "bundle.json", "golden/notes.bin"):
        with pytest.raises(UsageError, match="cannot carry"):
            carry(load_bundle(bundle_copy), name, b"")
    (bundle_copy / "notes.bin").write_bytes(b"six")
    with pytest.raises(BundleError, match=r"notes\.bin is not the file that was exported"):
        load_bundle(bundle_copy)


@pytest.mark.slow
def test_a_stranger_in_the_bundle_fails_verification(bundle_copy):
    (bundle_copy / "golden" / "notes.pkl").write_bytes(pickle.dumps("boo"))
    result = verify(bundle_copy)
    assert not result.passed and "golden/notes.pkl" in result.reasons[0]
    (bundle_copy / "golden" / "notes.pkl").unlink()
    (bundle_copy / "elsewhere").symlink_to(bundle_copy.parent)
    assert "elsewhere" in verify(bundle_copy).reasons[0]


def test_a_pickle_in_the_place_of_an_image_is_never_opened(bundle_copy, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    (bundle_copy / "golden" / "00_input.png").write_bytes(pickle.dumps(Bomb()))
    record_again(bundle_copy, "golden/00_input.png")
    with pytest.raises(BundleError, match=r"00_input\.png, is not an image"):
        verify(bundle_copy)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.slow
def test_another_model_in_the_place_of_one_fails_verification(bundle_copy, small):
    from keras_transfer.litert import convert

    other = keras.models.clone_model(small)
    (bundle_copy / "model.tflite").write_bytes(convert(other))
    record_again(bundle_copy, "model.tflite")
    result = verify(bundle_copy)
    wrong = {one.file for one in result.artefacts if one.reasons}
    assert not result.passed and wrong == {"model.tflite"}
    assert "differs by" in result.artefacts[2].reasons[0]


@pytest.mark.slow
def test_other_labels_inside_a_tflite_fail_verification(bundle_copy):
    """MediaPipe names the classes by them, whatever labels.txt says."""
    from keras_transfer.export.metadata import describe_model
    from keras_transfer.litert import convert

    model = keras.models.load_model(bundle_copy / "model.keras", compile=False)
    swapped = describe_model(convert(model), ["flower", "china"], size=(96, 96), name="m", description="d")
    (bundle_copy / "model.tflite").write_bytes(swapped)
    record_again(bundle_copy, "model.tflite")
    (row,) = [one for one in verify(bundle_copy).artefacts if one.reasons]
    assert row.file == "model.tflite" and row.reasons == (
        "The labels inside the file are not those of bundle.json.",
    )


@pytest.mark.slow
def test_files_of_an_earlier_version_with_an_open_batch_are_verified(bundle_copy):
    """They have the labels, and no mark that their batch is free: the file says it itself."""
    from keras_transfer.export.metadata import describe_model
    from keras_transfer.litert import LiteRTModel, convert

    model = keras.models.load_model(bundle_copy / "model.keras", compile=False)
    earlier = describe_model(convert(model), ["china", "flower"], size=(96, 96), name="m", description="d")
    assert b"KERAS_TRANSFER_FREE_BATCH" not in earlier and LiteRTModel(earlier).inputs[0].shape[0] == -1
    (bundle_copy / "model.tflite").write_bytes(earlier)
    record_again(bundle_copy, "model.tflite")
    assert verify(bundle_copy).passed


@pytest.mark.slow
def test_changed_expectations_and_pixels_fail_verification(bundle_copy):
    edit_golden(bundle_copy, lambda golden: golden["expected"]["model.keras"][0].reverse())
    assert [one.file for one in verify(bundle_copy).artefacts if one.reasons] == ["model.keras"]
    edit_golden(bundle_copy, lambda golden: golden["expected"]["model.keras"][0].reverse())
    assert verify(bundle_copy).passed
    edit_golden(bundle_copy, lambda golden: golden["encoded"]["saved_model/"][0].reverse())
    assert [one.file for one in verify(bundle_copy).artefacts if one.reasons] == ["saved_model/"]
    edit_golden(bundle_copy, lambda golden: golden["encoded"]["saved_model/"][0].reverse())
    name = "golden/00_input.png"
    pixels = np.array(Image.open(bundle_copy / name))
    pixels[5, 5] ^= 128
    Image.fromarray(pixels).save(bundle_copy / name)
    record_again(bundle_copy, name)
    result = verify(bundle_copy)
    assert result.pixel_difference == 128 and "version of Pillow" in result.reasons[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda golden: golden.update(expected={}),
        lambda golden: golden["expected"]["model.keras"].pop(),
        lambda golden: golden["images"][0].update(image="../../etc/passwd"),
        lambda golden: golden["images"].clear(),
        lambda golden: golden.update(tolerances={"model.keras": "big"}),
        lambda golden: golden["images"].__setitem__(0, 3),
        lambda golden: golden["images"][0].update(image=["x"]),
        lambda golden: golden["expected"]["model.keras"].__setitem__(0, ["a", "b"]),
        lambda golden: golden.update(encoded=[]),
        lambda golden: golden["encoded"].update({"saved_model/": [[1], [1, 2]]}),
    ],
)
def test_golden_vectors_that_do_not_fit_are_refused(bundle_copy, change):
    edit_golden(bundle_copy, change)
    with pytest.raises(BundleError, match=r"golden\.json"):
        verify(bundle_copy)


@pytest.mark.nightly
def test_code_in_a_keras_file_is_not_run(bundle_copy):
    image = keras.Input((96, 96, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Lambda(lambda x: x[:, :2])(x)).save(bundle_copy / "model.keras")
    record_again(bundle_copy, "model.keras")
    with pytest.raises(ExportError, match=r"model\.keras.*custom layers or code"):
        verify(bundle_copy)


@pytest.mark.slow
def test_with_data_every_artefact_is_measured(small_bundle, photo_folder, table):
    result = verify(small_bundle, photo_folder)
    assert result.data == {"source": str(photo_folder), "split": "all", "images": 40}
    for one in result.artefacts[:3]:
        assert one.metrics["agreement"] == 1 and one.metrics["max_difference"] <= 1e-4
    held_out = verify(small_bundle, table)
    assert held_out.data["split"] == "test" and held_out.data["images"] == len(table.indices("test"))
    recorded = {row["file"]: row["accuracy"] for row in load_bundle(small_bundle).info["artefacts"]}
    assert {one.file: one.metrics["accuracy"] for one in held_out.artefacts} == recorded
    with pytest.raises(UsageError, match="gives china, flower, in this order"):
        verify(small_bundle, load_data(photo_folder, classes=("flower", "china")))
    with pytest.raises(UsageError, match="split 'tset'"):
        verify(small_bundle, photo_folder, split="tset")
    with pytest.raises(DataError, match="val split holds no image"):
        verify(small_bundle, photo_folder, split="val")


@pytest.mark.parametrize(
    ("labels", "count", "wanted"),
    [
        ([0, 1] * 50, 8, 8),
        ([0] * 99 + [1], 8, 8),
        (list(range(12)) * 3, 12, 12),
        (list(range(40)) * 3, 24, 24),
        ([0, 1, 1], 3, 3),
    ],
)
def test_golden_rows(labels, count, wanted, caplog):
    from types import SimpleNamespace

    labels = np.array(labels)
    splits = np.array(["test"] * (len(labels) // 2) + ["train"] * (len(labels) - len(labels) // 2))
    fake = SimpleNamespace(
        label_mode="classes",
        classes=tuple(map(str, range(labels.max() + 1))),
        labels=labels,
        indices=lambda split: np.flatnonzero(splits == split),
    )
    rows = choose_rows(fake, "test", 0)
    assert len(set(rows.tolist())) == len(rows) == wanted
    np.testing.assert_array_equal(rows, choose_rows(fake, "test", 0))
    assert ("golden images" in caplog.text) == (wanted < 8)
    if wanted == 12:
        assert set(labels[rows]) == set(range(12))
