"""The house keeps its layers: a lower layer never imports a higher one, nor a neighbour."""

import ast
from pathlib import Path

import pytest

# layer -> what it may import from segjax; "typing" includes errors
BASE = {"typing", "errors", "host"}
ABOVE_OPS = BASE | {"ops"}
MIDDLE = {"losses", "metrics", "augment", "models", "data"}
UPPER = ABOVE_OPS | MIDDLE | {"weights", "inference", "parallel", "visualize"}
ALLOWED = {
    "typing": set(),
    "errors": set(),
    "host": set(),
    "ops": BASE,
    **{name: ABOVE_OPS for name in MIDDLE},
    "parallel": BASE,
    "visualize": BASE,
    "weights": ABOVE_OPS | MIDDLE,
    "inference": ABOVE_OPS | MIDDLE | {"parallel", "visualize"},
    "training": UPPER,
    "stages": UPPER | {"training"},
    "commands": UPPER | {"training", "stages"},
    "cli": UPPER | {"training", "stages", "commands"},
}
FORBIDDEN_EVERYWHERE = {"tensorflow", "torch", "torchvision"}


def python_files(root: Path) -> list[Path]:
    return sorted(root.joinpath("segjax").rglob("*.py"))


def imports(path: Path, package: str) -> set[str]:
    """Full names of the modules a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).rstrip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def violations(root: Path) -> list[str]:
    wrong = []
    for path in python_files(root):
        relative = path.relative_to(root)
        module = ".".join(relative.with_suffix("").parts)
        layer = layer_of(module)
        if layer in ("__init__", ""):
            continue
        for name in imports(path, module.rsplit(".", 1)[0]):
            top = name.split(".")[0]
            if top in FORBIDDEN_EVERYWHERE:
                wrong.append(f"{relative} imports {name}")
            if name.startswith(("flax.linen", "flax.nnx")) and layer != "models":
                wrong.append(f"{relative} imports {name}: only segjax/models may")
            if top == "ml_collections" and layer not in ("stages",):
                wrong.append(f"{relative} imports {name}: configs stop at the stages")
            if layer == "data" and top in ("jax", "flax", "optax"):
                wrong.append(f"{relative} imports {name}: data is numpy only, its workers must not load jax")
            if top == "segjax":
                target = layer_of(name)
                if target and target != layer and target not in ALLOWED[layer] and target != "__version__":
                    wrong.append(f"{relative} imports {name}")
    return wrong


def test_no_layer_imports_a_higher_one(root):
    assert violations(root) == []


def test_every_layer_is_named(root):
    names = {p.stem if p.is_file() else p.name for p in root.joinpath("segjax").iterdir() if not p.name.startswith("_")}
    assert names - set(ALLOWED) == set()


@pytest.mark.parametrize(
    "file, line",
    [
        ("segjax/losses/x.py", "from segjax.models import layers"),
        ("segjax/ops/x.py", "import segjax.training.step"),
        ("segjax/data/x.py", "def f():\n    import jax"),
        ("segjax/training/x.py", "import flax.linen as nn"),
        ("segjax/models/x.py", "import torch"),
        ("segjax/training/x.py", "from ..stages import train"),
    ],
)
def test_the_test_sees_a_wrong_import(tmp_path, file, line):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert len(violations(tmp_path)) == 1


def test_builders_import_only_class_tables_and_errors(root):
    for path in root.joinpath("data_builders").rglob("*.py"):
        for name in imports(path, "data_builders"):
            if name.startswith("segjax"):
                assert name.startswith(("segjax.data", "segjax.errors")), f"{path.name} imports {name}"
            assert name.split(".")[0] not in FORBIDDEN_EVERYWHERE | {"jax", "flax"}, f"{path.name} imports {name}"


def test_configs_import_only_ml_collections_and_helpers(root):
    for path in root.joinpath("configs").glob("*.py"):
        if path.name == "common.py":
            continue
        for name in imports(path, "configs"):
            assert name.split(".")[0] in ("ml_collections", "configs"), f"{path.name} imports {name}"
