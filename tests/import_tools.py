"""What a python file imports: by statements anywhere in it, or by name through importlib."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

IMPORTERS = ("import_module", "__import__")


class Import(NamedTuple):
    """name: of a module, perhaps with that of an object in it. whole: False for the constant beginning of a name."""

    name: str
    whole: bool = True

    def __str__(self) -> str:
        return self.name if self.whole else f"{self.name}..."


def python_files(root: Path) -> list[Path]:
    """Every file of the package below a root."""
    return sorted(root.joinpath("segjax").rglob("*.py"))


def module_of(path: Path, root: Path) -> str:
    """Dotted name of a file; a package goes by that of its folder."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def package_of(path: Path, root: Path) -> str:
    """The package that relative imports of a file start from."""
    return ".".join(path.relative_to(root).parent.parts)


def imports(path: Path, package: str) -> list[Import]:
    """Everything a file imports, wherever in the file, by statements and by name."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    statements = [found for node in nodes for found in _by_statement(node, package)]
    importers = {*IMPORTERS, *_other_names(nodes)}
    return statements + [found for node in nodes for found in _by_name(node, importers, package)]


def top_imports(path: Path, package: str) -> set[str]:
    """What a file imports, by statements, while it is itself imported."""
    nodes = _run_on_import(ast.parse(path.read_text()))
    return {found.name for node in nodes for found in _by_statement(node, package)}


def _by_statement(node: ast.AST, package: str) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute("." * node.level + (node.module or ""), package)
        yield from (Import(f"{base}.{alias.name}") for alias in node.names)


def _by_name(node: ast.AST, importers: set[str], package: str) -> Iterator[Import]:
    if not isinstance(node, ast.Call) or _called(node.func) not in importers:
        return
    name = next((k.value for k in node.keywords if k.arg == "name"), node.args[0] if node.args else None)
    text, whole = _text(name)
    anchor = next((k.value for k in node.keywords if k.arg == "package"), node.args[1] if len(node.args) > 1 else None)
    if text.startswith(".") and isinstance(anchor, ast.Constant) and isinstance(anchor.value, str):
        package = anchor.value
    yield Import(_absolute(text, package), whole)


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _other_names(nodes: list[ast.AST]) -> set[str]:
    """What `from importlib import import_module as ...` calls it."""
    found = (alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names)
    return {alias.asname for alias in found if alias.asname and alias.name in IMPORTERS}


def _text(name: ast.expr | None) -> tuple[str, bool]:
    """(the name or its constant beginning, whether that is all of it)."""
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return name.value, True
    if isinstance(name, ast.JoinedStr):
        text = ""
        for part in name.values:
            if not isinstance(part, ast.Constant):
                return text, False
            text += part.value
        return text, True
    if isinstance(name, ast.BinOp) and isinstance(name.op, ast.Add):
        text, whole = _text(name.left)
        rest, rest_whole = _text(name.right) if whole else ("", False)
        return text + rest, rest_whole
    return "", False


def _absolute(name: str, package: str) -> str:
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = package.split(".")
    return ".".join(filter(None, [*parts[: len(parts) - level + 1], name[level:]]))


def _run_on_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _run_on_import(node)
