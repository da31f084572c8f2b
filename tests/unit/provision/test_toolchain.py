# SPDX-License-Identifier: GPL-2.0-or-later
"""A compiler made of small packages, whose programs and whose loader are shell scripts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from makings import SH, Distribution, put

from harness.errors import CouldNotRun
from harness.provision import toolchain
from harness.provision.toolchain import Toolchain

LOADER = "usr/lib64/ld-linux-x86-64.so.2"
TELLS = f'#!{SH}\nprintf "%s\\n" "$@"\n'
LONG = "usr/bin/x86_64-linux-gnu"
TOOLS = ("gcc-14", "ld", "as", "ar", "nm", "objcopy", "objdump", "readelf", "strip")
CC1 = "usr/libexec/gcc/x86_64-linux-gnu/14/cc1"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """Give a distribution with a compiler."""
    world = Distribution(tmp_path / "my world", monkeypatch)
    programs = {f"{LONG}-{name}": name for name in TOOLS}
    world.add("gcc-14-x86-64-linux-gnu", "14.2", {**programs, CC1: "cc1", LOADER: TELLS, "usr/share/doc/gcc": "no"})
    world.add("make", "4.4", {"usr/bin/make": "make"})
    world.add("libelf1t64", "0.192", {"usr/lib/x86_64-linux-gnu/libelf.so.1": "libelf"})
    return world


def provide(world: Distribution) -> Toolchain:
    return toolchain.provide(world.cache, world.apt, "gcc-14")


def called(*argv: Path | str) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


def libraries(root: str | Path) -> str:
    return f"{root}/usr/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu/systemd"


def test_a_program_runs_through_the_loader_that_came_with_it(world: Distribution) -> None:
    found = provide(world)
    here = f"{found.bin}/.."
    assert called(found.bin / "make", "-C", "a b") == [
        "--argv0", f"{found.bin}/make", "--library-path", libraries(here), f"{here}/usr/bin/make", "-C", "a b",
    ]  # fmt: skip


def test_gcc_finds_its_own_programs_among_the_scripts(world: Distribution) -> None:
    found = provide(world)
    told = called(found.bin / "x86_64-linux-gnu-gcc-14", "-c", "a.c")
    program = f"{found.bin}/../{LONG}-gcc-14"
    assert told[1] == program, "a gcc that is called by another name looks in other folders"
    assert told[4:] == [program, f"-B{found.bin}/../bin/", "-c", "a.c"]
    assert {path.name for path in found.bin.iterdir()} == {
        "make", "cc1", "as", *(f"x86_64-linux-gnu-{name}" for name in TOOLS if name != "as")
    }  # fmt: skip


def test_only_what_is_called_is_kept(world: Distribution) -> None:
    found = provide(world)
    kept = {str(path.relative_to(found.root)) for path in (found.root / "usr").rglob("*") if path.is_file()}
    programs = {*(f"{LONG}-{name}" for name in TOOLS), CC1, "usr/bin/make"}
    assert kept == {*programs, LOADER, "usr/lib/x86_64-linux-gnu/libelf.so.1"}
    assert not (found.root / "staging").exists()


def test_it_is_fetched_once(world: Distribution) -> None:
    assert provide(world) == provide(world)
    assert sum(" install " in line for line in world.asked) == 1


def test_programs_of_other_packages_are_made_to_run_with_it(world: Distribution, tmp_path: Path) -> None:
    found = provide(world)
    modpost = put(tmp_path / "it's/scripts/mod/modpost", b"\x7fELF...", 0o755)
    shell = put(tmp_path / "it's/scripts/mod/check.sh", TELLS, 0o755)
    (modpost.parent / "link").symlink_to("modpost")
    found.adopt(tmp_path / "it's")
    assert called(modpost, "-a") == [
        "--argv0", str(modpost), "--library-path", libraries(found.root), f"{modpost}.elf", "-a"
    ]  # fmt: skip
    assert Path(f"{modpost}.elf").read_bytes() == b"\x7fELF..."
    assert called(shell, "-a") == ["-a"]
    assert sorted(path.name for path in modpost.parent.iterdir()) == ["check.sh", "link", "modpost", "modpost.elf"]


def test_packages_without_the_compiler_are_told_in_one_line(world: Distribution) -> None:
    (world.folder / "debs/make_4.4_amd64.deb").unlink()
    world.add("make", "4.5", {"usr/bin/gmake": "make"})
    with pytest.raises(CouldNotRun, match=r"^compiler: no package brought usr/bin/make, without which"):
        provide(world)
    assert not world.left("toolchain")
