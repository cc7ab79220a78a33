"""Datasets built on first use: atomically, once per configuration, safe with several processes and hosts."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import importlib
import io
import json
import os
import pkgutil
import shutil
import socket
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from segjax.data.label_map import LabelMap
from segjax.data.prepare import begun, prepare
from segjax.data.remote_builds import open_remote_build
from segjax.data.tfds_builder import open_builder, quiet_tfds
from segjax.data.tfds_index import write_index
from segjax.data.tfds_source import TfdsSource, own_label_map
from segjax.errors import UserError, did_you_mean
from segjax.files import creating
from segjax.remote import Address, is_remote, read_address
from segjax.remote.place import place_of
from segjax.remote.shards import is_partial

PACKAGE = "data_builders"
_INHERITED = {"name", "version", "release_notes", "supported_versions", "description", "tags"}


def open_source(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike | None = None,
    builder_options: Mapping[str, Any] | None = None,
    labelled_only: bool = True,
    fields: Collection[str] = (),
    label_map: Any = None,
    frames: bool = False,
) -> TfdsSource:
    """Opens one split of a dataset of data_builders/, which is built first if it does not exist yet.

    name: of the dataset, or the folder of one that was built elsewhere, for example by the stage "propagate"; a folder
        accepts no builder_options.
    split: see `segjax.data.splits`.
    data_dir: folder of the built datasets, or its remote address; default $SEGJAX_DATA_DIR, else
        ~/.cache/segjax/datasets.
    builder_options: fields of the builder's configuration; another value is another build, never a stale one.
    labelled_only, fields, label_map, frames: see `TfdsSource`.

    Raises UserError for an unknown name, split, option or field, a split without records, damaged source files, and a
    full disk.
    """
    divisions = {}
    if (Path(name) / "dataset_info.json").is_file() and not builder_options:
        directory = Path(name)
    else:
        directory = build_dataset(name, data_dir=data_dir, builder_options=builder_options)
        divisions = published_divisions(name)
    return TfdsSource(
        directory,
        split,
        labelled_only=labelled_only,
        fields=fields,
        label_map=label_map,
        frames=frames,
        divisions=divisions,
    )


def dataset_names() -> list[str]:
    """Returns the names of the datasets that can be built."""
    package = importlib.import_module(PACKAGE)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)


def published_facts(name: str) -> Any:
    """Returns the facts about a dataset (`data_builders.about.About`), None if its builder has none.

    Raises UserError for an unknown name.
    """
    return getattr(importlib.import_module(_builder_class(name).__module__), "ABOUT", None)


def published_divisions(name: str) -> Mapping[str, Mapping[str, Any]]:
    """Returns the named splits of a dataset. Those added since a build are missing in its metadata, yet apply to it."""
    about = published_facts(name)
    return about.divisions if about else {}


def stored_label_map(name: str, options: Mapping[str, Any]) -> LabelMap | None:
    """Returns the label map that a dataset stores or a build will store, as far as its classes go; None if unknown.

    name: of the dataset, or the folder of one that was built elsewhere.
    options: of the builder; one may be the label map.
    Raises UserError for a label map that cannot be read.
    """
    if (Path(name) / "dataset_info.json").is_file() and not options:
        return own_label_map(open_builder(Path(name)))
    if name not in dataset_names():
        return None
    module = importlib.import_module(_builder_class(name).__module__)
    source = options.get("label_map") or getattr(module, "LABEL_MAP", None)
    return LabelMap.open(source) if source else None


def dataset_options(name: str) -> set[str]:
    """Returns the names of a dataset's builder_options. Raises UserError for an unknown name."""
    return _known_options(_builder_class(name).BUILDER_CONFIGS[0])


def build_dataset(
    name: str, *, data_dir: str | os.PathLike | None = None, builder_options: Mapping[str, Any] | None = None
) -> Path:
    """Returns the folder of a built dataset, which is built first if it does not exist; arguments as in `open_source`.

    The folder appears by one rename when it is complete. Among processes that share data_dir, one builds and the others
    wait for it. With a remote data_dir the folder is a local copy, whose records are fetched when they are read.

    Raises UserError for an unknown name or option, damaged source files, a full disk, and a bucket that refuses.
    """
    root, address = data_root(data_dir), remote_root(data_dir)
    builder_class, config = _configure(name, dict(builder_options or {}))
    target = root / name / config.name / str(builder_class.VERSION)
    if target.is_dir() and (address is None or is_partial(target)):
        return target
    with creating(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / ".lock", f"{name} in {target}"):
        build = functools.partial(_build, name, builder_class, config, root, target)
        if address is not None:
            place = address / target.relative_to(root).as_posix()
            open_remote_build(place, target, build, target.parent / ".lock")
        elif not target.is_dir():
            build()
    return target


