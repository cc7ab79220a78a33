import pytest

from segjax.errors import UserError
from segjax.stages.config.durations import Duration, duration_keys, read_duration

CLOCK = dict(steps_per_epoch=23.0, examples_per_step=16.0, total_steps=460)


@pytest.mark.parametrize(
    "settings, steps",
    [
        (dict(eval_steps=7), 7),
        (dict(eval_epochs=2), 46),
        (dict(eval_epochs=0.5), 12),
        (dict(eval_examples=160), 10),
        (dict(eval_percent=10), 46),
        (dict(eval_percent=0.001), 1),
        (dict(eval_epochs=0), 0),
        (dict(eval_steps=None, eval_epochs=1), 23),
    ],
)
def test_every_unit_becomes_steps(settings, steps):
    assert read_duration(settings, "eval").steps(**CLOCK) == steps


def test_names_do_not_catch_each_other():
    assert read_duration({"eval_every_steps": 3, "eval_steps": 5}, "eval") == Duration(5, "steps", "eval_steps")


def test_two_at_once_name_both():
    with pytest.raises(UserError, match="train.log_steps and train.log_epochs; keep one"):
        read_duration(dict(log_steps=1, log_epochs=2), "log", where="train")


def test_a_missing_one_is_none_and_the_keys_are_known():
    assert read_duration({}, "eval") is None and read_duration({"eval_steps": None}, "eval") is None
    assert duration_keys("a", "b") == {
        f"{name}_{unit}" for name in "ab" for unit in ("steps", "epochs", "examples", "percent")
    }


def test_a_unit_that_cannot_be_known_is_refused():
    percent = read_duration(dict(total_percent=5), "total", where="train")
    with pytest.raises(UserError, match="train.total_percent cannot be given in percent here; use total_steps"):
        percent.steps(steps_per_epoch=3)
    with pytest.raises(UserError, match="schedule.warmup_examples cannot be given in examples here; use warmup_steps"):
        read_duration(dict(warmup_examples=5), "warmup", where="schedule").steps(steps_per_epoch=3)


@pytest.mark.parametrize("value", [-1, "10", True, float("nan"), float("inf")])
def test_what_is_not_a_count_is_refused(value):
    with pytest.raises(UserError, match="train.eval_steps"):
        read_duration(dict(eval_steps=value), "eval", where="train")


def test_fractions_of_a_step_are_refused():
    with pytest.raises(UserError, match="whole number"):
        read_duration(dict(eval_steps=1.5), "eval")


@pytest.mark.parametrize(
    "settings, epochs",
    [
        (dict(total_epochs=180), 180),
        (dict(total_epochs=0.2), 1),
        (dict(total_steps=46), 2),
        (dict(total_steps=47), 3),
        (dict(total_examples=1600), 5),
    ],
)
def test_a_run_is_a_whole_number_of_epochs(settings, epochs):
    assert read_duration(settings, "total").epochs(steps_per_epoch=23.0, examples_per_step=16.0) == epochs
