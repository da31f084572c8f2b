# SPDX-License-Identifier: GPL-2.0-or-later
"""Building a kernel: an order goes in, an entry of the cache comes out, under the name that `--kernel` takes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.provision.apt import AptRoot
from harness.provision.cache import BUILDS, Cache, Entry, explained
from harness.provision.ccache import CCACHE
from harness.provision.kbuild import result, series, source, tools
from harness.provision.kbuild.make import DoesNotBuild
from harness.provision.kbuild.order import Inputs, Order
from harness.provision.kbuild.source import Source
from harness.provision.kbuild.workshop import Workshop
from harness.text import count

KIND = "built"
"""The kind of the cache's entries that hold built kernels; their keys are the kernels' names."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def check_name(name: str) -> str:
    """Give a name for a kernel back; raises `UsageError` for what cannot be one."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: a kernel's name has letters, digits and . _ + - only, and no more than 100")
    return name


def names(cache: Cache) -> list[str]:
    """Name the kernels that were built."""
    return cache.keys(KIND)


def found(cache: Cache, name: str) -> Entry | None:
    """Give what is known of a kernel that was built under this name; it may be replaced or pruned at any time."""
    return cache.find(KIND, name) if _NAME.fullmatch(name) else None


def used(cache: Cache, name: str) -> Entry | None:
    """Give a kernel that was built under this name, which stays as it is until this process ends."""
    return cache.use(KIND, name) if _NAME.fullmatch(name) else None


def origin(entry: Entry) -> str:
    """Say in one line where a built kernel comes from."""
    about = entry.about
    patches = f" with {count(len(about['series']), 'patch')}" if about["series"] else ""
    return f"built from {about['origin']}{patches}, configuration {'+'.join(about['config'])}"


def provide(cache: Cache, apt: AptRoot, name: str, order: Order, *, refresh: bool = False, jobs: int = 0) -> Entry:
    """Give the kernel `name`, built where it is not yet, or from other inputs than these; raises as `build`."""
    inputs = Inputs.read(order)
    return (None if refresh else _same(cache, name, inputs)) or _build(
        cache, apt, name, inputs, jobs=jobs, refresh=refresh, always=refresh
    )


def build(cache: Cache, apt: AptRoot, name: str, order: Order, *, jobs: int = 0) -> Entry:
    """Build a kernel and keep it under `name`, in place of another of that name; `jobs` 0: one for each core.

    What was compiled before for the same source and configuration is compiled again only where it changed. Raises
    `UsageError` for input that is wrong in itself, or patches that do not apply; `CouldNotRun` for missing tools or
    dropped wishes, `DoesNotBuild` for a tree that does not compile. Then the cache's entries are as they were.
    """
    return _build(cache, apt, name, Inputs.read(order), jobs=jobs, refresh=False, always=True)


def _same(cache: Cache, name: str, inputs: Inputs) -> Entry | None:
    """Give the kernel of that name, if it was built from these inputs."""
    there = found(cache, name)
    return used(cache, name) if there is not None and there.about["inputs"] == inputs.digest else None


def _build(cache: Cache, apt: AptRoot, name: str, inputs: Inputs, *, jobs: int, refresh: bool, always: bool) -> Entry:
    tools.check(inputs.order.arch)
    with source.opened(cache, apt, inputs.order.source, refresh=refresh) as tree:
        place = f"{BUILDS}/{_folder_name(tree, inputs.order)}"
        with cache.locked(CCACHE, shared=True), cache.locked(place):
            # Another process may have built it while this one waited: it uses it now, and would not let it be replaced.
            there = None if always else _same(cache, name, inputs)
            return there or _built(cache, name, inputs, tree, cache.root / place, jobs or os.cpu_count() or 1)


def _built(cache: Cache, name: str, inputs: Inputs, tree: Source, folder: Path, jobs: int) -> Entry:
    order = inputs.order

    def fill(draft: Path) -> Mapping[str, Any]:
        return {**about, "content": result.fill(draft, workshop, order.arch)}

    try:
        started = time.monotonic()
        workshop = Workshop(cache, name, inputs, tree, folder)
        skipped = workshop.build(jobs)
        about = {
            "inputs": inputs.digest, "release": workshop.release, "arch": order.arch.name, "source": order.place,
            "origin": tree.origin, "config": list(order.fragments), "skipped": skipped,
            "series": [{"file": patch.file.name, "subject": patch.subject} for patch in inputs.patches],
            "warnings": workshop.warnings(),
            "unseen": workshop.unseen({name for patch in inputs.patches for name in series.files(patch)}),
            "compiler": tools.version(order.arch), "cc": workshop.gcc, "seconds": round(time.monotonic() - started, 1),
        }  # fmt: skip
        return cache.entry(KIND, name, f"kernel {name}", fill, refresh=True)
    except DoesNotBuild as error:
        raise DoesNotBuild(f"kernel {name} does not build: {error}") from error
    except OSError as error:
        raise explained(error, cache.root) from error


def _folder_name(tree: Source, order: Order) -> str:
    return "-".join([tree.key, *(source.plain(Path(name).stem) for name in order.fragments)])
