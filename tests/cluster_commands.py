"""Reads the commands of docs/clusters.md, whose programs are not on this machine, as these programs would."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PLACE = {"zone", "project"}
FLAGS = {  # what each takes, of its reference: name -> whether it is followed by a value
    ("gcloud", "compute", "tpus", "queued-resources", "create"): _PLACE
    | {"node-id", "accelerator-type", "runtime-version", "spot"},
    ("gcloud", "compute", "tpus", "queued-resources", "delete"): _PLACE | {"force"},
    ("gcloud", "compute", "tpus", "tpu-vm", "scp"): _PLACE | {"recurse", "worker"},
    ("gcloud", "compute", "tpus", "tpu-vm", "ssh"): _PLACE | {"worker", "command"},
    ("sbatch",): {"nodes", "gpus-per-node"},
    ("squeue",): {"me"},
    ("scancel",): {"signal"},
    ("kubectl", "apply"): {"filename"},
    ("kubectl", "delete"): {"filename"},
    ("kubectl", "logs"): {"follow"},
    ("kubectl", "exec"): set(),
}
PROGRAMS = {words[0] for words in FLAGS}


def check(line: str, check_main: Callable[[list[str]], None]) -> None:
    """Fails unless a line is a command of a cluster with flags that it has, and ours within it are right.

    check_main: check of the words after `main.py`.
    """
    words = shlex.split(line)
    (verb,) = [verb for verb in FLAGS if tuple(words[: len(verb)]) == verb]
    words = words[len(verb) :]
    if verb == ("sbatch",):  # options of the script follow its name
        script = next(k for k, word in enumerate(words) if not word.startswith("-"))
        assert words[script].endswith(".sbatch")
        check_main(words[script + 1 :])
        words = words[:script]
    if verb == ("kubectl", "exec"):
        words = words[: words.index("--")]
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("-"))
    assert set(flags) <= FLAGS[verb], line
    if verb[-1] in ("ssh", "scp"):
        assert {"zone", "worker"} <= set(flags) and flags["worker"] in ("all", "0"), line
    if "command" in flags:
        check_shell(flags["command"], check_main)


def check_shell(text: str, check_main: Callable[[list[str]], None]) -> None:
    """Checks a line that the shell of another machine runs."""
    for part in re.split(r"&&|;|(?<!>)&(?!1)", text):
        words = shlex.split(re.sub(r"2>&1|>>? *\S+|< *\S+", "", part))
        if not words:
            continue
        while words[0] == "nohup" or re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        program = words[0].rpartition("/")[2]
        if program == "python":
            assert words[1] == "main.py"
            check_main(words[2:])
        elif program == "uv" and words[1] == "pip":
            extra = re.search(r"\.\[(\w+)\]", text)[1]
            assert f'"{extra}": [' in (ROOT / "setup.py").read_text()
        else:
            assert program in ("cd", "pip", "uv", "tail", "pkill", "sleep"), part
