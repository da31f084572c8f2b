# SPDX-License-Identifier: GPL-2.0-or-later
"""Profiles: what is accepted, and the one line that says what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.qemu.library import Library
from harness.qemu.options import Option, parse, shell
from harness.qemu.template import Renderer, Software, Wiring

SOFTWARE = Software("tcg", Path("/k,1"), Path("/i"))
WIRING = Wiring("socket,fd=3", "socket,fd=4", "socket,fd=5", "socket,fd=6")


def rendered(name: str, library: Library, **parameters: object) -> tuple[Option, ...]:
    profile = library.get(name)
    return Renderer(library.folders).command_line(profile, profile.resolve(parameters), SOFTWARE, WIRING).whole


@pytest.mark.parametrize("name", Library().names())
def test_every_profile_renders_with_its_defaults(name: str) -> None:
    options = rendered(name, Library())
    assert Option("-kernel", "/k,1") in options


def test_the_parameters_reach_the_device() -> None:
    options = rendered("nvme-sriov", Library(), sriov_max_vfs=7)
    (device,) = [option for option in options if '"driver": "nvme"' in (option.argument or "")]
    assert '"sriov_max_vfs": 7' in (device.argument or "")
    assert '"sriov_vq_flexible": 14' in (device.argument or "")


def test_an_unknown_profile_names_the_near_one() -> None:
    with pytest.raises(UsageError, match=r"unknown profile 'igb-sriow'; did you mean 'igb-sriov'\?"):
        Library().get("igb-sriow")


def test_a_path_is_no_profile_name() -> None:
    with pytest.raises(UsageError, match="unknown profile"):
        Library().get("bases/q35")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sriov_max_vf": 4}, "unknown parameter 'sriov_max_vf'; did you mean 'sriov_max_vfs'"),
        ({"sriov_max_vfs": 128}, "sriov_max_vfs=128: it takes 1..127"),
        ({"sriov_max_vfs": "many"}, "sriov_max_vfs=many: it takes 1..127"),
        ({"sriov_max_vfs": True}, "sriov_max_vfs=True: it takes"),
        ({"sriov_vq_flexible": 7}, "4 VFs need at least 8"),
        ({"sriov_vi_flexible": 3}, "4 VFs need at least 4"),
        ({"max_ioqpairs": 9}, "must be at least sriov_vq_flexible \\+ 2 = 10"),
        ({"msix_qsize": 4}, "must be at least sriov_vi_flexible \\+ 1 = 5"),
    ],
)
def test_what_the_device_would_refuse_is_refused_before_it_starts(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Library().get("nvme-sriov").resolve(given)


def own_profile(folder: Path, template: str, definition: str = 'summary = "mine"') -> Library:
    (folder / "mine.toml").write_text(definition)
    (folder / "mine.j2").write_text(template)
    return Library([folder])


def test_a_profile_of_ones_own_extends_a_base_machine(tmp_path: Path) -> None:
    library = own_profile(tmp_path, '{% extends "bases/q35.j2" %}{% block plugged %}\n-device foo\n{% endblock %}')
    assert Option("-device", "foo") in rendered("mine", library)


def test_an_undefined_name_in_a_template_is_named(tmp_path: Path) -> None:
    library = own_profile(tmp_path, '{% extends "bases/q35.j2" %}{% block plugged %}\n-m {{ nowhere }}\n{% endblock %}')
    with pytest.raises(UsageError, match=r"template mine\.j2: 'nowhere' is undefined"):
        rendered("mine", library)


def test_a_syntax_error_in_a_template_is_named_with_its_line(tmp_path: Path) -> None:
    library = own_profile(tmp_path, "{% block plugged %}\n{{ }}\n")
    with pytest.raises(UsageError, match=r"template mine\.j2, line 2"):
        rendered("mine", library)


def test_a_definition_without_a_template_beside_it_is_no_profile_but_told_as_one(tmp_path: Path) -> None:
    library = own_profile(tmp_path, "")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"')
    assert library.names() == sorted(["mine", *Library().names()])
    with pytest.raises(UsageError, match=r"pyproject\.toml: its template pyproject\.j2 is missing beside it"):
        library.get("pyproject")


def test_half_a_profile_of_ones_own_does_not_give_way_to_a_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "minimal.toml").write_text('summary = "mine"')
    with pytest.raises(UsageError, match=r"its template minimal\.j2 is missing"):
        Library([tmp_path]).get("minimal")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("summary = ", "is not TOML"),
        ("hotplug = true", "summary: Field required"),
        ('summary = "x"\nbase = "vax"', "unknown base machine 'vax'"),
        ('summary = "x"\ncolour = 1', "colour: Extra inputs are not permitted"),
    ],
)
def test_a_broken_definition_is_one_clear_line(tmp_path: Path, definition: str, message: str) -> None:
    library = own_profile(tmp_path, "", definition)
    with pytest.raises(UsageError, match=message) as caught:
        library.get("mine")
    assert "\n" not in str(caught.value)


MEMORY = '[parameters.memory]\ntype = "int"\ndefault = 1\nhelp = ""\n'
APPEND = '[parameters.append]\ntype = "str"\ndefault = ""\nhelp = ""\n'


@pytest.mark.parametrize(
    ("parameters", "lacking"),
    [
        ("", "memory, of type int"),
        (APPEND, "memory, of type int"),
        (MEMORY, "append, of type str"),
        (APPEND + MEMORY.replace("int", "str").replace("1", '"1"'), "memory, of type int"),
        (MEMORY + APPEND.replace("str", "bool").replace('default = ""', "default = true"), "append, of type str"),
    ],
)
def test_a_base_machine_without_what_the_harness_itself_sets_is_refused(
    tmp_path: Path, parameters: str, lacking: str
) -> None:
    base = tmp_path / "bases" / "vax.toml"
    base.parent.mkdir()
    base.write_text(f'summary = "a VAX"\n{parameters}')
    with pytest.raises(UsageError) as caught:
        own_profile(tmp_path, "", 'summary = "mine"\nbase = "vax"').get("mine")
    own = tmp_path / "mine.toml"
    assert str(caught.value) == f"profile {own}: its base machine vax needs the parameter {lacking}"


def test_a_base_machine_of_ones_own_brings_its_parameters_and_a_profile_is_plugged_unless_it_says_no(
    tmp_path: Path,
) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "vax.toml").write_text(f'summary = "a VAX"\n{MEMORY}{APPEND}')
    found = own_profile(tmp_path, "", 'summary = "mine"\nbase = "vax"').get("mine")
    assert (found.resolve({}), found.hotplug) == ({"memory": 1, "append": ""}, True)
    assert not own_profile(tmp_path, "", 'summary = "mine"\nbase = "vax"\nhotplug = false').get("mine").hotplug


def test_a_line_that_is_no_option_is_refused() -> None:
    with pytest.raises(UsageError, match="must be one QEMU option"):
        parse("-m 1\nfoo\n", "x.j2")


def test_an_argument_is_one_word_whatever_it_holds() -> None:
    (option,) = parse('  -device {"driver": "a b"}  \n\n', "x.j2")
    assert option.words == ("-device", '{"driver": "a b"}')
    assert shell("qemu", [option]) == 'qemu \\\n  -device \'{"driver": "a b"}\''


def test_a_base_machine_has_what_the_one_has_that_it_extends(tmp_path: Path) -> None:
    bases = tmp_path / "bases"
    bases.mkdir()
    (bases / "wide.toml").write_text(
        'base = "q35"\nsummary = "x"\n[parameters.wide]\ntype = "int"\ndefault = 1\nhelp = "x"\n'
        "[requires.devices]\nx3130-upstream = []\n"
    )
    found = own_profile(tmp_path, "", 'summary = "mine"\nbase = "wide"').get("mine")
    assert found.resolve({"wide": 7}) == {"memory": 512, "cpus": 2, "append": "", "wide": 7}
    assert {"pcie-root-port", "x3130-upstream"} <= set(found.requires.devices)


def test_base_machines_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    bases = tmp_path / "bases"
    bases.mkdir()
    for name, other in (("a", "b"), ("b", "a")):
        (bases / f"{name}.toml").write_text(f'base = "{other}"\nsummary = "x"\n')
    with pytest.raises(UsageError, match="unknown base machine 'a'"):
        own_profile(tmp_path, "", 'summary = "mine"\nbase = "a"').get("mine")
