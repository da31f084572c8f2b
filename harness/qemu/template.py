# SPDX-License-Identifier: GPL-2.0-or-later
"""Rendering a profile's template into QEMU options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.runtime import Context

from harness.errors import UsageError, unknown
from harness.qemu.options import Option, parse
from harness.qemu.profile import Profile, Value

SSH_PORT_BY_KERNEL = 0
"""A forwarded port of 0 lets the host's kernel choose a free one, so two machines never want the same."""

_OUTSIDE = "template {}: every option must stand in the block machine or, below that, plugged"
SSH_PORT_BY_HAND = 2222
"""The forwarded port of a command line to paste, where none was asked for."""


@dataclass(frozen=True)
class Wiring:
    """How QEMU's control sockets, the console and the guest's link reach the harness, as `-chardev` arguments.

    With `monitor` the console carries QEMU's monitor too: Ctrl-A c turns to it, Ctrl-A x ends QEMU. `devices` is the
    folder of the sockets at which Python devices are served.
    """

    qmp: str
    debug: str
    console: str
    link: str
    ssh_port: int = SSH_PORT_BY_KERNEL
    monitor: bool = False
    devices: str = ""

    def device(self, name: str) -> str:
        """Give the path of the socket at which a Python device is served."""
        return str(Path(self.devices) / f"{name}.sock")

    @classmethod
    def by_hand(cls, ssh_port: int = SSH_PORT_BY_KERNEL) -> Wiring:
        """Give the wiring of a command line to paste: console on the terminal, control sockets where it is pasted."""
        qmp, debug = (f"socket,path={name}.sock,server=on,wait=off" for name in ("qmp", "debug"))
        return cls(qmp, debug, "stdio,mux=on,signal=off", "null", ssh_port or SSH_PORT_BY_HAND, monitor=True)


@dataclass(frozen=True)
class Software:
    """What the machine starts: accelerator, kernel image, initramfs, words for the kernel's command line."""

    accel: str
    kernel: Path
    initramfs: Path
    append: str = ""


@dataclass(frozen=True)
class CommandLine:
    """QEMU's options, in a template's two blocks: the machine, and what can be plugged into it while it runs."""

    machine: tuple[Option, ...]
    plugged: tuple[Option, ...]

    @property
    def whole(self) -> tuple[Option, ...]:
        """All options, for a machine that has everything from power-on."""
        return (*self.machine, *self.plugged)


class Renderer:
    """Templates found in the given folders, the first folder first."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._loader = FileSystemLoader(list(folders))
        self._environment = Environment(
            loader=self._loader, undefined=StrictUndefined, autoescape=False,  # noqa: S701 - no HTML
            trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        )  # fmt: skip
        # tojson then keeps the order given; that it writes a quote as \u0027, for HTML, is nothing to a reader of JSON.
        self._environment.policies["json.dumps_kwargs"] = {"sort_keys": False}

    def command_line(
        self, profile: Profile, parameters: Mapping[str, Value], software: Software, wiring: Wiring
    ) -> CommandLine:
        """Give QEMU's options. Raises `UsageError` for a template that does not render, or not in its blocks."""
        name = f"{profile.name}.j2"
        names: dict[str, Any] = {**parameters, **asdict(software), "wiring": wiring}
        try:
            self._check_outside(name)
            template = self._environment.get_template(name)
            context = template.new_context(names)
            whole = "".join(template.root_render_func(context))
            machine, plugged = (_block(context, block) for block in ("machine", "plugged"))
            machine = machine if context.blocks else whole
        except TemplateSyntaxError as error:
            raise UsageError(f"template {error.name or name}, line {error.lineno}: {error.message}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise UsageError(f"template {name}: {error}") from error
        line = CommandLine(parse(machine, name), parse(plugged, name))
        if parse(whole, name) != line.whole:
            raise UsageError(_OUTSIDE.format(name))
        return line

    def _check_outside(self, name: str) -> None:
        """Refuse what Jinja drops without a word from a template that extends another: what is in no block of that."""
        source, _, _ = self._loader.get_source(self._environment, name)
        tree = self._environment.parse(source, name)
        if not any(isinstance(node, nodes.Extends) for node in tree.body):
            return
        if any(map(_speaks, tree.body)):
            raise UsageError(_OUTSIDE.format(name))
        known = {"machine", "plugged"}
        for parent in meta.find_referenced_templates(tree):
            known |= set(self._environment.get_template(parent).blocks) if parent else set()
        for block in tree.body:
            if isinstance(block, nodes.Block) and block.name not in known:
                raise UsageError(f"template {name}: {unknown('block', block.name, known)}")


def _speaks(node: nodes.Node) -> bool:
    """Tell whether a part of a template gives more than blanks, outside its blocks."""
    if isinstance(node, nodes.Output):
        return any(not isinstance(part, nodes.TemplateData) or part.data.strip() for part in node.nodes)
    return not isinstance(node, nodes.Block) and any(map(_speaks, node.iter_child_nodes()))


def _block(context: Context, name: str) -> str:
    """Render one block, as the template nearest to the profile has it."""
    return "".join(context.blocks[name][0](context)) if name in context.blocks else ""
