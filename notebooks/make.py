"""Writes the notebooks, with their outputs, from the scripts beside this file.

python notebooks/make.py                 executes all of them, on one core in about half an hour
python notebooks/make.py own_video       executes one
SEGJAX_NOTEBOOK_STEPS=3 ...              in a minute, as the tests do
python notebooks/make.py --repository=OWNER/NAME   writes another repository on GitHub into all addresses; executes none
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jupytext
import nbclient
import nbformat

REPOSITORY = "OWNER/segjax"  # on GitHub, which Colab opens the notebooks from and installs; set it by --repository
FOLDER = Path(__file__).resolve().parent
SCRIPTS = tuple(path for path in sorted(FOLDER.glob("*.py")) if path != Path(__file__).resolve())


def notebook_of(script: Path) -> nbformat.NotebookNode:
    """Returns the notebook of a script in jupytext's percent format, without outputs."""
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext's are random
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


def execute(
    notebook: nbformat.NotebookNode, folder: Path, *, environment: Mapping[str, str] = os.environ, seconds: float = 3600
) -> nbformat.NotebookNode:
    """Executes a notebook from top to bottom in a folder, and returns it with its outputs.

    environment: variables of the kernel. The package is that of this checkout, and datasets are built in a temporary
        folder.
    seconds: limit for each cell.

    Raises nbclient's CellExecutionError if a cell fails.
    """
    client = nbclient.NotebookClient(
        notebook,
        timeout=seconds,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    path = os.pathsep.join([str(FOLDER.parent), environment.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as datasets:
        ours = {"PYTHONPATH": path, "SEGJAX_DATA_DIR": datasets, "TF_CPP_MIN_LOG_LEVEL": "3"}  # no alarms of a busy XLA
        client.execute(env={**environment, **ours})
        return _without_paths(notebook, folder, datasets)


def _without_paths(notebook: nbformat.NotebookNode, folder: Path, datasets: str) -> nbformat.NotebookNode:
    """Returns the notebook with paths as they read from its own folder."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            texts = [output] if output.output_type == "stream" else [output.get("data", {})]
            for text in texts:
                for key in {"text", "text/plain", "text/html"} & set(text):
                    text[key] = text[key].replace(f"{folder}/", "").replace(datasets, "datasets")
    return notebook


def move(repository: str, root: Path = FOLDER.parent) -> list[Path]:
    """Writes another repository in the place of REPOSITORY, and returns the files that have changed.

    repository: OWNER/NAME.
    root: of a checkout.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+", repository):
        sys.exit(f"--repository={repository} must be OWNER/NAME, as GitHub spells it")
    address = re.compile(rf'(github/|github\.com/|REPOSITORY = "){re.escape(REPOSITORY)}(?=[/"\\])')
    scripts = [path for path in sorted((root / "notebooks").iterdir()) if path.suffix in (".py", ".ipynb")]
    changed = []
    for path in [root / "README.md", *scripts]:
        before = path.read_text()
        after = address.sub(rf"\g<1>{repository}", before)
        if after != before:
            path.write_text(after)
            changed.append(path)
    return changed


def main(names: list[str]) -> None:
    """Executes the named notebooks, all by default, and writes them; or moves them, see `move`."""
    if moves := [name for name in names if name.startswith("--repository=")]:
        print("\n".join(map(str, move(moves[-1].partition("=")[2]))))
        return
    known = {script.stem: script for script in SCRIPTS}
    if wrong := set(names) - set(known):
        sys.exit(f"there is no notebook {sorted(wrong)[0]}; the notebooks are {', '.join(known)}")
    for name in names or known:
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(notebook_of(known[name]), Path(folder).resolve())
        path = FOLDER / f"{name}.ipynb"
        nbformat.write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
