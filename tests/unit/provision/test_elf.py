# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees of tiny dynamic programs, and the real programs of the machine that runs the tests."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from harness.errors import CouldNotRun
from harness.provision import elf

LOADER = "/lib64/ld-linux-x86-64.so.2"
MULTIARCH = "usr/lib/x86_64-linux-gnu"
NEEDED, STRTAB, STRSZ, RPATH, RUNPATH = 1, 5, 10, 15, 29  # elf(5), d_tag
LOAD, DYNAMIC, INTERP = 1, 2, 3  # elf(5), p_type


def dynamic(*needed: str, runpath: str = "", rpath: str = "", interpreter: str = "") -> bytes:
    """Make an ELF64 shared object for x86-64 (elf(5)), mapped as it lies in the file."""
    strings, tags = b"\0", []
    for tag, text in [*((NEEDED, name) for name in needed), (RUNPATH, runpath), (RPATH, rpath), (0, interpreter)]:
        if text:
            tags.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    at = 64 + 3 * 56
    name = tags.pop()[1] if interpreter else 0
    tags += [(STRTAB, at), (STRSZ, len(strings)), (0, 0)]
    section = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    end = at + len(strings) + len(section)
    segments = [(LOAD, 0, end), (DYNAMIC, at + len(strings), len(section))]
    segments += [(INTERP, at + name, len(interpreter) + 1)] if interpreter else []
    table = b"".join(struct.pack("<IIQQQQQQ", kind, 4, pos, pos, pos, size, size, 1) for kind, pos, size in segments)
    sizes = (64, 56, len(segments), 64, 0, 0)
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, *sizes)
    return (header + table).ljust(at, b"\0") + strings + section


