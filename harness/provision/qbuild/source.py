# SPDX-License-Identifier: GPL-2.0-or-later
"""Where QEMU's source comes from: a folder of the user's, or the distribution's source package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CouldNotRun, UsageError
from harness.provision.apt import SOURCES, AptRoot, FetchFailed, upstream
from harness.provision.archive import untar
from harness.provision.cache import Cache, digest
from harness.provision.qbuild import patches

PACKAGE = "qemu"
OLDEST = (10, 2)
"""The first QEMU with vfio-user-pci, and without an abort when a SR-IOV nvme is unplugged."""
_TOP = ("configure", "meson.build", "VERSION", "hw/pci/pci.c")
_SUBPROJECTS = ("keycodemapdb", "berkeley-softfloat-3", "berkeley-testfloat-3")
"""What a release has in subprojects/, and a clone of the git repository has not."""


class NotServed(CouldNotRun):
    """A source is listed, but the mirror does not have its files: an older one will do."""


@dataclass(frozen=True)
class Source:
    """A source; `key` tells it from others, `origin` says what it is."""

    key: str
    origin: str
    version: str | None = None
    folder: Path | None = None

    def unpack(self, cache: Cache, apt: AptRoot, to: Path) -> None:
        """Put the tree, with the distribution's patches, into the folder `to`.

        Raises `NotServed` where the mirror has not what it lists, `CouldNotRun`.
        """
        if self.folder is not None:
            shutil.copytree(self.folder, to, symlinks=True, ignore=_leaving_out(self.folder), dirs_exist_ok=True)
            return
        assert self.version is not None  # noqa: S101 - it is one or the other
        downloads = to.with_name("downloads")
        downloads.mkdir()
        with cache.progress.task(f"QEMU {self.version}, source: download"):
            try:
                files = apt.download_source(PACKAGE, self.version, downloads)
            except FetchFailed as error:
                if "404" not in str(error):
                    raise
                raise NotServed(str(error)) from error
        with cache.progress.task(f"QEMU {self.version}, source: unpack"):
            untar(_one(files, ".orig.tar.xz"), to, strip=1)
            untar(_one(files, ".debian.tar.xz"), to)
            patches.apply_series(to, to / "debian" / "patches")


def own(folder: Path) -> Source:
    """Give the source that lies in a folder; it is copied, never written to. Raises `UsageError`."""
    tree = folder.absolute()
    lacking = [name for name in _TOP if not (tree / name).exists()]
    if lacking:
        nothing = "not a folder" if tree.exists() else "no such folder"
        what = f"no QEMU's source: it has no {lacking[0]}" if tree.is_dir() else nothing
        raise UsageError(f"--qemu-source {folder}: {what}; give the top folder of a tree")
    unfetched = [name for name in _SUBPROJECTS if not (tree / "subprojects" / name / "meson.build").exists()]
    if unfetched:
        raise UsageError(
            f"--qemu-source {folder}: subprojects {', '.join(unfetched)} are not there; in it, run: "
            f"meson subprojects download {' '.join(unfetched)}"
        )
    return Source(digest(str(tree), _stamps(tree)), str(tree), folder=tree)


def candidates(cache: Cache, mirror: str | None) -> tuple[AptRoot, list[Source]]:
    """Give the distribution's sources that are new enough, the newest first, and the apt that fetches them.

    Raises `CouldNotRun` where there is none.
    """
    apt = AptRoot(cache, mirror, SOURCES)
    versions = [version for version in apt.source_versions(PACKAGE) if upstream(version) >= OLDEST]
    if not versions:
        oldest = ".".join(map(str, OLDEST))
        raise CouldNotRun(f"the distribution has no source of QEMU {oldest} or later: give a tree by --qemu-source")
    return apt, [Source(digest(version), f"Debian's source package {version}", version=version) for version in versions]


def _one(files: list[Path], ending: str) -> Path:
    for file in files:
        if file.name.endswith(ending):
            return file
    raise CouldNotRun(f"the source package has no file *{ending}")


def _leaving_out(tree: Path) -> Callable[[str, list[str]], set[str]]:
    """Give what names, of a folder in a tree, that which is no source: git's own, and folders that meson has built in.

    At the top alone: berkeley-softfloat-3 has a folder `build` that is source.
    """
    there = tree.iterdir()
    left_out = {one.name for one in there if one.name in (".git", "build") or (one / "meson-private").exists()}
    return lambda at, _: left_out if at == str(tree) else set()


def _stamps(tree: Path) -> list[tuple[str, int, int]]:
    """Give name, size and time of every file, which tells whether something has been changed."""
    found = []
    leaving_out = _leaving_out(tree)
    for at, folders, names in os.walk(tree):
        left_out = leaving_out(at, names)
        folders[:] = [name for name in folders if name not in left_out]
        for name in {*names} - left_out:
            stat = os.lstat(os.path.join(at, name))  # noqa: PTH118 - 20,000 of them
            found.append((os.path.relpath(at, tree) + "/" + name, stat.st_size, stat.st_mtime_ns))
    return sorted(found)
