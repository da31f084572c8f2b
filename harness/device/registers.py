# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers, and what each of their bits does when software reads or writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from harness.errors import UsageError

ReadHook = Callable[[int], int | None]
"""Called before software reads a register, with its index; gives the value that it then has, or None to leave it."""
WriteHook = Callable[[int, int], object]
"""Called after software wrote to a register, with its index and the value that it then has."""


class LayoutError(UsageError):
    """Registers or capabilities are declared in a way in which no function can have them."""


@dataclass(frozen=True)
class Register:
    """A little-endian register, or `count` of them in a row, at `offset` bytes from the start of its structure.

    Bits are read-only but for those in `rw` (software writes them) and `w1c` (writing 1 clears them). `value` is what
    it holds after a reset, in which the bits of `sticky` stay what they were.
    """

    name: str
    offset: int
    size: int
    value: int = 0
    rw: int = 0
    w1c: int = 0
    sticky: int = 0
    count: int = 1

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.size * self.count

    def check(self) -> None:
        """Raise `LayoutError` for a register that cannot be."""
        if self.size < 1 or self.count < 1 or self.offset < 0:
            raise LayoutError(f"register {self.name}: size, count and offset must not be negative or nothing")
        for name in ("value", "rw", "w1c", "sticky"):
            bits = getattr(self, name)
            if not 0 <= bits < 1 << 8 * self.size:
                raise LayoutError(f"register {self.name}: {name}={bits:#x} does not fit into {self.size} bytes")
        if self.rw & self.w1c:
            raise LayoutError(f"register {self.name}: bits {self.rw & self.w1c:#x} are both rw and w1c")


class _Hooks(NamedTuple):
    register: Register
    on_read: list[ReadHook]
    on_write: list[WriteHook]


