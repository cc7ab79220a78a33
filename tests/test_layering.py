"""The rooms of the package keep their layers: a lower one never imports a higher one, nor a neighbour in braces."""

import graphlib
from pathlib import Path

import pytest

from tests.import_tools import Import, imports, module_of, package_of, python_files, top_imports

# lowest first; rooms in braces do not import each other
LAYERS = (
    "typing errors host files remote outputs recipes",
    "ops parallel visualize",
    "{losses metrics augment models data}",
    "{weights media}",
    "{inference training}",
    "{costs evaluation propagation pseudo submission}",
    "stages",
    "commands",
    "cli",
    "__main__",
)
FRAMEWORKS = {"tensorflow", "torch", "torchvision"}  # nowhere
ABOVE_THE_PACKAGE = {"data_builders", "configs", "benchmarks", "tests", "main"}
NOT_IN_DATA = {"jax", "flax", "optax"}
WATCHED = {"segjax", "flax", "ml_collections", *FRAMEWORKS, *ABOVE_THE_PACKAGE, *NOT_IN_DATA}
# they import the builders of datasets, by the user's names
BUILDERS_BY_NAME = {"segjax/data/builds.py", "segjax/data/catalogue.py"}


def allowed() -> dict[str, set[str]]:
    """Room -> rooms it may import, its own among them."""
    found: dict[str, set[str]] = {}
    below: set[str] = set()
    for layer in LAYERS:
        rooms = set(layer.strip("{}").split())
        for room in rooms:
            found[room] = below | ({room} if layer.startswith("{") else rooms)
        below |= rooms
    return found


ALLOWED = allowed()


def room_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def is_readable(found: Import) -> bool:
    """Whether it is clear what is imported, as far as the layers go."""
    if found.whole:
        return True
    top, dot, rest = found.name.partition(".")
    if not dot:  # the name goes on: what it may become counts
        return bool(top) and not any(name.startswith(top) for name in WATCHED)
    return top not in ("segjax", "flax") or "." in rest


def why_wrong(found: Import, room: str) -> str:
    """Why a room must not import that, "" where it may."""
    name, top = found.name, found.name.partition(".")[0]
    if top in FRAMEWORKS:
        return "jax is the only framework"
    if top in ABOVE_THE_PACKAGE:
        return "the package stands alone"
    if name.startswith(("flax.linen", "flax.nnx")) and room != "models":
        return "only segjax/models may"
    if top == "ml_collections" and room not in ("stages", "commands"):
        return "configs stop at the stages"
    if room == "data" and top in NOT_IN_DATA:
        return "data is numpy only, its workers must not load jax"
    if top == "segjax" and (target := room_of(name)) in ALLOWED and target not in ALLOWED.get(room, ()):
        return f"{room or 'segjax/__init__.py'} lies below {target}, or beside it"
    return ""


def violations(root: Path) -> list[str]:
    wrong = []
    for path in python_files(root):
        relative, room = path.relative_to(root).as_posix(), room_of(module_of(path, root))
        for found in imports(path, package_of(path, root)):
            if not is_readable(found):
                if relative not in BUILDERS_BY_NAME:
                    wrong.append(f"{relative} imports {found}: a name that this test cannot read")
            elif why := why_wrong(found, room):
                wrong.append(f"{relative} imports {found}: {why}")
    return wrong


def graph_of(root: Path) -> dict[str, set[str]]:
    """Module -> modules that are imported with it; those of other packages go by the name of their top."""
    files = {module_of(path, root): path for path in python_files(root)}
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        needed = graph[module] = set()
        for name in top_imports(path, package_of(path, root)):
            parts = name.split(".")
            # the last part may be an object of a module; the packages on the way are imported too
            known = [start for n in range(len(parts)) if (start := ".".join(parts[: n + 1])) in files]
            needed.update(known[-1:] or parts[:1])
            needed.update(start for start in known if not f"{module}.".startswith(f"{start}."))
        needed.discard(module)
    return graph


