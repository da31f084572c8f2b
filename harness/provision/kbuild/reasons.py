# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a symbol is not set, read from the tree's Kconfig files (Documentation/kbuild/kconfig-language.rst).

Reads no more of the language than that takes: definitions, and the conditions that they stand under. kconfiglib knows
it all as it was in 2019, and takes no tree of today (`transitional`, `modules`, `depends on A if B`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.provision.kconfig import KernelConfig

_WORD = re.compile(r'"[^"]*"|&&|\|\||!=|<=|>=|[!=()<>]|[^\s"&|!=()<>]+')
_SYMBOL = re.compile(r"[A-Z0-9_]+")
_PROMPT = re.compile(r'"(?:[^"\\]|\\.)*"(?: if (?P<condition>.+))?$')
"""A prompt, and the condition under which it is shown."""
_MAX_DEPTH = 40
"""Files that source each other; the kernel's go six deep."""


@dataclass(frozen=True)
class Definition:
    """A place where a symbol is defined, the conditions that it stands under, and whether a user can set it."""

    conditions: tuple[str, ...]
    asks: bool


class Kconfig:
    """The Kconfig files of one tree, as one architecture (`SRCARCH`) sees them; read when first asked."""

    def __init__(self, tree: Path, srcarch: str) -> None:
        self._tree = tree
        self._srcarch = srcarch

    def knows(self, symbol: str) -> bool:
        """Tell whether the tree defines a symbol."""
        return symbol in self._definitions

    def reason(self, symbol: str, config: KernelConfig) -> str:
        """Say why a symbol does not have the value that was wished for, as far as its conditions tell."""
        found = self._definitions.get(symbol)
        if found is None:
            return "this tree has no such symbol"
        if config.get(symbol, "n") != "n":
            return f"it is {config[symbol]}, by another option that selects it or by its default"
        unmet = [[one for one in place.conditions if not holds(one, config)] for place in found]
        if all(unmet):
            places = (" and ".join(_spelt(one, config) for one in dict.fromkeys(conditions)) for conditions in unmet)
            return f"it depends on {', or elsewhere on '.join(places)}"
        if not any(place.asks for place in found):
            return "nobody can set it: it has no prompt, other options select it"
        return "Kconfig tells no reason"

    @cached_property
    def _definitions(self) -> Mapping[str, list[Definition]]:
        definitions: dict[str, list[Definition]] = {}
        for symbol, definition in self._read("Kconfig", (), 0):
            definitions.setdefault(symbol, []).append(definition)
        return definitions

    def _read(self, name: str, outer: tuple[str, ...], depth: int) -> Iterator[tuple[str, Definition]]:
        """Walk one file: `if` and `menu` blocks hold conditions for what is in them, `source` leads to other files."""
        blocks: list[list[str]] = [[*outer]]
        symbol, own, asks = "", list[str](), False
        conditions = own  # those of the entry that the lines belong to; a comment's are of no interest

        def defined() -> Iterator[tuple[str, Definition]]:
            if symbol:
                yield symbol, Definition((*_flat(blocks), *own), asks)

        for keyword, rest in self._lines(name):
            if keyword == "depends":
                conditions.append(rest.removeprefix("on").strip())
            elif keyword in _PROPERTIES:
                if prompt := _PROMPT.search(rest):
                    asks = True
                    conditions += [prompt["condition"]] if prompt["condition"] else []
            else:
                yield from defined()
                symbol, own, asks = rest if keyword in ("config", "menuconfig") else "", [], False
                if keyword in ("if", "menu", "choice"):
                    blocks.append([rest] if keyword == "if" else [])
                elif keyword in ("endif", "endmenu", "endchoice") and len(blocks) > 1:
                    blocks.pop()
                elif keyword == "source" and depth < _MAX_DEPTH:
                    yield from self._read(rest.strip('"'), _flat(blocks), depth + 1)
                conditions = blocks[-1] if keyword in ("menu", "choice") else own
        yield from defined()

    def _lines(self, name: str) -> Iterator[tuple[str, str]]:
        """Give the keyword of each line that matters and what follows it; help texts are none of them."""
        path = self._tree / name.replace("$(SRCARCH)", self._srcarch).replace("$SRCARCH", self._srcarch)
        try:
            text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
        except OSError:
            return
        in_help, help_indent = False, 0
        for line in text.splitlines():
            body = line.expandtabs().strip()
            indent = len(line.expandtabs()) - len(line.expandtabs().lstrip())
            if in_help:
                help_indent = help_indent or indent  # its first line says how far in a help text is
                if not body or indent >= help_indent > 0:
                    continue
                in_help = False
            keyword, _, rest = body.partition(" ")
            if keyword in ("help", "---help---"):
                in_help, help_indent = True, 0
            elif keyword in _KEYWORDS:
                yield keyword, " ".join(rest.partition("#")[0].split())


def _flat(blocks: list[list[str]]) -> tuple[str, ...]:
    return tuple(condition for block in blocks for condition in block)


_PROPERTIES = frozenset({"depends", "bool", "tristate", "int", "hex", "string", "prompt"})
_BLOCKS = frozenset({"config", "menuconfig", "if", "endif", "menu", "endmenu", "choice", "endchoice", "source"})
_KEYWORDS = _PROPERTIES | _BLOCKS | {"comment"}


def _spelt(condition: str, config: KernelConfig) -> str:
    """Give a condition with the values that its symbols have."""
    symbols = dict.fromkeys(word for word in _WORD.findall(condition) if _SYMBOL.fullmatch(word) and not word.isdigit())
    values = ", ".join(f"{symbol}={config.get(symbol, 'n')}" for symbol in symbols)
    return f"{condition} (here {values})" if values else condition


def holds(condition: str, config: KernelConfig) -> bool:
    """Evaluate an expression of symbols; what cannot be understood, such as a macro call, counts as true."""
    words = _WORD.findall(condition)
    try:
        value, rest = _either(words, config)
    except (IndexError, ValueError):
        return True
    return value or bool(rest)


def _either(words: list[str], config: KernelConfig) -> tuple[bool, list[str]]:
    value, rest = _both(words, config)
    while rest[:1] == ["||"]:
        other, rest = _both(rest[1:], config)
        value = value or other
    return value, rest


def _both(words: list[str], config: KernelConfig) -> tuple[bool, list[str]]:
    value, rest = _one(words, config)
    while rest[:1] == ["&&"]:
        other, rest = _one(rest[1:], config)
        value = value and other
    return value, rest


def _one(words: list[str], config: KernelConfig) -> tuple[bool, list[str]]:
    word, rest = words[0], words[1:]
    if word == "!":
        value, rest = _one(rest, config)
        return not value, rest
    if word == "(":
        value, rest = _either(rest, config)
        if rest[:1] != [")"]:
            raise ValueError(word)
        return value, rest[1:]
    if "$" in word or word in "()<>=":
        raise ValueError(word)
    if rest[:1] in (["="], ["!="]):
        same = _value(word, config) == _value(rest[1], config)
        return same == (rest[0] == "="), rest[2:]
    if rest[:1] and rest[0] in ("<", ">", "<=", ">="):
        raise ValueError(rest[0])
    return _value(word, config) in ("y", "m"), rest


def _value(word: str, config: KernelConfig) -> str:
    if word.startswith('"') or not _SYMBOL.fullmatch(word) or word.isdigit():
        return word.strip('"')
    return config.get(word, "n")
