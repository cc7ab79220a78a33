"""Output of a training run: log lines, a progress bar, numbers in files, and the time spent waiting for data."""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import rich.console
import rich.logging
import rich.progress

from segjax.training.metric_files import Writer

log = logging.getLogger("segjax")


CONSOLE = rich.console.Console()  # stdout; shared, so that log lines appear above a progress bar


def setup_logging(*, process_index: int = 0, console: rich.console.Console = CONSOLE) -> None:
    """Sends the package's log to the console: coloured, above progress bars on a terminal, plain lines elsewhere.

    process_index: of this process; those other than 0 show warnings only.
    console: stdout by default.

    May be called again, for example when the process index is known.
    """
    if console.is_terminal:
        handler = rich.logging.RichHandler(
            console=console, show_path=False, log_time_format="%H:%M:%S", omit_repeated_times=False
        )
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%m-%d %H:%M:%S"))
    handler.set_name("segjax")
    for old in [h for h in log.handlers if h.get_name() == "segjax"]:
        log.removeHandler(old)
    log.addHandler(handler)
    log.setLevel(logging.INFO if process_index == 0 else logging.WARNING)
    log.propagate = False


class StepTimer:
    """Images per second, and the share of time in which the device was idle because data was missing.

    Waiting for data counts only after the device has finished the steps reported to `dispatched`. Until then it costs
    nothing.

    clock: () -> seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._pool: ThreadPoolExecutor | None = None
        self._finished: Future | None = None  # -> when the newest dispatched step was done
        self._begun = False
        self._restart()

    def _restart(self) -> None:
        self._start = self._mark = self._clock()
        self._waited, self._images, self._steps = 0.0, 0, 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Context manager around code that waits for data."""
        if not self._begun:
            self._restart()  # time before the first step, such as compilation, is not training
            self._begun = True
        start = self._clock()
        try:
            yield
        finally:
            self._mark = self._clock()
            self._waited += max(0.0, self._mark - max(start, self._idle_since(start)))

    def dispatched(self, result: Any) -> None:
        """Records that a step was given to the device; result: one of its output arrays."""
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="step-timer")
        self._finished = self._pool.submit(self._wait_for, result)

    def _wait_for(self, result: Any) -> float:
        jax.block_until_ready(result)
        return self._clock()

    def _idle_since(self, start: float) -> float:
        if self._finished is None:
            return start
        if not self._finished.done():
            return float("inf")
        return start if self._finished.exception() else self._finished.result()

    def step(self, images: int) -> None:
        """Records that the results of a step have arrived; images: in its batch."""
        self._images += images
        self._steps += 1
        self._mark = self._clock()

    def skip(self) -> None:
        """Excludes the time since the last step or wait, which was spent on something else, such as an evaluation."""
        now = self._clock()
        self._start += now - self._mark
        self._mark = now

    def report(self) -> dict[str, float]:
        """Returns images_per_second, seconds_per_step and data_wait (0..1) since the last report."""
        seconds = max(self._mark - self._start, 1e-9)
        result = {
            "images_per_second": self._images / seconds,
            "seconds_per_step": seconds / max(self._steps, 1),
            "data_wait": min(self._waited / seconds, 1.0),
        }
        self._restart()
        return result

    def close(self) -> None:
        """Ends the thread that waits for the device."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class TrainingLog:
    """Log of a training run: means over every `log_steps` steps, for the writers and the console.

    start_step: updates done before this process started.
    total_steps: updates at the end of the run.
    log_steps: steps per line.
    writers: files that receive the numbers; closed at the end.
    epoch_of: step (from 0) -> epoch (from 0), for the lines.
    epoch_begins: called with the number of each epoch after its first step, and of the one in which a run is resumed.
    console: on a terminal it shows one progress bar, elsewhere lines.
    clock: () -> seconds.

    A context manager.
    """

    def __init__(
        self,
        *,
        start_step: int,
        total_steps: int,
        log_steps: int = 10,
        writers: Sequence[Writer] = (),
        epoch_of: Callable[[int], int] | None = None,
        epoch_begins: Callable[[int], None] | None = None,
        console: rich.console.Console = CONSOLE,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.total_steps, self.log_steps, self.writers = total_steps, max(log_steps, 1), list(writers)
        self._start_step, self._epoch_of, self._clock = start_step, epoch_of, clock
        self._epoch_begins, self._epoch = epoch_begins, -1
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}  # of the steps in which the metric was defined
        self._count = 0
        self._timer = StepTimer(clock)
        self._first: float | None = None  # time at which the first step was done
        self._totals = {"images": 0.0, "seconds": 0.0, "waited": 0.0}
        self._bar = self._task = None
        if console.is_terminal and jax.process_index() == 0:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TextColumn("{task.fields[text]}"),
                console=console,
            )
            self._task = self._bar.add_task("train", total=total_steps, completed=start_step, text="starting")

    def __enter__(self) -> TrainingLog:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._timer.close()
        for writer in self.writers:
            writer.close()

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context manager around code that waits for data."""
        return self._timer.waiting()

    def dispatched(self, result: Any) -> None:
        """Records that a step was given to the device; without it, waiting counts while the device is busy too."""
        self._timer.dispatched(result)

    def step(self, step: int, metrics: Mapping[str, float], *, images: int) -> None:
        """Records that a step is done, and writes a line if one is due.

        step: counted from 0.
        metrics: of that step, by name. A mean leaves out steps in which its metric is nan, which means undefined; the
            loop has refused a loss that is not finite.
        images: in its batch, over all processes.
        """
        done = step + 1
        self._timer.step(images)
        self._first = self._clock() if self._first is None else self._first
        for name, value in metrics.items():
            if not math.isnan(value):
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
                self._counts[name] = self._counts.get(name, 0) + 1
        self._count += 1
        if self._epoch_begins is not None and self._epoch_of is not None and self._epoch_of(step) != self._epoch:
            self._epoch = self._epoch_of(step)
            self._epoch_begins(self._epoch)  # while the device has its next step to do
        if done % self.log_steps and done not in (self._start_step + 1, self.total_steps):
            return
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        if "lr" in metrics:
            means["lr"] = float(metrics["lr"])
        rates = self._timer.report()
        seconds = rates["seconds_per_step"] * self._count
        if done > self._start_step + 1:  # the first step may contain a compilation
            for key, value in (("images", rates["images_per_second"] * seconds), ("seconds", seconds)):
                self._totals[key] += value
            self._totals["waited"] += rates["data_wait"] * seconds
        epoch = {} if self._epoch_of is None else {"epoch": self._epoch_of(step)}
        if means.get("loss") == means.get("grad_norm") == 0:
            log.warning(
                "step %d: loss and gradient are exactly 0, so not one pixel counted since the last line: all are "
                "ignored (see segjax check_data), or every triple of a video is a cut (raise cut_histogram)",
                done,
            )
        self._write(done, "train", {**epoch, **means, **rates, "host_peak_gib": host_peak_gib()})
        self._show(done, epoch, means, rates)
        self._sums, self._counts, self._count = {}, {}, 0

    def evaluated(self, step: int, scores: Mapping[str, float]) -> None:
        """Records the scores of an evaluation after `step` updates; its time does not count as training."""
        self._timer.skip()
        scores = {name: value for name, value in scores.items() if isinstance(value, (int, float))}
        self._write(step, "eval", scores)
        for writer in self.writers:
            writer.flush()
        text = "  ".join(f"{name} {_short(value)}" for name, value in scores.items())
        log.info("evaluation after step %d: %s", step, text)

    def summary(self) -> dict[str, float]:
        """Returns images_per_second and data_wait of all steps but the first, for the report."""
        seconds = max(self._totals["seconds"], 1e-9)
        return {
            "images_per_second": round(self._totals["images"] / seconds, 3),
            "data_wait": round(self._totals["waited"] / seconds, 4),
        }

    def _write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        for writer in self.writers:
            writer.write(step, kind, values)

    def _eta(self, done: int) -> str:
        steps = done - self._start_step - 1
        if steps < 1:
            return "?"
        seconds = (self._clock() - self._first) / steps * (self.total_steps - done)
        return str(datetime.timedelta(seconds=round(seconds)))

    def _show(self, done: int, epoch: Mapping, means: Mapping, rates: Mapping) -> None:
        parts = [f"epoch {epoch['epoch'] + 1}"] if epoch else []
        parts += [f"loss {_short(means.get('loss', float('nan')))}", f"lr {_short(means.get('lr', float('nan')))}"]
        parts += [f"{rates['images_per_second']:.1f} images/s", f"data wait {rates['data_wait']:.0%}"]
        parts.append(f"eta {self._eta(done)}")
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text="  ".join(parts))
        else:
            log.info("step %d/%d  %s", done, self.total_steps, "  ".join(parts))


def host_peak_gib() -> float:
    """Returns the peak memory of this process, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 3)  # bytes on macOS, kilobytes elsewhere


def _short(value: float) -> str:
    return f"{value:.4g}"
