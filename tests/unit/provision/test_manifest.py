# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest of the guest root: the real one holds together, a broken one is told in one line."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from makings import put

from harness import paths
from harness.errors import UsageError
from harness.provision import manifest
from harness.provision.manifest import Manifest

MANIFEST = """
suite = "trixie"
[programs]
"usr/bin/a" = "one"
"usr/bin/b" = "two"
"usr/bin/c" = "one"
[data]
"usr/share/d" = "three"
"usr/share/e" = "two"
[links]
"usr/bin/f" = "a"
[modules]
early = ["g"]
drivers = ["k"]
available = ["h", "i-j"]
"""


@pytest.fixture(scope="module")
def real() -> Manifest:
    """Give the manifest of the guest root that is booted."""
    return manifest.read(paths.initramfs())


def test_a_manifest_is_read(tmp_path: Path) -> None:
    put(tmp_path / "manifest.toml", MANIFEST)
    found = manifest.read(tmp_path)
    assert found.suite == "trixie"
    assert found.links == {"usr/bin/f": "a"}
    assert found.modules == manifest.Modules(early=("g",), drivers=("k",), available=("h", "i-j"))


def test_each_package_is_fetched_once(tmp_path: Path) -> None:
    put(tmp_path / "manifest.toml", MANIFEST)
    assert manifest.read(tmp_path).packages == ("one", "three", "two")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('suite = "trixie"', "", ": suite: Field required"),
        ('suite = "trixie"', "suite = [", " is not TOML: "),
        ("[data]", "[datas]", ": data: Field required"),
        ('early = ["g"]', 'early = "g"', ": modules.early: Input should be a valid tuple"),
        ('early = ["g"]', "early = []\nlate = []", ": modules.late: Extra inputs are not permitted"),
        ("[programs]", "release = 1\n[programs]", ": release: Extra inputs are not permitted"),
        ("available", "late", ": modules.available: Field required"),
        ('"two"', "2", ": programs.usr/bin/b: Input should be a valid string"),
    ],
)
def test_a_broken_manifest_is_named_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = put(tmp_path / "manifest.toml", MANIFEST.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        manifest.read(tmp_path)
    assert str(caught.value).startswith(f"guest root manifest {path}{message}")
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"guest root manifest {tmp_path}/manifest\.toml: No such file"):
        manifest.read(tmp_path)


def test_every_link_of_the_guest_root_leads_to_something_in_it(real: Manifest) -> None:
    files = [PurePosixPath(name) for name in (*real.programs, *real.data)]
    places = {*files, *(parent for file in files for parent in file.parents), PurePosixPath("usr/lib64")}
    targets = {PurePosixPath(name).parent / target for name, target in real.links.items()}
    assert {target.relative_to("/") if target.is_absolute() else target for target in targets} <= places


def test_nothing_in_the_guest_root_has_two_meanings(real: Manifest) -> None:
    names = [*real.programs, *real.data, *real.links]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith("/") or ".." in name]
