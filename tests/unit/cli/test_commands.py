# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands print, as a script reads it and as the TAB key offers it."""

from __future__ import annotations

import io
import json
import logging
import re
import shlex
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import shellingham
from commandline import Terminal, fake_kernel, fake_qemu

from harness import __version__, demo, paths
from harness.demo import Check, Shown
from harness.outcome import Outcome
from harness.provision.cache import Cache
from harness.provision.qemu import PROGRAM
from harness.qemu.library import Library

COMMANDS = [
    "", "doctor", "profiles", "provision", "cache", "cache list", "cache prune", "shell", "test", "kernel",
    "kernel build", "kernel list", "device", "device list", "device show", "device serve", "bench", "bench boot",
    "demo", "validate", "validate mutants",
]  # fmt: skip
LONG = "the first of many words, and so on for quite a while, far beyond what eighty columns have room for, to the last"


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capfd)


def printed(terminal: Terminal, *arguments: object, code: int = 0) -> str:
    """Give what the command prints; it says nothing besides, and cuts nothing off."""
    done = terminal.harness(*arguments)
    assert (done.code, done.err) == (code, "")
    assert "\u2026" not in done.out
    return done.out


def parsed(terminal: Terminal, *arguments: object) -> Any:
    """Give the JSON that the command prints, and nothing else."""
    done = terminal.harness(*arguments, "--json")
    assert done.code in (0, 3)
    assert done.err == ""
    return json.loads(done.out)


def own_profile(folder: Path, summary: str = LONG) -> Path:
    folder.mkdir()
    (folder / "mine.toml").write_text(
        f'summary = "{summary}"\n[parameters.size]\ntype = "int"\ndefault_from = "memory * 2"\nhelp = "{LONG}"\n'
    )
    (folder / "mine.j2").write_text('{% extends "bases/q35.j2" %}')
    return folder


def test_the_version_is_that_of_the_package(terminal: Terminal) -> None:
    assert printed(terminal, "--version") == f"iov-harness {__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(terminal: Terminal, command: str, flag: str) -> None:
    text = printed(terminal, *command.split(), flag)
    assert f"Usage: harness {command}".rstrip() in text
    assert "--help" in text


@pytest.mark.parametrize("command", ["", "cache", "device"])
def test_a_command_without_anything_is_asked_for_help(terminal: Terminal, command: str) -> None:
    assert "Usage: harness" in printed(terminal, *command.split(), code=2)


def test_the_help_of_test_says_that_it_takes_files(terminal: Terminal) -> None:
    assert "harness test [OPTIONS] [FILES]..." in printed(terminal, "test", "-h")


def test_the_help_names_every_command(terminal: Terminal) -> None:
    text = printed(terminal, "-h")
    assert all(re.search(rf"\W{command} ", text) for command in COMMANDS if command and " " not in command)


def test_every_profile_is_listed_in_one_line(terminal: Terminal) -> None:
    lines = printed(terminal, "profiles").splitlines()
    found = {line.split()[0]: line.split(maxsplit=1)[1].rstrip() for line in lines[1:]}
    assert found == {name: Library().get(name).summary for name in Library().names()}


def test_a_line_in_a_pipe_is_as_long_as_it_has_to_be_and_no_markup(terminal: Terminal) -> None:
    summary = f"[red]{LONG}[/] :bug: {LONG * 20}"
    own = own_profile(terminal.folder / "own", summary)
    terminal.env(COLUMNS="40")
    assert summary in printed(terminal, "profiles", "--profile-dir", own)
    text = printed(terminal, "profiles", "mine", "--profile-dir", own)
    assert text.startswith(f"mine: {summary}\n")
    assert LONG in text


