# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's memory made by hand: some bytes, and what drgn is told of their meaning."""

from __future__ import annotations

from collections.abc import Callable

from drgn import Architecture, Object, Platform, Program, Type, TypeKindSet, TypeMember

BASE = 0xFFFF_8880_0000_0000
SIZE = 1 << 16


class Memory:
    """Bytes that can be read at BASE; nothing else can. Places are offsets from there."""

    def __init__(self) -> None:
        self.bytes = bytearray(SIZE)
        self.reads = 0
        self.program = Program(Platform(Architecture.X86_64))
        self.program.add_memory_segment(BASE, SIZE, self._read)
        self.program.register_type_finder("hand", self._type, enable_index=0)
        self.program.register_object_finder("hand", self._object, enable_index=0)
        self._types: dict[str, Type] = {}
        self._objects: dict[str, Object] = {}
        self.u64 = self.program.int_type("unsigned long", 8, False)  # noqa: FBT003 - drgn's own way
        self.pointer = self.program.pointer_type(self.program.void_type())

    def struct(self, name: str, /, **members: Type | str) -> Type:
        """Define a structure of members that follow each other; a text names the structure that is pointed to."""
        layout = []
        offset = 0
        for member, kind in members.items():
            layout.append(TypeMember(self._later(kind) if isinstance(kind, str) else kind, member, offset * 8))
            offset += 8 if isinstance(kind, str) else int(kind.size or 0)
        self._types[name] = self.program.struct_type(name, offset, layout)
        return self._types[name]

    def variable(self, name: str, kind: Type, at: int) -> Object:
        """Put a variable of the kernel there."""
        self._objects[name] = Object(self.program, kind, address=BASE + at)
        return self._objects[name]

    def put(self, at: int, value: int | bytes) -> None:
        """Write some bytes, or a number of eight."""
        data = value if isinstance(value, bytes) else (value % (1 << 64)).to_bytes(8, "little")
        self.bytes[at : at + len(data)] = data

    def ring(self, *nodes: int, back_to: int | None = None) -> None:
        """Link list nodes, the first being the head; the last leads back to it, or to another."""
        for node, after in zip(nodes, (*nodes[1:], nodes[0] if back_to is None else back_to), strict=True):
            self.put(node, BASE + after)

    def _later(self, name: str) -> Callable[[], Type]:
        """Give what makes a pointer's type when it is needed, so that structures may refer to each other."""
        return lambda: self.program.pointer_type(self._types[name])

    def _read(self, _address: int, count: int, offset: int, _physical: bool) -> bytes:
        self.reads += 1
        return bytes(self.bytes[offset : offset + count])

    def _type(self, _program: Program, _kinds: TypeKindSet, name: str, _file: str | None) -> Type | None:
        return self._types.get(name)

    def _object(self, _program: Program, name: str, _flags: object, _file: str | None) -> Object | None:
        return self._objects.get(name)
