# SPDX-License-Identifier: GPL-2.0-or-later
"""What went wrong in a build, in one line: of all that make and its programs said, what tells most."""

from __future__ import annotations

import re

from harness.text import printable

_PATTERNS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^(\S+:\d+(?::\d+)?: (?:fatal )?error: .+)$",  # the compiler
        r"^(\S+:\d+: Error: .+)$",  # the assembler
        r"^(\S*Kconfig\S*:\d+: (?!warning).+)$",
        r"^(error: .+)$",  # Kconfig, of what spans files
        r"^(ERROR: .+)$",  # modpost
        r"^(?:\S*ld: )*(.*\bundefined reference to .+)$",
        r"^(?:\S*ld: )+(?!warning:)(.+)$",
        r"^(\S+: (?:fatal )?error: .+)$",
        r"^(\S+:\d+: \*\*\* .+)$",  # a makefile's own $(error)
        r"^(?!make)(?:\S+: )?(\*\*\* .+)$",
        r"^make\S*: (\*\*\* .+)$",
    )
)

_OF_THE_HOST = re.compile(
    r"^(?:\S.*: (?:No space left on device|Disk quota exceeded|Cannot allocate memory|Input/output error"
    r"|Read-only file system)|\S+: out of memory allocating \d+ bytes.*"
    r"|\S+: fatal error: Killed signal terminated program \S+|make\S*: \*\*\* \[.+\] Killed)$",
    re.MULTILINE,
)  # errno(3) as strerror(3) says it, libiberty's xmalloc_failed(), gcc's driver and make of a program that was killed


def of_host(said: str) -> str:
    """Give the first complaint about the machine that builds, not about what is built; empty where there is none."""
    found = _OF_THE_HOST.search(printable(said))
    return found[0].strip() if found else ""


def first(said: str) -> str:
    """Give the first complaint of the kind that tells most; where there is none, the last line."""
    text = printable(said)
    for pattern in _PATTERNS:
        if found := pattern.search(text):
            return found[1].strip()
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "make said nothing"
