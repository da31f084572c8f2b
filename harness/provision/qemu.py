# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding a QEMU that has what is required, asked of QEMU itself; or fetching one that has it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import BUILT_QEMUS
from harness.errors import CouldNotRun, UsageError
from harness.provision import distribution
from harness.provision.apt import AptRoot
from harness.provision.cache import Cache, digest
from harness.provision.distribution import PACKAGE, PROGRAM, SUITE
from harness.provision.qbuild import build

_OVERLAY = "iov-overlay"
_BUILT = ", ".join(map(str, BUILT_QEMUS))
_ASK_TIMEOUT = 30.0
"""Seconds for one QEMU to say what it has: it takes about 0.05 s, a loaded machine may be a hundred times slower."""

Requirements = Mapping[str, frozenset[str]]
"""What is required of QEMU: device type to the properties that it must have."""


@dataclass(frozen=True)
class Qemu:
    """A QEMU binary that runs here, and what it says of itself."""

    path: Path
    version: str
    origin: str
    devices: Mapping[str, frozenset[str]]
    package: str = ""
    has_overlay: bool = False
    """Whether iov-overlay is compiled in."""

    @property
    def identity(self) -> str:
        """What tells this build from others, as far as can be told without reading it: file, times, versions."""
        stat = self.path.stat()
        return f"{self.path} {stat.st_size} {stat.st_mtime_ns} {self.version} {self.package}"

    def lacks(self, required: Requirements) -> list[str]:
        """Name what it lacks: `DEVICE`, or `DEVICE.PROPERTY`."""
        missing: list[str] = []
        for device, properties in sorted(required.items()):
            if device not in self.devices:
                missing.append(device)
            else:
                missing += [f"{device}.{name}" for name in sorted(properties - self.devices[device])]
        return missing


def ask(path: Path, required: Requirements, origin: str) -> Qemu:
    """Start `path` with no machine and ask it over QMP which of the required devices and properties it has.

    Raises `UsageError` when the file is not a QEMU that runs here.
    """
    path = path.absolute()  # a bare name would be looked up in PATH
    if shutil.which(path) is None:
        raise UsageError(
            f"QEMU {path}: no such program; give the path of a {PROGRAM} binary, or one of our own builds: {_BUILT}"
        )
    command = [str(path), "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
    devices = sorted(required)
    questions: list[dict[str, Any]] = [{"execute": "qmp_capabilities"}, {"execute": "query-version"}]
    questions += [{"execute": "device-list-properties", "arguments": {"typename": name}} for name in devices]
    questions += [{"execute": "qom-list-types", "arguments": {"implements": _OVERLAY}}, {"execute": "quit"}]
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    try:
        done = subprocess.run(
            command, input=lines, capture_output=True, text=True, timeout=_ASK_TIMEOUT, check=False, errors="replace"
        )
    except OSError as error:
        raise UsageError(f"QEMU {path} does not start: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"QEMU {path} does not answer over QMP within {_ASK_TIMEOUT:g} s") from error
    try:
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        replies = [answer for answer in answers if "return" in answer or "error" in answer]
        version = "{major}.{minor}.{micro}".format(**replies[1]["return"]["qemu"])
        package = str(replies[1]["return"].get("package", ""))
        found = {
            name: frozenset(item["name"] for item in reply["return"])
            for name, reply in zip(devices, replies[2:], strict=False)
            if "return" in reply
        }
        has_overlay = any(reply.get("return") for reply in replies[2 + len(devices) :][:1])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[0]
        raise UsageError(
            f"QEMU {path} is no {PROGRAM} that runs here: exit code {done.returncode}, it said: {said[:200]}"
        ) from error
    return Qemu(path, version, origin, found, package, has_overlay)


def provide(cache: Cache, apt: AptRoot, required: Requirements, *, refresh: bool = False) -> Qemu:
    """Give the host's QEMU when it has all that is required, else Debian's newest in a private prefix.

    Raises `CouldNotRun` when neither is to be had.
    """
    host = _host(required)
    if host is not None and not host.lacks(required):
        return host
    fetched = ask(_fetch(cache, apt, refresh=refresh), required, f"Debian {SUITE}, private prefix")
    missing = fetched.lacks(required)
    if missing:
        raise CouldNotRun(
            f"QEMU {fetched.version} from Debian {SUITE} lacks {', '.join(missing)}; give another by --qemu"
        )
    return fetched


def provide_overlay(cache: Cache, apt: AptRoot, mirror: str | None, required: Requirements, **how: Any) -> Qemu:
    """Give a QEMU with the overlay, built where it is not yet; `how` and errors as `qbuild.build.provide`.

    Raises `CouldNotRun` also where what was built lacks something that is required.
    """
    built = build.provide(cache, apt, mirror, **how)
    found = ask(built.path, required, built.origin)
    missing = [*found.lacks(required), *([] if found.has_overlay else [_OVERLAY])]
    if missing:
        raise CouldNotRun(f"QEMU {found.version}, {built.origin}, lacks {', '.join(missing)}")
    return found


def _host(required: Requirements) -> Qemu | None:
    found = shutil.which(PROGRAM)
    if found is None:
        return None
    try:
        return ask(Path(found), required, "this machine's own")
    except UsageError:
        return None  # a broken one is as good as none: another is fetched


def _fetch(cache: Cache, apt: AptRoot, *, refresh: bool) -> Path:
    def build(draft: Path) -> dict[str, Any]:
        return {"packages": distribution.unpack_qemu(cache, apt, draft)}

    key = digest(SUITE, PACKAGE, distribution.LAUNCHER)
    entry = cache.entry("qemu", key, f"QEMU from Debian {SUITE}", build, refresh=refresh)
    return entry.path / PROGRAM
