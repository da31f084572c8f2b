# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness doctor`: what is there, what is missing, and how to get it. Fetches nothing, changes nothing."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
import typer
from pydantic import ByteSize
from rich.text import Text

from harness import config
from harness.cli import flags, output
from harness.errors import CouldNotRun, HarnessError
from harness.machine.parts import Store
from harness.provision import apt, ccache
from harness.provision import kernel as kernels
from harness.provision import qemu as qemus
from harness.provision.cache import Entry
from harness.provision.distribution import PROGRAM
from harness.provision.kbuild import build as building
from harness.provision.kbuild import tools
from harness.provision.kbuild.arch import NATIVE
from harness.provision.kernel import BuildRecipe, Recipe
from harness.provision.qbuild import build as qemu_builds
from harness.qemu import accel as accelerators
from harness.qemu.library import Library

_TOOLS = {"apt-get": "apt", "dpkg-deb": "dpkg", "setpriv": "util-linux"}
_DISK_NEEDED = 1_500_000_000
"""Bytes for QEMU, one kernel and a guest root, with the packages that they are unpacked from."""
_MEMORY_NEEDED = 1_000_000_000
"""Bytes for one guest of 512 MiB and the QEMU around it."""
_BASE_ALONE = "minimal"
"""The profile that requires nothing but what its base machine does."""
_ELSEWHERE = "set IOV_HARNESS_CACHE_DIR to another folder"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was found, and what to do where it is not."""

    what: str
    ok: bool
    found: str
    remedy: str = ""


def doctor(
    kernel: flags.Kernel = None,
    modules: flags.Modules = None,
    qemu: flags.Qemu = None,
    accel: flags.Acceleration = None,
    json: flags.Json = False,
) -> None:
    """Look at this machine: tools, Debian's keys, accelerator, QEMU, kernels, disk and memory."""
    store = Store(config.load(kernel=kernel, modules=modules, qemu=qemu, accel=accel))
    findings = [
        *_tools(), _archive_keys(), _accelerator(store), _qemu(store), *_kernels(store), _kernel_build(),
        _disk(store), _memory(),
    ]  # fmt: skip
    if json:
        flags.print_json({"ok": all(f.ok for f in findings), "findings": [asdict(finding) for finding in findings]})
    else:
        marks = {True: Text("ok", "green"), False: Text("no", "red")}
        rows = ((marks[one.ok], one.what, one.found, one.remedy) for one in findings)
        output.table("", "what", "found", "what to do", rows=rows)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(CouldNotRun.exit_code)


def _tools() -> list[Finding]:
    found = {tool: shutil.which(tool) for tool in _TOOLS}
    return [
        Finding(tool, path is not None, path or "not there", "" if path else f"apt-get install {_TOOLS[tool]}")
        for tool, path in found.items()
    ]


def _accelerator(store: Store) -> Finding:
    try:
        choice = accelerators.choose(store.settings.accel)
    except HarnessError as error:
        return Finding("accelerator", ok=False, found=str(error), remedy="--accel tcg needs nothing")
    return Finding("accelerator", ok=True, found=f"{choice.name}: {choice.reason}")


def _archive_keys() -> Finding:
    keys = apt.keyring()
    if keys is None:
        return Finding("archive keys", ok=False, found="not there", remedy="apt-get install debian-archive-keyring")
    return Finding("archive keys", ok=True, found=str(keys))


def _qemu(store: Store) -> Finding:
    """Look at the QEMU that would be used: the one that is given, else this machine's own, else the cached one."""
    given = store.settings.qemu
    if given in config.BUILT_QEMUS:
        built = qemu_builds.newest(store.cache, sanitize=given == config.SANITIZED)
        if built is None:
            return Finding(
                "QEMU", ok=True, found="our own build: not built yet", remedy="it is built when it is first needed"
            )
        given = built.path
    if given is not None:
        return _asked(store, given, "give another by --qemu")
    host = shutil.which(PROGRAM)
    own = _asked(store, Path(host), "harness provision gets another") if host is not None else None
    if own is not None and own.ok:
        return own
    cached = _newest(store, "qemu")
    if cached is not None:
        return _asked(store, cached.path / PROGRAM, "harness provision --refresh")
    return replace(own, ok=True) if own is not None else _not_fetched("QEMU")


