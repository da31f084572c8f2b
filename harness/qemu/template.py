# SPDX-License-Identifier: GPL-2.0-or-later
"""Rendering a profile's template into QEMU options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError

from harness.errors import UsageError
from harness.qemu.options import Option, parse
from harness.qemu.profile import Profile, Value

SSH_PORT_BY_KERNEL = 0
"""A forwarded port of 0 lets the host's kernel choose a free one, so two machines never want the same."""


@dataclass(frozen=True)
class Wiring:
    """How QEMU's control sockets and console reach the harness, as `-chardev` arguments."""

    qmp: str
    debug: str
    console: str
    ssh_port: int = SSH_PORT_BY_KERNEL

    @classmethod
    def for_hand(cls, folder: Path, ssh_port: int) -> Wiring:
        """Give the wiring of a command line to paste: console on the terminal, control sockets in `folder`."""
        return cls(socket_at(folder / "qmp.sock"), socket_at(folder / "debug.sock"), "stdio,signal=off", ssh_port)


@dataclass(frozen=True)
class Software:
    """What the machine starts: accelerator, kernel image, initramfs, words for the kernel's command line."""

    accel: str
    kernel: Path
    initramfs: Path
    append: str = ""


class Renderer:
    """Templates found in the given folders, the first folder first."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(list(folders)), undefined=StrictUndefined, autoescape=False,  # noqa: S701 - no HTML
            trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        )  # fmt: skip
        # tojson then keeps the order given; that it writes a quote as \u0027, for HTML, is nothing to a reader of JSON.
        self._environment.policies["json.dumps_kwargs"] = {"sort_keys": False}

    def command_line(
        self, profile: Profile, parameters: Mapping[str, Value], software: Software, wiring: Wiring
    ) -> tuple[Option, ...]:
        """Give all options of a cold boot. Raises `UsageError` for a template that does not render."""
        name = f"{profile.name}.j2"
        names: dict[str, Any] = {**parameters, **asdict(software), "wiring": wiring}
        try:
            rendered = self._environment.get_template(name).render(names)
        except TemplateSyntaxError as error:
            raise UsageError(f"template {error.name or name}, line {error.lineno}: {error.message}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise UsageError(f"template {name}: {error}") from error
        return parse(rendered, name)


def socket_at(path: Path) -> str:
    """Give the `-chardev` argument of a socket on which QEMU listens at `path`."""
    written = str(path).replace(",", ",,")  # as QEMU wants it in `-chardev`, though not in `-kernel` and `-initrd`
    return f"socket,path={written},server=on,wait=off"
