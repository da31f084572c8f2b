# SPDX-License-Identifier: GPL-2.0-or-later
"""Templates that render, and the one line that names what is wrong with one that does not."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.qemu.options import shell
from harness.qemu.profile import Library, Value
from harness.qemu.template import Renderer, Software, Wiring

SOFTWARE = Software("kvm", Path("/k,1"), Path("/i i,2"), "panic=0 x=y,z")
WIRING = Wiring("socket,fd=3", "socket,fd=4", "socket,fd=5", 2222)


def rendered(folder: Path, template: str, **parameters: Value) -> list[str]:
    """Render a template of one's own, on no machine but its own words."""
    (folder / "mine.toml").write_text('summary = "mine"')
    (folder / "mine.j2").write_text(template)
    library = Library([folder])
    options = Renderer(library.folders).command_line(library.get("mine"), parameters, SOFTWARE, WIRING).whole
    return [" ".join(option.words) for option in options]


def refused(folder: Path, template: str) -> str:
    with pytest.raises(UsageError) as caught:
        rendered(folder, template, count=2)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_template_knows_parameters_software_and_wiring(tmp_path: Path) -> None:
    template = "-smp {{ cpus }}\n-accel {{ accel }}\n-append {{ append }}\n-chardev {{ wiring.qmp }}\n"
    words = rendered(tmp_path, template, cpus=2)
    assert words == ["-smp 2", "-accel kvm", "-append panic=0 x=y,z", "-chardev socket,fd=3"]


def test_files_reach_qemu_under_their_own_names(tmp_path: Path) -> None:
    assert rendered(tmp_path, "-kernel {{ kernel }}\n-initrd {{ initramfs }}\n") == ["-kernel /k,1", "-initrd /i i,2"]


def test_no_parameter_takes_the_place_of_software_or_wiring(tmp_path: Path) -> None:
    assert rendered(tmp_path, "-kernel {{ kernel }}\n", kernel="x", wiring="y") == ["-kernel /k,1"]


@pytest.mark.parametrize("value", ["it's", 'a"b', "a\\b", "<a&b>", "grün", "a,b", "{{ x }}"])
def test_json_in_a_template_means_what_was_given(tmp_path: Path, value: str) -> None:
    (line,) = rendered(tmp_path, '-device {{ {"id": value, "bus": 1} | tojson }}\n', value=value)
    written = line.removeprefix("-device ")
    assert json.loads(written) == {"id": value, "bus": 1}
    assert written.index("id") < written.index("bus")


def test_blocks_and_comments_leave_no_lines_behind(tmp_path: Path) -> None:
    template = "{# why #}\n  {% for i in range(count) %}\n-device {{ i }}\n  {% endfor %}\n-m 1\n"
    assert rendered(tmp_path, template, count=2) == ["-device 0", "-device 1", "-m 1"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("-m {{ nowhere }}\n", "template mine.j2: 'nowhere' is undefined"),
        ("-m {{ wiring.nothing }}\n", "template mine.j2: 'harness.qemu.template.Wiring object' has no attribute"),
        ("{% if nowhere %}\n{% endif %}\n", "template mine.j2: 'nowhere' is undefined"),
        ("-m 1\n-m {{ 1 + }}\n", "template mine.j2, line 2: "),
        ("-m 1\n{% for %}\n", "template mine.j2, line 2: "),
        ("{% if count %}\n", "template mine.j2, line 1: "),
        ('{% extends "bases/vax.j2" %}\n', "template mine.j2: 'bases/vax.j2' not found"),
        ("-m {{ count // 0 }}\n", "template mine.j2: "),
        ("-m {{ count + 'x' }}\n", "template mine.j2: "),
        ("-m {{ 'x' | int + count.real.y }}\n", "template mine.j2: "),
        ("-m {{ range(count, 9, 0) }}\n", "template mine.j2: "),
        ("count\n", "template mine.j2: a line must be one QEMU option"),
    ],
)
def test_a_template_that_does_not_render_is_named_with_the_reason(tmp_path: Path, template: str, message: str) -> None:
    assert refused(tmp_path, template).startswith(message)


def test_a_mistake_in_a_base_machine_names_the_base_machine(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "q35.j2").write_text("-m 1\n{{ }}\n")
    assert refused(tmp_path, '{% extends "bases/q35.j2" %}\n').startswith("template bases/q35.j2, line 2: ")


def test_the_harness_has_the_console_to_itself(tmp_path: Path) -> None:
    assert "-mon chardev=console,mode=readline" not in rendered(
        tmp_path, '{% extends "bases/q35.j2" %}\n', cpus=1, memory=1
    )


@pytest.mark.parametrize(("asked", "forwarded"), [(0, 2222), (4711, 4711)])
def test_a_line_to_paste_has_the_console_on_the_terminal_and_quotes_what_needs_it(asked: int, forwarded: int) -> None:
    by_hand = Wiring.by_hand(asked)
    library = Library()
    profile = library.get("igb-sriov")
    options = Renderer(library.folders).command_line(profile, profile.resolve({}), SOFTWARE, by_hand).whole
    words = shlex.split(shell("/opt/my qemu", options).replace("\\\n", ""))
    assert words[0] == "/opt/my qemu"
    assert words[words.index("-initrd") + 1] == "/i i,2"
    assert "stdio,mux=on,signal=off,id=console" in words
    assert "chardev=console,mode=readline" in words, "the monitor, with Ctrl-A x to end QEMU"
    assert "socket,path=qmp.sock,server=on,wait=off,id=qmp" in words
    assert any(f"tcp:127.0.0.1:{forwarded}-:22" in word for word in words)
