# SPDX-License-Identifier: GPL-2.0-or-later
"""A cell of a validation: one file of tests on one kernel, run by `harness test` wherever there is room for a guest."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zstandard

from harness import config
from harness.config import Settings
from harness.errors import CouldNotRun
from harness.outcome import Exit
from harness.provision.cache import Cache, digest
from harness.provision.kbuild import build
from harness.report.unpacking import unpack
from harness.validate.run import command

_TOLD = 2000
"""Characters of a run's last words that an error repeats."""
_ENDED = (Exit.OK, Exit.FAIL, Exit.MISS, Exit.ERROR, Exit.EMPTY)
"""How `harness test` ends when it has something to tell."""


class Running:
    """The processes of the cells that run here, which end at once where nobody waits for them any more."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[str]] = set()
        self._is_over = False

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Let cells run in the block; where it is left by an exception, those that do are ended."""
        self._is_over = False
        try:
            yield
        except BaseException:
            self._is_over = True
            for one in [*self._processes]:
                one.kill()  # what it has started is told by the kernel (PR_SET_PDEATHSIG), down to QEMU
            raise

    def run(self, words: list[str], at: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with subprocess.Popen(
            words, cwd=at, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace",
        ) as process:  # fmt: skip
            self._processes.add(process)
            try:
                if self._is_over:
                    process.kill()
                said, complained = process.communicate()
            finally:
                self._processes.discard(process)
        return subprocess.CompletedProcess(words, process.returncode, said, complained)


RUNNING = Running()


@dataclass(frozen=True)
class Cell:
    """Tests on a kernel. `content` is what tells the kernel from others of its name; `turn` counts repetitions."""

    kernel: str
    content: str
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()
    turn: int = 0

    @property
    def key(self) -> str:
        """What tells this cell from others: not the kernel's name, for two patches may make the same kernel."""
        return digest(self.content, self.tests, self.options, self.turn)


@dataclass(frozen=True)
class Ran:
    """How a cell ended: the code of `harness test`, its records as a `.tar.zst`, and how long it took."""

    code: int
    records: bytes
    seconds: float


def run(cell: Cell, kernel: bytes | None = None) -> Ran:
    """Run a cell on this machine. `kernel` is the kernel itself, for a machine whose cache has not got it.

    Raises `CouldNotRun` where there is no result.
    """
    settings = config.load()
    cache = Cache(settings.cache_dir)
    with cache.locked(f"locks/receive-{cell.kernel}"):  # other guests of this worker may want it, too
        entry = build.found(cache, cell.kernel)
        if entry is None or entry.about["content"] != cell.content:
            if kernel is None:
                raise CouldNotRun(f"kernel {cell.kernel} is not the one that was built, or not there")
            _receive(cache, cell, kernel)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="iov-harness-cell-") as scratch:
        words = ["setpriv", "--pdeathsig", "KILL", "--", *command(cell.kernel, cell.tests, *cell.options, "--json")]
        done = RUNNING.run(words, Path(scratch), {**os.environ, **_environment(settings)})
        if done.returncode not in _ENDED:
            what = f"`harness test {' '.join(cell.tests)}` on kernel {cell.kernel} ended with {done.returncode}"
            raise CouldNotRun(what, detail=done.stderr[-_TOLD:])
        try:
            folder = Path(json.loads(done.stdout)["run"]) if done.returncode != Exit.EMPTY else Path(scratch)
        except (ValueError, KeyError, TypeError) as error:
            raise CouldNotRun(
                f"`harness test` on kernel {cell.kernel} told nothing", detail=done.stderr[-_TOLD:]
            ) from error
        return Ran(done.returncode, _packed(folder), time.monotonic() - started)


def _environment(settings: Settings) -> dict[str, str]:
    """Give the settings, which may come from a file in the folder that the cell does not run in."""
    given = {name: getattr(settings, name) for name in ("cache_dir", "accel", "boot_timeout", "debian_mirror")}
    return {f"{config.ENV_PREFIX}{name.upper()}": str(value) for name, value in given.items() if value is not None}


def keep(ran: Ran, to: Path) -> None:
    """Put a cell's records into the folder `to`, whole or not at all."""
    draft = to.with_name(f".{to.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    unpack(io.BytesIO(ran.records), draft, "a cell's records")
    shutil.rmtree(to, ignore_errors=True)
    draft.rename(to)


def packed_kernel(cache: Cache, name: str) -> bytes:
    """Give a built kernel's entry of the cache, for a machine that has not got it. Raises `CouldNotRun`."""
    entry = build.used(cache, name)
    if entry is None:
        raise CouldNotRun(f"kernel {name} was built, and is gone: was the cache pruned?")
    return _packed(entry.path)


def _receive(cache: Cache, cell: Cell, kernel: bytes) -> None:
    def fill(draft: Path) -> dict[str, object]:
        unpack(io.BytesIO(kernel), draft, "a kernel")
        told: dict[str, object] = json.loads((draft / "entry.json").read_text(encoding="utf-8"))["about"]
        (draft / "entry.json").unlink()
        return told

    cache.entry(build.KIND, cell.kernel, f"kernel {cell.kernel}", fill, refresh=True)
    cache.release()  # a worker lives on, and would let nobody replace it


def _packed(folder: Path) -> bytes:
    raw = io.BytesIO()
    with (
        zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|") as archive,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.add(path, str(path.relative_to(folder)))
    return raw.getvalue()
