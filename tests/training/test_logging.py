import io
import logging
import re
import threading
import time

import jax
import jax.numpy as jnp
import pytest
import rich.console

from segjax.training.logging import StepTimer, TrainingLog, host_peak_gib, setup_logging


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Memory:
    """A writer that keeps everything."""

    def __init__(self):
        self.entries, self.closed = [], False

    def write(self, step, kind, values):
        self.entries.append((step, kind, dict(values)))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def plain():
    return rich.console.Console(file=io.StringIO(), width=200)


def test_the_timer_counts_from_the_first_wait():
    clock = Clock()
    timer = StepTimer(clock)
    clock.sleep(50)  # compiling
    for _ in range(4):
        with timer.waiting():
            clock.sleep(0.5)
        clock.sleep(1.5)
        timer.step(8)
    assert timer.report() == pytest.approx(dict(images_per_second=4.0, seconds_per_step=2.0, data_wait=0.25))
    clock.sleep(1.0)  # belongs to the next report
    timer.step(8)
    assert timer.report() == pytest.approx(dict(images_per_second=8.0, seconds_per_step=1.0, data_wait=0.0))


def test_an_evaluation_is_left_out():
    clock = Clock()
    timer = StepTimer(clock)
    with timer.waiting():
        pass
    clock.sleep(2)
    timer.step(8)
    clock.sleep(30)
    timer.skip()
    clock.sleep(2)
    timer.step(8)
    assert timer.report()["seconds_per_step"] == pytest.approx(2.0)


class SlowArray:
    """Ready when `event` is set."""

    def __init__(self):
        self.event = threading.Event()

    def block_until_ready(self):
        self.event.wait(10)
        return self


def test_waiting_while_the_device_is_busy_costs_nothing():
    clock = Clock()
    timer = StepTimer(clock)
    with timer.waiting():
        clock.sleep(1)
    busy = SlowArray()
    timer.dispatched(busy)
    with timer.waiting():
        clock.sleep(10)
    timer.step(1)
    assert timer._waited == 1
    with timer.waiting():
        clock.sleep(3)
        busy.event.set()
        timer._finished.result()  # the device is done 3 s into the wait of 5 s
        clock.sleep(2)
    assert timer._waited == 1 + 2
    timer.close()


def test_with_real_arrays_a_slow_loader_is_seen():
    f = jax.jit(lambda x: x @ x)
    x = jnp.ones((64, 64))
    f(x).block_until_ready()
    timer = StepTimer()
    for _ in range(5):
        with timer.waiting():
            time.sleep(0.02)
        y = f(x)
        timer.dispatched(y)
        y.block_until_ready()
        timer.step(1)
    timer.close()
    assert timer.report()["data_wait"] > 0.5


def test_a_mean_leaves_out_steps_without_a_value():
    """The loss of a part is nan in a batch without its images; a part that was never seen is not logged."""
    values = [1.0, float("nan"), 3.0, float("nan"), float("nan"), float("nan")]
    writer = Memory()
    with TrainingLog(start_step=1, total_steps=20, log_steps=2, writers=[writer], console=plain()) as training:
        for step, value in enumerate(values, start=2):
            training.step(step, {"loss": float(step), "grad_norm": 1.0, "loss/pseudo": value}, images=1)
    found = [(step, entry["loss"], entry.get("loss/pseudo")) for step, _, entry in writer.entries]
    assert found == [(4, 2.5, 1.0), (6, 4.5, 3.0), (8, 6.5, None)]


def follow(steps, *, start=0, total=10, log_steps=4, console=None, evaluate=(), epoch_begins=None):
    clock, writer = Clock(), Memory()
    training = TrainingLog(
        start_step=start, total_steps=total, log_steps=log_steps, writers=[writer], epoch_of=lambda step: step // 5,
        console=console or plain(), clock=clock, epoch_begins=epoch_begins,
    )  # fmt: skip
    with training:
        for step in steps:
            with training.waiting():
                clock.sleep(0.25)
            clock.sleep(0.75)
            training.step(step, {"loss": float(step), "lr": 0.1 / (step + 1), "grad_norm": 1.0}, images=6)
            if step + 1 in evaluate:
                clock.sleep(100)
                training.evaluated(step + 1, {"miou": 0.5, "pixel_accuracy": 0.75})
    return training, writer


