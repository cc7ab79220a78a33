import pytest

from segjax.errors import UserError
from segjax.stages.config.durations import find_duration, resolve_epochs, resolve_steps

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
    assert resolve_steps(settings, "eval", **CLOCK) == steps


def test_names_do_not_catch_each_other():
    assert find_duration({"eval_every_steps": 3, "eval_steps": 5}, "eval") == (5, "steps")


def test_two_at_once_name_both():
    with pytest.raises(UserError, match="train.log_steps and train.log_epochs; keep one"):
        resolve_steps(dict(log_steps=1, log_epochs=2), "log", where="train", **CLOCK)


def test_a_missing_one_takes_the_default_or_tells_the_choices():
    assert resolve_steps({}, "eval", default=0) == 0
    with pytest.raises(UserError, match="needs one of total_steps, total_epochs"):
        resolve_steps({}, "total", where="train")


def test_a_unit_that_cannot_be_known_is_refused():
    with pytest.raises(UserError, match="train.total_percent cannot be given in percent"):
        resolve_steps(dict(total_percent=5), "total", where="train", steps_per_epoch=3)


@pytest.mark.parametrize("value", [-1, "10", True, float("nan"), float("inf")])
def test_what_is_not_a_count_is_refused(value):
    with pytest.raises(UserError, match="train.eval_steps"):
        resolve_steps(dict(eval_steps=value), "eval", where="train")


def test_fractions_of_a_step_are_refused():
    with pytest.raises(UserError, match="whole number"):
        resolve_steps(dict(eval_steps=1.5), "eval")


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
    assert resolve_epochs(settings, "total", steps_per_epoch=23.0, examples_per_step=16.0) == epochs
