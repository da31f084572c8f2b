# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder that a kernel is built in, which stays for the next build from the same source and configuration."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.errors import CouldNotRun, UsageError
from harness.provision import kconfig
from harness.provision.cache import Cache
from harness.provision.ccache import ccache_environment
from harness.provision.kbuild import farm, fragments, make, series, tools, warnings
from harness.provision.kbuild.farm import Farm
from harness.provision.kbuild.make import Make
from harness.provision.kbuild.order import Inputs
from harness.provision.kbuild.reasons import Kconfig
from harness.provision.kbuild.source import Source
from harness.provision.progress import told


class Workshop:
    """One build in its folder, which nobody else may use meanwhile."""

    def __init__(self, cache: Cache, name: str, inputs: Inputs, source: Source, folder: Path) -> None:
        make.check_place(folder, f"kernel {name}")
        self._cache, self._name, self._inputs, self._source = cache, name, inputs, source
        self._arch = inputs.order.arch
        self._farm = Farm(folder / "tree")
        self._steps = folder / "steps"
        self._unfinished = folder / "unfinished"
        self._warned = folder / "warnings.json"
        self.objects = folder / "objects"
        self.log = folder / "build.log"
        self.tree = self._farm.root
        if self._unfinished.exists():
            # It was broken off, with all that it had started: a file may be half written. ccache remembers the others.
            cache.progress.note(f"kernel {name}: the last build in its folder was broken off: all is compiled again")
            self._forget()
        elif warnings.remembered(self._warned) is None:
            self._forget()  # which also was built by a version that did not keep them
        self.objects.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        self.log.write_bytes(b"")
        variables = {"ARCH": self._arch.name, "CC": tools.compiler(self._arch), "LOCALVERSION": ""}
        if self._arch.cross:
            variables["CROSS_COMPILE"] = self._arch.cross
        self.make = Make(self.tree, self.objects, variables, self.log, self._environment())

    def build(self, jobs: int) -> list[str]:
        """Build; gives the optional symbols that the tree does not know. Raises as `kbuild.build.build`."""
        self._lay_out()
        with self._whole():
            skipped = self._configure()
            self._compile(jobs)
        return skipped

    @property
    def gcc(self) -> str:
        """The compiler alone, without ccache."""
        return self.make.variables["CC"].split()[-1]

    @property
    def release(self) -> str:
        """What `uname -r` will say."""
        return (self.objects / "include/config/kernel.release").read_text(encoding="utf-8").strip()

    def warnings(self) -> list[str]:
        """What the compiler warns of in all that was compiled, now or before."""
        return warnings.flat(warnings.remembered(self._warned) or {})

    def unseen(self, files: Iterable[str]) -> list[str]:
        """Give those of these C and assembly files that were not compiled."""
        return warnings.unseen(self.objects, files)

    def _forget(self) -> None:
        shutil.rmtree(self.objects, ignore_errors=True)
        self._warned.unlink(missing_ok=True)

    def _lay_out(self) -> None:
        """Make the farm show the source with the series applied; nothing of it changes where that fails."""
        tree = self._source.tree
        dirt = farm.dirt(tree)
        if dirt:
            raise UsageError(
                f"--source {tree}: it was built in ({dirt} is there), and cannot be built from elsewhere; "
                f"run make ARCH={self._arch.name} mrproper in it first"
            )
        try:
            names = farm.files(tree)
            with series.applied(self._inputs.patches, tree, names) as changed:
                farm.check(names, changed, tree)
                self._farm.lay(tree, names, changed)
        except OSError as error:
            if str(error.filename).startswith(str(tree)):
                raise CouldNotRun(f"source {error.filename}: {error.strerror}") from error
            raise

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Note, until the block ends by itself, that something may be half done.

        A make that is told to end removes the objects that it had not finished, but not their .cmd files: at one that
        is broken off Kbuild stops, now and ever after.
        """
        self._unfinished.touch()
        try:
            yield
        except CouldNotRun:
            self._unfinished.unlink(missing_ok=True)  # the tree does not compile: make ended by itself
            raise
        self._unfinished.unlink(missing_ok=True)

    def _configure(self) -> list[str]:
        """Make the configuration, and give the optional symbols that the tree does not know."""
        wishes = self.objects.parent / "wishes"
        wishes.write_text(fragments.text(self._inputs.wishes), encoding="utf-8")
        self.make.run("allnoconfig", KCONFIG_ALLCONFIG=str(wishes))
        config = kconfig.parse((self.objects / ".config").read_text(encoding="utf-8"))
        return fragments.check(self._name, self._inputs.wishes, config, Kconfig(self.tree, self._arch.name))

    def _compile(self, jobs: int) -> None:
        progress = self._cache.progress
        text = self._steps.read_text(encoding="ascii").strip() if self._steps.is_file() else ""
        expected = int(text) if text.isdecimal() else 0
        with progress.task(f"kernel {self._name}: build") as advance:
            try:
                done = self.make.run(*self._arch.targets, jobs=jobs, steps=told(progress.note, advance, expected))
            finally:
                self._note_warnings()
        if done > expected:
            self._steps.write_text(f"{done}\n", encoding="ascii")

    def _note_warnings(self) -> None:
        said = warnings.parse(self.log.read_text(encoding="utf-8", errors="replace"), self.tree)
        warnings.remember(self._warned, {**(warnings.remembered(self._warned) or {}), **said})

    def _environment(self) -> Mapping[str, str]:
        return {
            **ccache_environment(self._cache),
            # Part of the image: the user's own names would make no two builds alike.
            "KBUILD_BUILD_USER": "iov-harness", "KBUILD_BUILD_HOST": "iov-harness",
        }  # fmt: skip