class Screen(io.StringIO):
    """A terminal of forty columns, as far as rich can see."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_colours_and_its_table_no_cell_cut(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.env(COLUMNS="40", TERM="xterm")
    screen, errors = Screen(), Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", errors)
    own = own_profile(terminal.folder / "own", "Z" * 100)
    terminal.harness("profiles", "--profile-dir", own)
    terminal.harness("profiles", "no-such")
    assert screen.getvalue().count("Z") == 100
    assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue()).splitlines())) <= 40
    assert errors.getvalue().startswith("\x1b[1;31mharness:\x1b[0m unknown profile 'no-such' (there are:")


def test_a_profile_is_shown_with_its_parameters_and_those_of_its_base(terminal: Terminal) -> None:
    text = printed(terminal, "profiles", "mine", "--profile-dir", own_profile(terminal.folder / "own"))
    rows = {line.split()[0]: line.split()[1:4] for line in text.splitlines()[1:]}
    assert rows["memory"][:2] == ["512", "192..65536"]
    assert rows["size"][:3] == ["memory", "*", "2"]


def test_profiles_are_told_whole_in_json(terminal: Terminal) -> None:
    listed = parsed(terminal, "profiles")
    assert [one["name"] for one in listed] == Library().names()
    (nvme,) = parsed(terminal, "profiles", "nvme-sriov")
    assert nvme["parameters"]["sriov_max_vfs"]["maximum"] == 127
    assert nvme["rules"][0].keys() == {"require", "message"}
    assert "sriov_max_vfs" in nvme["requires"]["devices"]["nvme"]


def test_the_doctor_says_the_same_in_json_and_in_lines(terminal: Terminal) -> None:
    found = parsed(terminal, "doctor", "--accel", "tcg")
    assert found["ok"] is all(one["ok"] for one in found["findings"])
    lines = terminal.harness("doctor", "--accel", "tcg").out.splitlines()
    assert len(lines) == len(found["findings"]) + 1
    for one, line in zip(found["findings"], lines[1:], strict=True):
        assert line.startswith("ok " if one["ok"] else "no ")
        assert one["what"] in line
        assert re.sub(r"\d", "#", one["remedy"]) in re.sub(r"\d", "#", line)


def test_the_doctor_changes_nothing_and_finds_what_cannot_work(terminal: Terminal) -> None:
    (terminal.folder / "file").write_text("")
    terminal.env(IOV_HARNESS_CACHE_DIR=terminal.folder / "file" / "cache")
    findings = {
        one["what"]: one for one in parsed(terminal, "doctor", "--kernel", "no-such", "--qemu", "no-such")["findings"]
    }
    assert [what for what, one in findings.items() if not one["ok"]] == ["QEMU", "kernel", "disk"]
    assert "unknown kernel 'no-such'" in findings["kernel"]["found"]
    assert terminal.left() == []


def found_by_doctor(terminal: Terminal, what: str, *arguments: object) -> dict[str, Any]:
    (finding,) = [one for one in parsed(terminal, "doctor", *arguments)["findings"] if one["what"] == what]
    return dict(finding)


@pytest.mark.parametrize(("lacking", "ok"), [("nothing", True), ("nvme-subsys", False)])
def test_the_doctor_asks_the_cached_qemu(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, lacking: str, ok: bool
) -> None:
    cache = Cache(terminal.cache)
    entry = cache.entry("qemu", "key", "QEMU", lambda draft: {"made": str(fake_qemu(draft, lacking=lacking))})
    (entry.path / "fake-qemu").rename(entry.path / PROGRAM)
    monkeypatch.setattr("harness.cli.doctor.shutil.which", lambda name: None if name == PROGRAM else which(name))
    finding = found_by_doctor(terminal, "QEMU")
    assert finding["ok"] is ok
    assert "9.8.7" in finding["found"]
    assert ("nvme-subsys" in finding["found"]) is not ok


def test_the_doctor_says_how_to_get_debians_keys(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.provision.apt._KEYRINGS", (terminal.folder / "keyring",))
    finding = found_by_doctor(terminal, "archive keys")
    assert (finding["ok"], finding["remedy"]) == (False, "apt-get install debian-archive-keyring")
    (terminal.folder / "keyring").touch()
    finding = found_by_doctor(terminal, "archive keys")
    assert (finding["ok"], finding["found"]) == (True, str(terminal.folder / "keyring"))


def test_the_doctor_holds_a_kernel_against_what_every_machine_needs(terminal: Terminal) -> None:
    kernel = fake_kernel(terminal.folder)
    finding = found_by_doctor(terminal, "kernel", "--kernel", kernel)
    assert finding["ok"]
    assert "its configuration is not to be had" in finding["found"]
    release = Library().get("minimal").requires.kernel - {"PCI_IOV"}
    (terminal.folder / ".config").write_text("".join(f"CONFIG_{option}=y\n" for option in release))
    finding = found_by_doctor(terminal, "kernel", "--kernel", kernel)
    assert not finding["ok"]
    assert "lacks CONFIG_PCI_IOV" in finding["found"]


def test_the_doctor_looks_at_a_kernels_modules(terminal: Terminal) -> None:
    kernel = fake_kernel(terminal.folder)
    finding = found_by_doctor(terminal, "kernel", "--kernel", kernel, "--modules", "nowhere")
    assert not finding["ok"]
    assert "nowhere" in finding["found"]


def test_the_cache_is_told_in_json_and_in_lines(terminal: Terminal) -> None:
    assert parsed(terminal, "cache", "list") == {"cache": str(terminal.cache), "entries": []}
    cache = Cache(terminal.cache)
    cache.entry("kernels", "key", LONG, lambda draft: {"size": (draft / "file").write_text("x" * 1500)})
    cache.release()
    (entry,) = parsed(terminal, "cache", "list")["entries"]
    assert (entry["kind"], entry["key"], entry["label"], entry["bytes"]) == ("kernels", "key", LONG, 1500)
    header, line, total = printed(terminal, "cache", "list").splitlines()
    assert re.fullmatch(rf"{re.escape(LONG)} +1\.5KB +\d{{4}}-\d\d-\d\d \d\d:\d\d +kernels/key *", line)
    assert total == f"1.5KB in {terminal.cache}"
    assert header.startswith("what")
    assert printed(terminal, "cache", "prune", "--max-size", "1GB") == "nothing to remove: the cache is within 1.0GB\n"
    assert printed(terminal, "cache", "prune", "--max-size", "0") == f"removed {LONG} (kernels/key)\n"
    assert parsed(terminal, "cache", "prune") == {"removed": [], "in_use": []}


def options(command_line: str) -> list[tuple[str, Any]]:
    """Give QEMU's options as a shell reads them: pairs of a name and its argument, JSON read."""
    words = shlex.split(command_line)[1:]
    pairs = []
    while words:
        name = words.pop(0)
        argument = words.pop(0) if words and not words[0].startswith("-") else None
        pairs.append((name, json.loads(argument) if argument and argument.startswith("{") else argument))
    return pairs


