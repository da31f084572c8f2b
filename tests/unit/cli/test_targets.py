# SPDX-License-Identifier: GPL-2.0-or-later
"""Which words of a command line name tests, and which are an option's."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.config import get_config

from harness import paths
from harness.cli import targets
from harness.cli.targets import Targets
from harness.errors import UsageError

OURS = str(paths.data_root() / "tests/guest")
A_TEST = "tests/guest/sriov/test_attributes.py::test_x"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        "--ignore tests/guest/harness",
        "--ignore=tests/guest/harness",
        f"--deselect {A_TEST} --deselect={A_TEST}",
        "-o mine.py",
        "--log-file mine.py -x",
    ],
)
def test_a_value_that_happens_to_name_a_file_is_none_of_the_tests(arguments: str) -> None:
    assert Targets.of(arguments.split()).arguments == (*arguments.split(), OURS)


@pytest.mark.parametrize("before", ["-x", "-vv", "--lf", "--tb=short", "--maxfail 1"])
def test_behind_a_flag_or_a_value_a_file_is_a_test(here: Path, before: str) -> None:
    found = Targets.of([*before.split(), "mine.py"])
    assert found.arguments == (*before.split(), str(here / "mine.py"))
    assert found.rootdir == here


@pytest.mark.parametrize("before", ["--tb=short", "--maxfail 1"])
def test_behind_a_value_a_word_that_is_no_file_is_refused(before: str) -> None:
    with pytest.raises(UsageError, match="nowhere: no such test file"):
        Targets.of([*before.split(), "nowhere"])


def test_a_word_behind_an_option_that_only_a_plugin_knows_may_be_its_value() -> None:
    assert Targets.of(["--of-a-plugin", "nowhere"]).arguments == ("--of-a-plugin", "nowhere", OURS)


def test_every_option_of_pytest_and_xdist_that_takes_a_value_is_known() -> None:
    config = get_config([])
    config.pluginmanager.import_plugin("xdist.plugin")
    groups = [config._parser._anonymous, *config._parser._groups]
    options = [option for group in groups for option in group.options]
    valued = [one for one in options if one.attrs().get("action", "store") in {"store", "append"}]
    names = {name for one in valued if one.attrs().get("nargs") is None for name in one.names()}
    assert names - targets._VALUED == set()
