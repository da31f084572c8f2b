# SPDX-License-Identifier: GPL-2.0-or-later
"""Running Kbuild in a build folder: its progress counted, its output kept, its first error told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CouldNotRun
from harness.provision import complaints, job
from harness.provision.progress import Steps

_STEP = re.compile(rb"^  [A-Z][A-Z0-9_ +-]*\S*  +\S")
"""A line such as `  CC      drivers/pci/iov.o` (scripts/Kbuild.include, `quiet_cmd_...`)."""
_UNFIT = re.compile(r"[\s:]")
_LOG_TAIL = 512 * 1024
"""Bytes of the end of the output in which an error is looked for."""


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

    def run(
        self, *targets: str, jobs: int = 1, steps: Steps = lambda _: None,
        more: Mapping[str, str] | None = None, **variables: str,
    ) -> int:  # fmt: skip
        """Make targets, with further variables, and `more` of an environment, adding to the log.

        Gives the number of steps it took.

        Raises `DoesNotBuild`, and `CouldNotRun` where the machine that builds is to blame: its disk, its memory.
        """
        words = [f"{name}={value}" for name, value in {**self.variables, **variables}.items()]
        # What a compiler says of an object stands below that object's name: with two jobs, it would below another's.
        command = ["make", "-C", str(self.tree), f"O={self.objects}", f"-j{jobs}", "--output-sync=target"]
        environment = job.environment({**self.environment, **(more or {})})
        with (
            self.log.open("ab", buffering=0) as log,
            job.started([*command, *words, *targets], environment) as process,
        ):
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            done = 0
            for line in process.stdout:
                log.write(line)
                if _STEP.match(line):
                    done += 1
                    steps(done)
        if process.returncode != 0:
            raise self._failure()
        return done

    def _failure(self) -> CouldNotRun:
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - _LOG_TAIL))
            said = stream.read().decode("utf-8", errors="replace").replace(f"{self.tree}/", "")
        where = f"(all of it: {self.log})"
        if host := complaints.of_host(said):
            return CouldNotRun(f"this machine ended the build: {host} {where}")
        return DoesNotBuild(f"{complaints.first(said)} {where}")


def check_place(folder: Path, what: str) -> None:
    """Refuse a folder that Kbuild does not build in (the kernel's Makefile says so); raises `CouldNotRun`."""
    if _UNFIT.search(str(folder)):
        raise CouldNotRun(f"{what}: kbuild refuses the path {folder}: set IOV_HARNESS_CACHE_DIR to one without spaces")