def circle(root: Path) -> list[str]:
    """Modules that import each other in a ring; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph_of(root)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def reached(root: Path, package: str) -> set[str]:
    """What is imported with the modules of a package, however long the way."""
    graph, found = graph_of(root), set()
    waiting = [module for module in graph if f"{module}.".startswith(f"{package}.")]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def test_no_layer_imports_a_higher_one(root):
    assert violations(root) == []


def test_no_modules_import_each_other(root):
    assert circle(root) == []


def test_data_brings_no_jax_on_any_way(root):
    """Its workers start without: what data imports must not import it either."""
    found = reached(root, "segjax.data")
    assert {"segjax.errors", "numpy"} < found and not found & (NOT_IN_DATA | FRAMEWORKS)


def test_every_room_has_a_layer(root):
    rooms = [path for path in root.joinpath("segjax").iterdir() if path.is_dir() or path.suffix == ".py"]
    names = {path.stem for path in rooms} - {"__init__", "__pycache__"}
    assert names == set(ALLOWED)


def test_the_layers_are_those_of_the_plan():
    lowest = {"typing", "errors", "host", "files", "remote", "outputs", "recipes"}
    assert ALLOWED["models"] == lowest | {"ops", "parallel", "visualize", "models"}
    assert ALLOWED["training"] - ALLOWED["models"] == {
        "losses", "metrics", "augment", "data", "weights", "media", "training",
    }  # fmt: skip
    assert ALLOWED["evaluation"] - ALLOWED["training"] == {"inference", "evaluation"}
    assert ALLOWED["stages"] - ALLOWED["evaluation"] == {"costs", "propagation", "pseudo", "submission", "stages"}


def write(folder: Path, files: dict[str, str]) -> Path:
    for file, text in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    "file, line",
    [
        ("segjax/losses/x.py", "from segjax.models import layers"),
        ("segjax/ops/x.py", "import segjax.training.step"),
        ("segjax/data/x.py", "def f():\n    import jax"),
        ("segjax/training/x.py", "import flax.linen as nn"),
        ("segjax/models/x.py", "import torch"),
        ("segjax/training/x.py", "from ..stages import train"),
        ("segjax/training/__init__.py", "from ..stages import train"),
        ("segjax/training/x.py", "from segjax import inference"),
        ("segjax/submission/x.py", "from segjax.evaluation import report"),
        ("segjax/media/x.py", "from segjax.weights import load"),
        ("segjax/errors.py", "from segjax.ops import resize"),
        ("segjax/__init__.py", "from segjax import errors"),
        ("segjax/training/x.py", "from ml_collections import ConfigDict"),
        ("segjax/stages/x.py", "from data_builders import records"),
        ("segjax/data/x.py", "def f():\n    return importlib.import_module('segjax.models')"),
        ("segjax/data/x.py", "from importlib import import_module\nimport_module(name='data_builders.records')"),
        ("segjax/data/x.py", "from importlib import import_module as get\nget('jax.numpy')"),
        ("segjax/losses/x.py", "importlib.import_module('..stages.train', 'segjax.losses')"),
        ("segjax/losses/x.py", "importlib.import_module('..stages.train', __package__)"),
        ("segjax/data/x.py", "__import__('torch')"),
        ("segjax/ops/x.py", "importlib.import_module(f'segjax.models.{name}')"),
        ("segjax/ops/x.py", "importlib.import_module('segjax.models.' + name)"),
        ("segjax/models/x.py", "importlib.import_module(f'segjax.{room}')"),
        ("segjax/models/x.py", "importlib.import_module(f'seg{rest}')"),
        ("segjax/models/x.py", "importlib.import_module(name)"),
        ("segjax/data/builds.py", "from data_builders import records"),
    ],
)
def test_the_test_sees_a_wrong_import(tmp_path, file, line):
    assert len(violations(write(tmp_path, {file: line}))) == 1


@pytest.mark.parametrize(
    "file, line",
    [
        ("segjax/models/x.py", "import flax.linen as nn\nfrom segjax.models import layers\nfrom . import blocks"),
        (
            "segjax/submission/x.py",
            "from segjax.inference.network import open_network\nfrom segjax import metrics, data",
        ),
        ("segjax/files.py", "from segjax.errors import UserError"),
        ("segjax/cli.py", "from segjax import __version__\nfrom segjax.commands import predict"),
        (
            "segjax/stages/x.py",
            "importlib.import_module(f'segjax.models.{name}')\nfrom ml_collections import ConfigDict",
        ),
        ("segjax/weights/x.py", "importlib.import_module(f'timm_{name}')"),
        ("segjax/data/builds.py", "importlib.import_module(PACKAGE)"),
        ("segjax/data/catalogue.py", "importlib.import_module(f'{PACKAGE}.{name}')"),
    ],
)
def test_the_test_lets_right_imports_pass(tmp_path, file, line):
    assert violations(write(tmp_path, {file: line})) == []


@pytest.mark.parametrize(
    "files, found",
    [
        ({"a": "from segjax.models.b import f", "b": "from segjax.models import c", "c": "from . import a"}, True),
        ({"a": "from segjax.models.b import f", "b": "def f():\n    from segjax.models import a"}, False),
        ({"__init__": "from segjax.models.a import f", "a": "from segjax.models import b", "b": ""}, False),
        ({"__init__": "from segjax.models.a import f", "a": "from segjax.models import f"}, True),
    ],
)
def test_the_test_sees_a_circle(tmp_path, files, found):
    write(tmp_path, {f"segjax/models/{name}.py": text for name, text in files.items()})
    assert bool(circle(tmp_path)) == found


def test_builders_import_only_class_tables_and_errors(root):
    for path in root.joinpath("data_builders").rglob("*.py"):
        for found in imports(path, package_of(path, root)):
            top = found.name.split(".")[0]
            assert is_readable(found), f"{path.name} imports {found}"
            if top == "segjax":
                assert found.name.startswith(("segjax.data.", "segjax.errors")), f"{path.name} imports {found}"
            assert top not in FRAMEWORKS | {"jax", "flax"}, f"{path.name} imports {found}"


def test_configs_import_only_ml_collections_and_helpers(root):
    for path in root.joinpath("configs").glob("*.py"):
        if path.name == "common.py":
            continue
        for found in imports(path, "configs"):
            assert found.name.split(".")[0] in ("ml_collections", "configs"), f"{path.name} imports {found}"
