# SPDX-License-Identifier: GPL-2.0-or-later
"""Routing IDs of SDIs, from the capability alone and in numbers that do not wrap: what kernels are held against.

Strided assignment: RID(i) = RID(PF) + First SDI Offset + i x SDI Stride, for i from 0 to Total SDIs - 1.
"""

from __future__ import annotations

from typing import NamedTuple

LARGEST_ROUTING_ID = 0xFFFF


class Sdis(NamedTuple):
    """What a capability says of a function's SDIs."""

    total: int
    offset: int
    stride: int

    def routing_id(self, pf: int, sdi: int) -> int:
        """Give an SDI's routing ID, for a PF's; larger than 16 bits hold, if the capability says so."""
        return pf + self.offset + sdi * self.stride

    def last_routing_id(self, pf: int) -> int:
        """Give the routing ID of the last SDI; of none, the PF's own."""
        return self.routing_id(pf, self.total - 1) if self.total else pf

    def are_numbered(self, pf: int) -> bool:
        """Tell whether there are SDIs, and each has a routing ID of its own that 16 bits hold."""
        if not self.total or not self.offset or (self.total > 1 and not self.stride):
            return False
        return self.last_routing_id(pf) <= LARGEST_ROUTING_ID

    def last_bus(self, pf: int) -> int:
        """Give the highest bus number that a PF's SDIs need, where they are numbered; else the PF's own."""
        return (self.last_routing_id(pf) if self.are_numbered(pf) else pf) >> 8
