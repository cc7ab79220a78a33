"""Whole runs in a bucket: killed at random, with two processes, and read by commands; what they give is the same.

SEGJAX_KILLS=3 pytest -m slow tests/stages/test_remote_runs.py   kills less often.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.remote import Store, read_address
from segjax.remote.manifest import OWN, read_files
from segjax.weights.runs import load_for_inference
from tests import bucket_servers
from tests.processes import SMALL_NETWORK, environment, run_together, start_together

ROOT = Path(__file__).resolve().parents[2]
STEPS = 150
FEW = 24  # of two processes, which exchange gradients
MANY = 1500  # into a slow bucket, while several copies are made
KILLS = int(os.environ.get("SEGJAX_KILLS", 10))
pytestmark = pytest.mark.slow


@pytest.fixture(params=["gs", "s3"])
def scheme(request):
    return request.param


@pytest.fixture(autouse=True)
def bucket(scheme, tmp_path, street_dir, monkeypatch):
    """Leads this process, and those that it starts, to a server with an empty bucket."""
    server = {"gs": bucket_servers.gcs_server, "s3": bucket_servers.s3_server}[scheme]
    with server() as address:
        for name, value in bucket_servers.variables(scheme, address).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SEGJAX_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("SEGJAX_DATA_DIR", str(street_dir))
        yield f"{scheme}://{bucket_servers.BUCKET}"


def command(workdir, *extra, steps=STEPS, config="configs/vplr.py:propagate=none,debug"):
    return [
        sys.executable, "main.py", f"--config={config}", f"--workdir={workdir}",
        f"--config.train.total_steps={steps}", "--config.train.checkpoint_steps=5", "--config.train.ema_decay=0.9",
        "--config.train.eval_steps=25", *SMALL_NETWORK, *extra,
    ]  # fmt: skip


def run(workdir, *extra, **options):
    words = command(workdir, *extra, **options)
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def weights(workdir):
    _, tree, info = load_for_inference(workdir)
    assert info["step"] in (STEPS, FEW, MANY)
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def saved(workdir):
    """Returns the last step whose checkpoint the bucket has."""
    files = read_files(Store(read_address(workdir, "--workdir"))) or {}
    return max((int(name.split("/")[2]) for name in files if name.startswith("train/checkpoints/")), default=0)


def test_killed_at_random(bucket, tmp_path):
    undisturbed, killed, dice = tmp_path / "undisturbed", f"{bucket}/runs/killed", random.Random(0)
    run(undisturbed, "--stage=train")
    kills, reached = 0, []
    while kills < KILLS:
        process = subprocess.Popen(
            command(killed, "--stage=train"), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        # every third dies at its start, the others after a push: in steps, saves and the next push
        before, deadline = saved(killed), time.time() + 300
        while kills % 3 < 2 and saved(killed) <= before and process.poll() is None and time.time() < deadline:
            time.sleep(0.1)
        deadline = time.time() + dice.uniform(0, 3 if kills % 3 < 2 else 12)
        while process.poll() is None and time.time() < deadline:
            time.sleep(0.05)
        ended = process.poll()
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[1]
        if ended is not None:  # it was done before it could be killed; another run lives the rest
            assert ended == 0, said[-3000:]
            assert same(killed, undisturbed)
            print(f"a run ended after {kills} kills, {reached}")
            killed = f"{killed}-{kills}"
            continue
        kills += 1
        reached.append(saved(killed))
        print(f"kill {kills}: step {reached[-1]}", flush=True)
        if kills % 4 == 0:  # a new host, without the local copy
            os.environ["SEGJAX_CACHE_DIR"] = str(tmp_path / f"cache{kills}")
            silence(killed)
    print(f"{KILLS} kills, with checkpoints of the steps {reached} in the bucket")
    run(killed, "--stage=train")
    assert same(killed, undisturbed)
    is_whole(killed)


def silence(workdir):
    """Removes the name of the killed run, for which another host would wait 45 seconds."""
    Store(read_address(workdir, "--workdir")).delete(f"{OWN}/run.json")


@pytest.fixture
def proxy(bucket, scheme, monkeypatch):
    """Leads the programs to the server through a proxy, whose rule a test sets."""
    name = {"gs": "TENSORSTORE_GCS_HTTP_URL", "s3": "AWS_ENDPOINT_URL"}[scheme]
    with bucket_servers.proxy(os.environ[name]) as (address, state):
        monkeypatch.setenv(name, address)
        yield state


def test_killed_while_a_slow_bucket_is_written(bucket, proxy, tmp_path):
    """Each kill comes while the parts of a checkpoint are on their way, of which the server gets some afterwards."""
    undisturbed, killed, dice = tmp_path / "undisturbed", f"{bucket}/runs/slow", random.Random(1)
    # a folder that changes all the time is not copied: a checkpoint every few seconds
    words = ["--stage=train", "--config.train.checkpoint_steps=100", "--config.train.eval_steps=500"]
    run(undisturbed, *words, steps=MANY)
    parts, reached, log = [], [], tmp_path / "log"

    def slow(method, path):
        if method not in ("PUT", "POST"):
            return None
        parts.extend([path] * ("checkpoints" in path))
        return dice.uniform(0.2, 1.5)

    proxy.rule = slow
    for kill in range(min(KILLS, 5)):
        with open(log, "w") as said:
            process = subprocess.Popen(
                command(killed, *words, steps=MANY), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL,
                stderr=said,
            )  # fmt: skip
        # two kills before the bucket has any list of files, the others after a further checkpoint
        before, deadline = saved(killed), time.time() + 300
        while kill > 1 and saved(killed) <= before and process.poll() is None and time.time() < deadline:
            time.sleep(0.2)
        count = len(parts) + dice.randrange(2, 15)
        while len(parts) < count and process.poll() is None and time.time() < deadline:
            time.sleep(0.02)
        if process.poll() is not None:  # a fast machine was done before
            assert process.returncode == 0, log.read_text()[-3000:]
            break
        assert len(parts) >= count, log.read_text()[-3000:]
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        reached.append(saved(killed))
        print(f"kill {kill + 1}: step {reached[-1]}", flush=True)
    print(f"{len(reached)} kills in uploads, with checkpoints of the steps {reached} in the bucket")
    assert len(reached) >= 2
    proxy.rule = lambda method, path: None
    run(killed, *words, steps=MANY)
    assert same(killed, undisturbed)
    is_whole(killed)


def is_whole(workdir):
    """The bucket has what its list names, and nothing else."""
    store = Store(read_address(workdir, "--workdir"))
    assert {name for name in store.names() if not name.startswith(OWN)} == set(read_files(store))


def test_stopped_with_sigterm(bucket):
    workdir = f"{bucket}/runs/stopped"
    process = subprocess.Popen(
        command(workdir, "--stage=train"), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.time() + 200
    while not saved(workdir) and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    step = re.search(r"stopped by SIGTERM after step (\d+); a checkpoint was saved", said)
    assert process.returncode == 143 and step, said[-3000:]
    assert saved(workdir) == int(step[1])  # and is in the bucket


SPLIT = ["--config.train.param_rules=(('.*', 'data'),)"]  # parameters, over both processes


def test_two_processes(bucket, tmp_path):
    undisturbed, remote = tmp_path / "undisturbed", f"{bucket}/runs/two"

    def of(workdir):
        return lambda address, index: [
            *command(workdir, "--config.train.mesh.data=-1", *SPLIT, "--stage=train", steps=FEW),
            f"--coordinator={address}", "--num_processes=2", f"--process_id={index}",
        ]  # fmt: skip

    run_together(of(undisturbed), devices=1)
    for victim in (0, 1):
        processes = start_together(of(remote), devices=1)
        try:
            deadline, before = time.time() + 200, saved(remote)
            while saved(remote) <= before and time.time() < deadline:
                assert all(process.poll() is None for process in processes), processes[0].communicate()[1][-3000:]
                time.sleep(0.1)
            processes[victim].send_signal(signal.SIGKILL)
            _, errors = processes[1 - victim].communicate(timeout=60)
            assert f"main.py: error: process {victim} of 2" in errors
        finally:
            for process in processes:
                process.kill()
    run_together(of(remote), devices=1)
    assert same(remote, undisturbed)


def test_two_processes_write_a_dataset(bucket):
    worker = ROOT / "tests" / "stages" / "worker_remote_records.py"
    outputs = run_together(lambda address, index: [sys.executable, worker, f"{bucket}/run", address, index], devices=1)
    first, second = (output.splitlines()[-1] for output in outputs)
    assert first == second and first.startswith("6 [0, 1, 2, 3] 12 ")  # each wrote two of the four shards
    files = read_files(Store(read_address(f"{bucket}/run", "--workdir")))
    assert not [name for name in files if "/shards/" in name and name.endswith(".array_record")]
    assert len([name for name in files if "/dataset/propagated-" in name]) == 8


def test_commands_and_stages_read_a_bucket(bucket, tmp_path):
    workdir = f"{bucket}/runs/whole"
    run(workdir)
    report = json.loads(Store(read_address(workdir, "--workdir")).read("report.json"))
    assert {"train", "evaluate"} <= set(report)
    predict = [
        sys.executable, "-m", "segjax", "predict", f"--checkpoint={workdir}", "--input=docs/street.png",
        f"--output={tmp_path / 'predicted'}",
    ]  # fmt: skip
    subprocess.run(predict, cwd=ROOT, env=environment(), check=True)
    assert list((tmp_path / "predicted").rglob("*.png"))
    export = [sys.executable, "-m", "segjax", "export_weights", f"--checkpoint={workdir}/train"]
    subprocess.run([*export, f"--output={tmp_path / 'a.safetensors'}"], cwd=ROOT, env=environment(), check=True)
    run(  # another run starts from it, and its data lies in a bucket
        f"{bucket}/runs/second", "--stage=train", f"--config.train.init.checkpoint={workdir}",
        "--config.train.init.weights=", f"--config.dataset.data_dir={bucket}/data",
    )  # fmt: skip


RECIPE = """
from configs import vplr


