# SPDX-License-Identifier: GPL-2.0-or-later
"""Building a kernel, with a real make and compiler and a tree of twenty lines."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import toy_tree
import zstandard

from harness import paths
from harness.errors import CouldNotRun, UsageError
from harness.provision import ccache, kernel
from harness.provision.apt import AptRoot
from harness.provision.cache import Cache, Entry
from harness.provision.headers import BuiltHeaders
from harness.provision.kbuild import build, result, tools
from harness.provision.kbuild.arch import foreign
from harness.provision.kbuild.make import DoesNotBuild, Make
from harness.provision.kbuild.order import Order

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no compiler here")


class World:
    """A cache, a tree and what is ordered of it."""

    def __init__(self, folder: Path) -> None:
        self.cache = Cache(folder / "cache")
        self.apt = AptRoot(self.cache)
        self.tree = toy_tree.plant(folder / "linux")
        self.recipes = folder / "recipes"
        self.order = Order(str(self.tree))

    def build(self, order: Order | None = None, name: str = "mine") -> Entry:
        return build.build(self.cache, self.apt, name, order or self.order, jobs=2)

    def patch(self, old: str, new: str) -> Path:
        path = self.tree.parent / "fix.patch"
        path.write_text(f"--- a/drivers/pci/iov.c\n+++ b/drivers/pci/iov.c\n@@ -1 +1 @@\n-{old}\n+{new}\n")
        return path

    @property
    def folder(self) -> Path:
        (found,) = (one for one in (self.cache.root / "builds").iterdir() if one.name.startswith("linux-"))
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Give a world whose base fragment wishes for PCI, in which all tools are there."""
    made = World(tmp_path)
    made.recipes.mkdir()
    (made.recipes / "base.config").write_text("CONFIG_PCI=y\n")
    monkeypatch.setattr(paths, "kernels", lambda: made.recipes)
    monkeypatch.setattr(tools, "check", lambda _: None)
    return made


def test_a_built_kernel_is_whole_and_says_where_it_comes_from(world: World) -> None:
    entry = world.build()
    assert (entry.path / result.IMAGE).read_text() == "image\n"
    assert (entry.path / result.VMLINUX).stat().st_size > 0
    assert (entry.path / result.CONFIG).read_text() == "CONFIG_PCI=y\n"
    assert "  CC      drivers/pci/iov.o\n" in (entry.path / result.LOG).read_text()
    assert (entry.path / "lib/modules/7.9.0/modules.builtin").is_file()
    assert not (entry.path / "lib/modules/7.9.0/build").is_symlink()
    about = entry.about
    assert (about["release"], about["arch"], about["config"], about["series"]) == ("7.9.0", "x86", ["base"], [])
    assert about["origin"] == str(world.tree)
    assert "gcc" in about["compiler"]


def test_its_headers_are_packed_without_links(world: World, tmp_path: Path) -> None:
    packed = world.build().path / result.HEADERS
    with packed.open("rb") as stream, (tmp_path / "plain.tar").open("wb") as plain:
        zstandard.ZstdDecompressor().copy_stream(stream, plain)
    with tarfile.open(tmp_path / "plain.tar") as archive:
        members = [member for member in archive if not member.isdir()]
        assert [member.name for member in members] == ["./include/again.h", "./include/iov.h"]
        assert not any(member.issym() for member in members)


def test_it_can_then_be_asked_for_by_its_name(world: World) -> None:
    world.build()
    found = kernel.provide(world.cache, world.apt, "mine")
    assert (found.name, found.release) == ("mine", "7.9.0")
    assert found.config == {"PCI": "y"}
    assert found.modules is not None
    assert found.headers == BuiltHeaders(found.image.parent / result.HEADERS, "gcc")
    assert found.origin == f"built from {world.tree}, configuration base"
    assert kernel.names(world.cache) == ["mine"]


def test_another_name_is_told_with_those_there_are(world: World) -> None:
    world.build()
    with pytest.raises(UsageError, match="unknown kernel 'min': choose from mine, or give"):
        kernel.provide(world.cache, world.apt, "min")


def test_only_what_changed_is_compiled_again(world: World) -> None:
    first = world.build()
    assert "CC" not in (world.build().path / result.LOG).read_text()
    (world.tree / "drivers/pci/iov.c").write_text("int total = 2;\n")
    again = world.build()
    assert "CC" in (again.path / result.LOG).read_text()
    assert again.content != first.content


