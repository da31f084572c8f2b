# SPDX-License-Identifier: GPL-2.0-or-later
"""Building a kernel: source, series and configuration go in, an entry of the cache comes out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from harness.errors import CouldNotRun, UsageError
from harness.provision import kconfig
from harness.provision.apt import AptRoot
from harness.provision.cache import BUILDS, Cache, Entry, digest, explained
from harness.provision.kbuild import farm, fragments, make, series, source, tools
from harness.provision.kbuild.arch import NATIVE, Arch
from harness.provision.kbuild.fragments import Wish
from harness.provision.kbuild.make import DoesNotBuild, Make
from harness.provision.kbuild.reasons import Kconfig
from harness.provision.kbuild.series import Patch
from harness.provision.kbuild.source import Source

KIND = "built"
"""The kind of the cache's entries that hold built kernels; their keys are the kernels' names."""
IMAGE, VMLINUX, CONFIG, LOG, HEADERS = "bzImage", "vmlinux", "config", "build.log", "headers.tar.zst"
"""The files of such an entry; modules and their lists lie in `lib/modules/RELEASE`."""
_FORMAT = 1
_INSTALL_HEADERS = "scripts/package/install-extmod-build"
"""The kernel's own script that copies what modules are built against, for its packages of headers."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_CCACHE_SIZE = "5G"


@dataclass(frozen=True)
class Order:
    """A kernel that is to be built: where from, with which patches, fragments beyond the first, for what."""

    source: str
    series: tuple[Path, ...] = ()
    config: tuple[str, ...] = ()
    arch: Arch = NATIVE

    @property
    def fragments(self) -> tuple[str, ...]:
        """All fragments: the architecture's own comes first."""
        return (self.arch.fragment, *(name for name in self.config if name != self.arch.fragment))

    @property
    def default_name(self) -> str:
        """A name made of what it says: 7.3-base, 7.3-debug+my-series."""
        label = self.source.removeprefix(source.DEBIAN).rstrip("/").rpartition("/")[2] or "linux"
        chosen = [Path(name).stem for name in self.fragments]
        patched = "".join(f"+{path.stem}" for path in self.series)
        return f"{label}-{'-'.join(chosen[1:] or chosen)}{patched}"


@dataclass(frozen=True)
class _Inputs:
    """What an order says, read: nothing of it is wrong in itself."""

    patches: Sequence[Patch]
    wishes: Sequence[Wish]

    @classmethod
    def read(cls, order: Order) -> _Inputs:
        patches = [patch for path in order.series for patch in series.read(path)]
        return cls(patches, fragments.read(order.fragments))

    def digest(self, order: Order) -> str:
        wished = [[wish.symbol, wish.value, wish.optional] for wish in self.wishes]
        return digest(
            _FORMAT, order.source, order.arch.name, wished, [digest(patch.diff.hex()) for patch in self.patches]
        )


