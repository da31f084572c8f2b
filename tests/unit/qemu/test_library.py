# SPDX-License-Identifier: GPL-2.0-or-later
"""Profiles that are like another, and those that serve devices which live in Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.qemu.library import Library
from harness.qemu.profile import Profile, Value
from harness.qemu.template import Wiring

PARENT = """
summary = "the parent"
base = "switch"
pfs = ["x"]
[parameters.size]
type = "int"
default = 4
help = "how large"
[devices.x]
model = "siov"
[requires]
kernel = ["ONE"]
"""


def library(folder: Path, **profiles: str) -> Library:
    for name, text in profiles.items():
        (folder / f"{name}.toml").write_text(text)
        (folder / f"{name}.j2").write_text('{% extends "bases/q35.j2" %}\n')
    return Library((folder,))


def arguments(profile: Profile, **given: Value) -> dict[str, Value]:
    return profile.arguments("x", profile.resolve(given), {"size", "colour"})


def test_a_profile_that_is_like_another_has_all_that_it_does_not_say_itself(tmp_path: Path) -> None:
    child = library(tmp_path, parent=PARENT, child='like = "parent"\nsummary = "the child"').get("child")
    assert (child.summary, child.base, child.pfs) == ("the child", "switch", ("x",))
    assert set(child.devices) == {"x"}
    assert {"size", "memory"} <= set(child.parameters)
    assert "ONE" in child.requires.kernel


def test_what_it_says_itself_is_added_or_comes_first(tmp_path: Path) -> None:
    own = """
    like = "parent"
    summary = "the child"
    base = "q35"
    hotplug = false
    [parameters.size]
    type = "int"
    default = 5
    help = "larger"
    [parameters.colour]
    type = "str"
    default = "red"
    help = "which"
    [devices.y]
    model = "z.py:Z"
    [requires]
    kernel = ["TWO"]
    """
    child = library(tmp_path, parent=PARENT, child=own).get("child")
    assert (child.base, child.hotplug, set(child.devices)) == ("q35", False, {"x", "y"})
    assert arguments(child) == {"size": 5, "colour": "red"}
    assert {"ONE", "TWO"} <= child.requires.kernel


def test_likeness_goes_on(tmp_path: Path) -> None:
    found = library(
        tmp_path, parent=PARENT, child='like = "parent"\nsummary = "c"', grandchild='like = "child"\nsummary = "g"'
    ).get("grandchild")
    assert (found.summary, found.base, arguments(found, size=9)) == ("g", "switch", {"size": 9})


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("nobody", "", "unknown profile 'nobody'"),
        ("first", "", "unknown profile 'first'"),
        ("second", "first", "unknown profile 'first'"),
        ("paren", "", "did you mean 'parent'"),
    ],
)
def test_likeness_to_nobody_or_to_itself_is_refused(tmp_path: Path, first: str, second: str, told: str) -> None:
    like = {name: f'like = "{other}"\nsummary = "x"' if other else PARENT for name, other in [("second", second)]}
    found = library(tmp_path, parent=PARENT, first=f'like = "{first}"\nsummary = "x"', **like)
    with pytest.raises(UsageError, match=told):
        found.get("first")


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("", {"size": 4}),
        ("arguments = {}", {"size": 4}),
        ("arguments = { colour = 7 }", {"size": 4, "colour": 7}),
        ("arguments = { size = 'size * 2', colour = 7, other = true }", {"size": 8, "colour": 7, "other": True}),
        ("arguments = { size = '\"text\"' }", {"size": "text"}),
    ],
)
def test_a_device_is_given_what_the_profile_says_or_its_parameters(
    tmp_path: Path, said: str, given: dict[str, Value]
) -> None:
    text = PARENT.replace('model = "siov"', f'model = "siov"\n{said}')
    assert arguments(library(tmp_path, mine=text).get("mine")) == given


@pytest.mark.parametrize("expression", ["nobody", "size +", "1 // 0"])
def test_an_argument_that_does_not_evaluate_is_refused(tmp_path: Path, expression: str) -> None:
    text = PARENT.replace('model = "siov"', f'model = "siov"\narguments = {{ size = "{expression}" }}')
    with pytest.raises(UsageError, match=r"profile mine: .* does not evaluate"):
        arguments(library(tmp_path, mine=text).get("mine"))


@pytest.mark.parametrize(
    "text",
    [PARENT.replace('model = "siov"', ""), PARENT.replace('model = "siov"', 'model = "siov"\ncolour = 1')],
    ids=["no model", "a word too many"],
)
def test_a_device_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"profile .*mine\.toml: devices\.x\."):
        library(tmp_path, mine=text).get("mine")


def test_the_socket_of_a_device_lies_in_the_machines_folder_or_where_the_line_is_pasted() -> None:
    assert Wiring("a", "b", "c", "d", devices="/run/x").device("siov0") == "/run/x/siov0.sock"
    assert Wiring.by_hand().device("siov0") == "siov0.sock"
