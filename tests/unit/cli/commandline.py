# SPDX-License-Identifier: GPL-2.0-or-later
"""The command as a user runs it, in a place of its own, and stand-ins for what would have to be fetched."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli import main
from harness.config import ENV_PREFIX
from harness.qemu.library import Library, joined

NO_MIRROR = "http://127.0.0.1:9/"


@dataclass(frozen=True)
class Done:
    """How the command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that it told the user, without the word in front."""
        assert "Traceback" not in self.err
        assert self.err.startswith("harness: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.out == ""
        return self.err.removeprefix("harness: ").rstrip("\n")


class Terminal:
    """Runs the command in this process, in a folder, cache and environment of the test's own, without a network."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        self.folder = folder
        self.cwd = folder / "here"
        self.cache = folder / "cache"
        self.cwd.mkdir()
        for name in [name for name in os.environ if name.startswith((ENV_PREFIX, "XDG_", "TTY_")) or "COLOR" in name]:
            monkeypatch.delenv(name)
        self.env(HOME=folder / "home", IOV_HARNESS_CACHE_DIR=self.cache, IOV_HARNESS_ACCEL="tcg")
        self.env(IOV_HARNESS_DEBIAN_MIRROR=NO_MIRROR, TERM="dumb", COLUMNS="")
        monkeypatch.chdir(self.cwd)

    def env(self, **variables: object) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, str(value))

    def harness(self, *arguments: object) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self._capfd.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    def refused(self, *arguments: object) -> str:
        """Give the line with which bad usage is refused: before anything is fetched, built or written."""
        done = self.harness(*arguments)
        assert done.code == 2, done
        assert self.left() == []
        return done.line

    def left(self) -> list[str]:
        """What lies in the current folder, and in the cache but for apt's own files and the locks."""
        parts = (path for path in self.cache.glob("*/*") if path.parent.name not in {"apt", "locks"})
        return sorted(str(path.relative_to(self.folder)) for path in (*self.cwd.rglob("*"), *parts))

    def stand_ins(self, qemu: Path | None = None) -> list[object]:
        """Put a stand-in in the place of the guest root; give the flags for those of QEMU and kernel."""
        root = self.folder / "root.cpio"
        root.touch()
        self._monkeypatch.setattr("harness.provision.initramfs.provide", lambda *_, **__: root)
        return ["--qemu", qemu or fake_qemu(self.folder), "--kernel", fake_kernel(self.folder)]


def fake_qemu(folder: Path, *, lacking: str = "nothing", when_started: str = "exit 1") -> Path:
    """Make a script that says over QMP that it has all that the profiles need, and starts no machine."""
    library = Library()
    devices = joined(library.get(name).requires for name in library.names()).devices
    names = sorted({name for properties in devices.values() for name in properties})
    properties = ", ".join(f'{{"name": "{name}"}}' for name in names)
    return program(
        folder / "fake-qemu",
        f"""case "$*" in *"-machine none"*) ;; *) {when_started} ;; esac
        while read -r line; do case $line in
            *'"query-version"'*) echo '{{"return": {{"qemu": {{"major": 9, "minor": 8, "micro": 7}}}}}}' ;;
            *'"{lacking}"'*) echo '{{"error": {{"class": "DeviceNotFound", "desc": "no such device"}}}}' ;;
            *'"device-list-properties"'*) echo '{{"return": [{properties}]}}' ;;
            *) echo '{{"return": {{}}}}' ;;
        esac; done""",
    )


def fake_kernel(folder: Path) -> Path:
    """Make a file with the header of a bzImage (Documentation/arch/x86/boot.rst), and little behind it."""
    image = bytearray(4 * 512)
    image[0x1F1] = 1
    struct.pack_into("<I", image, 0x1F4, 2 * 512 // 16)
    image[0x1FE:0x206] = b"\x55\xaa\0\0HdrS"
    path = folder / "bzImage"
    path.write_bytes(image)
    return path


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
