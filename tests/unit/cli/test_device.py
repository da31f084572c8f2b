# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness device`: the models that are listed, what a device is shown to declare, and what is refused."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from commandline import Terminal, fake_kernel, fake_qemu

from harness.cli import serving
from harness.device.siov import SiovDevice

OWN = '''
from harness.device.capabilities import express_endpoint
from harness.device.config_space import Bar, Identity
from harness.device.device import Device
from harness.device.registers import Register

class Own(Device):
    """A device of one's own.

    It has more to say of itself.
    """

    def __init__(self, *, size: int, mode: str = "fast", flag: bool = True, name: str | None = None) -> None:
        registers = (Register("control", 0, 4, 0x10, rw=0xFF, w1c=0x100), Register("row", 0x10, 2, count=8))
        super().__init__(
            Identity(0x1234, 0xBEEF, 0x123456, revision=7), [express_endpoint()],
            {1: Bar(size, registers, prefetchable=True), 2: Bar(64, kind="io")},
        )

class NoDevice:
    pass

class Broken(Device):
    def __init__(self) -> None:
        raise KeyError("what was forgotten")

class Puzzling(Device):
    def __init__(self, *, size: "Nowhere") -> None:
        pass
'''


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capfd)


@pytest.fixture
def own(terminal: Terminal) -> str:
    """A model in a file of the user's, beside the current folder."""
    (terminal.folder / "own.py").write_text(OWN)
    return "../own.py:Own"


def printed(terminal: Terminal, *arguments: object) -> str:
    done = terminal.harness("device", *arguments)
    assert (done.code, done.err) == (0, "")
    return done.out


def dumped(text: str) -> bytes:
    """Read a dump as lspci does (lib/dump.c in pciutils): an address, then lines of an offset and 16 bytes."""
    head, *lines = text[text.index("00:00.0 ") :].splitlines()
    assert re.fullmatch(r"00:00\.0 [0-9a-f]{4}: [0-9a-f]{4}:[0-9a-f]{4} \(rev [0-9a-f]{2}\)", head)
    assert all(re.fullmatch(r"[0-9a-f]{2,3}:( [0-9a-f]{2}){16}", line) for line in lines)
    assert [int(line.partition(":")[0], 16) for line in lines] == list(range(0, 16 * len(lines), 16))
    return b"".join(bytes.fromhex(line.partition(":")[2]) for line in lines)


def test_the_models_are_listed_with_what_they_are(terminal: Terminal) -> None:
    header, siov = printed(terminal, "list").splitlines()
    assert header.split(maxsplit=1)[0] == "model"
    assert siov.startswith("siov   A PCIe endpoint with the SIOV capability")


def test_a_model_is_listed_with_its_arguments(terminal: Terminal) -> None:
    title, header, *rows = printed(terminal, "list", "siov").splitlines()
    assert title.startswith("siov: A PCIe endpoint")
    assert header.split() == ["argument", "default", "takes"]
    taken = {row.split()[0]: re.split(r" {2,}", row.strip())[1:] for row in rows}
    assert taken["total_sdis"] == ["4", "a whole number"]
    assert taken["place"] == ["middle", "first or middle or last"]
    assert taken["siov"] == ["on", "on or off"]
    assert taken["vendor_id"] == ["6966 (0x1b36)", "a whole number"]


def test_a_model_of_ones_own_is_listed_like_any_other(terminal: Terminal, own: str) -> None:
    title, _, size, mode, flag, name = printed(terminal, "list", own).splitlines()
    assert title == "../own.py:Own: A device of one's own."
    assert re.split(r" {2,}", size.strip()) == ["size", "must be given", "a whole number"]
    assert re.split(r" {2,}", mode.strip()) == ["mode", "fast", "text"]
    assert re.split(r" {2,}", flag.strip()) == ["flag", "on", "on or off"]
    assert re.split(r" {2,}", name.strip()) == ["name", "text"]


def test_models_are_told_whole_in_json(terminal: Terminal, own: str) -> None:
    (siov,) = json.loads(printed(terminal, "list", "--json"))
    assert siov["name"] == "siov"
    assert siov["arguments"]["place"]["choices"] == ["first", "middle", "last"]
    (mine,) = json.loads(printed(terminal, "list", own, "--json"))
    assert mine["arguments"]["size"] == {
        "type": "int", "default": None, "required": True, "choices": [], "takes": "a whole number",
    }  # fmt: skip


