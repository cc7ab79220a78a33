"""docs/new_parts.md is true: its parts, written into a copy of the package as the page says, train and report."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.processes import environment

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "new_parts.md").read_text()
PART = re.compile(  # ## A network  `file`; in `file` the line `import` and, in `TABLE`, `row`. ... the file's text
    r"^## A (?P<kind>\w+)\n\n`(?P<file>\S+)`; in `(?P<table_file>\S+)` the line `(?P<line>[^`]+)` and, "
    r"in `(?P<table>\w+)`,\s`(?P<row>[^`]+)`.*?^```python\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


def copy_of_the_package(folder: Path) -> None:
    shutil.copytree(ROOT / "segjax", folder / "segjax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "main.py", folder)
    for name in ("configs", "data_builders"):
        (folder / name).symlink_to(ROOT / name)


def add(folder: Path, part: dict[str, str]) -> None:
    """Does what the page says for one part."""
    assert not (folder / part["file"]).exists()
    (folder / part["file"]).write_text(part["code"])
    path = folder / part["table_file"]
    text, rows = re.subn(
        rf"^({part['table']}\b.*\{{)$", rf"\1\n    {part['row']}", path.read_text(), flags=re.MULTILINE
    )
    text, lines = re.subn(r"^(?=from segjax)", part["line"] + "\n", text, count=1, flags=re.MULTILINE)
    assert rows == lines == 1, path
    path.write_text(text)


def test_parts_of_the_page_train(tmp_path, street_dir):
    copy_of_the_package(tmp_path)
    parts = [match.groupdict() for match in PART.finditer(PAGE)]
    assert [part["kind"] for part in parts] == ["network", "loss", "stage"]
    for part in parts:
        add(tmp_path, part)
    command = [
        sys.executable, "main.py", "--config=configs/vplr.py:propagate=none,debug", "--workdir=run",
        "--config.train.model.name=tiny", "--config.train.model.options.width=8",
        "--config.train.loss.main.name=focal_loss", "--config.train.loss.main.options.gamma=1.5",
        "--config.count={'kind': 'count', 'split': 'train'}", "--config.stages=('count', 'train', 'evaluate')",
    ]  # fmt: skip
    variables = environment(SEGJAX_DATA_DIR=street_dir, PYTHONPATH=tmp_path)
    run = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-4000:]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["count"]["images"] > 0
    assert report["train"]["steps"] == 3 and report["train"]["parameters"] < 5000
    assert 0 <= report["evaluate"]["miou"] <= 1
    logged = [json.loads(line) for line in (tmp_path / "run" / "train" / "metrics.jsonl").read_text().splitlines()]
    assert any(entry.get("main", 0) > 0 for entry in logged)


def test_files_that_the_pages_name_exist():
    new = ("tiny.py", "focal.py", "count.py", "lots", "NAME")
    pages = PAGE + (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"\b((?:segjax|tests|docs|data_builders)/[\w./]*[\w/])", pages)
    missing = [path for path in paths if not any(word in path for word in new) and not (ROOT / path).exists()]
    assert len(paths) > 10 and not missing