class Bank:
    """A run of bytes that software reads and writes, with the registers that lie in it. Elsewhere it reads as zeros.

    `what` names it in errors.
    """

    def __init__(self, size: int, registers: Iterable[Register] = (), what: str = "registers") -> None:
        self.size = size
        self.what = what
        self._bytes = bytearray(size)
        self._after_reset = bytearray(size)
        self._rw = bytearray(size)
        self._w1c = bytearray(size)
        self._sticky = bytearray(size)
        self._registers: dict[str, Register] = {}
        self._hooked: dict[str, _Hooks] = {}
        for register in registers:
            self.declare(register)

    def __repr__(self) -> str:
        return f"<{self.what}: {self.size:#x} bytes>"

    def declare(self, register: Register) -> None:
        """Add a register. Raises `LayoutError` where it lies outside, or where one of its name or place is already."""
        register.check()
        if register.end > self.size:
            raise LayoutError(
                f"{self.what}: register {register.name} at {register.offset:#x} ends at {register.end:#x}, "
                f"behind the end at {self.size:#x}"
            )
        for other in self._registers.values():
            if register.name == other.name:
                raise LayoutError(f"{self.what}: two registers are called {register.name}")
            if register.offset < other.end and other.offset < register.end:
                raise LayoutError(
                    f"{self.what}: register {register.name} at {register.offset:#x} overlaps {other.name} at "
                    f"{other.offset:#x}"
                )
        self._registers[register.name] = register
        for place, bits in (
            (self._bytes, register.value), (self._after_reset, register.value), (self._rw, register.rw),
            (self._w1c, register.w1c), (self._sticky, register.sticky),
        ):  # fmt: skip
            place[register.offset : register.end] = bits.to_bytes(register.size, "little") * register.count

    @property
    def registers(self) -> tuple[Register, ...]:
        """All registers, by their place."""
        return tuple(sorted(self._registers.values(), key=lambda register: register.offset))

    def register(self, name: str) -> Register:
        """Give a register's declaration; raises `KeyError` naming those that there are."""
        if name not in self._registers:
            raise KeyError(f"{self.what} has no register {name}, but {', '.join(self._registers) or 'none'}")
        return self._registers[name]

    def __getitem__(self, name: str) -> int:
        return self.get(name)

    def __setitem__(self, name: str, value: int) -> None:
        self.set(name, value)

    def get(self, name: str, index: int = 0) -> int:
        """Give what a register holds, without its hooks. Raises `KeyError`, `IndexError`."""
        place = self._place(name, index)
        return int.from_bytes(self._bytes[place], "little")

    def set(self, name: str, value: int, index: int = 0) -> None:
        """Let a register hold a value, as the device itself does: also bits that software cannot write."""
        place, size = self._place(name, index), self._registers[name].size
        if not isinstance(value, int) or not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{self.what}: register {name} of {size} bytes cannot hold {value!r}")
        self._bytes[place] = value.to_bytes(size, "little")

    def on_read(self, name: str, hook: ReadHook) -> None:
        """Call `hook` before software reads any byte of a register."""
        self._hooks(name).on_read.append(hook)

    def on_write(self, name: str, hook: WriteHook) -> None:
        """Call `hook` after software wrote any byte of a register, be its value another or not."""
        self._hooks(name).on_write.append(hook)

    def read(self, offset: int, count: int) -> bytes:
        """Read as software does. Bytes outside are all ones, as a bus gives where nobody answers."""
        for register, hooks, _ in self._hooked.values():
            if not hooks or offset >= register.end or offset + count <= register.offset:
                continue  # nearly always, and each read costs what this loop does
            for index, hook in product(_touched(register, offset, count), hooks):
                value = hook(index)
                if value is not None:
                    self.set(register.name, value, index)
        found = bytes(self._bytes[max(0, offset) : max(0, offset + count)]) if offset >= 0 else b""
        return found + b"\xff" * (count - len(found))

    def write(self, offset: int, data: bytes) -> None:
        """Write as software does: bits that are not rw stay, w1c bits are cleared; what lies outside is dropped."""
        if offset < 0:
            return
        data = data[: max(0, self.size - offset)]
        end = offset + len(data)
        parts = (self._bytes[offset:end], self._rw[offset:end], self._w1c[offset:end], data)
        value, rw, w1c, given = (int.from_bytes(part, "little") for part in parts)
        self._bytes[offset:end] = ((value & ~rw | given & rw) & ~(given & w1c)).to_bytes(len(data), "little")
        for register, _, hooks in self._hooked.values():
            for index, hook in product(_touched(register, offset, len(data)), hooks):
                hook(index, self.get(register.name, index))

    def reset(self) -> None:
        """Let all registers hold what they do after a reset, but for their sticky bits. Calls no hooks."""
        kept = int.from_bytes(self._sticky, "little")
        old, new = (int.from_bytes(part, "little") for part in (self._bytes, self._after_reset))
        self._bytes[:] = (old & kept | new & ~kept).to_bytes(self.size, "little")

    def peek(self, offset: int, count: int) -> bytes:
        """Give what bytes hold, without hooks."""
        return bytes(self._bytes[offset : offset + count])

    def poke(self, offset: int, data: bytes) -> None:
        """Let bytes hold something, whatever software may write there."""
        self._bytes[offset : offset + len(data)] = data

    def bits(self, offset: int, count: int) -> tuple[bytes, bytes]:
        """Give which bits software can write, and which it clears by writing 1, in a range of bytes."""
        place = slice(offset, offset + count)
        return bytes(self._rw[place]), bytes(self._w1c[place])

    def _hooks(self, name: str) -> _Hooks:
        return self._hooked.setdefault(name, _Hooks(self.register(name), [], []))

    def _place(self, name: str, index: int) -> slice:
        register = self.register(name)
        if not 0 <= index < register.count:
            raise IndexError(f"{self.what}: register {name} has no index {index}, but 0 to {register.count - 1}")
        start = register.offset + index * register.size
        return slice(start, start + register.size)


def _touched(register: Register, offset: int, count: int) -> range:
    """Give the indices of the registers of a row that a range of bytes touches."""
    start, end = max(offset, register.offset) - register.offset, min(offset + count, register.end) - register.offset
    return range(start // register.size, -(-end // register.size)) if start < end else range(0)
