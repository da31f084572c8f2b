# SPDX-License-Identifier: GPL-2.0-or-later
"""Running Kbuild in a build folder: its progress counted, its output kept, its first error told."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CouldNotRun
from harness.text import printable

_STEP = re.compile(rb"^  [A-Z][A-Z0-9_ +-]*\S*  +\S")
"""A line such as `  CC      drivers/pci/iov.o` (scripts/Kbuild.include, `quiet_cmd_...`)."""
_ERRORS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^(?P<what>\S+:\d+(?::\d+)?: (?:fatal )?error: .+)$",  # the compiler
        r"^(?P<what>(?:ERROR|error): modpost: .+)$",
        r"^(?:\S*ld: )+(?P<what>.+)$",
        r"^(?P<what>\S+: (?:error|fatal error): .+)$",
        r"^(?:make\[?\d*\]?: )?\*\*\* (?P<what>.+)$",  # Kbuild itself, or Kconfig
        r"^make\[?\d*\]?: \*\*\* (?P<what>.+)$",
    )
)
_OF_ANOTHER_MAKE = frozenset({"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES", "GNUMAKEFLAGS", "KBUILD_OUTPUT"})
_LOG_TAIL = 512 * 1024
"""Bytes of the end of the output in which an error is looked for."""

Steps = Callable[[int], None]
"""Told how many steps have been done so far."""


class DoesNotBuild(CouldNotRun):
    """The tree does not compile; the text names the first error."""


@dataclass(frozen=True)
class Make:
    """A source tree, the folder that it is built in, and the variables of every call."""

    tree: Path
    objects: Path
    variables: Mapping[str, str]
    log: Path
    environment: Mapping[str, str]

    def run(self, *targets: str, jobs: int = 1, steps: Steps = lambda _: None, **variables: str) -> int:
        """Make targets, with further variables, adding to the log; gives the number of steps it took.

        Raises `DoesNotBuild`.
        """
        words = [f"{name}={value}" for name, value in {**self.variables, **variables}.items()]
        # Output is whole lines at their end: with two jobs, an error would stand in the midst of another's.
        command = ["make", "-C", str(self.tree), f"O={self.objects}", f"-j{jobs}", "--output-sync=line"]
        with (
            self.log.open("ab", buffering=0) as log,
            _started([*command, *words, *targets], self.environment) as process,
        ):
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            done = 0
            for line in process.stdout:
                log.write(line)
                if _STEP.match(line):
                    done += 1
                    steps(done)
        if process.returncode != 0:
            raise DoesNotBuild(f"{self._first_error()} (all of it: {self.log})")
        return done

    def _first_error(self) -> str:
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - _LOG_TAIL))
            said = printable(stream.read().decode("utf-8", errors="replace"))
        for pattern in _ERRORS:
            if found := pattern.search(said):
                return found["what"].replace(f"{self.tree}/", "")
        return "make failed without a reason"


@contextmanager
def _started(command: list[str], more: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a make that ends, with all its jobs, when the block or this process does."""
    # A make that runs the harness, such as `make test`, shares neither its options nor its jobs with this one.
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_MAKE}
    # What KBUILD_BUILD_... say is part of the image, and would make no two builds alike.
    environment |= {**more, "LC_ALL": "C", "KBUILD_BUILD_USER": "iov-harness", "KBUILD_BUILD_HOST": "iov-harness"}
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *command], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    except BaseException:
        process.terminate()  # make takes its jobs with it, and removes what they left half done
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def told(note: Callable[[str], None], advance: Callable[[float], None], expected: int, every: float = 60.0) -> Steps:
    """Give what tells of the steps: a fraction where their number is known from before, and a line every minute."""
    started = last = time.monotonic()

    def steps(done: int) -> None:
        nonlocal last
        if expected:
            advance(min(1.0, done / expected))
        now = time.monotonic()
        if now - last >= every:
            last = now
            of = f" of about {expected}" if expected >= done else ""
            note(f"  {done}{of} files made after {(now - started) / 60:.0f} min")

    return steps