def test_a_series_is_in_the_kernel_and_not_in_the_tree(world: World) -> None:
    plain = (world.build().path / result.VMLINUX).read_bytes()
    patch = world.patch("int total = 1;", "int total = 12345;")
    patched = world.build(replace(world.order, series=(patch,)), "patched")
    assert (patched.path / result.VMLINUX).read_bytes() != plain
    assert patched.about["series"] == [{"file": "fix.patch", "subject": ""}]
    assert (world.tree / "drivers/pci/iov.c").read_text() == "int total = 1;\n"
    assert build.origin(patched).endswith("with 1 patch, configuration base")


def test_a_kernel_without_the_series_is_built_in_the_same_folder_and_is_what_it_was(world: World) -> None:
    plain = (world.build().path / result.VMLINUX).read_bytes()
    world.build(replace(world.order, series=(world.patch("int total = 1;", "int total = 12345;"),)), "patched")
    assert (world.build().path / result.VMLINUX).read_bytes() == plain
    assert world.folder.is_dir()


def test_a_series_that_does_not_apply_leaves_everything_as_it_was(world: World) -> None:
    before = world.build()
    with pytest.raises(UsageError, match=r"patch 1 of 1, fix\.patch, does not apply: drivers/pci/iov\.c, hunk 1 "):
        world.build(replace(world.order, series=(world.patch("int other = 1;", "int total = 2;"),)))
    assert build.found(world.cache, "mine") == before


def test_a_tree_that_does_not_compile_is_told_in_one_line_and_leaves_no_kernel(world: World) -> None:
    (world.tree / "drivers/pci/iov.c").write_text("int total = 1;\nint broken\n")
    with pytest.raises(DoesNotBuild) as caught:
        world.build()
    message = str(caught.value)
    assert message.startswith("kernel mine does not build: drivers/pci/iov.c:2:")
    assert " error: expected " in message
    assert message.endswith(f"(all of it: {world.folder / result.LOG})")
    assert "\n" not in message
    assert build.found(world.cache, "mine") is None
    assert list(world.cache.root.glob(f"{build.KIND}/*")) == []


def test_a_machine_without_room_is_not_held_against_the_tree(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all:\n\t@echo 'ld: final link failed: No space left on device'; false\n")
    with pytest.raises(CouldNotRun) as caught:
        Make(tmp_path, tmp_path, {}, tmp_path / "log", {}).run("all")
    assert not isinstance(caught.value, DoesNotBuild)
    assert str(caught.value).startswith("this machine ended the build: ld: final link failed: No space left on device")


def test_a_kernel_of_that_name_stays_when_the_next_does_not_compile(world: World) -> None:
    before = world.build()
    (world.tree / "drivers/pci/iov.c").write_text("int broken\n")
    with pytest.raises(DoesNotBuild):
        world.build()
    assert build.found(world.cache, "mine") == before
    assert kernel.provide(world.cache, world.apt, "mine").release == "7.9.0"


def test_a_dropped_wish_is_told_before_anything_is_compiled(world: World) -> None:
    (world.recipes / "siov.config").write_text("CONFIG_DROPPED=y\n")
    with pytest.raises(CouldNotRun, match=r"CONFIG_DROPPED=y \(siov\): it depends on NOWHERE \(here NOWHERE=n\)"):
        world.build(replace(world.order, config=("siov",)))
    assert build.found(world.cache, "mine") is None
    assert list(world.cache.root.glob("builds/*/objects/vmlinux")) == []


def test_an_optional_symbol_that_the_tree_lacks_is_on_record(world: World) -> None:
    (world.recipes / "siov.config").write_text("# optional: newer trees\nCONFIG_UNKNOWN=y\n")
    assert world.build(replace(world.order, config=("siov",))).about["skipped"] == ["UNKNOWN"]


def test_a_recipe_with_a_source_is_built_once_and_again_when_it_says_something_else(world: World) -> None:
    recipe = world.recipes / "7.9-base.toml"
    recipe.write_text(f'summary = "a kernel"\nsource = "{world.tree}"\n')
    first = kernel.provide(world.cache, world.apt, "7.9-base")
    (world.tree / "drivers/pci/iov.c").write_text("int broken\n")  # not compiled: it is there
    assert kernel.provide(world.cache, world.apt, "7.9-base").content == first.content
    (world.tree / "drivers/pci/iov.c").write_text("int total = 3;\n")
    (world.recipes / "base.config").write_text("CONFIG_PCI=y\nCONFIG_NEW=y\n")
    second = kernel.provide(world.cache, world.apt, "7.9-base")
    assert second.content != first.content
    assert second.config == {"PCI": "y", "NEW": "y"}


def test_a_tree_that_was_built_in_is_refused_with_what_cleans_it(world: World) -> None:
    (world.tree / ".config").write_text("")
    with pytest.raises(
        UsageError, match=r"it was built in \(\.config is there\).*run make ARCH=x86 mrproper in it first"
    ):
        world.build()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/nowhere", "--source /nowhere: no such folder; give the top folder of a tree, or debian:VERSION"),
        ("/usr", "--source /usr: no kernel's source: it has no Makefile; give"),
        ("debian:", "--source debian:: write debian:VERSION, such as debian:7.3, or a folder"),
        ("debian:../x", "--source debian:../x: write debian:VERSION"),
    ],
)
def test_a_source_that_is_none_is_named(world: World, source: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        world.build(Order(source))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("order", "name"),
    [
        (Order("debian:7.3"), "7.3-base"),
        (Order("debian:7.3", config=("debug", "siov")), "7.3-debug-siov"),
        (Order("/home/me/linux/", config=("base", "./my.config")), "linux-my"),
        (Order("linux", series=(Path("v3/siov.mbox"), Path("fix.patch"))), "linux-base+siov+fix"),
        (Order("debian:7.3", arch=foreign("s390")), "7.3-s390"),
    ],
)
def test_a_kernel_is_named_for_what_it_is_made_of(order: Order, name: str) -> None:
    assert order.default_name == name
    assert build.check_name(name) == name


