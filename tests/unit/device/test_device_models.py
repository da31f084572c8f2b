# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models by name, and the one line that is told of each way to ask for one wrongly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.device import models
from harness.device.models import Model
from harness.device.siov import SiovDevice
from harness.errors import UsageError

MODEL = '''
from __future__ import annotations
from pathlib import Path
from typing import Literal
from harness.device.config_space import Identity
from harness.device.device import Device
from harness.device.siov import SiovDevice

LOADED = []

class Mine(Device):
    """A device of mine.

    More of it.
    """

    def __init__(
        self, vendor_id: int, *, name: str = "mine", fast: bool = False, seconds: float = 0.5,
        width: Literal[32, 64] = 32, kind: Literal["a", "b"] | None = None, spare: int | None = None,
        **others: int,
    ) -> None:
        super().__init__(Identity(vendor_id, 1))
        self.given = (vendor_id, name, fast, seconds, width, kind, spare)

class Heir(SiovDevice):
    pass

class Untold(Device):
    def __init__(self, first, second="x"):
        super().__init__(Identity(1, 1))
        self.given = (first, second)

class Plain(Device):
    pass

class Stranger:
    pass

number = 5
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a file of models; what lies beside one of these can be imported, but not by other tests."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


def given(folder: Path, model: str, /, **arguments: Any) -> tuple[Any, ...]:
    made: Any = models.find(f"mine.py:{model}", folder).make(arguments)
    found = made.given
    assert isinstance(found, tuple)
    return found


def refused(why: str) -> Any:
    """Expect a `UsageError` of one line."""
    return pytest.raises(UsageError, match=rf"\A{why}\Z")


def test_the_siov_device_comes_with_the_harness() -> None:
    found = models.find("siov")
    assert found == Model("siov", SiovDevice)
    assert found.summary.startswith("A PCIe endpoint with the SIOV capability")
    device = found.make({"total_sdis": "0x10", "siov": "off", "place": "first"})
    assert isinstance(device, SiovDevice)
    assert device.total_sdis == 16
    assert not device.config.has(0x38)


def test_a_model_tells_its_arguments_with_their_defaults() -> None:
    arguments = models.find("siov").arguments
    assert arguments["total_sdis"].default == 4
    assert {name: arguments[name].takes for name in ("total_sdis", "siov", "place")} == {
        "total_sdis": "a whole number", "siov": "on or off", "place": "first or middle or last",
    }  # fmt: skip
    assert not any(one.required for one in arguments.values())


def test_a_file_gives_models_too_counted_from_the_folder_of_who_names_it(folder: Path) -> None:
    assert models.find("mine.py:Mine", folder).summary == "A device of mine."
    assert models.find(f"{folder}/mine.py:Mine").made is models.find("mine.py:Mine", folder).made
    assert models.find("mine.py:Plain", folder).name == "mine.py:Plain"


def test_without_a_folder_a_file_is_one_of_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert models.find("mine.py:Mine").made.__name__ == "Mine"


@pytest.mark.usefixtures("folder")
def test_files_of_similar_names_are_different_files(tmp_path: Path) -> None:
    for place, number in (("a/b_c.py", 1), ("a_b/c.py", 2), ("a/b.c.py", 3)):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(f"{MODEL}\nnumber = {number}")
    found = [models.find(f"{place}:Mine", tmp_path).made for place in ("a/b_c.py", "a_b/c.py", "a/b.c.py")]
    assert [sys.modules[one.__module__].number for one in found] == [1, 2, 3]


def test_arguments_are_read_from_text_or_taken_as_they_are(folder: Path) -> None:
    assert given(folder, "Mine", vendor_id="0x1af4") == (0x1AF4, "mine", False, 0.5, 32, None, None)
    assert given(folder, "Mine", vendor_id=7, name="5", fast="ON", seconds="0.25", width="64", kind="b", spare="9") == (
        7,
        "5",
        True,
        0.25,
        64,
        "b",
        9,
    )
    assert given(folder, "Mine", vendor_id=1, fast=True, seconds=2, width=64)[2:5] == (True, 2.0, 64)


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", True), ("true", True), ("1", True), (1, True), ("off", False), ("False", False), ("0", False), (0, False)],
)
def test_words_for_on_and_off(folder: Path, text: Any, value: bool) -> None:
    assert given(folder, "Mine", vendor_id=1, fast=text)[2] is value


def test_an_argument_without_a_type_takes_text(folder: Path) -> None:
    assert given(folder, "Untold", first="5") == ("5", "x")


def test_what_must_be_given_is_what_has_no_default(folder: Path) -> None:
    arguments = models.find("mine.py:Mine", folder).arguments
    assert [name for name, one in arguments.items() if one.required] == ["vendor_id"]
    assert arguments["spare"].default is None
    assert "others" not in arguments


def test_a_class_takes_the_arguments_that_it_inherits(folder: Path) -> None:
    made = models.find("mine.py:Heir", folder).make({"total_sdis": "9", "siov": "off"})
    assert isinstance(made, SiovDevice)
    assert made.total_sdis == 9


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sriov", r"unknown device model 'sriov'; did you mean 'siov'\? \(there are: siov\), or FILE.py:CLASS for .*"),
        ("", r"unknown device model '' .*"),
        ("none.py:Mine", r"device model none.py:Mine: there is no file .*/none.py"),
        (":Mine", r"device model :Mine: there is no file .*"),
        (":", r"device model :: there is no file .*"),
        ("sub:Mine", r"device model sub:Mine: there is no file .*/sub"),
        (f"{'x' * 300}.py:Mine", r"device model x+.py:Mine: there is no file .*"),
        ("\0.py:Mine", r"device model .*: there is no file .*"),
        ("mine.py:", r"device model mine.py:: .*/mine.py has no class  that is a harness.device.device.Device"),
        ("mine.py:Yours", r"device model mine.py:Yours: .*/mine.py has no class Yours that is a .*"),
        ("mine.py:Stranger", r"device model mine.py:Stranger: .* has no class Stranger that is a .*"),
        ("mine.py:number", r".* has no class number that is a .*"),
        ("mine.py:Path", r".* has no class Path that is a .*"),
        ("text.txt:Mine", r"device model .*/text.txt: this is no Python file \(its name must end with .py\)"),
        ("syntax.py:Mine", r"device model .*/syntax.py: it cannot be imported: SyntaxError: .*"),
        ("binary.py:Mine", r"device model .*/binary.py: it cannot be imported: (SyntaxError|ValueError): .*"),
        ("lines.py:Mine", r"device model .*/lines.py: it cannot be imported: RuntimeError: one two"),
        ("exits.py:Mine", r"device model .*/exits.py: it cannot be imported: SystemExit: 7"),
        ("lacks.py:Mine", r"device model .*/lacks.py: it cannot be imported: ModuleNotFoundError: No module named .*"),
    ],
)
def test_a_model_that_is_none_is_refused_in_one_line(folder: Path, name: str, why: str) -> None:
    (folder / "sub").mkdir()
    (folder / "text.txt").write_text(MODEL)
    (folder / "syntax.py").write_text("class Mine(\n")
    (folder / "binary.py").write_bytes(b"\x7fELF\0\0")
    (folder / "lines.py").write_text("raise RuntimeError('one\\ntwo')")
    (folder / "exits.py").write_text("import sys\nsys.exit(7)")
    (folder / "lacks.py").write_text("import there_is_no_such_module")
    before = set(sys.modules)
    with refused(why):
        models.find(name, folder)
    assert not {one for one in set(sys.modules) - before if "syntax" in one or "exits" in one}


def test_a_file_that_could_not_be_imported_is_read_anew(folder: Path) -> None:
    path = folder / "late.py"
    path.write_text("class Mine(\n")
    with refused(".*SyntaxError.*"):
        models.find("late.py:Mine", folder)
    path.write_text(MODEL + "# and its size is another, too\n")
    assert models.find("late.py:Mine", folder).made.__name__ == "Mine"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"total_sdi": "4"}, r"device model siov: unknown argument 'total_sdi'; did you mean 'total_sdis'\? .*"),
        ({"total_sdis": "four"}, r"device model siov: total_sdis=four: it takes a whole number"),
        ({"total_sdis": ""}, r"device model siov: total_sdis=: it takes a whole number"),
        ({"total_sdis": True}, r"device model siov: total_sdis=True: it takes a whole number"),
        ({"total_sdis": 1.5}, r"device model siov: total_sdis=1.5: it takes a whole number"),
        ({"total_sdis": None}, r"device model siov: total_sdis=None: it takes a whole number"),
        ({"total_sdis": "9" * 5000}, r"device model siov: total_sdis=9+: it takes a whole number"),
        ({"siov": "yes"}, r"device model siov: siov=yes: it takes on or off"),
        ({"siov": 2}, r"device model siov: siov=2: it takes on or off"),
        ({"place": "nowhere"}, r"device model siov: place=nowhere: it takes first or middle or last"),
        ({"place": 1}, r"device model siov: place=1: it takes first or middle or last"),
        ({"total_sdis": "65536"}, r"65536 SDIs: a function has 0 to 65535"),
        ({"vectors": "-1"}, r"MSI-X with -1 vectors: .*"),
    ],
)
def test_an_argument_that_siov_does_not_take_is_refused_in_one_line(arguments: dict[str, Any], why: str) -> None:
    with refused(why):
        models.find("siov").make(arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("Mine", {}, "device model mine.py:Mine needs vendor_id"),
        ("Untold", {}, "device model mine.py:Untold needs first"),
        ("Untold", {"first": 5}, "device model mine.py:Untold: first=5: it takes text"),
        ("Plain", {}, "device model mine.py:Plain needs identity"),
        ("Plain", {"identity": "x", "bars": "y"}, "device model mine.py:Plain: identity=x: it takes Identity"),
        ("Mine", {"vendor_id": 1, "width": "16"}, "device model mine.py:Mine: width=16: it takes 32 or 64"),
        ("Mine", {"vendor_id": 1, "seconds": "soon"}, "device model mine.py:Mine: seconds=soon: it takes a number"),
        ("Mine", {"vendor_id": 1, "spare": "x"}, "device model mine.py:Mine: spare=x: it takes a whole number"),
        ("Mine", {"vendor_id": 1, "others": "1"}, "device model mine.py:Mine: unknown argument 'others'.*"),
        ("Mine", {"vendor_id": "-1"}, "register vendor_id: value=-0x1 does not fit into 2 bytes"),
    ],
)
def test_an_argument_that_a_file_does_not_take_is_refused_in_one_line(
    folder: Path, name: str, arguments: dict[str, Any], why: str
) -> None:
    with refused(why):
        models.find(f"mine.py:{name}", folder).make(arguments)
