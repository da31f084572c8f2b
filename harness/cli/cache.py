# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness cache`: what is kept, and making room."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from harness import config
from harness.cli import flags, output
from harness.errors import UsageError
from harness.provision.cache import Cache, Entry

app = typer.Typer(no_args_is_help=True, help="See what the cache holds, and make room in it.")


@app.command("list")
def list_(json: flags.Json = False) -> None:
    """List what the cache holds, the least recently used first."""
    cache = Cache(config.load().cache_dir)
    entries = cache.entries()
    if json:
        flags.print_json({"cache": cache.root, "entries": [_plain(entry) for entry in entries]})
        return
    output.table("what", "size", "last used", "key", rows=map(_row, entries))
    total = ByteSize(sum(entry.size for entry in entries)).human_readable(decimal=True)
    typer.echo(f"{total} in {cache.root}")


@app.command()
def prune(
    max_size: Annotated[
        str | None, typer.Option(help="Size to leave, such as 5GB or 0 (default: cache_limit).")
    ] = None,
    json: flags.Json = False,
) -> None:
    """Remove the least recently used entries until the cache is small enough; what is in use stays."""
    settings = config.load()
    try:
        limit = TypeAdapter(ByteSize).validate_python(max_size) if max_size is not None else settings.cache_limit
    except ValidationError as error:
        raise UsageError(f"--max-size {max_size}: write a size such as 5GB, 500MB or 0") from error
    removed, busy = Cache(settings.cache_dir).prune(limit)
    if json:
        flags.print_json({"removed": [_plain(e) for e in removed], "in_use": [_plain(e) for e in busy]})
        return
    for entry in removed:
        typer.echo(f"removed {entry.label} ({entry.kind}/{entry.key})")
    for entry in busy:
        typer.echo(f"kept {entry.label} ({entry.kind}/{entry.key}): in use by a running process")
    if not removed and not busy:
        typer.echo(f"nothing to remove: the cache is within {limit.human_readable(decimal=True)}")


def _row(entry: Entry) -> tuple[str, ...]:
    used = datetime.fromtimestamp(entry.last_used).astimezone()
    size = ByteSize(entry.size).human_readable(decimal=True)
    return entry.label, size, f"{used:%Y-%m-%d %H:%M}", f"{entry.kind}/{entry.key}"


def _plain(entry: Entry) -> dict[str, object]:
    return {
        "kind": entry.kind, "key": entry.key, "label": entry.label, "bytes": entry.size,
        "last_used": entry.last_used, "path": str(entry.path), "about": dict(entry.about),
    }  # fmt: skip