def test_a_dry_run_prints_a_command_line_to_paste(terminal: Terminal) -> None:
    flags = terminal.stand_ins()
    arguments = ["-p", "sriov_max_vfs=7", "-p", "append=a b'c", "--dry-run", *flags]
    done = terminal.harness("shell", "nvme-sriov", *arguments)
    assert done.code == 0
    found = options(done.out)
    devices = {argument["id"]: argument for name, argument in found if name == "-device"}
    assert {"management", "rp1", "rp4"} <= devices.keys()
    (nvme,) = [device for device in devices.values() if device["driver"] == "nvme"]
    assert (nvme["sriov_max_vfs"], nvme["bus"]) == (7, "rp1")
    named = dict(found)
    assert named["-kernel"] == str(terminal.folder / "bzImage")
    assert named["-initrd"] == str(terminal.folder / "root.cpio")
    assert named["-accel"] == "tcg,thread=multi"
    assert named["-append"].endswith(" a b'c")
    (network,) = [argument for name, argument in found if name == "-netdev"]
    assert network["hostfwd"] == [{"str": "tcp:127.0.0.1:2222-:22"}]
    assert shlex.split(done.out)[0] == str(terminal.folder / "fake-qemu")
    ssh, leave = done.err.splitlines()
    assert re.fullmatch(rf"ssh -i {terminal.cache}/keys/\S+ -p 2222 .* root@127\.0\.0\.1", ssh)
    assert leave == "Ctrl-A x ends it."
    assert terminal.left() == ["cache/keys/ed25519"]


