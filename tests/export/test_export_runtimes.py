import dataclasses
import zipfile

import keras
import numpy as np
import pytest

from keras_transfer.errors import DataError, ExportError, UsageError
from keras_transfer.export import Judge, KerasRunner, load_runner
from keras_transfer.export.measure import collect_answers, temporary_folder
from keras_transfer.export.parity import measure_parity
from keras_transfer.export.questions import Questions
from keras_transfer.export.saved_model import save as save_model
from keras_transfer.preprocessing import Preprocessing


def save(model, path):
    judge = Judge(("a", "b", "c")[: model.outputs[0].shape[-1]])
    save_model(model, path, judge, Preprocessing(model.inputs[0].shape[1:3]))


@pytest.fixture
def saved(small, tmp_path):
    save(small, tmp_path / "saved_model")
    return tmp_path / "saved_model"


def pixels(count=3, size=96):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.mark.slow
def test_keras_file_and_saved_model_answer_like_the_model(small, saved, tmp_path):
    small.save(tmp_path / "model.keras")
    expected = np.asarray(small(pixels(40).astype(np.float32)))
    for path in (tmp_path / "model.keras", saved):
        runtime = load_runner(path)
        assert runtime.input_size == (96, 96)
        answer = runtime.predict(pixels(40))
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected, atol=1e-6)
        np.testing.assert_allclose(runtime.predict(pixels(40).astype(np.float32)), expected, atol=1e-6)
        assert runtime.predict(pixels(0)).shape == (0, 2)
        with pytest.raises(UsageError, match=r"any, 96, 96, 3.*\(3, 64, 64, 3\)"):
            runtime.predict(pixels(size=64))


class Painter:
    """A runtime whose output is as large as the image, and differs from image to image."""

    input_size, inputs, outputs = (96, 96), (), ()

    def __init__(self, factor=1.0):
        self.factor = factor

    def predict(self, batch):
        return batch[..., :2].astype(np.float32) * self.factor


@pytest.mark.nightly
def test_outputs_of_many_files_are_kept_on_disk_and_not_in_memory(table):
    """Six files, one output a pixel: what is held at a time does not grow with images and files."""
    import tracemalloc

    large = Preprocessing((256, 256))
    runtimes = [Painter(1 + place) for place in range(6)]
    everything = table.take(np.tile(np.arange(len(table)), 4))
    everything = dataclasses.replace(everything, splits=np.full(len(everything), "test"))
    whole = len(everything) * 6 * 256 * 256 * 2 * 4
    with temporary_folder() as folder:
        tracemalloc.start()
        asked = Questions(everything, large, np.arange(len(everything)))
        answers = collect_answers(runtimes, asked, (256, 256, 2), folder, "Comparing")
        parity = measure_parity(
            answers[0], answers[1], Judge(("a", "b"), shape=(256, 256, 2), measure=lambda o, t: {}), everything,
            keras_score=0.0,
        )  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < whole / 2, (peak, whole)
        first = large.apply(everything.images.load(0))[..., :2].astype(np.float32)
        for place, answer in enumerate(answers):
            assert answer.dtype == np.float32 and answer.shape == (len(everything), 256, 256, 2)
            np.testing.assert_array_equal(answer[0], first * (1 + place))
            assert not answer.flags.writeable
        exact = np.abs(answers[0].astype(np.float64) - answers[1])
        assert parity.max_difference == exact.max() and parity.mean_difference == pytest.approx(exact.mean())
        assert parity.agreement == np.mean(answers[0].argmax(-1) == answers[1].argmax(-1))
    assert not folder.exists()


def test_a_model_whose_numbers_are_not_finite_is_refused(table, preprocessing):
    asked = Questions(table, preprocessing, table.indices("test"))
    with temporary_folder() as folder, pytest.raises(DataError, match="not finite"):
        collect_answers([Painter(np.nan)], asked, (96, 96, 2), folder, "Comparing")
    with temporary_folder() as folder, pytest.raises(ExportError, match="is expected"):
        collect_answers([Painter()], asked, (96, 96, 3), folder, "Comparing")


@pytest.mark.slow
def test_dropout_and_augmentation_are_off(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.RandomFlip(seed=0),
            layers.RandomBrightness(0.9, seed=0),
            layers.Flatten(),
            layers.Dropout(0.9),
            layers.Dense(2, activation="softmax"),
        ]
    )
    save(model, tmp_path / "saved_model")
    expected = model.predict(pixels(size=8).astype(np.float32), verbose=0)
    for runtime in (KerasRunner(model), load_runner(tmp_path / "saved_model")):
        for _ in range(3):
            np.testing.assert_allclose(runtime.predict(pixels(size=8)), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [lambda image: image, lambda image: [image], lambda image: {"image": image}])
def test_however_the_input_is_packed(pack, tmp_path, recwarn):
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(pack(image), keras.layers.GlobalAveragePooling2D()(image))
    expected = pixels(size=8).mean(axis=(1, 2))
    save(model, tmp_path / "saved_model")
    for runtime in (KerasRunner(model), load_runner(tmp_path / "saved_model")):
        np.testing.assert_allclose(runtime.predict(pixels(size=8)), expected, rtol=1e-5)
    assert [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)] == []


def test_free_image_size():
    image = keras.Input((None, None, 3))
    runtime = KerasRunner(keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)))
    assert runtime.input_size is None
    assert runtime.predict(pixels(size=10)).shape == runtime.predict(pixels(size=20)).shape == (3, 3)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="There is no model at"):
        load_runner(tmp_path / "missing.tflite")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"'\.txt'"):
        load_runner(tmp_path / "notes.txt")
    (tmp_path / "export").mkdir()
    with pytest.raises(UsageError, match=r"saved_model\.pb"):
        load_runner(tmp_path / "export")
    (tmp_path / "export" / "model.tflite").touch()
    with pytest.raises(UsageError, match=r"models inside: model\.tflite"):
        load_runner(tmp_path / "export")


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\0\0\0TFL3" + bytes(range(200))])
def test_damaged_tflite(tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"model\.tflite"):
        load_runner(path)


def test_damaged_keras_file(small, tmp_path):
    path = tmp_path / "model.keras"
    small.save(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ExportError, match="damaged"):
        load_runner(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ExportError, match="damaged"):
        load_runner(path)


def test_a_keras_file_with_code_inside_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    hidden = keras.layers.Lambda(lambda x: x * 2)(image)
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(hidden)).save(tmp_path / "model.keras")
    with pytest.raises(ExportError, match=r"(?i)lambda"):
        load_runner(tmp_path / "model.keras")


def test_damaged_saved_model(saved):
    content = (saved / "saved_model.pb").read_bytes()
    (saved / "saved_model.pb").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match="damaged"):
        load_runner(saved)


def test_saved_model_without_its_variables(saved):
    for path in (saved / "variables").iterdir():
        path.unlink()
    with pytest.raises(ExportError, match="damaged or incomplete"):
        load_runner(saved)


def test_several_inputs_are_refused():
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    with pytest.raises(UsageError, match="2 inputs"):
        KerasRunner(keras.Model([a, b], keras.layers.Add()([a, b])))
