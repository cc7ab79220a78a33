"""A function mapped over items in threads, in order, with few results at a time."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from segjax.host import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> Iterator[Result]:
    """Yields function(item) in the order of the items.

    workers: threads, by default one per core. Decoding images releases the GIL, so that threads use all cores.
    At most 2 * workers results exist at once. The first error ends the iteration.
    """
    workers = workers or usable_cores()
    items = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        pending = collections.deque(pool.submit(function, item) for item in itertools.islice(items, 2 * workers))
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
        finally:
            for future in pending:
                future.cancel()
