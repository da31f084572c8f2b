# SPDX-License-Identifier: GPL-2.0-or-later
"""Fragments of a kernel's configuration: what they wish, and whether Kconfig granted it.

A fragment is a `.config` in paragraphs. Where a paragraph's comment has `optional:`, its wishes are for trees that know
these symbols.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.errors import CouldNotRun, UsageError, unknown
from harness.provision.kbuild.reasons import Kconfig
from harness.provision.kconfig import KernelConfig

_SET = re.compile(r"CONFIG_(?P<symbol>\w+)=(?P<value>.+)")
_UNSET = re.compile(r"# CONFIG_(?P<symbol>\w+) is not set")
_OPTIONAL = re.compile(r"#.*\boptional:")


class WishesDropped(CouldNotRun):
    """The tree's Kconfig does not grant what the fragments wish."""


@dataclass(frozen=True)
class Wish:
    """One line of a fragment; the value is as in a `.config`, `n` for what is not to be set."""

    symbol: str
    value: str
    fragment: str
    optional: bool

    def __str__(self) -> str:
        return f"CONFIG_{self.symbol}={self.value} ({self.fragment})"

    def granted(self, config: KernelConfig) -> bool:
        """Tell whether a configuration has it."""
        return config.get(self.symbol, "n") == self.value.strip('"')


def known() -> list[str]:
    """Name the fragments that come with the harness."""
    return sorted(path.stem for path in paths.kernels().glob("*.config"))


def read(names: Sequence[str]) -> list[Wish]:
    """Read fragments, by name or by path (anything with a '/'); where two differ, the later one counts.

    Raises `UsageError`.
    """
    wishes: dict[str, Wish] = {}
    for name in names:
        if "/" not in name and name not in known():
            raise UsageError(f"--config: {unknown('fragment', name, known())}, or give a path with a '/'")
        path = Path(name) if "/" in name else paths.kernels() / f"{name}.config"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--config {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
        wishes |= {wish.symbol: wish for wish in _wishes(path, text)}
    return list(wishes.values())


def _wishes(path: Path, text: str) -> Iterable[Wish]:
    optional = False
    for number, line in enumerate(text.splitlines(), 1):
        if match := _SET.fullmatch(line) or _UNSET.fullmatch(line):
            yield Wish(match["symbol"], match.groupdict().get("value") or "n", path.stem, optional)
        elif not line.strip():
            optional = False
        elif not line.startswith("#"):
            raise UsageError(f"--config {path}, line {number}: {line[:80]!r} is no line of a .config")
        else:
            optional = optional or _OPTIONAL.match(line) is not None


def text(wishes: Iterable[Wish]) -> str:
    """Write wishes as a `.config`, for `KCONFIG_ALLCONFIG` (Documentation/kbuild/kconfig.rst)."""
    return "".join(f"CONFIG_{wish.symbol}={wish.value}\n" for wish in wishes)


def check(name: str, wishes: Iterable[Wish], config: KernelConfig, kconfig: Kconfig) -> list[str]:
    """Hold the configuration of kernel `name` against what was wished for.

    Gives the optional symbols that this tree does not know. Raises `WishesDropped` with a line for every other wish,
    and the reason where it can be found.
    """
    dropped = [wish for wish in wishes if not wish.granted(config)]
    skipped = [wish.symbol for wish in dropped if wish.optional and not kconfig.knows(wish.symbol)]
    refused = {wish: kconfig.reason(wish.symbol, config) for wish in dropped if wish.symbol not in skipped}
    if refused:
        lines = [f"{wish}: {reason}" for wish, reason in refused.items()]
        if len(lines) == 1:
            raise WishesDropped(f"kernel {name}: Kconfig drops {lines[0]}")
        raise WishesDropped(f"kernel {name}: Kconfig drops {len(lines)} wishes:", detail="\n".join(lines))
    return skipped
