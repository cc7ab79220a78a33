"""The notebooks are what their scripts give, and run from top to bottom; what only Colab has is replaced by a stand-in.

In CI they train 3 steps of small networks on tiny images.
"""

import base64
import shutil
import subprocess
import sys
import types

import cv2
import nbformat
import numpy as np
import pytest

from notebooks import make
from notebooks.make import FOLDER, REPOSITORY, SCRIPTS, execute, notebook_of
from tests.processes import SMALL_NETWORK, environment

NAMES = [script.stem for script in SCRIPTS]
NO_GPU = "jax finds no GPU or TPU, so "


def outputs(notebook) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def pictures(notebook) -> list[np.ndarray]:
    found = [output.get("data", {}).get("image/jpeg") for output in outputs(notebook)]
    return [cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR) for jpeg in found if jpeg]


def text(notebook) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook))


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_the_stored_notebook_is_what_its_script_gives(script):
    """If not: python notebooks/make.py NAME."""
    stored, made = nbformat.read(script.with_suffix(".ipynb"), 4), notebook_of(script)
    assert [(c.cell_type, c.id, c.source) for c in stored.cells] == [(c.cell_type, c.id, c.source) for c in made.cells]
    assert not [output for output in outputs(stored) if output.output_type == "error"]
    assert len(pictures(stored)) >= 3 and "/tmp" not in text(stored) and NO_GPU in text(stored)
    assert script.with_suffix(".ipynb").stat().st_size < 400_000  # readers load it whole


def test_readers_are_led_to_them():
    readme = (FOLDER.parent / "README.md").read_text()
    for name in NAMES:
        address = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}.ipynb"
        assert address in notebook_of(FOLDER / f"{name}.py").cells[0].source
        assert f"notebooks/{name}.ipynb" in readme


def test_another_repository_is_written_everywhere(tmp_path, monkeypatch):
    files = [FOLDER.parent / "README.md", *FOLDER.glob("*.py"), *FOLDER.glob("*.ipynb")]
    (tmp_path / "notebooks").mkdir()
    copies = {file: shutil.copy(file, tmp_path / file.relative_to(FOLDER.parent)) for file in files}
    assert set(make.move("some-one/fork.jax", tmp_path)) == set(copies.values())
    assert not any(f"/{REPOSITORY}" in copy.read_text() for copy in copies.values())
    assert 'REPOSITORY = "some-one/fork.jax"  #' in (tmp_path / "notebooks/make.py").read_text()
    (tmp_path / "notebooks/quickstart.py").read_text().index('"git+https://github.com/some-one/fork.jax"')
    monkeypatch.setattr(make, "REPOSITORY", "some-one/fork.jax")
    make.move(REPOSITORY, tmp_path)
    assert all(copy.read_text() == file.read_text() for file, copy in copies.items())
    for wrong in ("segjax", "https://github.com/a/b", "a/b/c", "a/b c"):
        with pytest.raises(SystemExit, match="must be OWNER/NAME"):
            make.move(wrong, tmp_path)


SMALLER = f"""
# a cell before the others: networks that compile in a third of the time
import ast, re
from segjax.commands import train as command

options = dict(re.fullmatch(r"--config.(.*?)=(.*)", flag, re.DOTALL).groups() for flag in {SMALL_NETWORK})
options["train.model.options"] = ast.literal_eval(options["train.model.options"])


def train(recipe, *, overrides, whole=command.train, **more):
    return whole(recipe, overrides={{**overrides, **options}}, **more)


command.train = train
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_it_runs_from_top_to_bottom(script, tmp_path):
    notebook = notebook_of(script)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SMALLER))
    done = execute(notebook, tmp_path, environment=environment(SEGJAX_NOTEBOOK_STEPS=3), seconds=600)
    assert text(done).count(NO_GPU) == 1
    assert len(pictures(done)) >= 3 and all(picture.std() > 10 for picture in pictures(done))


def cell(name: str, begins: str) -> str:
    (found,) = [c.source for c in notebook_of(FOLDER / f"{name}.py").cells if c.source.startswith(begins)]
    return found


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """A folder as Colab begins with, and a stand-in for its package."""
    module = types.SimpleNamespace(
        drive=types.SimpleNamespace(mount=lambda path: path),
        files=types.SimpleNamespace(upload=lambda: dict.fromkeys(path.name for path in tmp_path.glob("*.zip"))),
    )
    google = types.ModuleType("google")
    google.colab = module
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gpu, jax_for", [("/usr/bin/nvidia-smi", "jax[cuda12]"), (None, "jax")])
def test_colab_installs_it(name, gpu, jax_for, colab, monkeypatch):
    ran = []
    monkeypatch.setattr(shutil, "which", lambda program: gpu)
    monkeypatch.setattr(subprocess, "run", lambda words, check: ran.append(words))
    exec(cell(name, "import os"), {})
    (words,) = ran
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    assert words[-2:] == [f"git+https://github.com/{REPOSITORY}", jax_for]


@pytest.mark.parametrize("name, paths", [("quickstart", ("images", "masks")), ("own_video", ("video", "labels"))])
@pytest.mark.parametrize("own", ("drive", "upload"))
def test_colab_brings_own_files(name, paths, own, colab):
    for archive in ("photos", "labels"):
        (colab / archive).mkdir()
        (colab / archive / "0.png").write_bytes(b"")
        shutil.make_archive(str(colab / archive), "zip", colab / archive)
        shutil.rmtree(colab / archive)
    from pathlib import Path

    space = {"IN_COLAB": True, "Path": Path, "shutil": shutil}
    source = cell(name, 'OWN = ""')
    exec(source.replace('OWN = ""', f'OWN = "{own}"', 1), space)
    found = [str(space[path]) for path in paths]
    if own == "drive":
        assert all(path.startswith("/content/drive/MyDrive/") for path in found)
    else:
        assert (colab / found[-1] / "0.png").is_file()
