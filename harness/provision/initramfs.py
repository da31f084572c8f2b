# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest root: an initramfs with the manifest's programs, their libraries, our init, a kernel's modules.

Two cache entries: `root`, the userland (fetched once), and `initramfs`, one archive per kernel (made in a second).
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import paths
from harness.errors import CouldNotRun
from harness.provision import cpio, elf, manifest, modules
from harness.provision.apt import AptRoot, unpack
from harness.provision.cache import Cache, Entry, digest
from harness.provision.kernel import Kernel
from harness.provision.keys import Keys
from harness.provision.manifest import Manifest
from harness.provision.modules import ModuleTree
from harness.provision.prefix import Prefix

ARCHIVE = "initramfs.cpio"
_FORMAT = 2
"""Part of a guest root's key: another number makes all that there are be made anew."""
_BUSYBOX = "usr/bin/busybox"
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
_GROUP = b"root:x:0:\nnogroup:x:65534:\n"


def provide(cache: Cache, apt: AptRoot, kernel: Kernel, keys: Keys, *, refresh: bool = False) -> Path:
    """Give the initramfs for `kernel`: an uncompressed newc archive, which costs an emulated CPU nothing to unpack."""
    folder = paths.initramfs()
    wanted = manifest.read(folder)
    root = _userland(cache, apt, wanted, refresh=refresh)
    own = [(folder / name).read_bytes().decode() for name in ("init", "iov-agent", "manifest.toml")]
    tree = modules.find(kernel.modules, kernel.release) if kernel.modules else None
    key = digest(_FORMAT, root.content, keys.content, kernel.content, str(kernel.modules), own)

    def build(draft: Path) -> dict[str, Any]:
        with cache.progress.task(f"guest root for {kernel.name}"), (draft / ARCHIVE).open("wb") as archive:
            cpio.write(archive, _entries(folder, root.path, wanted, keys, tree))
        return {"kernel": kernel.name}

    return cache.entry("initramfs", key, f"guest root for {kernel.name}", build).path / ARCHIVE


def _userland(cache: Cache, apt: AptRoot, wanted: Manifest, *, refresh: bool) -> Entry:
    def build(draft: Path) -> dict[str, Any]:
        staging = draft / "staging"
        with cache.progress.task("guest root: download") as advance:
            packages = apt.download(wanted.packages, staging, suite=wanted.suite, closure=True, advance=advance)
        with cache.progress.task("guest root: unpack"):
            tree = staging / "tree"
            unpack(packages, tree, cache)
            programs = [tree / name for name in wanted.programs]
            for name in (*wanted.programs, *wanted.data, *map(str, elf.libraries(programs, tree))):
                _copy(tree / name, draft / name)
            shutil.rmtree(staging)
        return {"packages": {package.name: package.version for package in packages}}

    key = digest(wanted.suite, wanted.programs, wanted.data)
    return cache.entry("root", key, "userland of the guest root", build, refresh=refresh)


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        raise CouldNotRun(f"guest root: no package brought {source.name}, which the manifest asks for")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _entries(folder: Path, root: Path, wanted: Manifest, keys: Keys, tree: ModuleTree | None) -> Iterator[cpio.Entry]:
    yield cpio.char_device("dev/console", 5, 1, 0o600)  # Documentation/admin-guide/devices.txt: 5:1 is /dev/console
    yield from (cpio.directory(name) for name in ("proc", "sys", "run", "usr/sbin"))
    yield cpio.directory("tmp", 0o1777)
    yield cpio.directory("root", 0o700)
    yield cpio.file("init", (folder / "init").read_bytes(), 0o755)
    yield cpio.file("usr/bin/iov-agent", (folder / "iov-agent").read_bytes(), 0o755)
    yield cpio.file("etc/passwd", _PASSWD)
    yield cpio.file("etc/group", _GROUP)
    yield cpio.directory("root/.ssh", 0o700)
    yield cpio.file("root/.ssh/authorized_keys", keys.authorized.read_bytes(), 0o600)
    yield cpio.file("etc/dropbear/host_key", keys.host.read_bytes(), 0o600)
    for name in ("early", "drivers"):
        yield cpio.file(f"etc/iov-harness/{name}", " ".join(getattr(wanted.modules, name)).encode() + b"\n")
    yield from _userland_entries(root, wanted)
    if tree is not None:
        yield from _module_entries(root, wanted, tree)


def _userland_entries(root: Path, wanted: Manifest) -> Iterator[cpio.Entry]:
    taken = {*wanted.links}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            yield cpio.symlink(name, str(path.readlink()))
        elif path.is_file() and path.parent != root:  # files at the top are the cache's own
            yield cpio.file(name, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        else:
            continue
        taken.add(name)
    yield from (cpio.symlink(name, target) for name, target in wanted.links.items())
    for applet in _output([str(root / _BUSYBOX), "--list-full"]).split():
        name = f"usr/{applet}" if not applet.startswith("usr/") else applet
        if name not in taken and "/" in applet:
            yield cpio.symlink(name, f"/{_BUSYBOX}")


def _output(command: list[str]) -> str:
    """Run one of the guest root's own programs here."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode != 0:
        why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise CouldNotRun(f"guest root: `{' '.join(command)}` failed: {why}")
    return done.stdout


def _module_entries(root: Path, wanted: Manifest, tree: ModuleTree) -> Iterator[cpio.Entry]:
    """Give the closure of the wanted modules, decompressed, with the indices that modprobe reads."""
    closure = tree.closure((*wanted.modules.early, *wanted.modules.drivers, *wanted.modules.available))
    with tempfile.TemporaryDirectory(prefix="iov-harness-") as staging:
        base = Path("lib/modules") / tree.release
        folder = Path(staging) / base
        folder.mkdir(parents=True)
        for path in closure.files:
            (folder / f"{path.name.split('.')[0]}.ko").write_bytes(modules.content(path))
        for path in tree.directory.glob("modules.*"):
            shutil.copy(path, folder)
        depmod = Prefix(root).argv("usr/bin/kmod", name="depmod")
        _output([*depmod, "-b", staging, tree.release])
        for path in sorted(folder.iterdir()):
            yield cpio.file(f"usr/{base}/{path.name}", path.read_bytes())
        wanted_functions = _pci_aliases(folder)
    if wanted_functions is not None:
        yield cpio.file("etc/iov-harness/pci-aliases", "".join(f"{one}\n" for one in wanted_functions).encode())


def _pci_aliases(folder: Path) -> list[str] | None:
    """Give the patterns of what PCI drivers want, of modules and of what is built in; None where that is not known.

    Linux 6.12 does not tell the aliases of what is built in; but it probes a plugged device at once.
    """
    built_in = folder / "modules.builtin.modinfo"
    if not built_in.is_file():
        return None
    facts = built_in.read_bytes().decode("utf-8", errors="replace").split("\0")
    aliases = (folder / "modules.alias").read_text(encoding="utf-8").splitlines()
    found = {fact.partition("=")[2] for fact in facts if ".alias=pci:" in fact}
    found |= {line.split()[1] for line in aliases if line.startswith("alias pci:")}
    return sorted(found)
