# SPDX-License-Identifier: GPL-2.0-or-later
"""The content-addressed cache: an entry is a folder, whole or absent.

An entry is built in a draft folder beside its place, sealed with a manifest of its files and renamed into place, so a
build that is killed leaves a draft (removed by the next build of that key) and never half an entry. A file lock per key
serializes builders; whoever uses an entry holds that lock shared until it exits, so pruning never takes parts away from
a running machine. `filelock` knows no shared locks, hence `flock` itself.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import CouldNotRun
from harness.provision.progress import Progress

SEAL = "entry.json"
PACKAGE_LISTS, SOURCE_LISTS = "apt", "apt-sources"
"""The folders of the private apts, and the locks under which they write: no sealed entries, but listed as such."""
BUILDS = "builds"
"""The folder of what is worked on in place and kept for the next time: source trees, build folders, ccache's own."""
_DRAFT = ".draft-"

_BLOCK = 512
"""Bytes in a block of `st_blocks` (stat(2))."""

Build = Callable[[Path], Mapping[str, Any]]
"""Fills the folder it is given and returns what should be remembered about the result (JSON values)."""


def digest(*parts: Any) -> str:
    """Give a short key for any JSON values: 16 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """One finished entry: its folder, and what its builder said about it."""

    path: Path
    kind: str
    key: str
    label: str
    content: str
    size: int
    about: Mapping[str, Any]
    last_used: float = field(compare=False)
    """When a process last asked for the entry, in seconds since the epoch."""


class Cache:
    """All entries below one folder."""

    def __init__(self, root: Path, progress: Progress | None = None) -> None:
        self.root = root
        self.progress = progress or Progress()
        self._held: dict[Path, int] = {}  # locks of the entries in use, released when the process ends

    def entry(self, kind: str, key: str, label: str, build: Build, *, refresh: bool = False) -> Entry:
        """Give the entry `kind`/`key`, building it when it is absent, incomplete or damaged, or to `refresh` it.

        The entry stays locked against pruning until this process ends. Raises `CouldNotRun` when the cache cannot be
        written or the disk is full; what `build` raises passes through, and leaves nothing behind.
        """
        place = self.root / kind / key
        with self._explained():
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            while True:
                found = None if refresh else self.use(kind, key)
                if found:
                    return found
                self._build(place, label, build, refresh=refresh)
                refresh = False

    def entries(self) -> list[Entry]:
        """List the finished entries, package lists and working folders, the least recently used first.

        Raises `CouldNotRun` where the root is a file.
        """
        with self._explained(), suppress(FileNotFoundError):
            next(self.root.iterdir(), None)
        seals = (seal for seal in self.root.glob(f"*/*/{SEAL}") if not seal.parent.name.startswith(_DRAFT))
        found = (_read(seal.parent, verify=False) for seal in seals)
        entries = [*(entry for entry in found if entry), *self._in_place()]
        return sorted(entries, key=lambda entry: entry.last_used)

    def prune(self, limit: int) -> tuple[list[Entry], list[Entry]]:
        """Remove the least recently used entries until at most `limit` bytes are left.

        Gives those removed, and those that should have gone but are in use by a running process.
        """
        removed: list[Entry] = []
        busy: list[Entry] = []
        with self._explained():
            self._sweep_drafts()
            entries = self.entries()
            total = sum(entry.size for entry in entries)
            for entry in entries:
                if total <= limit:
                    break
                if self._remove(entry.path):
                    removed.append(entry)
                    total -= entry.size
                else:
                    busy.append(entry)
        return removed, busy

    def discard(self, kind: str, key: str) -> bool:
        """Remove an entry that proved to be of no use; tells whether it is gone: not where another process uses it."""
        place = self.root / kind / key
        with self._explained():
            if place in self._held:
                os.close(self._held.pop(place))
            return self._remove(place)

    def keep(self, kind: str, count: int) -> list[Entry]:
        """Remove the least recently used entries of a kind beyond `count` that nobody uses; gives those removed."""
        with self._explained():
            found = (self.find(kind, key) for key in self.keys(kind))
            entries = sorted(filter(None, found), key=lambda entry: entry.last_used)
            return [entry for entry in entries[: max(0, len(entries) - count)] if self._remove(entry.path)]

    def use(self, kind: str, key: str) -> Entry | None:
        """Give an entry that is there and whole, locked against pruning as `entry` does; None for what is not there."""
        place = self.root / kind / key
        with self._explained():
            if not (place / SEAL).is_file():
                return None
            lock = self._lock(place, fcntl.LOCK_SH)
            found = _read(place, verify=True)
            if found is None:
                os.close(lock)
                return None
            os.utime(place / SEAL)
            self._hold(place, lock)
            return found

    def find(self, kind: str, key: str) -> Entry | None:
        """Give what is known of a finished entry, which may be gone at any time; None for what is not there."""
        return _read(self.root / kind / key, verify=False)

    def keys(self, kind: str) -> list[str]:
        """Name the finished entries of a kind; none where there is no cache."""
        return sorted(seal.parent.name for seal in self.root.glob(f"{kind}/[!.]*/{SEAL}"))

    @contextmanager
    def locked(self, name: str, *, shared: bool = False) -> Iterator[None]:
        """Hold a lock of this cache while the block runs, waiting for its turn; `shared` ones let each other be."""
        with self._explained():
            lock = self._lock(self.root / name, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(lock)

    def release(self) -> None:
        """Give up all entries that this object handed out: others may prune or rebuild them."""
        for lock in self._held.values():
            os.close(lock)
        self._held.clear()

    def _in_place(self) -> list[Entry]:
        """Give what is no sealed entry, but is listed and pruned as one."""
        lists = {self.root / PACKAGE_LISTS: "package lists", self.root / SOURCE_LISTS: "lists of source packages"}
        builds = sorted((self.root / BUILDS).glob("*"))
        labels = {**lists, **{folder: f"working folder {folder.name}" for folder in builds}}
        return [
            Entry(
                folder, folder.name if folder in lists else folder.parent.name,
                "lists" if folder in lists else folder.name, label, "", sum(map(_size, _files(folder))), {},
                folder.stat().st_mtime,
            )
            for folder, label in labels.items() if folder.is_dir()
        ]  # fmt: skip

    def _build(self, place: Path, label: str, build: Build, *, refresh: bool) -> None:
        if place in self._held:
            os.close(self._held.pop(place))  # our own shared lock would keep us out for ever
        draft = place.with_name(_DRAFT + place.name)
        # A lock of its own, held while the draft is made and no longer. Waiting for an exclusive one on the entry might
        # never end: whoever built it meanwhile may hold a shared one again before the waiter is awake.
        building = self._lock(draft, fcntl.LOCK_EX)
        try:
            if not refresh and _read(place, verify=True):
                return
            _remove_tree(draft)
            draft.mkdir(mode=0o700)
            about = dict(build(draft))
            _seal(draft, {"kind": place.parent.name, "key": place.name, "label": label, "about": about})
            self._replace(place, draft)
        finally:
            _remove_tree(draft)
            os.close(building)

    def _replace(self, place: Path, draft: Path) -> None:
        """Put a sealed draft in its place, once nobody uses what is there."""
        lock = self._lock(place, fcntl.LOCK_EX)
        try:
            _remove_tree(place)
            draft.rename(place)
        finally:
            os.close(lock)

    def _remove(self, place: Path) -> bool:
        if place in self._held:
            return False
        try:
            lock = self._lock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            (place / SEAL).unlink(missing_ok=True)  # first, so that what is left half removed is no entry
            _remove_tree(place)
        finally:
            os.close(lock)
        return True

    def _sweep_drafts(self) -> None:
        for draft in self.root.glob(f"*/{_DRAFT}*"):
            try:
                lock = self._lock(draft, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # somebody is building it
            _remove_tree(draft)
            os.close(lock)

    def _lock(self, place: Path, how: int) -> int:
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = "-".join(place.relative_to(self.root).parts)
        lock = os.open(locks / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if how & fcntl.LOCK_NB:
                    raise
                self.progress.note(f"another process is working on {name.replace(_DRAFT, '')}: waiting for it")
                fcntl.flock(lock, how)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _hold(self, place: Path, lock: int) -> None:
        if place in self._held:
            os.close(lock)
        else:
            self._held[place] = lock

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            raise explained(error, self.root) from error


def explained(error: OSError, root: Path) -> CouldNotRun:
    """Give the one line that a failed write to the cache at `root` deserves."""
    where = f"the cache {root}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CouldNotRun(
            f"no space left for {where}: try `harness cache prune`, or set IOV_HARNESS_CACHE_DIR to a larger disk"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return CouldNotRun(
            f"{where} cannot be written ({error.strerror}): set IOV_HARNESS_CACHE_DIR to a writable folder"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return CouldNotRun(f"{where} is not a folder: set IOV_HARNESS_CACHE_DIR to one")
    return CouldNotRun(f"{where} failed ({error}): set IOV_HARNESS_CACHE_DIR to another folder")


def _seal(draft: Path, fields: Mapping[str, Any]) -> None:
    files = {str(path.relative_to(draft)): _fingerprint(path) for path in _files(draft)}
    size = sum(map(_size, _files(draft)))
    content = hashlib.sha256(json.dumps([[n, f[2]] for n, f in sorted(files.items())]).encode()).hexdigest()[:16]
    text = json.dumps({**fields, "size": size, "content": content, "made": time.time(), "files": files})
    (draft / SEAL).write_text(text, encoding="utf-8")
    for path in _files(draft):  # what a power cut takes must not look whole afterwards
        _flush(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(place: Path, *, verify: bool) -> Entry | None:
    """Read a sealed entry; None where there is none, or where `verify` finds a file that is not as it was sealed."""
    try:
        seal = json.loads((place / SEAL).read_text(encoding="utf-8"))
        if verify and not all(_intact(place / name, *fingerprint) for name, fingerprint in seal["files"].items()):
            return None
        used = (place / SEAL).stat().st_mtime
        return Entry(
            place, seal["kind"], seal["key"], seal["label"], seal["content"], seal["size"], seal["about"], used
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _size(path: Path) -> int:
    """Give the bytes that a file takes; one with holes takes less than it is long."""
    try:
        stat = path.stat()
        return min(stat.st_size, stat.st_blocks * _BLOCK)
    except FileNotFoundError:  # apt, which is at work, has just removed it
        return 0


def _fingerprint(path: Path) -> tuple[int, int, str]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, _sha256(path)


def _intact(path: Path, size: int, mtime_ns: int, sha256: str) -> bool:
    """Tell whether a file is as sealed; its content is read only where its time says that it was written since."""
    stat = path.stat()
    if stat.st_size != size:
        return False
    if stat.st_mtime_ns == mtime_ns:
        return True
    same = _sha256(path) == sha256
    if same:
        os.utime(path, ns=(stat.st_atime_ns, mtime_ns))  # so that it need not be read again
    return same


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
