# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules of ours, or of a test's own, built for the kernel of a guest."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from harness import paths
from harness.errors import CouldNotRun, UsageError, unknown
from harness.provision import complaints, job, workbench
from harness.provision.apt import AptRoot
from harness.provision.cache import Cache, digest
from harness.provision.kbuild.make import check_place
from harness.provision.kernel import Kernel
from harness.text import printable

_FORMAT = 1
"""Part of a module's key: another number makes all that there are be made anew."""
_KBUILD = "Kbuild"
_SOURCES = (".c", ".h", ".S")
_TIMEOUT = 500.0
"""Seconds for one module: make takes 5 here, a loaded machine may be a hundred times slower."""
_EVIDENCE = 30
"""Lines of the build's output to show."""


def named(name: str) -> Path:
    """Give the source folder of one of our modules; raises `UsageError` for an unknown one."""
    folder = paths.modules()
    known = [path.parent.name for path in folder.glob(f"*/{_KBUILD}")]
    if name not in known:
        raise UsageError(unknown("kernel module", name, known))
    return folder / name


def provide(cache: Cache, apt: AptRoot, kernel: Kernel, source: Path) -> Path:
    """Give the .ko of the module whose sources lie in the folder `source`, built for `kernel` where it is not yet.

    The folder holds a `Kbuild` (kbuild writes a `Makefile` of its own from Linux 6.13 on), and is not written to.
    Raises `UsageError` where it is no such folder, `CouldNotRun` where the kernel has no headers, these or their
    compiler cannot be had, or the sources do not compile.
    """
    sources = _read(source)
    headers = kernel.headers
    if headers is None:
        raise CouldNotRun(f"kernel {kernel.name} came without headers: no module can be built for it")
    what = f"module {source.name} for {kernel.name}"

    def build(draft: Path) -> dict[str, Any]:
        check_place(draft, what)
        folder = draft / "module"
        for name, text in sources.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text)
        unpacked = draft / "headers"
        bench = workbench.opened(cache, apt, headers, unpacked)
        with cache.progress.task(what):
            made = _make(bench, folder, what)
        made.rename(draft / made.name)
        shutil.rmtree(folder)
        shutil.rmtree(unpacked, ignore_errors=True)
        return {"file": made.name}

    texts = {name: text.hex() for name, text in sources.items()}
    key = digest(_FORMAT, kernel.content, headers.compiler, source.name, texts)
    entry = cache.entry("modules", key, what, build)
    return entry.path / str(entry.about["file"])


def _read(source: Path) -> dict[str, bytes]:
    """Read all sources, by their path in the folder; not what an earlier build may have left there."""
    if not (source / _KBUILD).is_file():
        raise UsageError(f"{source} is no kernel module: expected a folder with a {_KBUILD} and C files")
    found = [path for path in sorted(source.rglob("*")) if path.suffix in _SOURCES or path.name == _KBUILD]
    wanted = [path for path in found if path.is_file() and not path.name.endswith(".mod.c")]
    try:
        return {str(path.relative_to(source)): path.read_bytes() for path in wanted}
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error


def _make(bench: workbench.Workbench, folder: Path, what: str) -> Path:
    if shutil.which("make", path=bench.environment["PATH"]) is None:
        raise CouldNotRun(f"{what}: make is not on this machine; a kernel of your own needs it, and gcc")
    with job.started([*bench.make, f"M={folder}", "modules"], bench.environment) as process:
        try:
            output, _ = process.communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise CouldNotRun(f"{what}: not built within {_TIMEOUT:g} s") from error
    made = sorted(folder.glob("*.ko"))
    if process.returncode != 0:
        said = output.decode("utf-8", errors="replace").replace(f"{folder}/", "")
        evidence = "\n".join(printable(said).splitlines()[-_EVIDENCE:])
        raise CouldNotRun(f"{what} does not compile: {complaints.first(said)}", detail=evidence)
    if len(made) != 1:
        raise UsageError(f"{what}: its {_KBUILD} makes {len(made)} modules; expected one")
    return made[0]
