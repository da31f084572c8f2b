# SPDX-License-Identifier: GPL-2.0-or-later
"""The line that tells most, of all that a build said."""

from __future__ import annotations

import pytest

from harness.provision import complaints


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            [
                "drivers/pci/iov.c: In function 'x':",
                "drivers/pci/iov.c:12:5: error: expected ';'",
                "make[1]: *** [x] Error 1",
            ],
            "drivers/pci/iov.c:12:5: error: expected ';'",
        ),
        (
            [
                "a.c:1:10: fatal error: no.h: No such file or directory",
            ],
            "a.c:1:10: fatal error: no.h: No such file or directory",
        ),
        (
            [
                "x.S: Assembler messages:",
                "x.S:12: Error: no such instruction: `foo'",
                "make[1]: *** [x.o] Error 1",
            ],
            "x.S:12: Error: no such instruction: `foo'",
        ),
        (
            [
                "drivers/pci/Kconfig:12: syntax error",
                "make[1]: *** [scripts/kconfig/Makefile:85: allnoconfig] Error 1",
            ],
            "drivers/pci/Kconfig:12: syntax error",
        ),
        (
            [
                "Kconfig:3:warning: odd",
                "error: recursive dependency detected!",
                "make: *** [x] Error 1",
            ],
            "error: recursive dependency detected!",
        ),
        (
            [
                'ERROR: modpost: "pci_x" [y.ko] undefined!',
                "make: *** [x] Error 1",
            ],
            'ERROR: modpost: "pci_x" [y.ko] undefined!',
        ),
        (
            [
                "ld: warning: a.o has a LOAD segment with RWX permissions",
                "ld: a.o: in function `f':",
                "a.c:(.text+0x5): undefined reference to `foo'",
                "make: *** [vmlinux] Error 1",
            ],
            "a.c:(.text+0x5): undefined reference to `foo'",
        ),
        (
            [
                "ld: warning: odd",
                "ld: cannot find a.o: No such file or directory",
                "make: *** [x] Error 1",
            ],
            "cannot find a.o: No such file or directory",
        ),
        (
            [
                "Makefile:206: *** source directory cannot contain spaces or colons.  Stop.",
                "make: *** [Makefile:248: x] Error 2",
            ],
            "Makefile:206: *** source directory cannot contain spaces or colons.  Stop.",
        ),
        (
            [
                "***",
                "*** The source tree is not clean, please run 'make mrproper'",
                "make[2]: *** [x] Error 1",
            ],
            "*** The source tree is not clean, please run 'make mrproper'",
        ),
        (
            [
                "sh: flex: not found",
                "make[1]: *** [scripts/Makefile.host:9: lex.c] Error 127",
            ],
            "*** [scripts/Makefile.host:9: lex.c] Error 127",
        ),
        (
            [
                "a.c:1:1: error: \x1b[31mred\x1b[0m",
            ],
            "a.c:1:1: error: red",
        ),
        (
            [
                "nothing to see",
                "Killed",
                "",
            ],
            "Killed",
        ),
        (
            [
                "",
            ],
            "make said nothing",
        ),
    ],
)
def test_the_line_that_tells_most_is_told(said: list[str], told: str) -> None:
    assert complaints.first("\n".join(said)) == told


@pytest.mark.parametrize(
    "line",
    [
        "{standard input}: fatal error: closing output file: No space left on device",
        "x86_64-linux-gnu-ld: final link failed: No space left on device",
        "cc1: out of memory allocating 65536 bytes after a total of 1000000 bytes",
        "gcc: fatal error: Killed signal terminated program cc1",
        "make[3]: *** [scripts/Makefile.build:287: drivers/pci/iov.o] Killed",
    ],
)
def test_a_machine_that_can_build_no_more_is_told_from_a_tree_that_does_not_build(line: str) -> None:
    assert complaints.of_host(f"  CC      a.o\n{line}\nmake: *** [Makefile:248: __sub-make] Error 2\n") == line


@pytest.mark.parametrize(
    "line",
    [
        "iov.c:3:9: error: expected ';' before 'Killed'",
        '    3 |  pr_err("cannot write: No space left on device")',
        "make[3]: *** [scripts/Makefile.build:287: drivers/pci/iov.o] Error 1",
    ],
)
def test_a_tree_that_does_not_build_is_not_the_machines_fault(line: str) -> None:
    assert complaints.of_host(f"  CC      a.o\n{line}\n") == ""
