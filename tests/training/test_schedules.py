"""Schedules: the rate at chosen steps, and back from their configuration."""

import math

import keras
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.training.schedules import SCHEDULES, Shifted, make_schedule


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


@pytest.mark.parametrize("name", ["cosine", "constant", "step"])
def test_the_warm_up_is_a_line_from_a_hundredth_to_the_peak(name):
    schedule = make_schedule(name, 0.1, total_steps=100, warmup_steps=10)
    expected = [0.1 * (0.01 + 0.99 * step / 10) for step in range(11)]
    assert rates(schedule, range(11)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("warmup", [0, 20])
def test_cosine_is_half_way_down_half_way_through_and_ends_at_zero(warmup):
    schedule = make_schedule("cosine", 0.2, total_steps=100, warmup_steps=warmup)
    middle = (100 + warmup) // 2
    assert rates(schedule, [warmup, middle, 100]) == pytest.approx([0.2, 0.1, 0], abs=1e-7)


@pytest.mark.parametrize(("warmup", "rise"), [(0, 30), (10, 10)])
def test_onecycle_rises_and_falls_along_cosines(warmup, rise):
    schedule = make_schedule("onecycle", 1.0, total_steps=100, warmup_steps=warmup)
    found = rates(schedule, range(101))
    assert found[0] == pytest.approx(1 / 25)
    assert found[rise // 2] == pytest.approx((1 + 1 / 25) / 2, rel=1e-5)
    assert found[rise] == max(found) == pytest.approx(1)
    assert found[(100 + rise) // 2] == pytest.approx(0.5, abs=1e-3)
    assert found[100] == pytest.approx(1e-4, rel=1e-2)
    assert found[:rise] == sorted(found[:rise])
    assert found[rise:] == sorted(found[rise:], reverse=True)
    assert float(schedule(200)) == found[100]


def test_constant_stays_and_step_falls_at_sixty_and_eighty_five_percent():
    constant = make_schedule("constant", 0.5, total_steps=100)
    assert rates(constant, [0, 1, 99, 500]) == [0.5] * 4
    step = make_schedule("step", 1.0, total_steps=100, warmup_steps=5)
    assert rates(step, [5, 59, 60, 84, 85, 99]) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 7])
def test_a_schedule_survives_its_configuration_and_works_in_an_optimizer(name, warmup):
    schedule = make_schedule(name, 3e-4, total_steps=50, warmup_steps=warmup)
    restored = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert rates(restored, range(60)) == rates(schedule, range(60))
    optimizer = keras.optimizers.SGD(schedule)
    again = keras.optimizers.SGD.from_config(optimizer.get_config())
    assert float(again.learning_rate) == float(schedule(0))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (2, 1), (3, 3)])
def test_the_shortest_trainings_have_finite_rates(name, total, warmup):
    schedule = make_schedule(name, 1.0, total_steps=total, warmup_steps=warmup)
    assert all(0 <= rate <= 1 and math.isfinite(rate) for rate in rates(schedule, range(total + 1)))


def test_impossible_arguments_are_refused():
    with pytest.raises(UsageError, match="Did you mean cosine"):
        make_schedule("cosin", 1e-3, total_steps=10)
    for peak in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="above 0"):
            make_schedule("cosine", peak, total_steps=10)
    for total, warmup in ((0, 0), (10, 11), (10, -1)):
        with pytest.raises(UsageError, match="warm-up"):
            make_schedule("cosine", 1e-3, total_steps=total, warmup_steps=warmup)


def test_a_shifted_schedule_goes_on_where_the_first_phase_stopped():
    whole = make_schedule("cosine", 0.1, total_steps=100, warmup_steps=10)
    later = Shifted(whole, 40)
    assert [float(later(step)) for step in (0, 1, 59)] == [float(whole(step)) for step in (40, 41, 99)]
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(later))
    assert float(again(5)) == float(later(5))