def test_a_device_is_shown_with_all_that_it_declares(terminal: Terminal, own: str) -> None:
    text = printed(terminal, "show", own, "-p", "size=0x1000")
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("../own.py:Own: A device of one's own.\n1234:beef, subsystem 0000:0000, class 123456, rev")
    assert ["PCI", "Express", "0x40", "0x10", "0x3c"] in lines
    assert "BAR 1: 0x1000 bytes, 32 bits, prefetchable\n" in text
    assert "BAR 2: 0x40 bytes, I/O\n" in text
    assert ["control", "0x0", "4", "0x10", "0xff", "0x100"] in lines
    assert ["row[8]", "0x10", "2", "0x0"] in lines
    assert dumped(text)[:8] == bytes.fromhex("3412efbe00001000")
    assert len(dumped(text)) == 0x80  # whole lines up to the end of the only capability, 0x40 + 0x3c


def test_extended_capabilities_are_shown_with_place_id_and_version(terminal: Terminal) -> None:
    text = printed(terminal, "show", "siov", "-p", "place=first", "-p", "total_sdis=0xffff")
    assert re.search(r"^SIOV +0x100 +0x0038 +1 +0x10 *$", text, re.MULTILINE)
    assert re.search(r"^doorbell\[65535\] +0x0 ", text, re.MULTILINE)
    assert dumped(text) == SiovDevice(place="first", total_sdis=0xFFFF).config.peek(0, 0x130)


def test_a_dump_alone_is_all_of_configuration_space(terminal: Terminal) -> None:
    text = printed(terminal, "show", "siov", "--hex", "-p", "siov_status=1")
    assert text.startswith("00:00.0 0880: 1b36:0038 (rev 01)\n00: 36 1b 38 00 ")
    assert dumped(text) == SiovDevice(siov_status=1).config.peek(0, 4096)


