"""Reports of loading weights, and its problems as one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segjax.errors import brief


@dataclass(frozen=True)
class LoadReport:
    """PyTorch names by what `load` did.

    matched: leaves filled from the file.
    missing: leaves without a tensor in the file; they keep their values.
    unexpected: tensors of the file without a leaf.
    replaced: leaves whose tensor in the file was not used: it is named in `skip`, belongs to a classifier of another
        number of classes, or (strict=False) has another shape.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    replaced: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} matched"]
        for kind in ("missing", "unexpected", "replaced"):
            found = getattr(self, kind)
            if found:
                parts.append(f"{len(found)} {kind} ({examples(found)})")
        return ", ".join(parts)


def examples(found: Sequence[str], count: int = 3) -> str:
    """Returns the first `count` names of a list, and how many more there are."""
    more = f", and {len(found) - count} more" if len(found) > count else ""
    return ", ".join(brief(name, 120) for name in found[:count]) + more


@dataclass(frozen=True)
class Mismatch:
    """A tensor whose shape differs from its leaf's.

    name: PyTorch name. leaf: last part of the leaf's path, such as "kernel".
    there, here: shapes in the file and in the network, in PyTorch's layout.
    """

    name: str
    leaf: str
    there: tuple[int, ...]
    here: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.there} for {self.here}"


def classifier_sizes(mismatches: Sequence[Mismatch]) -> tuple[int, int] | None:
    """Returns (classes there, classes here) if all mismatches are classifiers of another number of classes, else None.

    A classifier is a convolution or linear layer, with or without bias; its first axis in PyTorch's layout counts the
    classes. If the mismatches include a norm, another axis or different numbers, the networks differ: None.
    """
    counts = {(m.there[:1], m.here[:1]) for m in mismatches}
    kernels = {m.name.rsplit(".", 1)[0] for m in mismatches if m.leaf == "kernel"}
    heads = {m.name.rsplit(".", 1)[0] for m in mismatches}
    fits = all(m.leaf in ("kernel", "bias") and m.there[1:] == m.here[1:] for m in mismatches)
    if not fits or len(counts) != 1 or heads != kernels:
        return None
    ((there, here),) = counts
    return (there[0], here[0]) if there and here else None


def problems(found: Mapping[str, Sequence[object]]) -> str:
    """Returns one clause for each kind of problem, "2 tensors of another shape (a, b); ...", or "" without problems.

    found: kind, a key of `texts` below -> names or mismatches.
    """
    texts = {
        "unfilled": "{n} leaf name{s} of the network not in the file ({examples})",
        "unexpected": "{n} tensor{s} of the file with no place in the network ({examples})",
        "shapes": "{n} tensor{s} of another shape ({examples})",
        "damaged": "{n} tensor{s} with values that are nan or infinite ({examples})",
        "unused": "{n} skip rule{s} matching nothing ({examples})",
    }
    return "; ".join(
        texts[kind].format(n=len(items), s="s" * (len(items) != 1), examples=examples([str(item) for item in items]))
        for kind, items in found.items()
        if items
    )
