"""Models are asked while the next is made: the answers are those of one pass, and nothing goes on afterwards."""

import threading

import numpy as np
import pytest
from helpers_export import small_network

from keras_transfer import litert
from keras_transfer.errors import DataError, ExportError
from keras_transfer.export import export_model, exporter, proving, questions
from keras_transfer.export.measure import Answers, collect_answers
from keras_transfer.export.questions import Questions
from keras_transfer.litert import FrozenModel, convert

SHAPE = (96, 96, 2)


class Painter:
    """A runtime that gives two channels of the image, times a factor; ``gate`` holds all but its first answer up."""

    input_size, inputs, outputs = (96, 96), (), ()

    def __init__(self, factor=1.0, gate=None, shape=SHAPE):
        self.factor, self.gate, self.shape, self.asked = factor, gate, shape, []

    def predict(self, batch):
        if self.asked and self.gate is not None:
            assert self.gate.wait(30)
        self.asked.append(len(batch))
        return batch[..., : self.shape[-1]].astype(np.float32) * self.factor


@pytest.fixture
def asked(table, preprocessing):
    return Questions(table, preprocessing, table.indices("test"), batch=4)


@pytest.fixture
def decoded(monkeypatch, table):
    """How often each image of the table is decoded."""
    genuine, count = type(table.images).load, {}

    def load(images, i, *rest):
        count[i] = count.get(i, 0) + 1
        return genuine(images, i, *rest)

    monkeypatch.setattr(type(table.images), "load", load)
    return count


@pytest.mark.parametrize("kept", [questions.KEPT_BYTES, 0])
def test_the_answers_are_those_of_one_pass_and_an_image_is_decoded_once(
    asked, decoded, monkeypatch, tmp_path, kept
):
    monkeypatch.setattr(questions, "KEPT_BYTES", kept)
    factors = (1.0, 2.0, 3.0)
    with Answers(asked, SHAPE, tmp_path) as answers:
        for factor in factors:
            answers.ask(Painter(factor))
        found = answers.collect("Comparing")
    assert decoded == dict.fromkeys(asked.rows.tolist(), 1)
    (tmp_path / "again").mkdir()
    runtimes = [Painter(factor) for factor in factors]
    expected = collect_answers(runtimes, asked, SHAPE, tmp_path / "again", "Comparing")
    assert len(found) == len(expected) == 3
    for one, other, factor in zip(found, expected, factors, strict=True):
        assert one.shape == (len(asked), *SHAPE) and one.max() == 255 * factor
        np.testing.assert_array_equal(one, other)


def test_a_model_is_asked_while_the_next_is_made(asked, tmp_path):
    made = threading.Event()
    painter = Painter(gate=made)
    with Answers(asked, SHAPE, tmp_path) as answers:
        answers.ask(painter)  # returns, although it waits for the gate
        assert sum(painter.asked) == 1
        made.set()
        answers.collect("Comparing")
    assert sum(painter.asked) == 1 + len(asked)


def test_whoever_leaves_early_waits_for_one_batch_and_no_thread_goes_on(asked, tmp_path):
    before, gate = set(threading.enumerate()), threading.Event()
    first, second = Painter(gate=gate), Painter()
    with pytest.raises(KeyboardInterrupt), Answers(asked, SHAPE, tmp_path) as answers:
        answers.ask(first)
        answers.ask(second)
        answers._left.set()
        gate.set()
        raise KeyboardInterrupt
    assert set(threading.enumerate()) == before
    assert sum(first.asked) < len(asked) and second.asked == [1]


def test_what_goes_wrong_with_one_is_told_when_the_next_is_asked(asked, tmp_path):
    with Answers(asked, SHAPE, tmp_path) as answers:
        answers.ask(Painter(np.nan))
        answers._asked[0].exception()  # it has ended
        with pytest.raises(DataError, match="not finite"):
            answers.ask(Painter())
    with Answers(asked, SHAPE, tmp_path) as answers:
        answers.ask(Painter())
        answers.ask(Painter(shape=(96, 96, 1)))
        with pytest.raises(ExportError, match="is expected"):
            answers.collect("Comparing")


@pytest.mark.slow
def test_a_model_is_traced_once_for_float32_and_float16_and_the_files_are_the_same(monkeypatch):
    model, traced = small_network(), []
    apart = {precision: convert(model, precision) for precision in ("float32", "float16")}
    genuine = litert.convert_variables_to_constants_v2
    monkeypatch.setattr(litert, "convert_variables_to_constants_v2", lambda f: traced.append(f) or genuine(f))
    frozen = FrozenModel(model)
    assert {precision: convert(frozen, precision) for precision in apart} == apart
    assert len(traced) == 1


@pytest.mark.slow
def test_nothing_is_timed_while_a_model_is_asked(table, preprocessing, monkeypatch, tmp_path):
    answers, genuine, timed = [], exporter.latency, []

    class Watched(Answers):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            answers.append(self)

    def latency(*arguments):
        timed.append(all(one.done() for one in answers[0]._asked))
        return genuine(*arguments)

    monkeypatch.setattr(exporter, "Answers", Watched)
    for module in (exporter, proving):
        monkeypatch.setattr(module, "latency", latency)
    export_model(
        small_network(),
        tmp_path / "edge",
        table=table,
        preprocessing=preprocessing,
        formats=("keras", "tflite"),
    )
    assert len(answers[0]._asked) == 3 and timed == [True] * 3
