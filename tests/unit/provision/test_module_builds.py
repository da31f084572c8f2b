# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules built by a make that is a shell script, against headers of all kinds."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import zstandard
from makings import SH, Distribution, put
from test_toolchain import LONG, TOOLS

from harness import paths
from harness.errors import CouldNotRun, UsageError
from harness.provision import guest_module
from harness.provision.cache import Cache
from harness.provision.headers import BuildTree, BuiltHeaders, DistributionHeaders
from harness.provision.kernel import Kernel

RELEASE = "6.12.1+x-amd64"
LOADER = f'#!{SH}\nshift 4\nexec "$@"\n'
# Notes how it was called, prints mine.c and fails where that names an error, and else "builds" what Kbuild lists.
MAKE = """
for word; do case $word in M=*) cd "${word#M=}" ;; esac; done
printf '%s\\n' "$PWD" "$PATH" "$MAKEFLAGS" "$@" >"LOG"
while read -r line; do case $line in *error*) cat mine.c; exit 2 ;; esac; done <mine.c
for name in $(cat Kbuild); do cp mine.c "$name.ko"; done
"""


def noting(world: Distribution) -> str:
    return MAKE.replace("LOG", str(world.folder / "made"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """Give a distribution with a compiler and headers."""
    world = Distribution(tmp_path / "world", monkeypatch)
    make = f"#!{SH}{noting(world)}"
    programs = {f"{LONG}-{name}": name for name in TOOLS}
    cc1 = {"usr/libexec/gcc/x86_64-linux-gnu/14/cc1": "cc1", "usr/lib64/ld-linux-x86-64.so.2": LOADER}
    world.add("gcc-14-x86-64-linux-gnu", "14.2", {**programs, **cc1})
    world.add("make", "4.4", {"usr/bin/make": make})
    world.add("libelf1t64", "0.192", {"usr/lib/x86_64-linux-gnu/libelf.so.1": "libelf"})
    files = {"build/vmlinux": "BTF", "build/.config": "", "source/Makefile": ""}
    world.add("headers", "1", {f"usr/lib/modules/{RELEASE}/{name}": text for name, text in files.items()})
    world.add("kbuild", "1", {"usr/lib/linux-kbuild-6.12.1/scripts/modpost": b"\x7fELF"})
    return world


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give the sources of a module."""
    put(tmp_path / "sources/Kbuild", "mine\n")
    put(tmp_path / "sources/mine.c", "int mine;\n")
    return tmp_path / "sources"


PACKAGES = DistributionHeaders("trixie", RELEASE, ("headers", "kbuild"), "gcc-14")
KERNEL = Kernel("mine", Path("/boot/vmlinuz"), RELEASE, None, None, "c", "", headers=PACKAGES)


def provide(world: Distribution, source: Path, kernel: Kernel = KERNEL) -> Path:
    return guest_module.provide(world.cache, world.apt, kernel, source)


def made(world: Distribution) -> list[str]:
    """What make was told: its folder, PATH, MAKEFLAGS and arguments."""
    return (world.folder / "made").read_text().splitlines()


def own_make(world: Distribution) -> None:
    """Put a make on this machine."""
    world.program("make", noting(world))


def test_a_module_is_built_against_the_packages_of_its_kernel_and_with_their_compiler(
    world: Distribution, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKEFLAGS", "-j8")
    found = provide(world, source)
    assert (found.name, found.read_text()) == ("mine.ko", "int mine;\n")
    folder, path, flags, *arguments = made(world)
    draft = Path(folder).parent
    base = draft / "headers/usr/lib/modules" / RELEASE
    assert arguments == [
        "-C", f"{base}/build", "-f", f"{base}/source/Makefile", f"KBUILD_OUTPUT={base}/build", "DEB_BUILD_ARCH=amd64",
        f"M={folder}", "modules",
    ]  # fmt: skip
    assert flags == ""
    assert path.split(":")[0].startswith(f"{world.cache.root}/toolchain/")
    assert [path.name for path in found.parent.iterdir()].count("mine.ko") == 1
    assert not draft.exists()
    assert sum(" download " in line for line in world.asked) == 1


def test_a_module_is_built_once_and_headers_and_compiler_are_fetched_once(world: Distribution, source: Path) -> None:
    first = provide(world, source)
    (world.folder / "made").unlink()
    asked = world.asked
    assert provide(world, source) == first
    assert not (world.folder / "made").exists()
    put(source / "mine.c", "int other;\n")
    second = provide(world, source)
    assert second.read_text() == "int other;\n"
    assert provide(world, source, dataclasses.replace(KERNEL, content="d")) not in (first, second)
    assert world.asked == asked


def test_nothing_is_written_beside_the_sources_and_nothing_old_is_taken_from_there(
    world: Distribution, source: Path
) -> None:
    first = provide(world, source)
    for name in ("mine.mod.c", "mine.ko", "mine.o", ".mine.o.cmd", "Module.symvers"):
        put(source / name, "old\n")
    before = sorted(source.iterdir())
    assert provide(world, source) == first
    assert sorted(source.iterdir()) == before
    put(source / "deep/more.h", "new\n")
    assert provide(world, source) != first


def test_the_first_error_of_the_compiler_is_told_and_nothing_is_left(world: Distribution, source: Path) -> None:
    put(source / "mine.c", "warning: no\nmine.c:3:1: error: no such thing\nmine.c:9:1: error: nor this\n*** Error 1\n")
    with pytest.raises(CouldNotRun) as caught:
        provide(world, source)
    assert str(caught.value) == "module sources for mine does not compile: mine.c:3:1: error: no such thing"
    assert "mine.c:9:1: error: nor this" in caught.value.detail
    assert not world.left("modules")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("no error\n*** stop\nERROR: modpost: undefined!\nlast", "ERROR: modpost: undefined!"),
        ("an error\nMakefile:1: *** stop.  Stop.\nlast", "Makefile:1: *** stop.  Stop."),
        ("an error\nlast", "last"),
    ],
)
def test_where_no_compiler_complained_the_next_best_line_is_told(
    world: Distribution, source: Path, said: str, reason: str
) -> None:
    put(source / "mine.c", f"{said}\n")
    with pytest.raises(CouldNotRun) as caught:
        provide(world, source)
    assert str(caught.value) == f"module sources for mine does not compile: {reason}"


def test_what_is_no_folder_of_a_module_is_refused(world: Distribution, source: Path, tmp_path: Path) -> None:
    (source / "Kbuild").rename(source / "Makefile")
    for folder in (source, tmp_path / "nowhere", source / "mine.c"):
        with pytest.raises(UsageError) as caught:
            provide(world, folder)
        assert str(caught.value) == f"{folder} is no kernel module: expected a folder with a Kbuild and C files"


def test_a_folder_that_looks_like_a_source_is_none_and_a_source_that_cannot_be_read_is_told(
    world: Distribution, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "folder.c").mkdir()
    provide(world, source)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match=r"^.*/sources/Kbuild cannot be read: Permission denied$"):
        provide(world, source)


@pytest.mark.parametrize(("names", "count"), [("", 0), ("mine other", 2)])
def test_a_folder_makes_one_module(world: Distribution, source: Path, names: str, count: int) -> None:
    put(source / "Kbuild", names)
    with pytest.raises(UsageError, match=f"its Kbuild makes {count} modules; expected one"):
        provide(world, source)


def test_a_kernel_without_headers_is_told(world: Distribution, source: Path) -> None:
    with pytest.raises(CouldNotRun, match="kernel mine came without headers"):
        provide(world, source, dataclasses.replace(KERNEL, headers=None))
    assert not world.asked


def test_headers_that_the_mirror_has_no_more_are_told_with_what_helps(world: Distribution, source: Path) -> None:
    gone = dataclasses.replace(PACKAGES, packages=("headers", "gone"))
    with pytest.raises(CouldNotRun, match=r"Unable to fetch gone.*; a newer kernel may have its headers: harness prov"):
        provide(world, source, dataclasses.replace(KERNEL, headers=gone))
    assert not world.left("headers")


def archive(path: Path) -> Path:
    with zstandard.open(path, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as packed:
        member = tarfile.TarInfo("Makefile")
        member.size = 3
        packed.addfile(member, io.BytesIO(b"all"))
    return path


def test_a_kernel_that_was_built_here_brings_its_headers_in_an_archive(
    world: Distribution, source: Path, tmp_path: Path
) -> None:
    own_make(world)
    packed = archive(tmp_path / "headers.tar.zst")
    found = provide(world, source, dataclasses.replace(KERNEL, headers=BuiltHeaders(packed, "gcc-12")))
    assert found.read_text() == "int mine;\n"
    folder, path, _, *arguments = made(world)
    unpacked = Path(folder).parent / "headers"
    assert arguments == ["-C", str(unpacked), "CC=gcc-12", f"M={folder}", "modules"]
    assert path == str(world.bin)
    assert not world.asked


def test_a_damaged_archive_is_told(world: Distribution, source: Path, tmp_path: Path) -> None:
    own_make(world)
    whole = archive(tmp_path / "headers.tar.zst").read_bytes()
    for data in (b"", b"nonsense", whole[: len(whole) // 2]):
        packed = put(tmp_path / "headers.tar.zst", data)
        with pytest.raises(CouldNotRun, match=r"headers\.tar\.zst does not unpack: "):
            provide(world, source, dataclasses.replace(KERNEL, headers=BuiltHeaders(packed, "gcc")))
    assert not world.left("modules")


def test_a_build_tree_is_used_where_it_is(world: Distribution, source: Path, tmp_path: Path) -> None:
    own_make(world)
    put(tmp_path / "o/Makefile", "")
    provide(world, source, dataclasses.replace(KERNEL, headers=BuildTree(tmp_path / "o", "gcc")))
    assert made(world)[3:6] == ["-C", str(tmp_path / "o"), "CC=gcc"]
    assert (tmp_path / "o/Makefile").exists()


def test_a_machine_without_make_is_told(world: Distribution, source: Path, tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match="make is not on this machine; a kernel of your own needs it, and gcc"):
        provide(world, source, dataclasses.replace(KERNEL, headers=BuildTree(tmp_path, "gcc")))


@pytest.mark.parametrize("name", ["a cache", "a:cache"])
def test_a_cache_in_which_kbuild_does_not_build_is_told(world: Distribution, source: Path, name: str) -> None:
    with pytest.raises(CouldNotRun, match=f"kbuild refuses the path .*/{name}/modules/.*: set IOV_HARNESS_CACHE_DIR"):
        guest_module.provide(Cache(world.folder / name), world.apt, KERNEL, source)
    assert not world.asked


def test_a_build_without_end_is_given_up(
    world: Distribution, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.program("make", f"sleep 600 & echo $! >{tmp_path}/pid; wait\n")
    monkeypatch.setattr(guest_module, "_TIMEOUT", 0.5)
    with pytest.raises(CouldNotRun, match=r"not built within 0\.5 s"):
        provide(world, source, dataclasses.replace(KERNEL, headers=BuildTree(tmp_path, "gcc")))
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int((tmp_path / "pid").read_text())).wait(20)  # it has been told to, and takes a moment


def test_our_modules_are_known_by_name() -> None:
    assert guest_module.named("iov-assign") == paths.modules() / "iov-assign"
    with pytest.raises(UsageError, match="unknown kernel module 'iov-asign'; did you mean 'iov-assign'"):
        guest_module.named("iov-asign")