def get_config(arg=None):
    config = vplr.get_config("propagate=none,debug")
    config.flipped = dict(config.evaluate.to_dict(), flip=True)
    cells = [dict(series=name, at="all", stages=(name,)) for name in ("evaluate", "flipped")]
    config.compare = dict(kind="compare", baseline="evaluate", cells=cells)
    config.stages = ("train", "evaluate", "flipped", "compare")
    return config
"""


def test_reports_and_pictures_of_evaluations_and_comparisons(bucket, tmp_path, monkeypatch):
    """They are those of a run on a disk; a stage whose folder is deleted in the bucket runs again."""
    local, remote = tmp_path / "local", f"{bucket}/runs/compared"
    (tmp_path / "compared.py").write_text(RECIPE)
    options = dict(steps=10, config=tmp_path / "compared.py")
    run(local, **options)
    run(remote, **options)
    store = Store(read_address(remote, "--workdir"))

    def results():
        """Returns name -> content of the tables and pictures in the bucket."""
        found = {name for name in read_files(store) if re.match("(evaluate|flipped|compare)/.*(md|csv|png)$", name)}
        return {name: store.read(name) for name in sorted(found)}

    written = results()
    assert {"compare/table.md", "evaluate/confusion.png"} <= set(written) and len(written) > 10
    assert all((local / name).read_bytes() == content for name, content in written.items())
    reports = [json.loads(text) for text in (store.read("report.json"), (local / "report.json").read_bytes())]
    assert reports[0]["compare"]["cells"] == reports[1]["compare"]["cells"]
    assert reports[0]["evaluate"]["iou"] == reports[1]["evaluate"]["iou"]

    for name in [name for name in store.names() if name.startswith("evaluate/")]:
        store.delete(name)
    monkeypatch.setenv("SEGJAX_CACHE_DIR", str(tmp_path / "another host"))
    run(remote, **options)
    assert results() == written
    is_whole(remote)
