# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness doctor`: what is there, what is missing, and how to get it. Fetches nothing, changes nothing."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import typer
from pydantic import ByteSize
from rich.text import Text

from harness import config
from harness.cli import flags, output
from harness.errors import CouldNotRun, HarnessError
from harness.machine.parts import Store
from harness.provision import kernel as kernels
from harness.provision import qemu as qemus
from harness.qemu import accel as accelerators

_TOOLS = {"apt-get": "apt", "dpkg-deb": "dpkg", "setpriv": "util-linux"}
_DISK_NEEDED = 1_500_000_000
"""Bytes for QEMU, one kernel and a guest root, with the packages that they are unpacked from."""
_MEMORY_NEEDED = 1_000_000_000
"""Bytes for one guest of 512 MiB and the QEMU around it."""
_ELSEWHERE = "set IOV_HARNESS_CACHE_DIR to another folder"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was found, and what to do where it is not."""

    what: str
    ok: bool
    found: str
    remedy: str = ""


def doctor(
    qemu: flags.Qemu = None, kernel: flags.Kernel = None, accel: flags.Acceleration = None, json: flags.Json = False
) -> None:
    """Look at this machine: tools, accelerator, QEMU, kernels, disk and memory."""
    store = Store(config.load(qemu=qemu, kernel=kernel, accel=accel))
    findings = [*_tools(), _accelerator(store), _qemu(store), *_kernels(store), _disk(store), _memory()]
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


def _qemu(store: Store) -> Finding:
    required = store.required_devices()
    given = store.settings.qemu or shutil.which(qemus.PROGRAM)
    if given is not None:
        try:
            found = qemus.ask(Path(given), required, "")
        except HarnessError as error:
            return Finding("QEMU", ok=store.settings.qemu is None, found=str(error), remedy="harness provision")
        missing = found.lacks(required)
        if not missing:
            return Finding("QEMU", ok=True, found=f"{found.version}, {len(found.devices)} devices asked for: {given}")
        text = f"{given} {found.version} lacks {', '.join(missing)}"
        return Finding("QEMU", ok=store.settings.qemu is None, found=text, remedy="harness provision gets another")
    return _cached(store, "qemu", "QEMU")


def _kernels(store: Store) -> list[Finding]:
    known = kernels.recipes()
    if store.settings.kernel not in known:
        try:
            found = store.kernel()
        except HarnessError as error:
            return [Finding("kernel", ok=False, found=str(error))]
        return [Finding("kernel", ok=True, found=f"{found.name}: {found.release or 'its release is unknown'}")]
    return [_cached(store, "kernels", f"kernel {name}", prefix=name) for name in known]


def _cached(store: Store, kind: str, what: str, prefix: str = "") -> Finding:
    try:
        entries = [e for e in store.cache.entries() if e.kind == kind and e.key.startswith(prefix)]
    except HarnessError as error:
        return Finding(what, ok=False, found=str(error), remedy=_ELSEWHERE)
    if entries:
        return Finding(what, ok=True, found=f"in the cache: {entries[-1].path}")
    name = f" --kernel {prefix}" if prefix else ""
    return Finding(what, ok=True, found="not fetched yet", remedy=f"harness provision{name} (or by itself when needed)")


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
