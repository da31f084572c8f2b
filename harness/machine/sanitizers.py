# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sanitizers say of a QEMU that was built with them (`--qemu overlay-sanitized`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.text import clipped, decoded

_LOG = "sanitizer"
_OURS = "iov-overlay.c"
_LEAK = re.compile(r"^(?:Direct|Indirect) leak of .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_ERROR = re.compile(
    r"^(?:==\d+==ERROR: (?!LeakSanitizer)|==\d+==LeakSanitizer has encountered|[^\n]*: runtime error: ).*?(?=\n\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
_TOLD = 4000
"""Characters of a report that are told."""


class Sanitizers:
    """The reports of one QEMU, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / _LOG

    @property
    def environment(self) -> Iterator[str]:
        """What has leaks reported, and all of it written down, as words for env(1)."""
        common = f"log_path={self._log}:print_stacktrace=1"
        # glib has no frame pointers: to the fast unwinder it hides who called it.
        yield f"ASAN_OPTIONS={common}:detect_leaks=1:fast_unwind_on_malloc=0"
        yield f"UBSAN_OPTIONS={common}"
        yield f"LSAN_OPTIONS=log_path={self._log}:exitcode=0"  # QEMU has leaks of its own

    def complaint(self) -> str:
        """Give the first error, or the first leak with our file in its stack; nothing where there is none."""
        said = "\n\n".join(decoded(one.read_bytes()) for one in sorted(self._log.parent.glob(f"{_LOG}.*")))
        error = _ERROR.search(said)
        leak = next((one for one in _LEAK.finditer(said) if _OURS in one[0]), None)
        found = error or leak
        return clipped(found[0], _TOLD) if found else ""