def _build(name: str, builder_class: Any, config: Any, root: Path, target: Path) -> None:
    scratch = target.parent / f".building-{socket.gethostname()}"
    done, _ = begun(scratch)
    how = f"going on after {done} records" if done else "once"
    print(f"Building dataset {name} in {target} ({how}) ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        with creating(target):
            scratch.mkdir(exist_ok=True)
            built = _generate(builder_class, config, scratch, root / "downloads")
            lengths = write_index(built)
            os.chmod(built, 0o755)
            _publish(built, target)
    except BaseException:
        if not begun(scratch)[0]:  # finished shards are kept: the next call resumes after them
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(scratch, ignore_errors=True)
    counts = ", ".join(f"{split} {length}" for split, length in lengths.items())
    size = sum(file.stat().st_size for file in target.iterdir()) / 1e6
    print(
        f"Built dataset {name}: {counts} records, {size:.0f} MB, {time.monotonic() - start:.1f} s",
        file=sys.stderr,
        flush=True,
    )
    others = [path.name for path in target.parent.parent.iterdir() if _older_build(path, target)]
    if others:
        print(
            f"{len(others)} older builds of the same options, whose source files have changed since, lie in "
            f"{target.parent.parent} and may be deleted: {', '.join(sorted(others)[:5])}",
            file=sys.stderr,
        )


def _generate(builder_class: Any, config: Any, scratch: Path, downloads: Path) -> Path:
    import tensorflow_datasets as tfds

    with quiet_tfds(), contextlib.redirect_stdout(io.StringIO()):
        tfds.display_progress_bar(sys.stderr.isatty())
        builder = builder_class(data_dir=scratch, config=config, file_format="array_record")
        return prepare(builder, scratch, downloads=downloads)


def _publish(built: Path, target: Path) -> None:
    try:
        os.rename(built, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # another host without working file locks was faster: its build is as good as this one


def _configure(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Returns a builder class and its configuration, whose name is a hash of all options and of the source files.

    A configuration may name options that do not count: `places`, and those `added` later while they have their first
    value, so that older builds keep their name.
    """
    builder_class = _builder_class(name)
    presets = {config.name: config for config in builder_class.BUILDER_CONFIGS}
    preset = options.pop("config", None)
    if preset is not None and preset not in presets:
        raise UserError(f"dataset {name} has no config {preset!r}.{did_you_mean(preset, presets)}")
    base = presets[preset] if preset else next(iter(presets.values()))
    known = _known_options(base)
    for key in options:
        if key not in known:
            raise UserError(f"dataset {name} has no option {key!r}.{did_you_mean(key, known | {'config'})}")
    values = {key: options.get(key, getattr(base, key)) for key in known}
    config = dataclasses.replace(base, **values, name="probe")
    places, added = getattr(config, "places", ()), getattr(config, "added", {})
    meaning = {k: v for k, v in values.items() if k not in places and not (k in added and v == added[k])}
    identity = json.dumps([name, str(builder_class.VERSION), meaning], sort_keys=True, default=str)
    config_name = _digest(identity)
    if hasattr(config, "fingerprint"):
        config_name += "-" + _digest(config.fingerprint())
    return builder_class, dataclasses.replace(config, name=config_name)


def _builder_class(name: str) -> Any:
    if name not in dataset_names():
        raise UserError(f"there is no dataset {name!r}.{did_you_mean(name, dataset_names())}")
    return importlib.import_module(f"{PACKAGE}.{name}.{name}_dataset_builder").Builder


def _known_options(config: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(config)} - _INHERITED


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _older_build(path: Path, target: Path) -> bool:
    options, dash, _ = target.parent.name.partition("-")
    built = path != target.parent and any(path.glob("*/dataset_info.json"))
    return bool(dash) and path.name.startswith(options + "-") and built


def data_root(data_dir: str | os.PathLike | None = None) -> Path:
    """Returns the folder of built datasets, see `open_source`, or that of the local copies of remote ones.

    Raises UserError for a malformed address, and for a file.
    """
    if address := remote_root(data_dir):
        return place_of(address, "datasets")
    path = Path(_root(data_dir)).expanduser().absolute()
    if path.is_file():
        raise UserError(f"data_dir {path} is a file, not a folder; data_dir or SEGJAX_DATA_DIR names one")
    return path


def remote_root(data_dir: str | os.PathLike | None = None) -> Address | None:
    """Returns the address of the built datasets, None for a local folder. Raises UserError for a malformed one."""
    root = _root(data_dir)
    return read_address(root, "data_dir") if is_remote(root) else None


def _root(data_dir: str | os.PathLike | None) -> str:
    return str(data_dir or os.environ.get("SEGJAX_DATA_DIR") or "~/.cache/segjax/datasets")


@contextlib.contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    """Holds an advisory lock, which the system releases at the end of the process, whatever ends it."""
    try:
        import fcntl
    except ImportError:  # Windows: the atomic rename still keeps concurrent builds whole
        yield
        return
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process that builds {what} ...", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: as on Windows
        yield
