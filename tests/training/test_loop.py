"""The training loop when it is told to stop: saved, evaluated, and nothing begun that comes after."""

import contextlib
import json
import os
import signal
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.training.interrupt import Interrupted
from segjax.training.loop import Events, train
from tests.processes import run_together

METRICS = {"loss": 1.0, "grad_norm": 1.0, "param_norm": 1.0}


class Told:
    """Checkpoints and progress that remember what they were told."""

    def __init__(self):
        self.saved, self.scored, self.fed = [], [], []

    def save(self, state, *, step, meta):
        self.saved.append(step)

    def wait(self):
        pass

    def waiting(self):
        return contextlib.nullcontext()

    def dispatched(self, result):
        pass

    def step(self, step, metrics, *, images):
        pass

    def evaluated(self, step, scores):
        self.scored.append(step)


def run(told, *, steps=4, kill_at=None, kill_in_evaluation=False, evaluate=None):
    def batches():
        for step in range(steps):
            if step == kill_at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield step, {"record": np.zeros(1, np.int32)}

    def scores(state, step, after_batch):
        if kill_in_evaluation:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"miou": 0.5}

    def run_step(state, batch, frozen):
        told.fed.append((batch["record"].tolist(), frozen))
        return SimpleNamespace(step=state.step + 1), METRICS

    compiled = SimpleNamespace(get=lambda bucket: run_step, prepare=lambda bucket: None)
    return train(
        SimpleNamespace(step=jnp.zeros((), jnp.int32)),
        runs=[SimpleNamespace(start=0, end=steps, bucket="b")],
        steps=compiled,
        batches=batches(),
        to_devices=lambda batch: batch,
        checkpoints=told,
        meta=lambda step: {},
        events=Events(),
        progress=told,
        frozen="teacher",
        evaluate=evaluate or scores,
    )


def test_to_the_end():
    told = Told()
    assert int(run(told).step) == 4
    assert told.saved == [4] and told.scored == [4]
    assert told.fed == [([0], "teacher")] * 4


def test_a_signal_within_saves_and_leaves():
    told = Told()
    with pytest.raises(Interrupted, match="SIGTERM after step 2"):
        run(told, kill_at=1)
    assert told.saved == [2] and told.scored == []


@pytest.mark.parametrize("when", [{"kill_at": 3}, {"kill_in_evaluation": True}], ids=str)
def test_a_signal_at_the_end_saves_and_leaves(when):
    """At once, as an evaluation may take longer than the time that is left: the run that resumes scores this step."""
    told = Told()
    with pytest.raises(Interrupted, match="SIGTERM after step 4"):
        run(told, **when)
    assert told.saved == [4] and told.scored == []


WORKER = """
import json, os, signal, sys, time
from segjax import parallel
from segjax.training.interrupt import Interrupted
from tests.training.test_loop import Told, run
address, index = sys.argv[1], int(sys.argv[2])
parallel.setup(platform="cpu", coordinator=address, num_processes=2, process_id=index)
told, batches = Told(), []

def evaluate(state, step, after_batch):
    for batch in range(300):
        if (index, step, batch) == (1, 4, 5):
            os.kill(os.getpid(), signal.SIGTERM)
        parallel.sync("a batch")
        batches.append(batch)
        after_batch(batch)
        time.sleep(0.01)
    return {"miou": 0.5}

try:
    run(told, evaluate=evaluate)
except Interrupted as stop:
    print(json.dumps([stop.exit_code, told.saved, told.scored, len(batches)]))
"""


def test_a_signal_to_one_of_two_processes_ends_their_evaluation():
    both = run_together(lambda *place: [sys.executable, "-c", WORKER, *place], devices=1)
    one, other = (json.loads(output.splitlines()[-1]) for output in both)
    assert one == other
    code, saved, scored, batches = one
    assert (code, saved, scored) == (143, [4], []) and 5 < batches < 300