def put(root: Path, path: str, content: bytes) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def link(root: Path, path: str, target: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to(target)


def found(root: Path, *programs: Path) -> list[str]:
    return [str(path) for path in elf.libraries(programs, root)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give what unpacked packages of a merged-/usr system are: no `lib64` at the top, the loader behind two links."""
    put(tmp_path, f"{MULTIARCH}/ld-linux-x86-64.so.2", dynamic())
    link(tmp_path, "usr/lib64/ld-linux-x86-64.so.2", f"../lib/x86_64-linux-gnu/{Path(LOADER).name}")
    put(tmp_path, f"{MULTIARCH}/libc.so.6", dynamic(Path(LOADER).name))
    return tmp_path


def test_the_loader_and_all_that_libraries_need_in_turn_are_found_with_their_links(root: Path) -> None:
    put(root, f"{MULTIARCH}/liba.so.1.2.3", dynamic("libb.so", "libc.so.6"))
    link(root, f"{MULTIARCH}/liba.so.1", "liba.so.1.2")
    link(root, f"{MULTIARCH}/liba.so.1.2", "liba.so.1.2.3")
    put(root, "usr/lib/libb.so", dynamic("liba.so.1"))
    put(root, f"{MULTIARCH}/unused.so", dynamic())
    program = put(root, "usr/bin/a", dynamic("liba.so.1", interpreter=LOADER))
    multiarch = [
        f"{MULTIARCH}/{name}" for name in ("ld-linux-x86-64.so.2", "liba.so.1", "liba.so.1.2", "liba.so.1.2.3")
    ]
    rest = [f"{MULTIARCH}/libc.so.6", "usr/lib64/ld-linux-x86-64.so.2"]
    assert found(root, program) == sorted(["usr/lib/libb.so", *multiarch, *rest])


def test_links_of_a_merged_usr_are_understood_and_not_told(root: Path) -> None:
    program = put(root, "usr/bin/a", dynamic("libc.so.6", interpreter=LOADER))
    before = found(root, program)
    link(root, "lib64", "usr/lib64")
    link(root, "lib", "/usr/lib")
    assert found(root, program) == before
    assert "lib64" not in before


def test_a_tree_whose_lib_is_a_folder_of_its_own_is_told_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, "lib/ld-linux-x86-64.so.2", dynamic())
    link(tmp_path, "lib64", "lib")
    program = put(tmp_path, "bin/a", dynamic(interpreter=LOADER))
    assert found(tmp_path, program) == ["lib/ld-linux-x86-64.so.2", "lib64"]


def test_programs_are_taken_together_and_each_library_told_once(root: Path) -> None:
    put(root, "usr/lib/libb.so", dynamic("libc.so.6"))
    programs = [put(root, "usr/bin/b", dynamic("libb.so", "libc.so.6")), put(root, "usr/bin/a", dynamic("libc.so.6"))]
    assert found(root, *programs) == ["usr/lib/libb.so", f"{MULTIARCH}/ld-linux-x86-64.so.2", f"{MULTIARCH}/libc.so.6"]


@pytest.mark.parametrize("content", [b"#!/bin/sh\nexit 0\n", b"", dynamic()], ids=["script", "empty", "static"])
def test_scripts_and_static_programs_need_nothing(root: Path, content: bytes) -> None:
    assert found(root, put(root, "usr/bin/a", content)) == []


def test_a_runpath_goes_before_the_usual_folders_and_an_rpath_is_then_not_heeded(root: Path) -> None:
    for folder in ("opt/run", "opt/r", "usr/lib"):
        put(root, f"{folder}/libx.so", dynamic())
    run = put(root, "usr/bin/run", dynamic("libx.so", runpath="/opt/none:/opt/run", rpath="/opt/r"))
    vain = put(root, "usr/bin/vain", dynamic("libx.so", runpath="/opt/none", rpath="/opt/r"))
    old = put(root, "usr/bin/old", dynamic("libx.so", rpath="/opt/r"))
    assert found(root, run) == ["opt/run/libx.so"]
    assert found(root, vain) == ["usr/lib/libx.so"]
    assert found(root, old) == ["opt/r/libx.so"]


@pytest.mark.parametrize("folder", [MULTIARCH, "usr/lib64", "usr/lib", "lib/x86_64-linux-gnu", "lib64", "lib"])
def test_a_library_is_found_in_each_of_the_usual_folders(tmp_path: Path, folder: str) -> None:
    for top in ("lib", "lib64"):  # folders of their own, so that neither means the one below usr
        (tmp_path / top).mkdir()
    put(tmp_path, f"{folder}/libx.so", dynamic())
    assert found(tmp_path, put(tmp_path, "usr/bin/a", dynamic("libx.so"))) == [f"{folder}/libx.so"]


@pytest.mark.parametrize("origin", ["$ORIGIN", "${ORIGIN}"])
def test_origin_is_the_folder_where_the_file_really_lies(root: Path, origin: str) -> None:
    put(root, "opt/tool/lib/libx.so", dynamic("liby.so", runpath=f"{origin}/private"))
    put(root, "opt/tool/lib/private/liby.so", dynamic())
    put(root, "opt/tool/bin/a", dynamic("libx.so", runpath=f"{origin}/../lib"))
    link(root, "usr/bin/a", "/opt/tool/bin/a")
    assert found(root, root / "usr/bin/a") == ["opt/tool/lib/libx.so", "opt/tool/lib/private/liby.so"]


def test_a_library_that_is_loaded_already_is_not_searched_again(root: Path) -> None:
    put(root, "opt/libx.so", dynamic("liby.so"))
    put(root, "opt/liby.so", dynamic())
    program = put(root, "usr/bin/a", dynamic("libx.so", "liby.so", runpath="/opt"))
    assert found(root, program) == ["opt/libx.so", "opt/liby.so"]


def test_links_lead_nowhere_outside_the_tree(tmp_path: Path) -> None:
    put(tmp_path, "libx.so", dynamic())
    root = tmp_path / "root"
    link(root, "usr/lib/libx.so", "../../../libx.so")
    program = put(root, "usr/bin/a", dynamic("libx.so"))
    with pytest.raises(CouldNotRun):
        found(root, program)
    put(root, "libx.so", dynamic())
    assert found(root, program) == ["libx.so", "usr/lib/libx.so"]
    (root / "usr/lib/libx.so").unlink()
    link(root, "usr/lib/libx.so", str(tmp_path / "libx.so"))
    with pytest.raises(CouldNotRun):
        found(root, program)


def test_links_that_form_a_ring_hold_no_library(root: Path) -> None:
    link(root, "usr/lib/libx.so", "liby.so")
    link(root, "usr/lib/liby.so", "libx.so")
    with pytest.raises(CouldNotRun, match=r"needs libx\.so"):
        found(root, put(root, "usr/bin/a", dynamic("libx.so")))


def test_a_library_that_is_nowhere_is_named_with_the_program_and_what_wants_it(root: Path) -> None:
    put(root, "usr/lib/libx.so", dynamic("libgone.so.1"))
    program = put(root, "usr/bin/a", dynamic("libx.so"))
    with pytest.raises(CouldNotRun, match=rf"{program} needs libgone\.so\.1 \(through libx\.so\).* nowhere in {root}"):
        found(root, program)


def test_a_loader_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match=f"needs {LOADER}, which is nowhere"):
        found(tmp_path, put(tmp_path, "usr/bin/a", dynamic(interpreter=LOADER)))


def test_a_program_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(CouldNotRun, match="usr/bin/gone: there is no such program"):
        found(root, root / "usr/bin/gone")


@pytest.mark.parametrize("size", [4, 20, 70, 240])
def test_an_elf_file_that_is_cut_short_is_named(root: Path, size: int) -> None:
    program = put(root, "usr/bin/a", dynamic("libc.so.6", interpreter=LOADER)[:size])
    with pytest.raises(CouldNotRun, match="usr/bin/a cannot be read as an ELF file"):
        found(root, program)


def test_a_program_from_elsewhere_takes_its_libraries_from_the_tree(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = put(tmp_path_factory.mktemp("elsewhere"), "a", dynamic("libc.so.6", runpath="$ORIGIN/lib"))
    assert f"{MULTIARCH}/libc.so.6" in found(root, program)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the folders searched are those of x86-64")
def test_a_real_program_needs_just_what_the_real_loader_maps() -> None:
    program = shutil.which("cat")
    assert program is not None
    maps = subprocess.run([program, "/proc/self/maps"], env={}, capture_output=True, text=True, check=True).stdout
    mapped = {line.split()[-1] for line in maps.splitlines() if ".so" in line}
    needed = elf.libraries([Path(program)], Path("/"))
    assert {str(Path("/", path)) for path in needed if not Path("/", path).is_symlink()} == mapped
    assert all(os.path.lexists(Path("/", path)) for path in needed)
