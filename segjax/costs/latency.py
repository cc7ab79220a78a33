"""Small all-reduces, such as statistics of batch norms: they take their latency, whatever their bytes.

Vendors publish no latency, so that no bound contains it. `ASSUMED` decides only whether a report mentions it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from segjax.costs.bounds import Bounds
from segjax.costs.collectives import Collective, Total, totals

SMALL = 2**16  # bytes, below which an all-reduce counts as small
# Seconds of a small all-reduce, an assumption and no measurement. About 1 us for each hop between neighbouring chips
# (Austin et al., "How to Scale Your Model", 2025, part 3, solution of question 2), and the 12 hops of a slice of 4x4
# without wrap-around links: 3 along each of 2 axes, there and back.
ASSUMED = 1e-5


def small_all_reduces(found: Iterable[Collective]) -> Total:
    """Returns the total of the all-reduces that sum less than SMALL bytes each."""
    few = [one for one in found if one.kind == "all-reduce" and one.payload < SMALL]
    return totals(few).get("all-reduce", Total(0, 0, 0.0))


def dominates(small: Total, least: Bounds | None) -> bool | None:
    """Returns whether small all-reduces would take longer than the largest bound, at the assumed latency.

    None if the bounds are unknown.
    """
    return None if least is None else small.count * ASSUMED > least.seconds


def groups_to_take(own: int | None, mesh: Mapping[str, int]) -> int:
    """Returns the groups of batch norms (`bn_groups`) with which no statistics are sent between the parts of a batch.

    own: groups that the program has; None if its network lacks the option.
    mesh: axis -> number of devices.

    Returns 0 if there is nothing to change, and where devices share images (`mesh.space`): groups there send as
    many messages, to fewer partners.
    """
    parts = mesh.get("data", 1)
    return parts if own is not None and own % parts and mesh.get("space", 1) == 1 else 0


def sentence(small: Total, least: Bounds | None, *, option: str = "", groups: int = 0) -> str:
    """Returns what a report says about small all-reduces, "" if they do not dominate.

    option: config key of the groups.
    groups: its value that leaves them out, 0 for none.
    """
    if not dominates(small, least):
        return ""
    milliseconds = small.count * ASSUMED * 1e3
    text = (
        f"{small.count} all-reduces of less than {SMALL // 2**10} KiB will dominate: their latency is in no bound, "
        f"also not in that by links; at {ASSUMED * 1e6:.0f} us each, an assumption, it is {milliseconds:.2f} ms"
    )
    remedy = f"; with {option}={groups} batch norms send nothing along the axis data before the end of the step"
    return text + (remedy if groups else "")


def report(small: Total, least: Bounds | None) -> dict[str, Any]:
    """Returns the small all-reduces as plain data."""
    return {
        "below": SMALL,
        "count": small.count,
        "payload": small.payload,
        "sent": small.sent,
        "assumed_latency": ASSUMED,
        "assumed_seconds": small.count * ASSUMED,
        "dominate": dominates(small, least),
    }
