# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest root, made of small packages whose busybox and depmod are shell scripts."""

from __future__ import annotations

import lzma
import stat
from pathlib import Path

import pytest
from makings import SH, Distribution, put
from test_cpio import Record, records
from test_modules import ko

from harness import paths
from harness.errors import CouldNotRun
from harness.provision import initramfs, keys
from harness.provision.kernel import Kernel
from harness.provision.keys import Keys

LOADER = "usr/lib64/ld-linux-x86-64.so.2"
MANIFEST = f"""
suite = "trixie"
[programs]
"usr/bin/busybox" = "busybox"
"usr/bin/kmod" = "kmod"
"{LOADER}" = "kmod"
"usr/bin/ip" = "iproute2"
[data]
"usr/share/pci.ids" = "iproute2"
[links]
"usr/sbin/modprobe" = "/usr/bin/kmod"
"bin" = "usr/bin"
[modules]
early = ["virtio_net", "nowhere"]
drivers = ["igb"]
available = ["igb"]
"""
BUSYBOX = f"#!{SH}\nprintf 'bin/sh\\nusr/bin/ip\\nsbin/modprobe\\nusr/bin/awk\\nlinuxrc\\n'\n"
# The loader is called as `--argv0 depmod --library-path LIBRARIES PROGRAM -b FOLDER RELEASE`.
DEPMOD = f"""#!{SH}
cd "$7/lib/modules/$8" && echo "$2" *.ko >modules.dep
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """Give a distribution with all that the manifest asks for."""
    folder = tmp_path / "initramfs"
    for name, content in (("manifest.toml", MANIFEST), ("init", "#!/bin/sh\n"), ("iov-agent", "#!/usr/bin/perl\n")):
        put(folder / name, content)
    monkeypatch.setattr(paths, "initramfs", lambda: folder)
    world = Distribution(tmp_path / "world", monkeypatch)
    world.add("busybox", "1", {"usr/bin/busybox": BUSYBOX, "usr/share/doc/busybox": "no"})
    world.add("kmod", "2", {"usr/bin/kmod": "kmod", LOADER: DEPMOD})
    world.add("iproute2", "3", {"usr/bin/ip": "ip", "usr/share/pci.ids": "8086"})
    return world


@pytest.fixture
def own(world: Distribution) -> Keys:
    """Give the keys of the cache."""
    return keys.provide(world.cache)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give modules, of which two are wanted and one is needed by these."""
    release = tmp_path / "tree/lib/modules/6.12.1"
    put(release / "kernel/net/virtio_net.ko.xz", lzma.compress(ko("depends=failover")))
    put(release / "kernel/net/failover.ko", ko("depends="))
    put(release / "kernel/net/igb.ko", ko("depends=", "name=igb"))
    put(release / "kernel/net/other.ko", ko("depends="))
    put(release / "modules.builtin", "kernel/pci.ko\n")
    return tmp_path / "tree"


def kernel(name: str = "mine", modules: Path | None = None, content: str = "c") -> Kernel:
    return Kernel(name, Path("/boot/vmlinuz"), "6.12.1", modules, None, content, "")


def packed(world: Distribution, own: Keys, of: Kernel | None = None) -> dict[str, Record]:
    path = initramfs.provide(world.cache, world.apt, of or kernel(), own)
    return {record.name: record for record in records(path.read_bytes())}


def installs(world: Distribution) -> int:
    return sum(" install " in line for line in world.asked)


def modes(found: dict[str, Record], *names: str) -> dict[str, str]:
    return {name: stat.filemode(found[name].mode) for name in names}


def test_what_is_booted_and_what_lets_the_harness_in_is_there(world: Distribution, own: Keys) -> None:
    found = packed(world, own)
    assert found["init"].data == b"#!/bin/sh\n"
    assert found["usr/bin/iov-agent"].data == b"#!/usr/bin/perl\n"
    assert found["root/.ssh/authorized_keys"].data == own.authorized.read_bytes()
    assert found["etc/dropbear/host_key"].data == own.host.read_bytes()
    assert found["etc/passwd"].data.startswith(b"root:x:0:0:root:/root:/bin/sh\n")
    assert found["etc/iov-harness/early"].data == b"virtio_net nowhere\n"
    assert found["etc/iov-harness/drivers"].data == b"igb\n"
    assert found["dev/console"].rdev == (5, 1)
    assert own.login.read_bytes() not in [record.data for record in found.values()]


def test_all_has_the_mode_that_it_needs(world: Distribution, own: Keys) -> None:
    programs = ("init", "usr/bin/iov-agent", "usr/bin/ip")
    private = ("root/.ssh/authorized_keys", "etc/dropbear/host_key")
    found = packed(world, own)
    assert modes(found, *programs) == dict.fromkeys(programs, "-rwxr-xr-x")
    assert modes(found, *private) == dict.fromkeys(private, "-rw-------")
    assert modes(found, "root/.ssh", "tmp", "dev/console", "proc") == {
        "root/.ssh": "drwx------", "tmp": "drwxrwxrwt", "dev/console": "crw-------", "proc": "drwxr-xr-x",
    }  # fmt: skip


def test_of_the_packages_only_what_the_manifest_names_is_there(world: Distribution, own: Keys) -> None:
    found = packed(world, own)
    assert found["usr/share/pci.ids"].data == b"8086"
    assert "usr/share/doc/busybox" not in found
    assert "entry.json" not in found


