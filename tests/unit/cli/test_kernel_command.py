# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness kernel`: what is refused before anything is built, and the list of what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commandline import Terminal

from harness.errors import CouldNotRun
from harness.provision.cache import Cache
from harness.provision.kbuild import build, result, tools
from harness.provision.kbuild.arch import Arch


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    """Give a place to run the command in."""
    return Terminal(tmp_path, monkeypatch, capfd)


@pytest.fixture
def built(terminal: Terminal) -> dict[str, Any]:
    """Put a kernel that was built into the cache, and give what is known of it."""
    about = {
        "inputs": "x", "release": "7.9.0", "arch": "x86", "source": "linux", "origin": "/src/linux v7.9", "skipped": [],
        "config": ["base", "siov"], "compiler": "gcc 14", "cc": "gcc", "series": [{"file": "a", "subject": "b"}] * 3,
    }  # fmt: skip

    def fill(draft: Path) -> dict[str, Any]:
        (draft / result.IMAGE).write_bytes(b"image")
        (draft / result.CONFIG).write_text("CONFIG_PCI=y\n")
        return about

    Cache(terminal.cache).entry(build.KIND, "linux-siov+v3", "kernel linux-siov+v3", fill)
    return about


def source(terminal: Terminal) -> Path:
    tree = terminal.folder / "linux"
    for name in ("Makefile", "Kconfig", "kernel/fork.c", "scripts/x"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    return tree


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "Missing option '--source' (see harness kernel build -h)"),
        ("--source nowhere", "--source nowhere: no such folder; give the top folder of a tree, or debian:VERSION"),
        ("--source debian:", "--source debian:: write debian:VERSION, such as debian:7.3, or a folder"),
        ("--source TREE --series nowhere", "--series nowhere: nowhere: No such file or directory"),
        ("--source TREE --series TREE", "/linux: no patch in it; expected an mbox, a patch, or a folder of numbered"),
        ("--source TREE --config nonsense", "--config: unknown fragment 'nonsense' (there are: base, callers, debug, "),
        ("--source TREE --config ./nowhere", "--config nowhere: No such file or directory"),
        ("--source TREE --cross sparc", "--cross: unknown architecture 'sparc' (there are: powerpc, s390)"),
        ("--source TREE --name a/b", "--name 'a/b': a kernel's name has letters, digits and . _ + - only"),
        ("--source TREE --name 7.3-base", "7.3-base is a kernel that comes with the harness: give another --name"),
        ("--source TREE --name debian-6.12", "debian-6.12 is a kernel that comes with the harness: give another"),
        ("--source TREE -j -1", "'--jobs': Input should be greater than or equal to 0"),
    ],
)
def test_a_bad_order_is_refused_at_once(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str
) -> None:
    monkeypatch.setattr(tools, "check", lambda _: None)
    words = arguments.replace("TREE", str(source(terminal))).split()
    assert message in terminal.refused("kernel", "build", *words)


def test_missing_tools_end_it_before_anything_is_fetched(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: Arch) -> None:
        raise CouldNotRun("no kernel can be built here: flex missing; apt-get install flex")

    monkeypatch.setattr(tools, "check", check)
    done = terminal.harness("kernel", "build", "--source", "debian:7.3")
    assert (done.code, done.line) == (3, "no kernel can be built here: flex missing; apt-get install flex")
    assert terminal.left() == []


def test_the_list_has_what_comes_with_the_harness_and_what_was_built(terminal: Terminal, built: dict[str, Any]) -> None:
    lines = [line.split() for line in terminal.harness("kernel", "list").out.splitlines()]
    assert [line[0] for line in lines] == [
        "name",
        "7.3-base",
        "7.3-debug",
        "7.3-siov",
        "debian-6.12",
        "debian-7.2",
        "linux-siov+v3",
    ]
    assert lines[1][1:3] == ["-", "-"]
    assert " ".join(lines[6][1:]) == ("7.9.0 18B built from /src/linux v7.9 with 3 patches, configuration base+siov")
    assert built["origin"] == "/src/linux v7.9"


def test_as_json_the_list_has_all_that_is_known(terminal: Terminal, built: dict[str, Any]) -> None:
    found = json.loads(terminal.harness("kernel", "list", "--json").out)
    assert [one["name"] for one in found["recipes"]] == [
        "7.3-base",
        "7.3-debug",
        "7.3-siov",
        "debian-6.12",
        "debian-7.2",
    ]
    (kernel,) = found["built"]
    assert kernel["name"] == "linux-siov+v3"
    assert Path(kernel["path"]).is_relative_to(terminal.cache)
    assert {name: kernel[name] for name in built} == built


def test_the_list_is_there_before_there_is_a_cache(terminal: Terminal) -> None:
    assert len(terminal.harness("kernel", "list").out.splitlines()) == 6
    assert terminal.left() == []