def test_means_over_log_steps_go_to_the_writers():
    training, writer = follow(range(10))
    assert writer.closed
    steps = {step: values for step, _, values in writer.entries}
    assert list(steps) == [1, 4, 8, 10]  # the first at once, the last in any case
    assert steps[4]["loss"] == pytest.approx((1 + 2 + 3) / 3)
    assert steps[8]["loss"] == pytest.approx((4 + 5 + 6 + 7) / 4)
    assert steps[8]["lr"] == pytest.approx(0.1 / 8)  # the newest, not a mean
    assert steps[8]["epoch"] == 1
    assert steps[8]["images_per_second"] == pytest.approx(6.0) and steps[8]["data_wait"] == pytest.approx(0.25)
    assert training.summary() == {"images_per_second": 6.0, "data_wait": 0.25}


@pytest.mark.parametrize("gradient", [0.0, 0.5])
def test_training_without_a_label_is_told(caplog, gradient):
    """A loss of 0 alone can be earned; with a gradient of exactly 0 nothing was looked at."""
    training = TrainingLog(start_step=0, total_steps=2, console=plain())
    with training, caplog.at_level(logging.WARNING, "segjax"):
        training.step(0, {"loss": 0.0, "lr": 0.1, "grad_norm": gradient}, images=2)
    assert ("not one pixel counted" in caplog.text) == (gradient == 0)


def test_a_resumed_run_logs_at_the_same_steps():
    _, writer = follow(range(5, 10), start=5)
    assert [step for step, _, _ in writer.entries] == [6, 8, 10]


def test_every_epoch_is_announced_once():
    begun = []
    follow(range(12), epoch_begins=begun.append)
    assert begun == [0, 1, 2]
    follow(range(7, 12), start=7, epoch_begins=begun.append)
    assert begun == [0, 1, 2, 1, 2], "a resumed run begins within an epoch"


def test_evaluations_are_written_and_do_not_slow_the_rate():
    training, writer = follow(range(10), evaluate=(4, 10))
    evals = [(step, values) for step, kind, values in writer.entries if kind == "eval"]
    assert evals == [(4, {"miou": 0.5, "pixel_accuracy": 0.75}), (10, {"miou": 0.5, "pixel_accuracy": 0.75})]
    assert training.summary()["images_per_second"] == 6.0


@pytest.fixture
def own_logging():
    log = logging.getLogger("segjax")
    before = log.level, log.propagate, list(log.handlers)
    yield log
    log.setLevel(before[0])
    log.propagate = before[1]
    log.handlers[:] = before[2]


def test_without_a_terminal_there_are_plain_lines(own_logging):
    console = plain()
    setup_logging(console=console)
    setup_logging(console=console)  # again: no line twice
    follow(range(10), console=console, evaluate=(4,))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 5 and "\x1b" not in console.file.getvalue()
    assert "step 8/10  epoch 2  loss 5.5  lr 0.0125  6.0 images/s  data wait 25%  eta " in lines[3]
    assert "evaluation after step 4: miou 0.5  pixel_accuracy 0.75" in lines[2]


def test_other_processes_show_warnings_only(own_logging):
    console = plain()
    setup_logging(process_index=3, console=console)
    own_logging.info("quiet")
    own_logging.warning("loud")
    assert "quiet" not in console.file.getvalue() and "loud" in console.file.getvalue()


def test_on_a_terminal_there_is_a_bar_and_log_lines_above_it(own_logging):
    console = rich.console.Console(file=io.StringIO(), force_terminal=True, width=160)
    setup_logging(console=console)
    follow(range(10), console=console, evaluate=(4,))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    assert "10/10" in text and "images/s" in text and "eta 0:00:00" in text
    assert "evaluation after step 4" in text and "step 8/10" not in text


def test_eta_is_the_mean_pace_times_what_is_left():
    training, _ = follow(range(5), total=25)
    assert training._eta(5) == "0:00:20"
    assert follow(range(1), total=25)[0]._eta(1) == "?"


def test_host_memory_is_plausible():
    assert 0.05 < host_peak_gib() < 1000
