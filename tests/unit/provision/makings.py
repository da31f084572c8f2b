# SPDX-License-Identifier: GPL-2.0-or-later
"""Small kernels, and a small distribution, made up for the tests of this folder."""

from __future__ import annotations

import io
import os
import shutil
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.provision import apt
from harness.provision.apt import AptRoot
from harness.provision.cache import Cache

BANNER = b"6.12.1 (x@y) #1 SMP\0"
SH = shutil.which("sh")
TOOLS = ("setpriv", "sh", "cat", "cp", "dirname", "mkdir", "readlink", "sleep", "tar")
APT_GET = """\
echo "$*" >>"{folder}/asked"
wanted=
for word; do
    case $word in
    install | download) wanted=yes ;;
    -o) wanted= ;;
    *)
        [ -z "$wanted" ] || cp "{folder}/debs/$word"_*.deb . 2>&- || {{ echo "E: Unable to fetch $word"; exit 100; }}
        ;;
    esac
done
"""


def bzimage(payload: bytes = b"", banner: bytes = BANNER) -> bytes:
    """Make a bzImage (Documentation/arch/x86/boot.rst): two sectors of setup with the banner at 0x300, the payload."""
    setup = bytearray(0x400)
    protected = bytes(0x40) + payload
    protected += bytes(-len(protected) % 16)
    struct.pack_into("<BHI", setup, 0x1F1, 1, 0, len(protected) // 16)
    setup[0x1FE:0x206] = b"\x55\xaa\xeb\x66HdrS"
    struct.pack_into("<H", setup, 0x20E, 0x100)
    struct.pack_into("<II", setup, 0x248, 0x40, len(payload))
    setup[0x300 : 0x300 + len(banner)] = banner
    return bytes(setup) + protected


def vmlinux(
    content: bytes = b"Linux version " + BANNER, *, kind: int = 2, machine: int = 62, elf_class: int = 2
) -> bytes:
    """Make an ELF file (elf(5)): its header, what it holds, a table of one section."""
    header = struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 64 + len(content), 0, 64, 56, 0, 64, 1, 0)
    return b"\x7fELF" + bytes([elf_class, 1, 1]).ljust(12, b"\0") + header + content + bytes(64)


def put(path: Path, content: str | bytes, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def script(path: Path, text: str) -> Path:
    return put(path, f"#!{SH}\n{text}", 0o755)


def speaking_qmp(*, overlay: bool = False, **devices: str) -> str:
    """Give a shell script that has these devices, each with the properties listed, and perhaps iov-overlay."""
    objects = '{"name": "iov-overlay", "parent": "object"}' if overlay else ""
    cases = ""
    for name, properties in devices.items():
        answer = ", ".join(f'{{"name": "{one}", "type": "int"}}' for one in properties.split())
        cases += f"""*'"typename": "{name.replace("_", "-")}"'*) echo '{{"return": [{answer}]}}' ;;\n"""
    return f"""\
echo '{{"QMP": {{"version": {{}}, "capabilities": []}}}}'
while read -r line; do
    case $line in
    *query-version*) echo '{{"return": {{"qemu": {{"major": 10, "minor": 1, "micro": 2}}, "package": ""}}}}' ;;
    {cases}*device-list-properties*) echo '{{"error": {{"class": "DeviceNotFound", "desc": "no such device"}}}}' ;;
    *qom-list-types*) echo '{{"return": [{objects}]}}' ;;
    *quit*) echo '{{"return": {{}}}}'; exit ;;
    *) echo '{{"return": {{}}}}' ;;
    esac
done
"""


class Distribution:
    """Stands in for apt and dpkg-deb, alone in PATH with a few tools; its packages are plain tar archives."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        for tool in TOOLS:
            self.bin.mkdir(parents=True, exist_ok=True)
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        put(folder / "names", "")
        self.program("apt-config", "")
        self.program("apt-get", APT_GET.format(folder=folder))
        self.program("apt-cache", f'cat "{folder}/names"\n')
        self.program("dpkg-deb", 'tar -xf "$2" -C "$3"\n')
        (folder / "debs").mkdir()
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setattr(apt, "_KEYRINGS", (put(folder / "keyring", ""),))
        self.cache = Cache(folder / "cache")
        self.apt = AptRoot(self.cache, "http://mirror.example/debian")

    def program(self, name: str, text: str) -> Path:
        return script(self.bin / name, text)

    def announce(self, *names: str) -> None:
        """Name packages that are there according to the lists."""
        with (self.folder / "names").open("a") as names_file:
            names_file.writelines(f"{name}\n" for name in names)

    def add(self, name: str, version: str, files: Mapping[str, str | bytes]) -> None:
        """Add a package with these files, all of them programs."""
        self.announce(name)
        with tarfile.open(self.folder / "debs" / f"{name}_{version}_amd64.deb", "w") as deb:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                data = content.encode() if isinstance(content, str) else content
                member.size, member.mode = len(data), 0o755
                deb.addfile(member, io.BytesIO(data))

    @property
    def asked(self) -> list[str]:
        """What apt-get was asked for, a command line each."""
        log = self.folder / "asked"
        return log.read_text().splitlines() if log.exists() else []

    def left(self, kind: str) -> list[str]:
        """What there is in the cache of one kind, drafts and all."""
        folder = self.cache.root / kind
        return os.listdir(folder) if folder.exists() else []  # noqa: PTH208