def test_a_device_is_told_whole_in_json(terminal: Terminal) -> None:
    found: dict[str, Any] = json.loads(printed(terminal, "show", "siov", "--json"))
    siov = SiovDevice()
    assert bytes.fromhex(found["config"]) == siov.config.peek(0, 4096)
    assert found["identity"]["vendor_id"] == 0x1B36
    assert {"name": "SIOV", "at": 0x10C, "id": 0x38, "version": 1, "bytes": 16} in found["capabilities"]
    assert found["bars"]["2"]["registers"][0]["count"] == siov.total_sdis
    assert {one["name"] for one in found["registers"]} >= {"vendor_id", "bar_0", "siov_total_sdis"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("frobnicate", "No such command 'frobnicate' (see harness device -h)"),
        ("show", "Missing argument 'MODEL' (see harness device show -h)"),
        ("serve siov", "Missing option '--socket' (see harness device serve -h)"),
        ("list sjov", "unknown device model 'sjov'; did you mean 'siov'? (there are: siov), or FILE.py:CLASS for one"),
        ("show siov -p total_sdis", "--param total_sdis: write NAME=VALUE"),
        ("show siov -p totl_sdis=1", "unknown argument 'totl_sdis'; did you mean 'total_sdis'? (there are: "),
        ("show siov -p total_sdis=many", "device model siov: total_sdis=many: it takes a whole number"),
        ("show siov -p place=nowhere", "device model siov: place=nowhere: it takes first or middle or last"),
        ("show siov -p vendor_id=65536", "register vendor_id: value=0x10000 does not fit into 2 bytes"),
        ("show siov -p vectors=2049", "MSI-X with 2049 vectors: it has 0 to 2048"),
        ("serve siov --socket s -p vectors=4096", "MSI-X with 4096 vectors: it has 0 to 2048"),
        ("show nowhere.py:Own", "device model nowhere.py:Own: there is no file "),
        ("show ../own.py:Nothing", "own.py has no class Nothing that is a harness.device.device.Device"),
        ("show ../own.py:NoDevice", "own.py has no class NoDevice that is a harness.device.device.Device"),
        ("show ../own.py:Own", "device model ../own.py:Own needs size"),
        ("show ../own.py:Own -p size=100", "BAR 1 of 0x64 bytes: its size is a power of two, 16 at least"),
        ("show ../own.py:Broken", "device model ../own.py:Broken: KeyError: 'what was forgotten' ("),
        ("list ../own.py:Puzzling", "device model ../own.py:Puzzling: NameError: name 'Nowhere' is not defined ("),
        ("show ../wrong.py:Own", "wrong.py: it cannot be imported: SyntaxError: "),
        ("show ../own.txt:Own", "own.txt: this is no Python file (its name must end with .py)"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(terminal: Terminal, own: str, arguments: str, line: str) -> None:
    del own
    (terminal.folder / "wrong.py").write_text("class Own(\n")
    (terminal.folder / "own.txt").write_text(OWN)
    assert line in terminal.refused("device", *arguments.split())


def test_a_broken_model_is_told_with_the_line_that_is_wrong(terminal: Terminal, own: str) -> None:
    del own
    number = OWN.splitlines().index('        raise KeyError("what was forgotten")') + 1
    assert terminal.refused("device", "show", "../own.py:Broken").endswith(f"own.py, line {number})")


def test_a_model_that_a_profile_names_in_vain_is_told_before_anything_is_fetched(terminal: Terminal) -> None:
    folder = terminal.folder / "profiles"
    folder.mkdir()
    (folder / "mine.toml").write_text('summary = "mine"\n[devices.mine0]\nmodel = "nowhere.py:Own"\n')
    (folder / "mine.j2").write_text('{% extends "bases/q35.j2" %}')
    assert "nowhere.py:Own: there is no file" in terminal.refused("shell", "mine", "--profile-dir", folder)


def test_a_dry_run_says_from_anywhere_how_a_profiles_own_model_is_served(terminal: Terminal, own: str) -> None:
    del own
    (terminal.folder / "mine.toml").write_text(
        'summary = "mine"\n[devices.mine0]\nmodel = "own.py:Own"\narguments = { size = "16 * 16" }\n'
    )
    (terminal.folder / "mine.j2").write_text('{% extends "bases/q35.j2" %}')
    flags = ["--qemu", fake_qemu(terminal.folder), "--kernel", fake_kernel(terminal.folder)]
    terminal.stand_ins()
    done = terminal.harness("shell", "mine", "--profile-dir", terminal.folder, "--dry-run", *flags)
    before = f"# first, in another terminal: harness device serve {terminal.folder}/own.py:Own --socket mine0.sock"
    assert done.out.startswith(f"{before} -p size=256\n"), done


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(1)
    return made


def refused_socket(terminal: Terminal, path: object) -> str:
    return terminal.refused("device", "serve", "siov", "--socket", path)


def test_a_socket_in_use_is_left_alone(terminal: Terminal) -> None:
    with listening(terminal.folder / "s") as other:
        assert refused_socket(terminal, "../s") == "--socket ../s: it is in use; choose another path"
        other.settimeout(0)
        other.accept()[0].close()  # it is still the other's, and was only asked


def test_a_socket_that_was_left_behind_is_said_to_be_removable(terminal: Terminal) -> None:
    listening(terminal.folder / "s").close()
    assert refused_socket(terminal, "../s") == (
        "--socket ../s: nobody listens there any more; remove what is left: rm ../s"
    )


def test_a_file_in_the_sockets_place_is_left_alone(terminal: Terminal) -> None:
    (terminal.folder / "s").write_text("precious")
    assert "there is something already, and no socket" in refused_socket(terminal, "../s")
    assert (terminal.folder / "s").read_text() == "precious"
    (terminal.folder / "link").symlink_to("nowhere")
    assert "there is something already" in refused_socket(terminal, "../link")


def test_a_socket_needs_a_folder_and_a_short_path(terminal: Terminal) -> None:
    (terminal.folder / "file").touch()
    assert refused_socket(terminal, "no/s") == "--socket no/s: folder no: No such file or directory"
    assert refused_socket(terminal, "../file/s") == "--socket ../file/s: ../file is no folder"
    assert refused_socket(terminal, "x" * 108) == (
        f"--socket {'x' * 108}: 108 bytes, where a socket's path has 107 at most"
    )


@pytest.mark.parametrize("who", ["everybody", "its group"])
def test_a_folder_in_which_others_may_replace_the_socket_is_refused(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    folder = terminal.folder / "open"
    folder.mkdir()
    folder.chmod(0o777 if who == "everybody" else 0o770)
    monkeypatch.setattr(serving, "_is_shared", lambda _: True)
    assert "other users may replace what lies in ../open" in refused_socket(terminal, "../open/s")


@pytest.mark.parametrize(
    ("log", "why"), [("no/log", "No such file or directory"), (".", "Is a directory"), ("/dev/full/x", "Not a direc")]
)
def test_a_log_that_cannot_be_is_refused(terminal: Terminal, log: str, why: str) -> None:
    line = terminal.refused("device", "serve", "siov", "--socket", "s", "--log", log)
    assert line.startswith(f"--log {log}: {why}")