def test_busybox_stands_in_for_what_nothing_else_is(world: Distribution, own: Keys) -> None:
    found = packed(world, own)
    assert (found["usr/bin/sh"].data, found["usr/bin/awk"].data) == (b"/usr/bin/busybox", b"/usr/bin/busybox")
    assert found["usr/bin/ip"].data == b"ip"
    assert (found["usr/sbin/modprobe"].data, found["bin"].data) == (b"/usr/bin/kmod", b"usr/bin")
    assert not {"linuxrc", "usr/linuxrc", "bin/sh"} & set(found)


def test_the_wanted_modules_are_there_with_what_they_need_and_as_modprobe_reads_them(
    world: Distribution, own: Keys, tree: Path
) -> None:
    found = packed(world, own, kernel(modules=tree))
    folder = "usr/lib/modules/6.12.1"
    names = {name.removeprefix(f"{folder}/") for name in found if name.startswith(f"{folder}/")}
    assert names == {"virtio_net.ko", "failover.ko", "igb.ko", "modules.builtin", "modules.dep"}
    assert found[f"{folder}/virtio_net.ko"].data == ko("depends=failover")
    assert found[f"{folder}/modules.dep"].data == b"depmod failover.ko igb.ko virtio_net.ko\n"


def test_a_kernel_without_modules_has_none(world: Distribution, own: Keys) -> None:
    assert not [name for name in packed(world, own) if "modules/" in name]


def test_the_userland_is_fetched_once_for_all_kernels(world: Distribution, own: Keys, tree: Path) -> None:
    found = {initramfs.provide(world.cache, world.apt, kernel(), own) for _ in range(2)}
    found.add(initramfs.provide(world.cache, world.apt, kernel("other", tree, "d"), own))
    assert len(found) == 2
    assert installs(world) == 1
    assert "-t trixie install busybox iproute2 kmod " in next(line for line in world.asked if " install " in line)
    assert not list(world.cache.root.rglob("*.deb"))
    world.add("iproute2", "3", {"usr/bin/ip": "newer", "usr/share/pci.ids": ""})
    assert initramfs.provide(world.cache, world.apt, kernel(), own, refresh=True) not in found
    assert installs(world) == 2


@pytest.mark.parametrize("changed", ["init", "iov-agent", "manifest.toml", "kernel", "keys"])
def test_a_change_of_any_part_makes_another(
    world: Distribution, own: Keys, tree: Path, tmp_path: Path, changed: str
) -> None:
    before = initramfs.provide(world.cache, world.apt, kernel(modules=tree), own)
    if changed == "keys":
        own = Keys(own.folder, "other")
    elif changed != "kernel":
        with (tmp_path / "initramfs" / changed).open("a") as file:
            file.write("# another\n")
    of = kernel(modules=tree, content="d" if changed == "kernel" else "c")
    assert initramfs.provide(world.cache, world.apt, of, own) != before
    assert installs(world) == 1


def test_the_same_parts_make_the_same_archive(
    world: Distribution, own: Keys, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = initramfs.provide(world.cache, world.apt, kernel(modules=tree), own).read_bytes()
    other = Distribution(tmp_path / "other", monkeypatch)
    for deb in (world.folder / "debs").iterdir():
        deb.rename(other.folder / "debs" / deb.name)
    assert initramfs.provide(other.cache, other.apt, kernel(modules=tree), own).read_bytes() == first


def test_a_program_that_no_package_brings_is_named_and_nothing_is_left(
    world: Distribution, own: Keys, tmp_path: Path
) -> None:
    put(tmp_path / "initramfs/manifest.toml", MANIFEST.replace('"usr/bin/ip"', '"usr/sbin/ip"'))
    with pytest.raises(CouldNotRun, match="usr/sbin/ip"):
        packed(world, own)
    put(tmp_path / "initramfs/manifest.toml", MANIFEST.replace("pci.ids", "usb.ids"))
    with pytest.raises(CouldNotRun, match=r"no package brought usb\.ids, which the manifest asks for"):
        packed(world, own)
    assert not world.left("root")
    assert not world.left("initramfs")


@pytest.mark.parametrize(
    ("package", "version", "program", "message"),
    [
        ("busybox", "1", "usr/bin/busybox", "busybox --list-full` failed: b"),
        ("kmod", "2", LOADER, r" 6\.12\.1` failed: b"),
    ],
)
def test_a_program_of_the_guest_root_that_fails_here_is_one_clear_line(
    world: Distribution, own: Keys, tree: Path, package: str, version: str, program: str, message: str
) -> None:
    world.add(package, version, {"usr/bin/kmod": "", program: f"#!{SH}\necho a >&2; echo b >&2; exit 1\n"})
    with pytest.raises(CouldNotRun, match=f"guest root: `.*{message}") as caught:
        packed(world, own, kernel(modules=tree))
    assert "\n" not in str(caught.value)
    assert not world.left("initramfs")


def test_a_program_that_fails_without_a_word_is_told_by_its_exit_code(world: Distribution, own: Keys) -> None:
    world.add("busybox", "1", {"usr/bin/busybox": f"#!{SH}\nexit 7\n"})
    with pytest.raises(CouldNotRun, match="busybox --list-full` failed: exit code 7"):
        packed(world, own)
