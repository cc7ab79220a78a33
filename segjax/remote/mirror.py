"""A local folder and its copy in a bucket, which at every moment is a state that the local folder had.

A push has five parts, each of which leaves the bucket whole if the process dies in it: (1) new files are written under
their names, which nobody looks at yet; (2) the new content of files that the bucket has already, under the name of
their digest; (3) the list of files, by one write: from now on the new state counts; (4) the new contents under their
names; (5) removals. A reader that finds other bits under a name than the list says takes those of (2).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from segjax.errors import UserError
from segjax.files import replacing
from segjax.remote.manifest import (
    BEGUN,
    FILES,
    GROWING,
    LAZY,
    NEXT,
    OWN,
    Entry,
    Files,
    decode,
    encode,
    foreign,
    read_files,
)
from segjax.remote.notes import read_note, write_note
from segjax.remote.store import Store, in_threads
from segjax.remote.tree import Stamp, keep_only, scan, set_times, stamp, still

log = logging.getLogger("segjax")

SHOWN = 10**8  # bytes from which a copy is logged
# shards of a dataset that is being written, each of them by one process; all else is written by the first process
_OFFERED = re.compile(r"(^|/)shards/")


class Mirror:
    """A local folder and a remote one.

    store: the remote folder.
    folder: the local one.
    """

    def __init__(self, store: Store, folder: Path):
        self.store, self.folder = store, folder
        self.files: Files = {}  # what the bucket's list has
        self.elsewhere: Files = {}  # those of other processes, which this host has not fetched
        self._stamps: dict[str, Stamp] = {}  # of the local files that are in `files`
        self._waiting_data: dict[str, bytes] = {}  # new contents that the list has, not yet under their names
        self._begun_here: set[str] = set()  # objects that this process has begun to write or to remove

    # From the bucket

    def pull(self, wanted: Callable[[str], bool] = lambda name: True, *, repair: bool = False) -> bool:
        """Makes the local folder what the bucket's list says; returns False, and leaves it alone, if there is no list.

        Records of finished datasets are not fetched: a note in their folder says where they are, see shards.py.

        wanted: path -> whether to fetch a file; others are removed here.
        repair: whether to complete a push that was killed; for the one process that writes there.

        Raises UserError if the folder has no list but other files.
        """
        files, there = read_files(self.store), set(self.store.names())
        if files is None:
            if others := foreign(there - self._begun()):
                raise UserError(
                    f"{self.store.address} holds files that no run of segjax has finished writing there ({others[0]}"
                    f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}); give an empty place."
                )
            if repair:  # before the next push notes what it begins, in the place of what this one had begun
                self._repair({}, there)
            return False
        if missing := self._deleted(files, there):
            log.warning("%d files of %s were deleted there: %s, ...", len(missing), self.store.address, missing[0])
        files = {name: entry for name, entry in files.items() if name not in missing}
        if repair:
            self._repair(files, there)
        chosen = {name: entry for name, entry in files.items() if wanted(name)}
        now = {name: found for name, found in scan(self.folder).items() if name in chosen}
        todo = [name for name, entry in chosen.items() if not self._has(name, entry, now)]
        here = {name for name in chosen if name not in todo or not LAZY.search(name)}
        keep_only(self.folder, here)
        self._note_lazy(chosen)
        todo = [name for name in todo if name in here]
        if (size := sum(chosen[name].size for name in todo)) > SHOWN:
            log.info("fetching %d files of %s, %.0f MB", len(todo), self.store.address, size / 1e6)
        for name, entry in zip(todo, in_threads(lambda name: self._fetch(name, chosen[name]), todo)):
            if entry is None:
                del files[name], chosen[name]
            else:
                files[name] = chosen[name] = entry
        set_times(self.folder, chosen)
        self.files, self.elsewhere = files, {}
        self._stamps = {name: found for name, found in scan(self.folder).items() if name in chosen}
        return True

    def _deleted(self, files: Files, there: set[str]) -> list[str]:
        """Returns the files of the list that the bucket has under no name; there: names of its objects."""
        unlisted = sorted(name for name, entry in files.items() if not {name, self._waiting(entry)} & there)

        def has(name: str) -> bool:
            entry = files[name]
            return self.store.has(name, entry.size) or self.store.has(self._waiting(entry), entry.size)

        return [name for name, found in zip(unlisted, in_threads(has, unlisted)) if not found]

    def _has(self, name: str, entry: Entry, now: Mapping[str, Stamp]) -> bool:
        found = now.get(name)
        if found is None or found.size != entry.size:
            return False
        if found.time == entry.time:  # set by `_fetch`, or that of the file which was pushed
            return True
        if hashlib.sha256((self.folder / name).read_bytes()).hexdigest() != entry.digest:
            return False
        os.utime(self.folder / name, ns=(entry.time, entry.time))
        return True

    def _note_lazy(self, files: Files) -> None:
        """Notes in each folder which records of datasets the bucket has, whether or not they are here."""
        folders: dict[str, dict[str, list]] = {}
        for name, entry in files.items():
            if LAZY.search(name):
                folder, _, file = name.rpartition("/")
                folders.setdefault(folder, {})[file] = [entry.size, entry.time, entry.digest]
        for folder, content in folders.items():
            address = self.store.address / folder if folder else self.store.address
            write_note(self.folder / folder, str(address), content)

    def _fetch(self, name: str, entry: Entry) -> Entry | None:
        """Fetches a file and returns its entry; None, with a warning, if the bucket has not the bits of the list."""
        data = self.store.read(name)
        if data is None or hashlib.sha256(data).hexdigest() != entry.digest:
            newer = self.store.read(self._waiting(entry))
            if newer is not None and hashlib.sha256(newer).hexdigest() == entry.digest:
                data = newer
            elif data is not None and GROWING.search(name):  # its end was written after the list
                entry = Entry(len(data), entry.time, hashlib.sha256(data).hexdigest())
            else:
                log.warning("%s is not what was written there, and is ignored", self.store.address / name)
                return None
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as part:
            part.write_bytes(data)
            os.utime(part, ns=(entry.time, entry.time))
        return entry

    def _repair(self, files: Files, there: set[str]) -> None:
        """Completes parts 4 and 5 of a push that was killed, and removes what its parts 1 and 2 have left."""
        for name in sorted(there):
            if name.startswith(f"{NEXT}/"):
                data = self.store.read(name)
                for target, entry in files.items():
                    if data is not None and self._waiting(entry) == name:
                        self.store.write(target, data)
                self.store.delete(name)
        for name in self._begun() & there - set(files):
            self.store.delete(name)

    def _begun(self) -> set[str]:
        data = self.store.read(BEGUN)
        try:
            return set(json.loads(data)) if data else set()
        except (ValueError, TypeError):
            return set()

    @staticmethod
    def _waiting(entry: Entry) -> str:
        return f"{NEXT}/{entry.digest}"

    # To the bucket

    def push(self) -> bool:
        """Copies what has changed to the bucket; returns False if the local folder was changing all the time."""
        found = still(self.folder)
        if found is None:
            return False
        changed = [name for name, one in found.items() if self._stamps.get(name) != one]
        kept = {name: entry for name, entry in self.files.items() if name in found or self._is_absent(name)}
        kept.update({name: entry for name, entry in self.elsewhere.items() if name not in found})
        if not changed and kept == self.files and not self._waiting_data and not self._begun_here:
            return True
        removed = set(self.files) - set(kept)
        self._begin(removed.union(changed) - set(self.files).intersection(kept))
        replaced, stamps = {}, {}
        for name, sent in zip(changed, in_threads(lambda name: self._send(name, found[name]), changed)):
            if sent is None:  # changed or removed since: the next push has a newer state
                return False
            entry, data = sent
            kept[name], stamps[name] = entry, found[name]
            if data is not None:
                replaced[name] = data
        if kept != self.files:
            self._publish(kept)
        self.files = kept
        self._stamps = {name: one for name, one in {**self._stamps, **stamps}.items() if name in kept}
        # what follows is done by the next push if the bucket refuses it now
        self._waiting_data.update(replaced)
        names = list(self._waiting_data)
        for name, _ in zip(names, in_threads(lambda name: self.store.write(name, self._waiting_data[name]), names)):
            del self._waiting_data[name]
        for _ in in_threads(self.store.delete, sorted(self._begun_here - set(kept))):
            pass
        self._begun_here.clear()
        return True

    def _is_absent(self, name: str) -> bool:
        """Whether a file is in the bucket only, as the note of its folder says."""
        if not LAZY.search(name):
            return False
        folder, _, file = name.rpartition("/")
        return file in read_note(self.folder / folder)[1]

    def _begin(self, names: set[str]) -> None:
        """Notes which files are being written or removed: after a kill, those that the list lacks are no one's."""
        if names:
            self._begun_here |= names
            self.store.write(BEGUN, json.dumps(sorted(self._begun_here)).encode())

    def _send(self, name: str, expected: Stamp) -> tuple[Entry, bytes | None] | None:
        """Sends a file, and returns (entry, content that is still to be written under its name); None if it changed."""
        path, growing = self.folder / name, GROWING.search(name)
        try:
            data = path.read_bytes()
            if stamp(path) != expected and not growing:
                return None
        except FileNotFoundError:
            return None
        entry = Entry(len(data), expected.time, hashlib.sha256(data).hexdigest())
        old = self.files.get(name)
        if old is not None and old.digest == entry.digest:
            return entry, None
        if old is not None and not growing:
            self._begun_here.add(self._waiting(entry))
            self.store.write(self._waiting(entry), data)
            return entry, data
        self.store.write(name, data)
        return entry, None

    def _publish(self, files: Files) -> None:
        self.store.write(FILES, encode(files))

    # Between the processes of one run, each with a local folder of its own

    def offer(self, process: int) -> None:
        """Writes this process's new files to the bucket, for `accept` of the first process."""
        found = still(self.folder) or scan(self.folder)
        new = [name for name, one in found.items() if _OFFERED.search(name) and self._stamps.get(name) != one]
        entries = {}
        for name, sent in zip(new, in_threads(lambda name: self._send_own(name, found[name]), new)):
            if sent is not None:
                entries[name] = sent
                self._stamps[name] = found[name]
        if entries:
            self.elsewhere.update(entries)
            self.store.write(_offer(process), encode(self.elsewhere))

    def _send_own(self, name: str, expected: Stamp) -> Entry | None:
        data = (self.folder / name).read_bytes()
        entry = Entry(len(data), expected.time, hashlib.sha256(data).hexdigest())
        known = self.files.get(name) or self.elsewhere.get(name)
        if known is None or known.digest != entry.digest:
            self.store.write(name, data)
        return entry

    def accept(self, processes: int, *, fetch: bool) -> None:
        """Takes the offers of the other processes into the next push; fetch: whether this host needs their files."""
        for process in range(1, processes):
            data = self.store.read(_offer(process))
            if data is not None:
                self.elsewhere.update(decode(data, str(self.store.address / _offer(process))))
        if fetch and self.elsewhere:
            names = [name for name in self.elsewhere if not (self.folder / name).exists()]
            for name, entry in zip(names, in_threads(lambda name: self._fetch(name, self.elsewhere[name]), names)):
                if entry is not None:
                    self.files[name], self._stamps[name] = entry, stamp(self.folder / name)
            self.elsewhere = {}

    def forget_offers(self, processes: int) -> None:
        """Removes the offers of all processes, whose files are in the bucket's list now."""
        for process in range(1, processes):
            self.store.delete(_offer(process))


def _offer(process: int) -> str:
    return f"{OWN}/process-{process}.json"
