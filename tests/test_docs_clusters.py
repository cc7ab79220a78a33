"""docs/clusters.md is true: its script is run with two processes, its manifests are what Kubernetes takes."""

import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from segjax.parallel.processes import Processes, find_processes, slurm_processes
from segjax.weights.runs import load_for_inference
from tests.processes import SMALL_NETWORK, environment
from tests.stages.test_faults import logged_steps
from tests.test_docs import check_main

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "clusters.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


# Slurm -------------------------------------------------------------------------------------------------------------

(SCRIPT,) = blocks("sbatch")
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
step = dict(SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NODELIST="localhost", SLURM_STEP_TASKS_PER_NODE="1(x2)")
tasks = [
    subprocess.Popen(words, env={{**os.environ, **step, "SLURM_PROCID": str(k), "SLURM_LOCALID": "0"}}) for k in (0, 1)
]
signal.signal(signal.SIGTERM, lambda number, _: [task.send_signal(number) for task in tasks])
open("srun.pid", "w").write(str(os.getpid()))
sys.exit(max(task.wait() % 256 for task in tasks))
"""


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def slurm(folder: Path, srun: str, **more) -> dict[str, str]:
    """Writes the programs and the script, and returns the environment of a job."""
    (folder / "bin").mkdir()
    program(folder / "bin", "srun", srun)
    program(folder / "bin", "scontrol", '#!/bin/sh\necho "$@" >> scontrol.txt\n')
    (folder / "segjax.sbatch").write_text(SCRIPT)
    for name in ("main.py", "configs", "segjax", "data_builders"):
        (folder / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return environment(PATH=path, SLURM_JOB_ID=free_job(), **more)


def free_job() -> int:
    """A job whose port is free."""
    for job in range(1000, 1100):
        with socket.socket() as probe:
            try:
                probe.bind(("", 61440 + job % 4096))
                return job
            except OSError:
                continue
    raise AssertionError("no port is free")


def requeued(folder: Path) -> list[str]:
    path = folder / "scontrol.txt"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    "code, restarts, again",
    [(0, 0, False), (2, 0, False), (130, 0, False), (1, 0, True), (75, 3, True), (137, 0, True), (143, 49, True)]
    + [(143, 50, False)],
)
def test_what_resumes_is_put_into_the_queue_again(code, restarts, again, tmp_path):
    variables = slurm(tmp_path, f"#!/bin/sh\nexit {code}\n", SLURM_RESTART_COUNT=restarts)
    done = subprocess.run(["bash", "segjax.sbatch"], cwd=tmp_path, env=variables)
    assert done.returncode == code
    assert requeued(tmp_path) == ([f"requeue {variables['SLURM_JOB_ID']}"] if again else [])


STAND_IN = """
import os, sys, time
import jax
from pathlib import Path
from segjax import parallel
from segjax.training.interrupt import StopSignal

parallel.setup(platform="cpu", cache_dir="")
saved = Path("step.txt")
done = int(saved.read_text()) if saved.exists() else 0
with StopSignal() as stop:
    while done < 40 and not stop.requested():
        parallel.sync("a step")
        done += 1
        time.sleep(0.05)
        sys.stdout.write(f"process {jax.process_index()} of {jax.process_count()}, step {done}\\n")  # at once
        sys.stdout.flush()
parallel.sync("end")
saved.write_text(str(done))
sys.exit(143 if stop.number else 0)
"""


def run_and_stop(folder: Path, command: list[str], variables: dict[str, str], when: Callable[[], bool]) -> str:
    """Runs the script, sends SIGTERM to its tasks as Slurm does before the end of a job's time, returns the output."""
    with open(folder / "log", "w") as log:
        script = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)
        deadline = time.time() + 240
        while not when() and time.time() < deadline and script.poll() is None:
            time.sleep(0.05)
        os.kill(int((folder / "srun.pid").read_text()), signal.SIGTERM)
        assert script.wait(timeout=120) == 143, (folder / "log").read_text()[-3000:]
    return (folder / "log").read_text()


def test_the_script_stops_and_resumes(tmp_path):
    """With a program in place of a training, which takes longer: the next test."""
    variables = slurm(tmp_path, SRUN)
    (tmp_path / "main.py").unlink()
    (tmp_path / "main.py").write_text(STAND_IN)
    command, log = ["bash", "segjax.sbatch"], tmp_path / "log"
    said = run_and_stop(tmp_path, command, variables, lambda: log.exists() and "step 3" in log.read_text())
    step = int((tmp_path / "step.txt").read_text())
    assert 3 <= step < 40 and all(f"process {k} of 2, step {step}\n" in said for k in (0, 1)), said
    assert requeued(tmp_path) == [f"requeue {variables['SLURM_JOB_ID']}"]
    again = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"of 2, step {step + 1}\n" in again.stdout and f"of 2, step {step}\n" not in again.stdout
    assert (tmp_path / "step.txt").read_text() == "40" and len(requeued(tmp_path)) == 1


