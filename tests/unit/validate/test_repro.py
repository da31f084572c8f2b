# SPDX-License-Identifier: GPL-2.0-or-later
"""How the test of a bundle is to be run again, and what counts as the same failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.outcome import SOURCE_FOLDER, Outcome, Verdict
from harness.provision.kernel import Kernel
from harness.report.bundle import Bundle, Contents
from harness.validate.repro import Repeated, contents, plan

FILE = "tests/guest/sriov/test_numvfs.py"
MACHINE = {
    "kernel": "mine",
    "kernel_content": "c0",
    "kernel_origin": "built from here",
    "qemu_origin": "Debian",
    "start": "clone",
}


def bundle(folder: Path, source: str | None = "then\n", image: bool = False, **machine: Any) -> Bundle:
    folder.mkdir(parents=True, exist_ok=True)
    Verdict(test=f"{FILE}::test_it[igb]", outcome=Outcome.FAIL, reason="r", machine={**MACHINE, **machine}).save(folder)
    if source is not None:
        (folder / SOURCE_FOLDER / FILE).parent.mkdir(parents=True, exist_ok=True)
        (folder / SOURCE_FOLDER / FILE).write_text(source)
    if image:
        (folder / "bzImage").write_bytes(b"kernel")
        (folder / "bundle.json").write_text(Contents(image="bzImage").model_dump_json(by_alias=True))
    return Bundle(folder)


def kernel(content: str = "c0") -> Kernel:
    return Kernel("mine", Path("/boot/bzImage"), "7.3.0", None, None, content, "built from there")


def checkout(tmp_path: Path, text: str | None) -> Path:
    root = tmp_path / "checkout"
    (root / FILE).parent.mkdir(parents=True)
    if text is not None:
        (root / FILE).write_text(text)
    return root


def test_this_checkouts_test_runs_on_the_very_same_kernel(tmp_path: Path) -> None:
    root = checkout(tmp_path, "then\n")
    made = plan(bundle(tmp_path / "b"), root, kernel(), None, None)
    assert (made.test, made.kernel, made.options, made.notes) == (f"{root / FILE}::test_it[igb]", "mine", (), ())


def test_another_state_of_the_test_is_told(tmp_path: Path) -> None:
    made = plan(bundle(tmp_path / "b"), checkout(tmp_path, "now\n"), kernel(), None, None)
    assert made.notes == (f"{FILE} is not what it was then: this checkout's is run",)


def test_a_helper_that_was_another_or_is_no_more_is_told(tmp_path: Path) -> None:
    then = bundle(tmp_path / "b")
    root = checkout(tmp_path, "then\n")
    (root / "tests/conftest.py").write_text("now\n")
    for name in ("conftest.py", "cases.py"):
        (then.folder / SOURCE_FOLDER / "tests" / name).write_text("then\n")
    assert plan(then, root, kernel(), None, None).notes == (
        "tests/cases.py is not in this checkout",
        "tests/conftest.py is not what it was then: this checkout's is run",
    )


def test_a_test_whose_id_has_no_file_comes_from_the_bundle(tmp_path: Path) -> None:
    """So plain pytest names one that lies beyond its root."""
    made = bundle(tmp_path / "b", None)
    sources = made.folder / SOURCE_FOLDER
    sources.mkdir()
    (sources / "test_it.py").write_text("")
    made.verdict.test = "::test_it[igb]"
    assert plan(made, tmp_path, kernel(), None, None).test == f"{sources / 'test_it.py'}::test_it[igb]"


def test_a_test_that_is_not_here_comes_from_the_bundle(tmp_path: Path) -> None:
    made = plan(bundle(tmp_path / "b"), checkout(tmp_path, None), kernel(), None, None)
    sources = tmp_path / "b" / SOURCE_FOLDER
    assert (made.test, made.options) == (f"{sources / FILE}::test_it[igb]", ("--rootdir", str(sources)))
    with pytest.raises(UsageError, match="is not among the tests here, and the bundle has no copy"):
        plan(bundle(tmp_path / "c", None), tmp_path, kernel(), None, None)


def test_a_kernel_that_is_not_here_comes_from_the_bundle(tmp_path: Path) -> None:
    packed = bundle(tmp_path / "b", image=True)
    for local in (None, kernel("c1")):
        assert plan(packed, tmp_path, local, None, None).kernel == str(packed.folder / "bzImage")
    assert plan(packed, tmp_path, kernel("c0"), None, None).kernel == "mine"


def test_another_kernel_of_the_name_is_told_and_none_refused(tmp_path: Path) -> None:
    made = plan(bundle(tmp_path / "b"), tmp_path, kernel("c1"), None, None)
    assert made.kernel == "mine"
    assert made.notes == ("kernel mine is not the one of then (built from here), but built from there",)
    with pytest.raises(UsageError, match="kernel mine is not here, and not in the bundle; give one by --kernel"):
        plan(bundle(tmp_path / "b"), tmp_path, None, None, None)
    assert plan(bundle(tmp_path / "b"), tmp_path, None, "other", None).kernel == "other"


@pytest.mark.parametrize(
    ("machine", "qemu", "options"),
    [
        ({"start": "cold"}, None, ("--cold",)),
        ({"qemu_origin": "with iov-overlay, built from here"}, None, ("--qemu", "overlay")),
        ({"qemu_origin": "with iov-overlay, built from here"}, "/usr/bin/q", ("--qemu", "/usr/bin/q")),
    ],
)
def test_the_machine_starts_as_it_did(tmp_path: Path, machine: dict[str, str], qemu: str | None, options: Any) -> None:
    root = checkout(tmp_path, "then\n")
    assert plan(bundle(tmp_path / "b", **machine), root, kernel(), None, qemu).options == options


def test_a_test_without_a_machine_has_nothing_to_bring(tmp_path: Path) -> None:
    Verdict(test="tests/unit/test_x.py::test_y", outcome=Outcome.FAIL).save(tmp_path)
    with pytest.raises(UsageError, match="used no machine: run it again by harness test"):
        plan(Bundle(tmp_path), tmp_path, None, None, None)


def test_a_kernel_is_packed_only_where_it_is_the_one(tmp_path: Path) -> None:
    there = bundle(tmp_path / "b")
    assert contents(there, kernel("c0"), "k").image == "k"
    assert contents(there, kernel("c1"), "k").image is None
    assert contents(there, None, "k").kernel_content == "c0"


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ((Outcome.FAIL, "WARN at 0xffffffff81234567, pid 91, 7.5 s"), True),
        ((Outcome.FAIL, "something else"), False),
        ((Outcome.PASS, ""), False),
        ((Outcome.ERROR, "WARN at 0xffffffff81000000, pid 90, 7.4 s"), False),
        (None, False),
    ],
)
def test_the_same_failure_may_differ_in_numbers_only(now: tuple[Outcome, str] | None, same: bool) -> None:
    before = Verdict(test="t", outcome=Outcome.FAIL, reason="WARN at 0xffffffff81000000, pid 90, 7.4 s")
    then = None if now is None else Verdict(test="t", outcome=now[0], reason=now[1])
    assert Repeated(before, then).is_same is same


def test_another_machine_than_then_is_told() -> None:
    before = Verdict(test="t", outcome=Outcome.FAIL, machine={"qemu": "11.1.3", "accel": "tcg"})
    now = Verdict(test="t", outcome=Outcome.FAIL, machine={"qemu": "10.2.2", "accel": "tcg"})
    assert Repeated(before, now).notes == ["qemu was 11.1.3, and is 10.2.2"]


@pytest.mark.parametrize("name", ["/etc/x.py", "../x.py", "source/../../x.py"])
def test_a_bundle_names_no_file_outside_of_the_checkout_or_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.py").write_text("")
    made = bundle(tmp_path / "b")
    made.verdict.test = f"{name}::test_it[igb]"
    with pytest.raises(UsageError, match="is not among the tests here, and the bundle has no copy of it"):
        plan(made, tmp_path, kernel(), None, None)
