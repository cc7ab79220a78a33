"""An installed segjax, far from any checkout: wheel and sdist are built; the wheel trains in an empty environment."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.processes import SMALL_NETWORK, environment

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("segjax", "configs", "data_builders", "docs")
FILES = ("*.py", "*.md", "*.toml", "*.txt", "LICENSE", "MANIFEST.in", "Makefile")
DEBUG = "vplr:propagate=none,debug"


def run(*words, cwd: Path, **variables) -> str:
    """What a program printed; it must end well. Nothing of this checkout is on its path."""
    clean = {name: value for name, value in environment(**variables).items() if name != "PYTHONPATH"}
    result = subprocess.run(list(map(str, words)), cwd=cwd, env=clean, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def build(kind: str, source: Path, into: Path) -> Path:
    """Builds as pip does, with the setuptools at hand."""
    into.mkdir(exist_ok=True)
    code = f"from setuptools.build_meta import build_{kind} as build; build({str(into)!r})"
    run(sys.executable, "-c", code, cwd=source)
    (found,) = into.iterdir()
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what the packages are built from: builds leave folders behind."""
    version = tuple(map(int, metadata.version("setuptools").split(".")[:2]))
    assert version >= (70, 1), f"setuptools {version} builds no wheels; install segjax[test]"
    folder = tmp_path_factory.mktemp("checkout")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (path for pattern in FILES for path in ROOT.glob(pattern)):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    return build("wheel", source, source / "wheels")


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Python of an environment with the wheel; it sees the packages that it needs, but no segjax of this checkout."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    found = folder / "bin" / "python"
    site = Path(run(found, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=folder).strip())
    # the .pth files of a folder that a .pth file names are not read: the editable install stays out of sight
    paths = {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}
    (site / "needed.pth").write_text("\n".join([*paths, *needed_paths()]))
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        found,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    return found


def needed_paths() -> set[str]:
    """Further folders that hold what segjax needs, if the tests' own environment borrows them."""
    places = {str(metadata.distribution(name).locate_file("")) for name in ("jax", "tensorflow-datasets", "absl-py")}
    return {place for place in places if Path(place) != ROOT}


def test_the_sdist_builds_the_same_wheel(source, wheel, tmp_path):
    sdist = build("sdist", source, source / "sdists")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert {"LICENSE", "CHANGELOG.md", "main.py", "configs", "docs"} <= {path.name for path in unpacked.iterdir()}
    assert contents(build("wheel", unpacked, unpacked / "wheels")) == contents(wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_what_is_needed_and_no_package_called_configs(wheel):
    found = set(contents(wheel))
    tops = {name.partition("/")[0] for name in found}
    assert tops == {"segjax", "data_builders", next(top for top in tops if top.endswith(".dist-info"))}
    assert "segjax/py.typed" in found and any(name.endswith("/LICENSE") for name in found)
    for folder, inside in (("segjax", "segjax"), ("data_builders", "data_builders"), ("configs", "segjax/configs")):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert files and not {f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in files} - found


def test_the_wheel_trains_in_another_folder(python, tmp_path, street_dir):
    """By the console command, `python -m segjax` and in a notebook, beside other packages called `configs`."""
    site = python.parents[1] / "lib"
    code = "import segjax, data_builders; print(segjax.__file__, data_builders.__file__, sep='\\n')"
    for file in run(python, "-c", code, cwd=tmp_path).splitlines():
        assert Path(file).is_relative_to(site), file
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("MINE = 3\n")
    own = "from configs import MINE, common, vplr\nOPTIONS = dict(net='')\n\n\ndef get_config(arg=None):\n"
    own += "    config = vplr.get_config('propagate=none,debug')\n    config.seed = MINE\n    return config\n"
    (tmp_path / "configs" / "mine.py").write_text(own)

    segjax = python.with_name("segjax")
    flags = [f"--config={DEBUG}", "--config.train.batch_size=1", *SMALL_NETWORK]
    overrides = dict(flag.removeprefix("--config.").split("=", 1) for flag in flags[1:])
    overrides = {key: value if key.endswith("name") else ast.literal_eval(value) for key, value in overrides.items()}
    here = dict(cwd=tmp_path, SEGJAX_DATA_DIR=street_dir)
    run(segjax, "train", *flags, **here)
    report = json.loads((tmp_path / "runs" / "vplr" / "report.json").read_text())
    assert list(report) == ["train", "evaluate"] and report["train"]["steps"] == 3
    notebook = f"""
import configs
from segjax import cli
from segjax.commands.train import train
from segjax.stages.config.recipe_file import load_recipe
for _ in range(2):
    assert cli.main(["train", *{flags}]) == 0
report = train("{DEBUG}", overrides={overrides})
assert report["train"]["steps"] == 3
assert cli.main(["train", "--config={DEBUG}", "--config.train.batch_siz=1"]) == 2
assert load_recipe("configs/mine.py").seed == 3
assert configs.MINE == 3 and not hasattr(configs, "common")
"""
    run(python, "-c", notebook, **here)
    assert os.listdir(tmp_path / "runs") == ["vplr"]  # as the same recipe was named each time

    listed = run(python, "-m", "segjax", "recipes", **here)
    assert str(site) in listed and "vplr:camvid,net=fastscnn" in listed and "propagate=" in listed
    readme = run(segjax, "datasets", "camvid", **here).split()
    assert any(word.endswith("README.md") and Path(word).is_file() for word in readme)
