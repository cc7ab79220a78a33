"""Files of arrays (.npz) that segjax keeps beside data: whole, or known to be damaged."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from segjax.data.file_limits import check_expansion, check_regular


def read_arrays(path: str | os.PathLike, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Returns name -> array of a file that `np.savez` has written; nothing that it holds is executed.

    names: those that must be in it, and no other; None for any.
    Raises FileNotFoundError without a file, and ValueError for a damaged one and for other names.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            check_expansion(path, sum(info.file_size for info in archive.infolist()), size)
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # readers of damaged files raise all kinds of errors
        raise ValueError(f"{path} is damaged ({error})") from None
    if names is not None and set(found) != set(names):
        raise ValueError(f"{path} holds {sorted(found)} instead of {sorted(names)}")
    return found
