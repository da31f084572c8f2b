# SPDX-License-Identifier: GPL-2.0-or-later
"""Templates that render, and the one line that names what is wrong with one that does not."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.qemu.library import Library
from harness.qemu.options import Option, shell
from harness.qemu.profile import Value
from harness.qemu.template import CommandLine, Renderer, Software, Wiring

SOFTWARE = Software("kvm", Path("/k,1"), Path("/i i,2"), "panic=0 x=y,z")
WIRING = Wiring("socket,fd=3", "socket,fd=4", "socket,fd=5", "socket,fd=6", 2222)


def command_line(folder: Path, template: str, **parameters: Value) -> CommandLine:
    """Render a template of one's own, on no machine but its own words."""
    (folder / "mine.toml").write_text('summary = "mine"')
    (folder / "mine.j2").write_text(template)
    library = Library([folder])
    return Renderer(library.folders).command_line(library.get("mine"), parameters, SOFTWARE, WIRING)


def texts(options: Iterable[Option]) -> list[str]:
    return [" ".join(option.words) for option in options]


def rendered(folder: Path, template: str, **parameters: Value) -> list[str]:
    return texts(command_line(folder, template, **parameters).whole)


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


BASE = """\
{% set mac = "52:54" %}
{% block machine %}
-smp {{ cpus }}
-device nic,mac={{ mac }}
{% endblock %}
{% block plugged %}
-device spare
{% endblock %}
"""


@pytest.mark.parametrize(
    ("template", "machine", "plugged"),
    [
        ("", ["-smp 2", "-device nic,mac=52:54"], ["-device spare"]),
        (
            "{% block plugged %}\n-device {{ cpus }}\n{% endblock %}\n",
            ["-smp 2", "-device nic,mac=52:54"],
            ["-device 2"],
        ),
        ("{% block plugged %}\n{% endblock %}\n", ["-smp 2", "-device nic,mac=52:54"], []),
        (
            "{% block plugged %}\n{{ super() }}-device {{ mac }}\n{% endblock %}\n",
            ["-smp 2", "-device nic,mac=52:54"],
            ["-device spare", "-device 52:54"],
        ),
        (
            "{% block machine %}\n{{ super() }}-m 1\n{% endblock %}\n",
            ["-smp 2", "-device nic,mac=52:54", "-m 1"],
            ["-device spare"],
        ),
        (
            "{% block plugged %}\n{% block more %}\n-device x\n{% endblock %}\n{% endblock %}\n",
            ["-smp 2", "-device nic,mac=52:54"],
            ["-device x"],
        ),
    ],
    ids=["inherited", "replaced", "emptied", "extended", "machine extended", "parted further"],
)
def test_a_profile_fills_the_two_blocks_of_its_base_machine(
    tmp_path: Path, template: str, machine: list[str], plugged: list[str]
) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "mine.j2").write_text(BASE)
    line = command_line(tmp_path, f'{{% extends "bases/mine.j2" %}}\n{template}', cpus=2)
    assert (texts(line.machine), texts(line.plugged)) == (machine, plugged)
    assert line.whole == (*line.machine, *line.plugged)


def test_a_template_without_blocks_is_all_machine(tmp_path: Path) -> None:
    line = command_line(tmp_path, "-m 1\n-device x\n")
    assert (texts(line.machine), line.plugged) == (["-m 1", "-device x"], ())


def test_a_template_may_have_only_what_is_plugged(tmp_path: Path) -> None:
    line = command_line(tmp_path, "{% block plugged %}\n-device x\n{% endblock %}\n")
    assert (line.machine, texts(line.plugged)) == ((), ["-device x"])


@pytest.mark.parametrize(
    "template",
    [
        "-m 1\n{% block machine %}\n{% endblock %}\n",
        "{% block machine %}\n{% endblock %}\n-m 1\n",
        "{% block other %}\n-m 1\n{% endblock %}\n",
        "{% block plugged %}\n-m 1\n{% endblock %}\n{% block machine %}\n-m 2\n{% endblock %}\n",
        "{% block machine %}\n{% block plugged %}\n-m 1\n{% endblock %}\n{% endblock %}\n",
        "{% for _ in range(2) %}\n{% block machine scoped %}\n-m 1\n{% endblock %}\n{% endfor %}\n",
    ],
    ids=["before", "after", "another block", "wrong order", "within each other", "twice"],
)
def test_an_option_that_is_in_none_of_the_two_blocks_or_not_once_is_refused(tmp_path: Path, template: str) -> None:
    expected = "template mine.j2: every option must stand in the block machine or, below that, plugged"
    assert refused(tmp_path, template) == expected


@pytest.mark.parametrize("block", ["machine", "plugged"])
def test_a_name_that_is_undefined_in_a_block_is_named(tmp_path: Path, block: str) -> None:
    template = f"{{% block {block} %}}\n-m {{{{ nowhere }}}}\n{{% endblock %}}\n"
    assert refused(tmp_path, template) == "template mine.j2: 'nowhere' is undefined"


def test_a_misspelt_block_is_refused_for_its_devices_would_be_dropped(tmp_path: Path) -> None:
    template = '{% extends "bases/q35.j2" %}\n{% block pluged %}\n-device x\n{% endblock %}\n'
    told = refused(tmp_path, template)
    known = "kernel_words, machine, plugged"
    assert told == f"template mine.j2: unknown block 'pluged'; did you mean 'plugged'? (there are: {known})"