def test_a_dry_run_takes_the_port_that_is_asked_for(terminal: Terminal) -> None:
    done = terminal.harness("shell", "minimal", "--ssh-port", "2022", "--dry-run", *terminal.stand_ins())
    assert "tcp:127.0.0.1:2022-:22" in done.out
    assert " -p 2022 " in done.err


def test_the_parts_are_told_in_json_and_in_lines(terminal: Terminal) -> None:
    flags = terminal.stand_ins()
    found = parsed(terminal, "provision", *flags)
    assert found["qemu"] == {"path": str(flags[1]), "version": "9.8.7", "origin": "given by --qemu", "overlay": False}
    assert found["kernel"]["image"] == str(flags[3])
    assert found["accel"] == {"name": "tcg", "reason": "TCG was asked for"}
    qemu, accelerator, kernel, root = printed(terminal, "provision", *flags).splitlines()
    assert qemu.endswith(f"9.8.7, given by --qemu: {flags[1]}")
    assert (accelerator.split()[0], kernel.split()[0], root.split()[0]) == ("accelerator", "kernel", "guest")


@pytest.fixture
def asked_of_pytest(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of pytest, which collects nothing."""
    commands: list[list[str]] = []

    def pytest_of_its_own(command: list[str], *, quiet: bool) -> tuple[int, bool]:
        commands.append([*command, "quiet"] if quiet else command)
        return 5, False

    monkeypatch.setattr("harness.cli.test._pytest", pytest_of_its_own)
    return commands


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ("", "--kernel {kernel} --accel tcg --qemu {qemu} {root}/tests/guest"),
        ("-x --maxfail 3", "-x --maxfail 3 {root}/tests/guest"),
        (
            "-n 2 -k a --deadline 5 --test-timeout 7",
            "-n 2 -k a --deadline 5.0 --test-timeout 7.0 --qemu {qemu}",
        ),
        ("mine.py::test_a -x", "{cwd}/mine.py::test_a -x"),
        ("tests/guest/sriov mine.py", "{root}/tests/guest/sriov {cwd}/mine.py"),
        ("--profile-dir .", "--profile-dir {cwd} {root}/tests/guest"),
        ("--ignore tests/guest/harness", "--ignore tests/guest/harness {root}/tests/guest"),
        ("-v", "--log-cli-level INFO --log-cli-format %(name)s:"),
        ("--pyargs some.package", "--pyargs some.package"),
    ],
)
def test_pytest_is_asked_for_what_the_user_asked_for(
    terminal: Terminal, asked_of_pytest: list[list[str]], arguments: str, asked: str
) -> None:
    (terminal.cwd / "mine.py").touch()
    flags = terminal.stand_ins()
    assert terminal.harness("test", *flags, *arguments.split()).code == 5
    (command,) = asked_of_pytest
    names = {"qemu": flags[1], "kernel": flags[3], "root": paths.data_root(), "cwd": terminal.cwd}
    assert f" {asked.format(**names)} " in f" {' '.join(command)} "


def test_without_v_the_log_is_not_shown(terminal: Terminal, asked_of_pytest: list[list[str]]) -> None:
    terminal.harness("test", *terminal.stand_ins())
    assert "--log-cli-level" not in asked_of_pytest[0]


def test_a_run_that_collects_nothing_is_told_in_json(terminal: Terminal, asked_of_pytest: list[list[str]]) -> None:
    done = terminal.harness("test", "--json", *terminal.stand_ins())
    (run,) = terminal.cwd.glob("build/runs/*-*")
    assert json.loads(done.out) == {"run": str(run), "exit": 5, "outcomes": {}, "tests": []}
    assert asked_of_pytest[0][-1] == "quiet"


def test_the_demo_cuts_and_wraps_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def show(_: object, spec: Any, *__: object) -> Shown:
        checks = (Check(spec.profile.name, LONG, Outcome.FAIL, f"[{LONG}]", 0.5),)
        return Shown(spec.profile.name, 1.25, f"+-{LONG}\n", f"+-{LONG} [after]\n", checks)

    monkeypatch.setattr(demo, "show", show)
    monkeypatch.setattr("harness.machine.start.Starter.prepare", lambda *_: None)
    done = terminal.harness("demo", *terminal.stand_ins())
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines.count(f"+-{LONG}") == lines.count(f"+-{LONG} [after]") == len(demo.PROFILES)
    assert sum(f"{LONG}: [{LONG}]" in line and "FAIL" in line for line in lines) == len(demo.PROFILES)
    assert done.err.splitlines()[-1].startswith("starting nvme-sriov and igb-sriov")


IGB = "igb-native igb-pair igb-rciep igb-second igb-siov igb-sriov igb-switch igb-two igb-viommu"
NVME = "nvme-cramped nvme-siov nvme-sriov"
SIOV = "siov siov-beside-switch siov-igb siov-pair siov-pci-bridge siov-pxb siov-rciep siov-switch siov-two siov-viommu"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("harness ", "bench cache demo device doctor kernel profiles provision report repro shell test validate"),
        ("harness shell ", f"{IGB} mine minimal {NVME} pf-stub-native pxb {SIOV} virtio-sriov"),
        ("harness shell mi", "mine minimal"),
        ("harness profiles n", NVME),
        ("harness bench boot --profile v", "virtio-sriov"),
        ("harness shell minimal --kernel ", "7.3-base 7.3-debug 7.3-siov debian-6.12 debian-7.2"),
        ("harness test --kernel debian-7", "debian-7.2"),
        ("harness shell minimal --kernel ./", ""),
        ("harness demo --accel ", "auto kvm tcg"),
        ("harness cache p", "prune"),
        ("harness kernel ", "build list"),
        ("harness device ", "list serve show"),
        ("harness device list ", "siov"),
        ("harness device show s", "siov"),
        ("harness device serve ./", ""),
    ],
)
def test_the_tab_key_offers_names(terminal: Terminal, words: str, offered: str) -> None:
    terminal.env(IOV_HARNESS_PROFILE_DIR=own_profile(terminal.folder / "own"))
    terminal.env(COMP_WORDS=words, COMP_CWORD=len(words.split(" ")) - 1, _HARNESS_COMPLETE="complete_bash")
    assert sorted(printed(terminal).split()) == offered.split()


def test_the_tab_key_offers_nothing_rather_than_an_error(terminal: Terminal) -> None:
    terminal.env(COMP_WORDS="harness shell ", COMP_CWORD=2, _HARNESS_COMPLETE="complete_bash")
    (terminal.cwd / "iov-harness.toml").write_text("kernel = ")
    assert printed(terminal).strip() == ""


def test_the_profiles_of_a_folder_given_before_are_offered_too(terminal: Terminal) -> None:
    own = own_profile(terminal.folder / "own")
    words = f"harness shell --profile-dir {own} mi"
    terminal.env(COMP_WORDS=words, COMP_CWORD=4, _HARNESS_COMPLETE="complete_bash")
    assert printed(terminal).split() == ["mine", "minimal"]


def test_a_shell_gets_its_completion(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("bash", "/bin/bash"))
    assert "complete -o default -F _harness_completion harness" in printed(terminal, "--show-completion")


def test_the_log_says_which_parts_were_chosen_and_why(terminal: Terminal, caplog: pytest.LogCaptureFixture) -> None:
    flags = terminal.stand_ins()
    caplog.set_level(logging.INFO, "harness")
    terminal.harness("provision", *flags)
    assert [record.getMessage() for record in caplog.records if record.name == "harness.machine.parts"] == [
        f"QEMU 9.8.7, given by --qemu: {flags[1]}",
        "accelerator tcg: TCG was asked for",
        f"kernel {flags[3]}, release unknown, given by path: {flags[3]}",
        f"guest root: {terminal.folder / 'root.cpio'}",
    ]