@pytest.mark.slow
def test_a_training_stops_and_resumes(tmp_path, street_dir):
    variables = slurm(tmp_path, SRUN, SEGJAX_DATA_DIR=street_dir)
    words = [
        "--platform=cpu", "--config=configs/vplr.py:propagate=none,debug", "--workdir=run", "--stage=train",
        "--config.train.mesh.data=-1", "--config.train.total_steps=60", "--config.train.checkpoint_steps=1000",
        "--config.train.eval_steps=1000", *SMALL_NETWORK,
    ]  # fmt: skip
    command = ["bash", "segjax.sbatch", *words]
    said = run_and_stop(tmp_path, command, variables, lambda: max(logged_steps(tmp_path / "run"), default=0) >= 5)
    step = load_for_inference(tmp_path / "run")[2]["step"]
    assert 5 <= step < 60
    assert said.count(f"stopped by SIGTERM after step {step}; a checkpoint was saved") == 2
    assert requeued(tmp_path) == [f"requeue {variables['SLURM_JOB_ID']}"]
    with open(tmp_path / "again", "w") as log:
        again = subprocess.run(command, cwd=tmp_path, env=variables, stdout=log, stderr=log, timeout=600)
    assert again.returncode == 0, (tmp_path / "again").read_text()[-3000:]
    assert load_for_inference(tmp_path / "run")[2]["step"] == 60 and len(requeued(tmp_path)) == 1


def test_the_options_of_the_script():
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT, re.MULTILINE))
    assert len(options) == SCRIPT.count("#SBATCH") and {"requeue", "signal", "nodes"} < set(options)
    assert options["signal"] == "TERM@300"  # to the steps: with "B:" the shell alone would get it
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": options["nodes"], "SLURM_STEP_NODELIST": "a[1-2]"}
    step |= {
        "SLURM_STEP_TASKS_PER_NODE": f"{options['ntasks-per-node']}(x2)",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
    }
    assert slurm_processes({**step, "CUDA_VISIBLE_DEVICES": "0,1,2,3"}).device_ids is None  # all of the host


# Kubernetes --------------------------------------------------------------------------------------------------------

MANIFEST, TPU = blocks("yaml")
SERVICE, JOB = yaml.safe_load_all(MANIFEST)
VERSION = "1.31"  # podFailurePolicy is stable since then


def on_tpu() -> dict:
    """The job with the lines for a TPU in place of those of the same names."""
    job, lines = yaml.safe_load(MANIFEST.split("---\n")[1]), yaml.safe_load(TPU)
    job["spec"]["template"]["spec"].update(lines)
    return job


@pytest.mark.parametrize("part", (SERVICE, JOB, on_tpu()), ids=("service", "gpu", "tpu"))
def test_the_manifests_fit_the_schema(part):
    kubernetes_validate.validate(part, VERSION, strict=True)


@pytest.mark.parametrize("key, value", [("completion", 4), ("parallelism", "4")])
def test_the_schema_would_find_a_slip(key, value):
    slip = {**JOB, "spec": {**JOB["spec"], key: value}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(slip, VERSION, strict=True)


def test_the_pods_find_each_other():
    job, pod = JOB["spec"], JOB["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    found = [
        find_processes(None, None, None, environment={**variables, "JOB_COMPLETION_INDEX": str(index)})
        for index in range(job["completions"])
    ]
    name, service = JOB["metadata"]["name"], SERVICE["metadata"]["name"]
    assert found == [Processes(f"{name}-0.{service}:8476", 4, index) for index in range(4)]
    assert job["completions"] == job["parallelism"] and job["completionMode"] == "Indexed"
    assert pod["subdomain"] == service and SERVICE["spec"]["selector"] == {"job-name": name}
    assert SERVICE["spec"]["clusterIP"] == "None" and SERVICE["spec"]["publishNotReadyAddresses"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("job", (JOB, on_tpu()), ids=("gpu", "tpu"))
def test_the_pods_run_what_we_have(job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "main.py"]
    check_main(container["args"])
    rules = job["spec"]["podFailurePolicy"]["rules"]
    codes = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", ())}
    assert codes == {2: "FailJob", 75: "Ignore", 143: "Ignore"}
    assert {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule} == {container["name"]}


def test_the_image_has_what_the_pods_run():
    lines = dict(line.split(" ", 1) for line in blocks("dockerfile")[0].splitlines())
    assert lines["COPY"] == f". {lines['WORKDIR']}"
    words = shlex.split(lines["RUN"])
    assert words[:2] == ["pip", "install"] and (ROOT / words[words.index("--constraint") + 1]).is_file()
    assert f'"{words[-1][2:-1]}": [' in (ROOT / "setup.py").read_text()
