# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a kernel's source comes from: a folder of the user's, or the distribution's source package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CouldNotRun, UsageError
from harness.provision.apt import AptRoot, unpack
from harness.provision.archive import untar
from harness.provision.cache import BUILDS, Cache, digest, explained
from harness.provision.kbuild import farm
from harness.text import printable

DEBIAN = "debian:"
_SUITE = "trixie-backports"
_PACKAGE = "linux-source-"
_WHOLE = "unpacked"
"""A file that says which package a source folder holds, written when all of it is there."""
_TOP = ("Makefile", "Kconfig", "kernel", "scripts")


_EXPORTED = "linux"
"""The folder of a commit's tree, which may come from any clone."""


def label(wanted: str) -> str:
    """Give a short name for a source, which Kbuild, a shell and a file system take."""
    return wanted.removeprefix(DEBIAN) if wanted.startswith(DEBIAN) else plain(Path(wanted).absolute().name or "linux")


def plain(text: str) -> str:
    """Give a text with nothing in it that a kernel's name or a folder that is built in may not have."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", text)[:80].lstrip("._+-") or "linux"


@dataclass(frozen=True)
class Source:
    """A tree to build from; `label` is short, for names, and `origin` says all about it."""

    label: str
    tree: Path
    origin: str
    key: str
    """What its build folders are named for. Another version of a package has another: its files are dated as they were
    packed, and make(1) would take what was built from the one before for newer."""


@contextmanager
def opened(cache: Cache, apt: AptRoot, wanted: str, *, refresh: bool = False) -> Iterator[Source]:
    """Give a source by `debian:VERSION`, fetched and unpacked where it is not yet or to `refresh` it, or by folder.

    A package stays as it is while the block lasts. Raises `UsageError`, or `CouldNotRun` where it cannot be fetched.
    """
    if not wanted.startswith(DEBIAN):
        yield _own(Path(wanted))
        return
    series = wanted.removeprefix(DEBIAN)
    name = f"{BUILDS}/source-{series}"
    if not series or "/" in series:
        raise UsageError(f"--source {wanted}: write {DEBIAN}VERSION, such as {DEBIAN}7.3, or a folder")
    folder = cache.root / name
    while True:
        with cache.locked(name, shared=True):
            if (folder / _WHOLE).is_file() and not refresh:
                os.utime(folder)
                package = (folder / _WHOLE).read_text(encoding="utf-8").strip()
                yield Source(series, folder / f"{_PACKAGE}{series}", package, f"{series}-{digest(package)[:8]}")
                return
        with cache.locked(name):
            if refresh or not (folder / _WHOLE).is_file():
                _fetch(cache, apt, series, folder)
            refresh = False


def commit(tree: Path, revision: str, flag: str) -> str:
    """Give a revision's full commit ID; raises `UsageError`, which names the flag that gave it."""
    found = "" if revision.startswith("-") else git(tree, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not found:
        raise UsageError(f"{flag} {revision}: git has no such commit in {tree}")
    return found


def state(tree: Path) -> str:
    """Give what tells a folder's present content from others: of its files name, size and time."""
    stamps = []
    for name in sorted(farm.files(tree)):
        with suppress(OSError):  # it is gone, and so no longer told
            status = (tree / name).lstat()
            stamps.append((name, status.st_size, status.st_mtime_ns))
    return digest(str(tree.absolute()), stamps)


def is_fixed(cache: Cache, wanted: str) -> bool:
    """Tell whether a source never changes: a package's, or an exported commit's."""
    return wanted.startswith(DEBIAN) or Path(wanted).is_relative_to(cache.root / BUILDS)


def exported(cache: Cache, tree: Path, revision: str) -> Path:
    """Give a folder with the tree of a commit, which is written once; neither git's files nor the tree are touched.

    Raises `CouldNotRun`.
    """
    name = f"{BUILDS}/commit-{revision[:16]}"
    folder = cache.root / name
    with cache.locked(name):
        if (folder / _WHOLE).is_file():
            os.utime(folder)
            return folder / _EXPORTED
        shutil.rmtree(folder, ignore_errors=True)
        to = folder / _EXPORTED
        try:
            to.mkdir(parents=True, mode=0o700)
            with cache.progress.task(f"commit {revision[:12]}: unpack"):
                _unpack_commit(tree, revision, to)
            (folder / _WHOLE).write_text(f"{revision}\n", encoding="utf-8")
        except OSError as error:
            raise explained(error, cache.root) from error
    return to


def _unpack_commit(tree: Path, revision: str, to: Path) -> None:
    archive = ["git", "-C", str(tree), "archive", "--format=tar", revision]
    with subprocess.Popen(archive, env=farm.without_git(), stdout=subprocess.PIPE) as packing:
        done = subprocess.run(["tar", "-x", "-C", str(to)], stdin=packing.stdout, check=False)
    if packing.returncode != 0 or done.returncode != 0:
        raise CouldNotRun(f"commit {revision} of {tree} cannot be unpacked: git or tar failed")


def _own(folder: Path) -> Source:
    tree = folder.absolute()
    lacking = [name for name in _TOP if not (tree / name).exists()]
    if lacking:
        what = "no such folder" if not tree.is_dir() else f"no kernel's source: it has no {lacking[0]}"
        raise UsageError(f"--source {folder}: {what}; give the top folder of a tree, or {DEBIAN}VERSION")
    name = label(str(folder))
    return Source(name, tree, _described(tree), f"{name}-{digest(str(tree))[:8]}")


def _described(tree: Path) -> str:
    """Say what a folder holds: its path, and for a git tree the commit, `-dirty` where something has been changed."""
    if not (tree / ".git").exists() or shutil.which("git") is None:
        return str(tree)
    commit = git(tree, "describe", "--always", "--long", "--abbrev=12")
    dirty = "-dirty" if git(tree, "status", "--porcelain") else ""
    return f"{tree} {commit}{dirty}".strip()


def git(tree: Path, *words: str) -> str:
    """Give what git says of a tree, nothing where it fails; none of the caller's git variables has a say."""
    environment = {**farm.without_git(), "GIT_OPTIONAL_LOCKS": "0"}  # nothing is written, not even git's own index
    done = subprocess.run(
        ["git", "-C", str(tree), *words], env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    return printable(done.stdout.strip())


def _fetch(cache: Cache, apt: AptRoot, series: str, folder: Path) -> None:
    name = f"{_PACKAGE}{series}"
    there = apt.names(r"linux-source-\d+\.\d+")
    if name not in there:
        listed = ", ".join(one.removeprefix(_PACKAGE) for one in there) or "none"
        raise UsageError(f"--source {DEBIAN}{series}: the distribution has no {name}; it has {listed}")
    new = folder.with_name(f"{folder.name}.new")  # what is there stays until another is whole
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True, mode=0o700)
        with cache.progress.task(f"{name}: download") as advance:
            packages = apt.download([name], new / "debs", suite=_SUITE, closure=False, advance=advance)
        with cache.progress.task(f"{name}: unpack"):
            unpack(packages, new / "package", cache)
            untar(_archive(new / "package", name), new)
            shutil.rmtree(new / "package")
            shutil.rmtree(new / "debs")
        package = ", ".join(f"{one.name} {one.version}" for one in packages)
        (new / _WHOLE).write_text(f"{package}\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    except OSError as error:
        raise explained(error, cache.root) from error


def _archive(package: Path, name: str) -> Path:
    for path in package.rglob(f"{name}.tar.xz"):
        return path
    raise CouldNotRun(f"package {name} has no {name}.tar.xz in it")
