# SPDX-License-Identifier: GPL-2.0-or-later
"""Running the test of a failure bundle again on the same kernel, QEMU and machine, as far as they are here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.outcome import SOURCE_FOLDER, Verdict
from harness.provision.kernel import Kernel, recipes
from harness.report.against import alike
from harness.report.bundle import Bundle, Contents
from harness.report.run import built_qemu
from harness.validate.run import run_tests


@dataclass(frozen=True)
class Plan:
    """What is to be run, and in what that differs from what the bundle tells of."""

    test: str
    kernel: str
    options: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Repeated:
    """What a test said then and now; `now` is None where it did not run at all."""

    before: Verdict
    now: Verdict | None

    @property
    def notes(self) -> list[str]:
        """In what the machine of now is another than that of then."""
        now = self.now.machine if self.now else {}
        return [
            f"{name} was {self.before.machine[name]}, and is {now[name]}"
            for name in ("release", "qemu", "qemu_origin", "accel")
            if name in now and name in self.before.machine and now[name] != self.before.machine[name]
        ]

    @property
    def is_same(self) -> bool:
        """Whether it ended in the same way, for the same reason, but for numbers that no two runs have in common."""
        return self.now is not None and alike(self.before, self.now)


def plan(bundle: Bundle, root: Path, local: Kernel | None, given: str | None, qemu: str | None) -> Plan:
    """Say how to run a bundle's test again: with the tests below `root`; `local` is this machine's kernel of that name.

    `given` is a kernel that the user wants instead, `qemu` a QEMU. Raises `UsageError` where the bundle tells of no
    machine, or its test or kernel is not to be had.
    """
    machine = bundle.verdict.machine
    if not machine:
        raise UsageError(f"{bundle.verdict.test} used no machine: run it again by harness test")
    test, options, of_test = _test(bundle, root)
    kernel, of_kernel = (given, []) if given else _kernel(bundle, local)
    options += ["--qemu", qemu] if qemu else built_qemu(machine)
    options += ["--cold"] if machine.get("start") == "cold" else []
    return Plan(test, kernel, tuple(options), (*of_test, *of_kernel))


def again(what: Plan, bundle: Bundle) -> Repeated:
    """Run it; raises `CouldNotRun`."""
    name = bundle.verdict.test.partition("::")[2]
    run = run_tests(what.kernel, [what.test], *what.options)
    return Repeated(bundle.verdict, _of(name, run.verdicts))


def contents(bundle: Bundle, local: Kernel | None, image: str) -> Contents:
    """Give what a packed bundle says of its kernel, whose image lies in it as `image` where it was built here."""
    recorded = str(bundle.verdict.machine.get("kernel_content", ""))
    there = local is not None and local.content == recorded
    return Contents(kernel_content=recorded, image=image if there else None)


def _of(name: str, verdicts: Iterable[Verdict]) -> Verdict | None:
    return next((one for one in verdicts if one.test.partition("::")[2] == name), None)


def _test(bundle: Bundle, root: Path) -> tuple[str, list[str], list[str]]:
    """Give the test to run, with options: this checkout's, where it has it, else the bundle's own copy; and notes."""
    file, _, node = bundle.verdict.test.partition("::")
    sources = bundle.folder / SOURCE_FOLDER
    file = file or next((one.name for one in sorted(sources.glob("test_*.py"))), "")  # of an id without a file
    is_within = not Path(file).is_absolute() and ".." not in Path(file).parts
    if is_within and (root / file).is_file():
        then = {one.relative_to(sources): one for one in sorted(sources.rglob("*.py")) if one.is_file()}
        notes = [f"{name} is {how}" for name, one in then.items() if (how := _unlike(one, root / name))]
        return f"{root / file}::{node}", [], notes
    if not is_within or not (sources / file).is_file():
        raise UsageError(f"{file} is not among the tests here, and the bundle has no copy of it")
    return f"{sources / file}::{node}", ["--rootdir", str(sources)], []


def _unlike(one: Path, here: Path) -> str:
    """Say how a file of this checkout differs from a bundle's; empty where it does not."""
    if not here.is_file():
        return "not in this checkout"
    return "" if one.read_bytes() == here.read_bytes() else "not what it was then: this checkout's is run"


def _kernel(bundle: Bundle, local: Kernel | None) -> tuple[str, list[str]]:
    """Give the kernel to run on: the very same where there is one, else one of the same name."""
    machine = bundle.verdict.machine
    name, content = str(machine.get("kernel")), str(machine.get("kernel_content", ""))
    if local is not None and local.content == content:
        return name, []
    if bundle.image is not None:
        return str(bundle.image), []
    if local is None and name in recipes():
        return name, [f"kernel {name} is built here first, and may not be the one of then"]
    if local is None:
        raise UsageError(f"kernel {name} is not here, and not in the bundle; give one by --kernel")
    return name, [f"kernel {name} is not the one of then ({machine.get('kernel_origin')}), but {local.origin}"]
