# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness kernel`: kernels from source, and those that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ByteSize

from harness.cli import flags, output
from harness.errors import UsageError
from harness.provision import kernel
from harness.provision.cache import Entry
from harness.provision.kbuild import build as building
from harness.provision.kbuild.arch import NATIVE, foreign
from harness.provision.kbuild.order import Order

app = typer.Typer(no_args_is_help=True, help="Build kernels from source, and see which there are.")

_SOURCE = "A kernel's source: a folder (git or plain), or debian:VERSION for the distribution's, such as debian:7.3."
_SERIES = "Patches on top: an mbox, a patch, or a folder of numbered patches (repeatable)."
_CONFIG = "A fragment beyond the base: siov, debug, no-iov, or a file of your own (a path with a '/'; repeatable)."


@app.command("build")
def build(
    source: Annotated[str, typer.Option(help=_SOURCE, show_default=False)],
    series: Annotated[list[Path] | None, typer.Option(help=_SERIES)] = None,
    config: Annotated[list[str] | None, typer.Option(help=_CONFIG)] = None,
    name: Annotated[str | None, typer.Option(help="What to call it (default: made of the other options).")] = None,
    cross: Annotated[str | None, typer.Option(help="Only compile, for another architecture: powerpc, s390.")] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=0, help="Compile so many files at once (0: all cores).")] = 0,
    json: flags.Json = False,
) -> None:
    """Build a kernel, and keep it under a name that --kernel takes everywhere.

    What was compiled before for the same source and configuration is compiled again only where it changed.
    """
    arch = foreign(cross) if cross else NATIVE
    order = Order(source, tuple(series or ()), tuple(config or ()), arch)
    called = building.check_name(name or order.default_name)
    recipe = kernel.recipes().get(called)
    if recipe is not None and not (isinstance(recipe, kernel.BuildRecipe) and recipe.order == order):
        raise UsageError(f"{called} is a kernel that comes with the harness: give another --name")
    store = flags.store()
    if name is None:
        _check_default(building.found(store.cache, called), order)
    entry = building.build(store.cache, store.apt, called, order, jobs=jobs)
    if json:
        flags.print_json(_plain(entry))
        return
    console = output.console()
    console.print(f"kernel {entry.key}: release {entry.about['release']}, {building.origin(entry)}")
    for symbol in entry.about["skipped"]:
        console.print(f"skipped: this tree does not know CONFIG_{symbol}")
    console.print(f"files: {entry.path}")
    if arch is NATIVE:
        console.print(f"harness shell minimal --kernel {entry.key}")


def _check_default(there: Entry | None, order: Order) -> None:
    """Refuse to replace, by a name that nobody gave, a kernel of another source or configuration."""
    if there is None:
        return
    same = {"source": order.place, "arch": order.arch.name, "config": list(order.fragments)}
    if any(there.about[what] != value for what, value in same.items()):
        raise UsageError(f"there is a kernel {there.key} already, {building.origin(there)}: give a --name")


@app.command("list")
def list_(json: flags.Json = False) -> None:
    """List the kernels that --kernel takes by name: those that come with the harness, and those that were built."""
    cache = flags.store().cache
    there = {name: entry for name in building.names(cache) if (entry := building.found(cache, name))}
    entries = [entry for key in cache.keys("kernels") if (entry := cache.find("kernels", key))]
    fetched = {entry.label.removeprefix("kernel "): entry for entry in entries}
    recipes = kernel.recipes()
    if json:
        known = [{"name": name, "summary": recipe.summary} for name, recipe in recipes.items()]
        flags.print_json({"recipes": known, "built": [_plain(entry) for entry in there.values()]})
        return
    there |= fetched
    summaries = {name: building.origin(entry) for name, entry in there.items() if entry.kind == building.KIND}
    summaries |= {name: recipe.summary for name, recipe in recipes.items()}
    rows = [(name, *_state(there.get(name)), summary) for name, summary in sorted(summaries.items())]
    output.table("name", "release", "size", "what it is", rows=rows)


def _state(entry: Entry | None) -> tuple[str, str]:
    """Give release and size of a kernel that is in the cache; dashes for what has yet to be fetched or built."""
    if entry is None:
        return "-", "-"
    return str(entry.about["release"]), ByteSize(entry.size).human_readable(decimal=True)


def _plain(entry: Entry) -> dict[str, object]:
    return {"name": entry.key, "path": str(entry.path), "bytes": entry.size, **entry.about}