@pytest.mark.parametrize("name", ["", "-x", "../x", "a b", "a/b", "x" * 101, ".hidden", "a\n"])
def test_a_name_that_cannot_be_one_is_refused(world: World, name: str) -> None:
    with pytest.raises(UsageError, match="--name "):
        build.check_name(name)
    assert build.found(world.cache, name) is None


def test_a_kernel_for_another_architecture_is_kept_and_does_not_boot(world: World) -> None:
    (world.recipes / "s390.config").write_text("CONFIG_PCI=y\n")
    arch = replace(foreign("s390"), cross="")  # the toy compiles for this one
    entry = world.build(Order(str(world.tree), arch=arch), "linux-s390")
    assert not (entry.path / result.IMAGE).exists()
    with pytest.raises(UsageError, match="kernel linux-s390 was built for s390, and does not boot here"):
        kernel.provide(world.cache, world.apt, "linux-s390")


def test_missing_tools_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CouldNotRun) as caught:
        tools.check(foreign("powerpc"))
    message = str(caught.value)
    assert message.startswith("no kernel can be built here: make, gcc, ")
    assert (
        "powerpc64le-linux-gnu-gcc, powerpc64le-linux-gnu-ld, stdio.h, gelf.h missing; apt-get install make " in message
    )
    assert message.endswith("gcc-powerpc64le-linux-gnu binutils-powerpc64le-linux-gnu libc6-dev libelf-dev")


@pytest.fixture
def making(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has begun a make which waits for ever; it says `ended` when it ends in good order."""
    (world.tree / "Makefile").write_text("allnoconfig:\n\t@(sleep 600; echo $(O)) & echo $$! >$(O)/started; wait\n")
    program = (
        "import sys; from pathlib import Path; from harness.provision.kbuild.make import Make\n"
        "tree, objects = map(Path, sys.argv[1:])\n"
        "try: Make(tree, objects, {}, objects / 'log', {}).run('allnoconfig')\n"
        "finally: (objects / 'ended').touch()\n"
    )
    objects = world.tree.parent / "objects"
    objects.mkdir()
    with subprocess.Popen([sys.executable, "-c", program, str(world.tree), str(objects)]) as process:
        try:
            _until(lambda: (objects / "started").is_file() and (objects / "started").read_text().endswith("\n"))
            yield process
        finally:
            process.kill()
    _until(lambda: not _running(str(objects)) and _has_ended(int((objects / "started").read_text())))


def test_a_killed_harness_leaves_no_make_behind(world: World, making: subprocess.Popen[bytes]) -> None:
    making.send_signal(signal.SIGKILL)
    assert making.wait() == -signal.SIGKILL
    assert not (world.tree.parent / "objects/ended").exists()


def test_a_harness_that_is_told_to_end_ends_its_make_first(world: World, making: subprocess.Popen[bytes]) -> None:
    """Then nothing is half done, and the next build goes on from there."""
    making.send_signal(signal.SIGTERM)
    assert making.wait() == 128 + signal.SIGTERM
    assert (world.tree.parent / "objects/ended").exists()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _has_ended(pid: int) -> bool:
    """Tell whether a process has ended, even where nobody has read its status yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _running(word: str) -> bool:
    return any(
        f"O={word}" in process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"]
    )


def test_a_kernel_in_use_is_neither_pruned_nor_replaced(world: World) -> None:
    world.build()
    world.cache.release()
    other = Cache(world.cache.root)
    assert kernel.provide(other, world.apt, "mine").release == "7.9.0"
    removed, busy = world.cache.prune(0)
    assert "mine" not in {entry.key for entry in removed}
    assert "mine" in {entry.key for entry in busy}
    other.release()
    world.cache.prune(0)
    assert build.found(world.cache, "mine") is None


def test_of_two_that_want_the_same_kernel_one_builds_it(world: World) -> None:
    (world.recipes / "7.9-base.toml").write_text(f'summary = "a kernel"\nsource = "{world.tree}"\n')
    caches = [Cache(world.cache.root) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda cache: kernel.provide(cache, world.apt, "7.9-base"), caches))
    assert made[0].content == made[1].content
    assert (world.folder / "build.log").read_text().count("  CC ") == 1