def check_name(name: str) -> str:
    """Give a name for a kernel back; raises `UsageError` for what cannot be one."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: a kernel's name has letters, digits and . _ + - only, and no more than 100")
    return name


def names(cache: Cache) -> list[str]:
    """Name the kernels that were built."""
    return cache.keys(KIND)


def origin(entry: Entry) -> str:
    """Say in one line where a built kernel comes from."""
    about = entry.about
    count = len(about["series"])
    patches = f" with {count} {'patch' if count == 1 else 'patches'}" if count else ""
    return f"built from {about['origin']}{patches}, configuration {'+'.join(about['config'])}"


def found(cache: Cache, name: str) -> Entry | None:
    """Give a kernel that was built under this name."""
    return cache.find(KIND, name) if _NAME.fullmatch(name) else None


def provide(cache: Cache, apt: AptRoot, name: str, order: Order, *, refresh: bool = False) -> Entry:
    """Give the kernel `name`, built where it is not yet, or from other inputs than these; raises as `build`."""
    there = found(cache, name)
    if there is not None and not refresh and there.about["inputs"] == _Inputs.read(order).digest(order):
        return cache.entry(KIND, name, there.label, lambda _: {})
    return build(cache, apt, name, order, refresh=refresh)


def build(cache: Cache, apt: AptRoot, name: str, order: Order, *, jobs: int = 0, refresh: bool = False) -> Entry:
    """Build a kernel and keep it under `name`, in place of another of that name; `jobs` 0: one for each core.

    What was compiled before for the same source and configuration is compiled again only where it changed; `refresh`
    fetches a source package anew. Raises
    `UsageError` for input that is wrong in itself, or patches that do not apply; `CouldNotRun` for missing tools or
    dropped wishes, `DoesNotBuild` for a tree that does not compile. Then the cache's entries are as they were.
    """
    inputs = _Inputs.read(order)
    tools.check(order.arch)
    with source.opened(cache, apt, order.source, refresh=refresh) as tree:
        place = f"{BUILDS}/{_folder_name(tree, order)}"
        with cache.locked(place):
            try:
                return _Build(cache, name, order, inputs, tree, cache.root / place).run(jobs or os.cpu_count() or 1)
            except DoesNotBuild as error:
                raise DoesNotBuild(f"kernel {name} does not build: {error}") from error
            except OSError as error:
                raise explained(error, cache.root) from error


def _folder_name(tree: Source, order: Order) -> str:
    return "-".join([tree.key, *(Path(name).stem for name in order.fragments)])


class _Build:
    """One build, in its folder, which nobody else uses meanwhile."""

    def __init__(self, cache: Cache, name: str, order: Order, inputs: _Inputs, tree: Source, folder: Path) -> None:
        self._cache, self._name, self._order, self._inputs, self._source = cache, name, order, inputs, tree
        self._steps_file = folder / "steps"
        self._farm = folder / "tree"
        self._objects = folder / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        self._log = folder / LOG
        self._log.write_bytes(b"")
        variables = {"ARCH": order.arch.name, "CC": tools.compiler(order.arch), "LOCALVERSION": ""}
        if order.arch.cross:
            variables["CROSS_COMPILE"] = order.arch.cross
        self._make = Make(self._farm, self._objects, variables, self._log, self._ccache())

    def run(self, jobs: int) -> Entry:
        started = time.monotonic()
        self._lay_out()
        skipped = self._configure()
        self._compile(jobs)
        about = {
            "inputs": self._inputs.digest(self._order), "release": self._release(), "arch": self._order.arch.name,
            "source": self._order.source, "origin": self._source.origin, "config": list(self._order.fragments),
            "skipped": skipped, "compiler": tools.version(self._order.arch),
            "cc": self._gcc(),
            "series": [{"file": patch.file.name, "subject": patch.subject} for patch in self._inputs.patches],
            "seconds": round(time.monotonic() - started, 1),
        }  # fmt: skip
        return self._cache.entry(
            KIND, self._name, f"kernel {self._name}", lambda to: self._fill(to, about), refresh=True
        )

    def _lay_out(self) -> None:
        """Make the farm show the source with the series applied; nothing of it changes where that fails."""
        dirt = farm.dirt(self._source.tree)
        if dirt:
            raise UsageError(
                f"--source {self._source.tree}: it was built in ({dirt} is there), and cannot be built from elsewhere; "
                f"run make ARCH={self._order.arch.name} mrproper in it first"
            )
        names = farm.files(self._source.tree)
        with series.applied(self._inputs.patches, self._source.tree, names) as changed:
            farm.lay(self._farm, self._source.tree, names, changed)

    def _configure(self) -> list[str]:
        """Make the configuration, and give the optional symbols that the tree does not know."""
        wishes = self._objects.parent / "wishes"
        wishes.write_text(fragments.text(self._inputs.wishes), encoding="utf-8")
        self._make.run("allnoconfig", KCONFIG_ALLCONFIG=str(wishes))
        config = kconfig.parse((self._objects / ".config").read_text(encoding="utf-8"))
        return fragments.check(self._name, self._inputs.wishes, config, Kconfig(self._farm, self._order.arch.name))

    def _compile(self, jobs: int) -> None:
        progress = self._cache.progress
        expected = int(self._steps_file.read_text(encoding="ascii")) if self._steps_file.is_file() else 0
        with progress.task(f"kernel {self._name}: build") as advance:
            done = self._make.run(
                *self._order.arch.targets, jobs=jobs, steps=make.told(progress.note, advance, expected)
            )
        if done > expected:
            self._steps_file.write_text(f"{done}\n", encoding="ascii")

    def _gcc(self) -> str:
        return self._make.variables["CC"].split()[-1]

    def _release(self) -> str:
        return (self._objects / "include/config/kernel.release").read_text(encoding="utf-8").strip()

    def _ccache(self) -> Mapping[str, str]:
        folder = self._cache.root / BUILDS / "ccache"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.utime(folder)
        # depend: what a file includes is known from its last compilation, so it need not be preprocessed first.
        return {"CCACHE_DIR": str(folder), "CCACHE_MAXSIZE": _CCACHE_SIZE, "CCACHE_DEPEND": "1"}

    def _fill(self, draft: Path, about: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, made in ((VMLINUX, "vmlinux"), (CONFIG, ".config"), (IMAGE, self._order.arch.image)):
            if made:
                shutil.copyfile(self._objects / made, draft / name)
        if self._order.arch.image:
            self._make.run("modules_install", INSTALL_MOD_PATH=str(draft), INSTALL_MOD_STRIP="1", DEPMOD="true")
            for link in ("build", "source"):
                (draft / "lib/modules" / about["release"] / link).unlink(missing_ok=True)
            self._pack_headers(draft / HEADERS)
        shutil.copyfile(self._log, draft / LOG)
        return about

    def _pack_headers(self, to: Path) -> None:
        """Keep what a module of ours needs to be compiled for this kernel."""
        tree = self._objects.parent / "headers"
        shutil.rmtree(tree, ignore_errors=True)
        if not (self._farm / _INSTALL_HEADERS).is_file():
            return  # an older tree: then no module can be built for its kernel
        # Not behind ccache: where CC is not HOSTCC, the script has the tools of the build compiled for another machine.
        command = f"$(srctree)/{_INSTALL_HEADERS} {tree}"
        self._make.run("run-command", KBUILD_RUN_COMMAND=command, CC=self._gcc())
        pack = ["tar", "-c", "--dereference", "--sort=name", "-C", str(tree), "-f", str(to.with_suffix("")), "."]
        done = subprocess.run(pack, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CouldNotRun(f"kernel {self._name}: its headers cannot be packed: {done.stderr.strip()[:200]}")
        _compress(to.with_suffix(""), to)
        shutil.rmtree(tree)


def _compress(plain: Path, to: Path) -> None:
    with plain.open("rb") as source, to.open("wb") as target:
        zstandard.ZstdCompressor(level=3).copy_stream(source, target)
    plain.unlink()
