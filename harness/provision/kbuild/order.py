# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to be built: where from, with which patches, in which configuration, for which architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.provision.cache import digest
from harness.provision.kbuild import fragments, series, source
from harness.provision.kbuild.arch import NATIVE, Arch
from harness.provision.kbuild.fragments import Wish
from harness.provision.kbuild.series import Patch

_FORMAT = 2
"""Part of what a kernel was made of: another number makes all kernels with a recipe be built anew."""


@dataclass(frozen=True)
class Order:
    """A kernel that is to be built; `config` are fragments beyond the architecture's own."""

    source: str
    series: tuple[Path, ...] = ()
    config: tuple[str, ...] = ()
    arch: Arch = NATIVE

    @property
    def fragments(self) -> tuple[str, ...]:
        """All fragments: the architecture's own comes first."""
        return (self.arch.fragment, *(name for name in self.config if name != self.arch.fragment))

    @property
    def place(self) -> str:
        """Where it comes from, the same from whichever folder it was asked for."""
        return self.source if self.source.startswith(source.DEBIAN) else str(Path(self.source).absolute())

    @property
    def default_name(self) -> str:
        """A name made of what it says: 7.3-base, 7.3-debug+my-series."""
        chosen = [Path(name).stem for name in self.fragments]
        patched = "".join(f"+{path.stem}" for path in self.series)
        return source.plain(f"{source.label(self.source)}-{'-'.join(chosen[1:] or chosen)}{patched}")


@dataclass(frozen=True)
class Inputs:
    """What an order says, read: nothing of it is wrong in itself."""

    order: Order
    patches: Sequence[Patch]
    wishes: Sequence[Wish]

    @classmethod
    def read(cls, order: Order) -> Inputs:
        """Read series and fragments; raises `UsageError`."""
        patches = [patch for path in order.series for patch in series.read(path)]
        return cls(order, patches, fragments.read(order.fragments))

    @property
    def digest(self) -> str:
        """What tells these inputs from others, but for the content of a folder that is the source."""
        wished = [[wish.symbol, wish.value, wish.optional] for wish in self.wishes]
        patches = [digest(patch.diff.hex()) for patch in self.patches]
        return digest(_FORMAT, self.order.place, self.order.arch.name, wished, patches)
