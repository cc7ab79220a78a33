"""Fuzzed weight files of all kinds: each gives tensors or one sentence, within bounded memory and time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.weights.fuzz_files import KINDS, make, outcome


@pytest.mark.parametrize("kind", KINDS)
def test_a_fuzzed_file_gives_tensors_or_one_sentence(tmp_path, kind):
    for seed in range(KINDS.index(kind), 30 * len(KINDS), len(KINDS)):
        path = make(seed, tmp_path)
        outcome(path)
        path.unlink()


@pytest.mark.slow
def test_a_thousand_fuzzed_files_stay_within_their_limits():
    """In a process each, with 2 GB and 20 s."""
    run = [sys.executable, "-m", "tests.weights.fuzz_limits", "0", "1000"]
    found = json.loads(subprocess.check_output(run, cwd=Path(__file__).resolve().parents[2], text=True))
    print(found)
    assert not found["bad"]
    assert sum(sum(counts.values()) for counts in found["outcomes"].values()) == 1000
    assert found["most_mb"] < 512 and found["most_seconds"] < 20
