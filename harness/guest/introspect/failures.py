# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a kernel could not be looked into. Apart from all that needs drgn, which takes a tenth of a second to import."""

from __future__ import annotations

from harness.errors import GuestFailure, UsageError


class KernelNonsense(GuestFailure):
    """The kernel's memory holds what no kernel leaves there: it is corrupt, or changed while it was read."""


class CannotIntrospect(UsageError):
    """Nothing wrong with the guest, but its kernel cannot be looked into: no debug information, other structures."""
