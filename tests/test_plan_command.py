"""`segjax plan` from its words to its text and file; the programs are those of tests/stages/test_rehearsal.py."""

import json

import pytest

from segjax import cli
from segjax.costs import tpu
from segjax.stages.config.choices import CHOICES
from tests import tiny_network

TINY = ["--set", "train.model.name=tiny", "train.batch_size=8", "train.crop.size=(16, 24)"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    tiny_network.register(monkeypatch)
    monkeypatch.setitem(CHOICES["model"].takes, "tiny", set())


def test_the_report_is_printed_and_written(tmp_path, capsys):
    file = tmp_path / "plan.json"
    assert cli.main(["plan", "--config=vplr:camvid,net=fastscnn", *TINY, f"--json={file}"]) == 0
    text = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert "train of vplr:camvid,net=fastscnn, train, on local: 8 x cpu, data=8 space=1\n" in text
    assert "tiny, 8 images of 16x24, 11 classes, float32, remat=False, compiled in" in text
    assert text.rstrip().endswith("it fits") and report["memory"]["fits"] and report["tried"] == []
    assert "largest message    all-reduce, f32[" in text and report["largest"][0]["kind"] == "all-reduce"
    assert report["chips"] == 8 and report["collectives"]["all-reduce"]["count"] > 0


@pytest.mark.parametrize(
    "words, said",
    [
        (["--topology=v9:2x2"], "there is no TPU 'v9'"),
        (["--topology=v5e:2x2"], "pip install 'segjax[tpu]'"),
        (["--json=plan.txt"], "--json=plan.txt must be the name of a JSON file"),
        (["--what=run"], "invalid choice: 'run'"),
        (["--batch=0"], "'0' is no number of at least 1"),
        (["--set", "train.batch_size=6"], "train.batch_size=6 cannot be shared out among 8 devices"),
        (["--set", "train.batch_sise=6"], "batch_sise"),
    ],
)
def test_a_wrong_word_is_one_sentence(words, said, capsys, monkeypatch):
    monkeypatch.setattr(tpu.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["plan", "--config=vplr:camvid,net=fastscnn", *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("segjax: error: ") and line.count("\n") == 1 and said in line


def test_a_file_of_somebody_else_is_kept(tmp_path, capsys):
    file = tmp_path / "notes.json"
    file.write_text("mine")
    assert cli.main(["plan", "--config=vplr:camvid,net=fastscnn", *TINY, f"--json={file}"]) == 2
    assert "was not written by segjax" in capsys.readouterr().err and file.read_text() == "mine"
