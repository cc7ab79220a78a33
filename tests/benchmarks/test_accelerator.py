"""`python -m benchmarks.accelerator`: its rehearsal on a CPU, its minutes, and processes that die."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import checkpointing
from benchmarks.accelerator import __main__ as main
from benchmarks.accelerator import budget, pack, parity, report, worker
from benchmarks.accelerator.context import TINY, Context, Skipped
from benchmarks.accelerator.items import ITEMS, START, Item
from benchmarks.accelerator.results import Results
from segjax import models
from segjax.data.image_files import encode_png
from segjax.errors import UserError
from tests.benchmarks import camvid_tree
from tests.parity_tools import FIXTURES
from tests.processes import environment

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = dict(device="chip", devices=1, rehearsal=False, driver="1.2", packages={"jax": "1"}, cores=2)
ENVIRONMENT |= dict(date="today", commit="abc")
CONTEXT = Context(TINY, rehearsal=False, torch_python="", camvid="")


def command(*words) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.accelerator", *map(str, words)],
        cwd=ROOT,
        env=environment(PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=900,
    )


def rehearsed(folder: Path, *words) -> Results:
    run = command("--rehearse", f"--output={folder}", *words)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    results = Results(folder)
    assert results.environment["rehearsal"] is True
    return results


def row(name: str) -> Item:
    return next(item for item in ITEMS if item.name == name)


def states(results: Results) -> dict:
    return {item: {part: known["state"] for part, known in parts.items()} for item, parts in results.items.items()}


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("camvid")
    pack.pack(camvid_tree.draw(folder / "CamVid"), folder / "camvid.zip")
    return folder / "camvid.zip"


def test_a_rehearsal_writes_json_and_tables(tmp_path):
    """The quick items, in one process."""
    results = rehearsed(tmp_path, "--only", "parity", "limits", "warp", "loading")
    assert states(results) == {
        "parity": {"fastscnn": "done"},
        "limits": {"matmul": "done", "copy": "done"},
        "warp": {"3 channels": "done"},
        "loading": {"host": "done"},
    }
    known = results.get("parity", "fastscnn")["figures"]
    assert known["holds"] is True and 0 < known["error / max"] < known["allowed"] == pytest.approx(3e-5)
    spread = results.get("warp", "3 channels")["figures"]["bilinear, times"]
    assert spread["repeats"] == TINY.repeats and 0 < spread["min"] <= spread["median"] <= spread["max"]
    text = (tmp_path / "results.md").read_text()
    assert report.REHEARSED in text and "| fastscnn | fastscnn |" in text
    with pytest.raises(UserError, match="of a rehearsal, whose figures mean nothing"):
        report.publish(results)


@pytest.mark.slow
def test_the_whole_rehearsal(tmp_path, packed):
    results = rehearsed(tmp_path, f"--camvid={packed}")
    assert {name for parts in states(results).values() for name in parts.values()} == {"done"}
    assert set(results.items) == {item.name for item in ITEMS}
    peer = results.get("peers", "fastscnn inference")["figures"]
    assert "no python with torch" in peer["PyTorch lacks"] and peer["segjax, images/s"]["median"] > 0
    errors = results.get("precision", "fastscnn")["figures"]
    assert errors["float32, rms"] < 1e-5 < errors["bfloat16, rms"] < 0.1
    plain, again = (results.get("memory", part)["figures"] for part in row("memory").tiny)
    assert 0 < again["temporaries, MiB"] <= plain["temporaries, MiB"]
    trained = results.get("camvid", "training")["figures"]
    assert trained["images"] == 7 and trained["steps"] == 2 and 0 <= trained["mIoU of test, %"] <= 100


def test_without_an_accelerator_it_says_so(tmp_path):
    run = command(f"--output={tmp_path}", "--only", "limits")
    assert run.returncode == 2 and "Traceback" not in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if "error:" in line]
    assert "jax runs on the CPU" in line and "--rehearse" in line
    assert not (tmp_path / "results.json").exists()


class Processes:
    """In place of worker processes: what each does with its parts; code: of its end."""

    def __init__(self, results: Results, *ways):
        self.folder, self.ways, self.asked = results.path.parent, list(ways), []

    def __call__(self, asked: dict, seconds: float, cache: str):
        self.asked.append(asked)
        results = Results(self.folder)
        states, code = self.ways.pop(0)
        if states is not None:
            results.begin(ENVIRONMENT)
            for part in asked["parts"]:
                results.put(asked["item"], part, states.pop(0) if states else "waiting", seconds=1, figures={})
        return code


def run_within(monkeypatch, tmp_path, *ways, seconds=1000, only=("precision",)):
    results = Results(tmp_path)
    processes = Processes(results, *ways)
    monkeypatch.setattr(budget, "start_worker", processes)
    items = list(budget.open_parts(results, only=only, again=False, rehearsal=False))
    code = budget.run_within(seconds, results, items, CONTEXT, cache="", commit="")
    return results, processes, code


def test_a_part_whose_process_dies_is_lost_alone(monkeypatch, tmp_path):
    results, processes, code = run_within(monkeypatch, tmp_path, (["done", "running"], -9), (["done"] * 2, 0))
    assert [len(asked["parts"]) for asked in processes.asked] == [4, 2] and code == 0
    assert list(states(results)["precision"].values()) == ["done", "failed", "done", "done"]
    assert report.failures(results) == ["precision, swiftnet_r18: its process ended with code -9"]
    # the next run repeats it alone, and what is left of a run that was killed
    results.put("limits", "copy", "running")
    left = {item.name: parts for item, parts in budget.open_parts(results, only=(), again=False, rehearsal=False)}
    assert left["precision"] == ["swiftnet_r18"] and left["limits"] == ["matmul", "copy"]
    again = list(budget.open_parts(results, only=["precision"], again=True, rehearsal=False))
    assert len(again[0][1]) == 4


@pytest.mark.parametrize("left_behind", [None, []], ids=["before it has written", "before its first part"])
def test_processes_that_die_at_their_start_come_to_an_end(monkeypatch, tmp_path, left_behind):
    results, processes, _ = run_within(monkeypatch, tmp_path, *[(left_behind, 1)] * 4)
    assert [len(asked["parts"]) for asked in processes.asked] == [4, 3, 2, 1]
    assert set(states(results)["precision"].values()) == {"failed"}


def test_what_does_not_fit_is_skipped_and_named(monkeypatch, tmp_path):
    """A later part that needs less time may still fit."""
    seconds = START + row("peers").parts["fastscnn training"] - 5
    ways = [(["done", "done"], 0), (["done", "done"], 0)]  # of the two rows of the table
    results, processes, _ = run_within(monkeypatch, tmp_path, *ways, seconds=seconds, only=("peers",))
    assert processes.asked[0]["parts"] == ["deeplabv3plus_r50 inference", "fastscnn inference"]
    known = results.get("peers", "fastscnn training")
    assert known["state"] == "skipped" and "takes about 87 s, and 8" in known["reason"]
    assert "* peers, fastscnn training: skipped; takes about" in report.markdown(results)


def test_a_process_beyond_the_minutes_is_ended(monkeypatch):
    started, popen = [], subprocess.Popen

    def sleep(command, **rest):
        started.append(popen(["sleep", "60"], **rest))
        return started[0]

    monkeypatch.setattr(budget.subprocess, "Popen", sleep)
    assert budget.start_worker({}, 0.2, cache="") is None
    assert started[0].returncode == -signal.SIGKILL


def test_the_environment_of_a_worker(monkeypatch, tmp_path):
    """jax keeps its CPU beside a named platform, and leaves memory for PyTorch."""
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    found = budget.environment_of(str(tmp_path))
    assert found["JAX_PLATFORMS"] == "cuda,cpu" and found["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path)
    assert float(found["XLA_PYTHON_CLIENT_MEM_FRACTION"]) < 1
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert budget.environment_of("")["JAX_PLATFORMS"] == "cpu"


def test_parts_with_their_own_process(monkeypatch, tmp_path):
    ways = [(["done"], 0), (["done"], 0), (["done"], 0)]
    _, processes, _ = run_within(monkeypatch, tmp_path, *ways, only=("memory",))
    assert [len(asked["parts"]) for asked in processes.asked] == [1, 1, 1]


def test_what_refuses_to_run_ends_everything(monkeypatch, tmp_path):
    _, processes, code = run_within(monkeypatch, tmp_path, (None, worker.REFUSED))
    assert code == worker.REFUSED and len(processes.asked) == 1


def test_a_part_that_raises_does_not_stop_the_others(monkeypatch, tmp_path):
    def measure(part, context):
        if part == "3 channels":
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")
        raise Skipped("there is none")

    monkeypatch.setattr("benchmarks.accelerator.warp.measure", measure)
    results = Results(tmp_path)
    results.begin(ENVIRONMENT)
    worker.run_parts(results, "warp", ["3 channels", "20 channels"], CONTEXT, deadline=time.monotonic() + 100)
    found = Results(tmp_path)
    assert found.get("warp", "3 channels")["state"] == "failed"
    assert "too little memory" in found.get("warp", "3 channels")["reason"]
    assert found.get("warp", "20 channels") == {"state": "skipped", "reason": "there is none", "seconds": 0.0}
    worker.run_parts(results, "warp", ["3 channels"], CONTEXT, deadline=time.monotonic() + 3)
    assert results.get("warp", "3 channels") == {"state": "skipped", "reason": "takes about 8 s, and 3 s were left"}


def test_results_of_another_machine_are_kept(tmp_path):
    Results(tmp_path).begin(ENVIRONMENT)
    with pytest.raises(UserError, match="holds results with device 'chip', and here it is 'other'; give another"):
        Results(tmp_path).begin({**ENVIRONMENT, "device": "other"})
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match="holds no results"):
        Results(tmp_path)


def test_publishing_replaces_the_tables(tmp_path):
    results = Results(tmp_path)
    with pytest.raises(UserError, match="measure first"):
        report.publish(results)
    results.begin(ENVIRONMENT)
    results.put("limits", "copy", "done", seconds=1, figures={"copy, GB/s": dict(median=1, min=0.5, max=2, repeats=3)})
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.publish(results, page)
    report.publish(results, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert text.count("| copy | 1 (0.5 to 2) |") == 1
    page.write_text("nothing")
    with pytest.raises(UserError, match="lacks the line"):
        report.publish(results, page)
    assert report.BEGIN in report.PAGE.read_text() and report.END in report.PAGE.read_text()


def test_a_network_that_is_not_exact_is_reported(tmp_path):
    results = Results(tmp_path)
    results.put("parity", "fastscnn", "done", figures={"error / max": 0.5, "allowed": 1e-5, "holds": False})
    assert report.failures(results) == ["parity, fastscnn: error 5.0e-01 is more than allowed"]


def test_every_part_can_be_measured():
    """Names of parts lead somewhere: a typing error would only be found on the day."""
    for item in ITEMS:
        assert set(item.tiny) <= set(item.parts) or item.name == "stream", item.name
        for part in item.parts:
            if item.name in ("parity", "precision"):
                assert (FIXTURES / f"parity_{parity.row_of(part).folder}.npz").is_file()
            elif item.name == "memory":
                assert tuple(part.partition(" ")[::2]) in {(one.network, one.remat) for one in checkpointing.ROWS}
            elif item.name in ("peers", "stream"):
                assert part.split()[0] in models.names()


def test_every_requirement_travels_or_is_named_as_preinstalled():
    text = (ROOT / "setup.py").read_text().partition("install_requires=[")[2].partition("]")[0]
    needed = {re.split(r"[>=]", word)[0].lower() for word in re.findall(r'"(.+?)"', text)}
    lines = (ROOT / "benchmarks" / "accelerator" / "wheels.txt").read_text().splitlines()
    travels = {line.lower().replace("-", "_") for line in lines if not line.startswith("#")}
    page = report.PAGE.read_text().lower().replace("opencv", "opencv-python-headless")
    left = {name for name in needed if name.replace("-", "_") not in travels}
    assert len(needed) > 15 and len(left) < len(needed)
    assert not {name for name in left if not re.search(rf"\b{name}\b", page)}
    assert f"The {len(travels)} wheels" in report.PAGE.read_text()


def test_a_packed_camvid_comes_back(packed, tmp_path):
    assert pack.unpack(packed, tmp_path / "out") == {"train": 4, "val": 1, "test": 2}
    for name in ("train.txt", "trainannot/0006R0_f00930.png"):
        assert (tmp_path / "out" / name).read_bytes() == (packed.parent / "CamVid" / name).read_bytes()


def test_wrong_files_of_camvid(packed, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no train.txt; --camvid names the folder"):
        pack.pack(tmp_path / "empty", tmp_path / "x.zip")
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(UserError, match="is no packed CamVid"):
        pack.unpack(tmp_path / "text", tmp_path / "out")
    tree = camvid_tree.draw(tmp_path / "noise")
    noise = np.random.default_rng(0).integers(0, 256, (*camvid_tree.SIZE, 3), dtype=np.uint8)
    (tree / "val" / "0016E5_07959.png").write_bytes(encode_png(noise))
    with pytest.raises(UserError, match="0016E5_07959.png cannot be packed"):
        pack.pack(tree, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--pack=x.zip"], "--pack needs --camvid=DIR"),
        (["--camvid=nowhere.zip"], "--camvid=nowhere.zip is no file; write it by --pack"),
        (["--torch-python=nowhere/python"], "--torch-python=nowhere/python is no program"),
        (["--publish"], "measure first, or give --output"),
    ],
)
def test_wrong_command_lines(words, sentence, tmp_path):
    arguments = main.parser().parse_args([*words, f"--output={tmp_path}"])
    with pytest.raises(UserError, match=re.escape(sentence)):
        main.run(arguments)
