# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU with our configuration-space overlay: a source goes in, an entry of the cache comes out."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import paths
from harness.errors import CouldNotRun
from harness.provision import complaints, distribution, job
from harness.provision.apt import AptRoot, upstream
from harness.provision.cache import BUILDS, Cache, digest, explained
from harness.provision.ccache import CCACHE, ccache_environment, has_ccache
from harness.provision.distribution import BINARY, LAUNCHER, PROGRAM
from harness.provision.progress import Advance, told
from harness.provision.qbuild import patches, source, tools
from harness.provision.qbuild.source import NotServed, Source

KIND = "qemu-overlay"
"""The kind of the cache's entries that hold built QEMUs."""
_DEVICES = "iov-harness"
"""What the list of devices is called in QEMU's configs/devices/x86_64-softmmu/."""
_CONFIGURE = (
    "--target-list=x86_64-softmmu", "--without-default-features", "--without-default-devices",
    f"--with-devices-x86_64={_DEVICES}", "--enable-system", "--enable-tcg", "--enable-kvm", "--enable-slirp",
    "--disable-download", "--disable-install-blobs",
)  # fmt: skip
_LEAN = ("--disable-debug-info",)
_SANITIZERS = ("--enable-asan", "--enable-ubsan", "--extra-cflags=-fno-sanitize-recover=all")
"""An error ends QEMU, wherever it runs. Debug information stays: a report names files and lines."""
_STEP = re.compile(rb"^\[(\d+)/(\d+)\] ")
_LOG_TAIL = 256 * 1024


@dataclass(frozen=True)
class Built:
    """A QEMU that was built, and from what."""

    path: Path
    origin: str


def provide(
    cache: Cache, apt: AptRoot, mirror: str | None, *,
    tree: Path | None = None, sanitize: bool = False, refresh: bool = False,
) -> Built:  # fmt: skip
    """Give a QEMU with the overlay, built where it is not yet: from the folder `tree`, or the distribution's source.

    Of the distribution's versions that is the newest whose files the mirror has. Raises `UsageError` for a folder that
    is no QEMU's, `CouldNotRun` for missing tools, a source that cannot be had or does not build.
    """
    if tree is not None:
        return _provide(cache, apt, apt, source.own(tree), sanitize=sanitize, refresh=refresh)
    if not refresh and (there := newest(cache, sanitize=sanitize)) is not None:
        return there
    source_apt, found = source.candidates(cache, mirror)
    for one in found[:-1]:
        try:
            return _provide(cache, apt, source_apt, one, sanitize=sanitize, refresh=refresh)
        except NotServed:
            cache.progress.note(f"{one.origin}: the mirror does not have its files; taking an older one")
    return _provide(cache, apt, source_apt, found[-1], sanitize=sanitize, refresh=refresh)


def newest(cache: Cache, *, sanitize: bool) -> Built | None:
    """Give the newest that was built from the distribution's source and from the overlay as it is now."""
    wanted = _recipe(sanitize=sanitize)
    entries = [entry for key in cache.keys(KIND) if (entry := cache.find(KIND, key))]
    fit = [one for one in entries if one.about.get("recipe") == wanted and one.about.get("version")]
    for entry in sorted(fit, key=lambda one: upstream(one.about["version"]), reverse=True):
        used = cache.use(KIND, entry.key)
        if used is not None:
            return Built(used.path / PROGRAM, used.about["origin"])
    return None


def _provide(cache: Cache, apt: AptRoot, source_apt: AptRoot, what: Source, *, sanitize: bool, refresh: bool) -> Built:
    recipe = _recipe(sanitize=sanitize)

    def build(draft: Path) -> dict[str, Any]:
        tools.check()
        work = draft / "work"
        src = work / "src"
        src.mkdir(parents=True)
        what.unpack(cache, source_apt, src)
        _add_overlay(src)
        with cache.locked(CCACHE, shared=True):
            _compile(cache, src, work / "objects", sanitize=sanitize)
        # In the place of the distribution's: it runs with the firmware, and the libraries, that that one runs with.
        distribution.unpack_qemu(cache, apt, draft)
        (work / "objects" / PROGRAM).replace(draft / BINARY)
        if sanitize:
            # The sanitizers look for symbols in /proc/self/exe, which would be the loader; it was built on this host.
            distribution.launch_directly(draft)
        shutil.rmtree(work)
        with_sanitizers = " and sanitizers" if sanitize else ""
        origin = f"with iov-overlay{with_sanitizers}, built from {what.origin}"
        return {"origin": origin, "version": what.version, "recipe": recipe, "compiler": tools.compiler()}

    key = digest(recipe, what.key)
    entry = cache.entry(KIND, key, f"QEMU with iov-overlay, {what.origin}", build, refresh=refresh)
    return Built(entry.path / PROGRAM, entry.about["origin"])


def _recipe(*, sanitize: bool) -> str:
    """Give a digest of all that is ours in a build."""
    files = sorted(file for file in paths.overlay().iterdir() if file.suffix in (".c", ".mak", ".patch"))
    return digest(
        [(file.name, file.read_text(encoding="utf-8")) for file in files],
        _CONFIGURE,
        _more(sanitize=sanitize),
        LAUNCHER,
    )


def _more(*, sanitize: bool) -> tuple[str, ...]:
    return _SANITIZERS if sanitize else _LEAN


def _add_overlay(src: Path) -> None:
    folder = paths.overlay()
    patches.apply_ours(src, folder)
    shutil.copy(folder / "iov-overlay.c", src / "hw" / "misc")
    shutil.copy(folder / "devices.mak", src / "configs" / "devices" / "x86_64-softmmu" / f"{_DEVICES}.mak")


def _compile(cache: Cache, src: Path, objects: Path, *, sanitize: bool) -> None:
    objects.mkdir()
    log = cache.root / BUILDS / "qemu.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    compiler = ("--cc=ccache gcc",) if has_ccache() else ()
    configure = [
        str(src / "configure"), *_CONFIGURE, *compiler, *_more(sanitize=sanitize),
        f"--python={sys.executable}", "--with-pkgversion=iov-overlay",
    ]  # fmt: skip
    # The folder is another for each key: what is remembered is not to know of it.
    remembering = {
        **ccache_environment(cache, depend=True), "CCACHE_BASEDIR": str(src.parent), "CCACHE_NOHASHDIR": "1",
    }  # fmt: skip
    environment = job.environment(remembering, first=tools.bin_folder())
    try:
        with log.open("wb", buffering=0) as said:
            with cache.progress.task("QEMU: configure"):
                _run(configure, objects, environment, said.write)
            with cache.progress.task("QEMU: build") as advance:
                _run(["ninja", PROGRAM], objects, environment, _counted(said.write, cache.progress.note, advance))
    except subprocess.CalledProcessError as error:
        tail = log.read_bytes()[-_LOG_TAIL:].decode("utf-8", errors="replace")
        raise CouldNotRun(f"QEMU does not build: {complaints.first(tail)} (all of it: {log})") from error
    except OSError as error:
        raise explained(error, cache.root) from error


def _run(command: list[str], at: Path, environment: Mapping[str, str], say: Callable[[bytes], object]) -> None:
    with job.started(["env", "-C", str(at), *command], dict(environment)) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        for line in process.stdout:
            say(line)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)


def _counted(say: Callable[[bytes], object], note: Callable[[str], None], advance: Advance) -> Callable[[bytes], None]:
    steps = None

    def counted(line: bytes) -> None:
        nonlocal steps
        say(line)
        if step := _STEP.match(line):
            steps = steps or told(note, advance, int(step[2]))
            steps(int(step[1]))

    return counted
