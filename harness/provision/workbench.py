# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers of a kernel made ready to build a module against, for as long as that takes.

They are thousands of small files, which are wanted for seconds: so the cache keeps them packed.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from harness.errors import CouldNotRun
from harness.provision import job, toolchain
from harness.provision.apt import AptRoot, FetchFailed, Package, unpack
from harness.provision.cache import Cache, Entry, digest
from harness.provision.headers import BuiltHeaders, DistributionHeaders, Headers

_KBUILD = "usr/lib/linux-kbuild-*"
"""Where Debian has the tools of the kernel's build (fixdep, modpost, objtool)."""


@dataclass(frozen=True)
class Workbench:
    """The make command that builds in a kernel's tree, less what is to be built, and its environment."""

    make: tuple[str, ...]
    environment: dict[str, str]


def opened(cache: Cache, apt: AptRoot, headers: Headers, to: Path) -> Workbench:
    """Make `headers` ready, below the folder `to` where they have to be unpacked.

    Raises `CouldNotRun` where they or their compiler cannot be had.
    """
    if isinstance(headers, DistributionHeaders):
        return _of_packages(cache, apt, headers, to)
    folder = _extracted(headers, to) if isinstance(headers, BuiltHeaders) else headers.folder
    return Workbench(("make", "-C", str(folder), f"CC={headers.compiler}"), job.environment())


def _of_packages(cache: Cache, apt: AptRoot, headers: DistributionHeaders, to: Path) -> Workbench:
    compiler = toolchain.provide(cache, apt, headers.compiler)
    packed = _fetched(cache, apt, headers)
    unpack([Package(path.name, "", path) for path in sorted(packed.path.glob("*.deb"))], to, cache)
    for folder in to.glob(_KBUILD):
        compiler.adopt(folder)
    # Links in the package of headers. The makefiles in there name each other by absolute paths, so they are not used.
    base = to / "usr/lib/modules" / headers.release
    build, source = ((base / name).resolve() for name in ("build", "source"))
    (build / "vmlinux").unlink(missing_ok=True)  # of use for BTF alone, which pahole would have to make
    words = ("make", "-C", str(build), "-f", str(source / "Makefile"), f"KBUILD_OUTPUT={build}", "DEB_BUILD_ARCH=amd64")
    return Workbench(words, job.environment(first=compiler.bin))


def _fetched(cache: Cache, apt: AptRoot, headers: DistributionHeaders) -> Entry:
    def build(draft: Path) -> dict[str, Any]:
        what = f"headers of {headers.release}"
        try:
            with cache.progress.task(f"{what}: download") as advance:
                packages = apt.download(headers.packages, draft, suite=headers.suite, closure=False, advance=advance)
        except FetchFailed as error:
            raise CouldNotRun(f"{error}; a newer kernel may have its headers: harness provision --refresh") from error
        (draft / "partial").rmdir()
        return {"packages": {package.name: package.version for package in packages}}

    key = digest(headers.suite, headers.packages)
    return cache.entry("headers", key, f"headers of {headers.release}", build)


def _extracted(headers: BuiltHeaders, to: Path) -> Path:
    try:
        with (
            zstandard.open(headers.archive) as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            # The archive is our own. Python 3.12 to 3.14 want to be told that; Debian 12's 3.11 knows no filters.
            archive.extraction_filter = lambda member, _to: member
            archive.extractall(to)  # noqa: S202 - our own, as said
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise CouldNotRun(f"{headers.archive} does not unpack: {error}") from error
    return to