def test_an_incbin_is_not_remembered_by_ccache(world: World) -> None:
    """The compressed kernel comes into the image by one: with an old object it would be another kernel's."""
    if not ccache.has_ccache():
        pytest.skip("there is no ccache here")
    (world.tree / "drivers/pci/iov.c").write_text('__asm__(".incbin \\"drivers/pci/data\\"");\n')
    (world.tree / "drivers/pci/data").write_text("one")
    first = (world.build().path / result.VMLINUX).read_bytes()
    (world.tree / "drivers/pci/data").write_text("two")
    os.utime(world.tree / "drivers/pci/iov.c")
    assert b"one" in first
    assert b"two" in (world.build().path / result.VMLINUX).read_bytes()


def test_what_the_user_has_in_the_environment_does_not_shape_the_kernel(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = (world.build().path / result.CONFIG).read_text()
    for name in ("KCONFIG_CONFIG", "CROSS_COMPILE", "LLVM", "KCFLAGS", "MAKEFLAGS", "CCACHE_DEPEND", "O", "ARCH"):
        monkeypatch.setenv(name, "/nonsense")
    assert (world.build().path / result.CONFIG).read_text() == plain


def test_a_build_that_was_killed_is_begun_anew(world: World) -> None:
    world.build()
    (world.folder / "unfinished").touch()
    (world.folder / "objects/iov.o").write_bytes(b"half of an objec")
    future = time.time() + 1000
    os.utime(world.folder / "objects/iov.o", (future, future))
    assert b"half" not in (world.build().path / result.VMLINUX).read_bytes()
    assert not (world.folder / "unfinished").exists()


def test_a_build_that_was_told_to_end_leaves_nothing_half_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.build()
    objects = world.folder / "objects"
    half = objects / ".other.o.cmd"

    def run(*_: object, **__: object) -> int:
        half.write_text("savedcmd_other.o := gcc $(wildcard inc")
        raise SystemExit(143)

    with monkeypatch.context() as patched:
        patched.setattr(Make, "run", run)
        with pytest.raises(SystemExit):
            world.build()
    world.build()
    assert not half.exists()
    assert not (world.folder / "unfinished").exists()


def test_a_source_that_cannot_be_read_is_no_fault_of_the_cache(world: World) -> None:
    (world.tree / "drivers/pci/iov.c").unlink()
    (world.tree / "drivers/pci/iov.c").symlink_to("/nowhere")
    patch = world.patch("int total = 1;", "int total = 2;")
    with pytest.raises((CouldNotRun, UsageError), match=r"iov\.c"):
        world.build(replace(world.order, series=(patch,)))


@pytest.mark.parametrize("folder", ["my linux", "a:b", "$(touch x)", "."])
def test_a_source_folder_may_have_any_name(world: World, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if folder == ".":
        monkeypatch.chdir(world.tree)
        order = Order(".")
        assert order.default_name == "linux-base"
    else:
        order = Order(str(world.tree.rename(world.tree.parent / folder)))
    assert world.build(order, build.check_name(order.default_name)).about["release"] == "7.9.0"


def test_a_cache_in_which_kbuild_does_not_build_is_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match=r"kbuild refuses the path .*: set IOV_HARNESS_CACHE_DIR to one without"):
        build.build(Cache(tmp_path / "a cache"), world.apt, "mine", world.order)