def _asked(store: Store, path: Path, remedy: str) -> Finding:
    """Ask a QEMU what it has of that which the built-in profiles require."""
    required = store.required_devices()
    try:
        found = qemus.ask(path, required, "")
    except HarnessError as error:
        return Finding("QEMU", ok=False, found=str(error), remedy=remedy)
    missing = found.lacks(required)
    if missing:
        return Finding("QEMU", ok=False, found=f"{path} {found.version} lacks {', '.join(missing)}", remedy=remedy)
    return Finding("QEMU", ok=True, found=f"{found.version}, {len(found.devices)} devices asked for: {path}")


def _kernels(store: Store) -> list[Finding]:
    known = kernels.recipes()
    if store.settings.kernel not in known or store.settings.modules is not None:
        return [_own_kernel(store)]
    return [_kernel(store, name, recipe) for name, recipe in known.items()]


def _own_kernel(store: Store) -> Finding:
    """Look at the kernel of the settings, and hold it against what the base machine requires."""
    try:
        found = store.kernel()
    except HarnessError as error:
        return Finding("kernel", ok=False, found=str(error))
    missing = found.missing(Library().get(_BASE_ALONE).requires.kernel)
    if missing:
        text = f"{found.name} lacks {', '.join(missing)}, which every machine needs"
        return Finding("kernel", ok=False, found=text, remedy="configure it with them, or give the modules that it has")
    config = "" if found.config else "; its configuration is not to be had"
    return Finding("kernel", ok=True, found=f"{found.name}: {found.release or 'its release is unknown'}{config}")


def _kernel_build() -> Finding:
    """Look whether kernels can be built from source; most uses of the harness need none."""
    try:
        tools.check(NATIVE)
    except HarnessError as error:
        found, _, remedy = str(error).partition("; ")
        return Finding("kernel build", ok=True, found=f"{found} (Debian's kernels need no compiler)", remedy=remedy)
    remembering = "with ccache" if ccache.has_ccache() else "without ccache"
    return Finding("kernel build", ok=True, found=f"{tools.version(NATIVE)}, {remembering}")


def _kernel(store: Store, name: str, recipe: Recipe | BuildRecipe) -> Finding:
    if isinstance(recipe, BuildRecipe):
        built = building.found(store.cache, name)
        if built is not None:
            return Finding(f"kernel {name}", ok=True, found=f"in the cache: {built.path}")
        remedy = f"harness provision --kernel {name} (or by itself when needed)"
        return Finding(f"kernel {name}", ok=True, found="not built yet", remedy=remedy)
    cached = _newest(store, "kernels", prefix=name)
    if cached is not None:
        return Finding(f"kernel {name}", ok=True, found=f"in the cache: {cached.path}")
    return _not_fetched(f"kernel {name}", f" --kernel {name}")


def _newest(store: Store, kind: str, prefix: str = "") -> Entry | None:
    """Give the entry of the cache that was used last; None also for a cache that is none: the disk's row tells that."""
    keys = [key for key in store.cache.keys(kind) if key.startswith(prefix)]
    entries = [entry for key in keys if (entry := store.cache.find(kind, key))]
    return max(entries, key=lambda entry: entry.last_used, default=None)


def _not_fetched(what: str, option: str = "") -> Finding:
    remedy = f"harness provision{option} (or by itself when needed)"
    return Finding(what, ok=True, found="not fetched yet", remedy=remedy)


def _disk(store: Store) -> Finding:
    folder = store.cache.root
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return Finding("disk", ok=False, found=f"{folder} is no folder", remedy=_ELSEWHERE)
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    found = f"{ByteSize(free).human_readable(decimal=True)} free for {store.cache.root}"
    if not writable:
        return Finding("disk", ok=False, found=f"{store.cache.root} cannot be written", remedy=_ELSEWHERE)
    enough = free >= _DISK_NEEDED
    return Finding("disk", enough, found, "" if enough else f"harness cache prune, or {_ELSEWHERE}")


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    found = f"{ByteSize(available).human_readable(decimal=True)} available, {os.cpu_count()} CPUs"
    enough = available >= _MEMORY_NEEDED
    return Finding("memory", enough, found, "" if enough else "a guest needs 1 GB")
