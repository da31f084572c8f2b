# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMUs that are shell scripts: some speak QMP, some are broken, each in its own way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from makings import SH, Distribution, put, script, speaking_qmp

from harness.errors import CouldNotRun, UsageError
from harness.provision import qemu
from harness.provision.apt import FetchFailed
from harness.provision.distribution import PACKAGE, PROGRAM
from harness.provision.qemu import Qemu

REQUIRED = {"nvme": frozenset({"sriov_max_vfs", "serial"}), "igb": frozenset[str]()}
COMPLETE = speaking_qmp(nvme="serial sriov_max_vfs cmb_size_mb", igb="mac")
OLD = speaking_qmp(nvme="serial")
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
VERSION = '{"return": {"qemu": {"major": 9, "minor": 2, "micro": 1}}}'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """Give a machine without QEMU, and a distribution without one; the cache's path has a space."""
    return Distribution(tmp_path / "my world", monkeypatch)


def add(world: Distribution, loader: str) -> None:
    world.add(PACKAGE, "1%3a10.1.2", {LOADER: f"#!{SH}\n{loader}", f"usr/bin/{PROGRAM}": ""})


def provide(world: Distribution, *, refresh: bool = False) -> Qemu:
    return qemu.provide(world.cache, world.apt, REQUIRED, refresh=refresh)


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        qemu.ask(path, REQUIRED, "")
    message = str(caught.value)
    assert message.startswith(f"QEMU {path}")
    assert "\n" not in message
    return message.removeprefix(f"QEMU {path}")


def test_a_qemu_tells_its_version_and_what_it_has_of_what_is_asked_for(tmp_path: Path) -> None:
    path = script(tmp_path / "qemu", COMPLETE)
    found = qemu.ask(path, {**REQUIRED, "nvme-ns": frozenset()}, "of mine")
    assert (found.path, found.version, found.origin) == (path, "10.1.2", "of mine")
    assert found.devices == {"nvme": {"serial", "sriov_max_vfs", "cmb_size_mb"}, "igb": {"mac"}}
    assert found.lacks({**REQUIRED, "nvme-ns": frozenset()}) == ["nvme-ns"]


def test_a_qemu_tells_whether_it_has_the_overlay(tmp_path: Path) -> None:
    one, other = (
        script(tmp_path / "without", COMPLETE),
        script(tmp_path / "with", speaking_qmp(overlay=True, igb="mac")),
    )
    assert not qemu.ask(one, REQUIRED, "").has_overlay
    assert qemu.ask(other, REQUIRED, "").has_overlay


def test_it_is_told_device_by_device_and_property_by_property_what_is_lacking(tmp_path: Path) -> None:
    found = qemu.ask(script(tmp_path / "qemu", OLD), REQUIRED, "")
    assert found.lacks({}) == []
    assert found.lacks({**REQUIRED, "nvme": frozenset({"b", "serial", "a"})}) == ["igb", "nvme.a", "nvme.b"]


def test_a_property_with_a_dash_and_a_device_with_one_are_found(tmp_path: Path) -> None:
    path = script(tmp_path / "qemu", speaking_qmp(pcie_root_port="x-speed"))
    assert not qemu.ask(path, {"pcie-root-port": frozenset({"x-speed"})}, "").lacks({"pcie-root-port": frozenset()})


def test_a_bare_name_means_the_file_here_and_not_one_in_path(
    world: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.program("qemu", OLD)
    monkeypatch.chdir(tmp_path)
    path = script(tmp_path / "qemu", COMPLETE)
    found = qemu.ask(Path("qemu"), REQUIRED, "")
    assert found.path == path
    assert not found.lacks(REQUIRED)


def test_events_between_the_answers_are_no_answers(tmp_path: Path) -> None:
    event = '{"event": "RESUME", "timestamp": {}}'
    path = script(tmp_path / "qemu", f"echo '{event}\n{{\"return\": {{}}}}\n{event}\n{VERSION}'\n")
    assert qemu.ask(path, {}, "").version == "9.2.1"


def test_a_qemu_that_dies_while_it_is_asked_lacks_the_rest(tmp_path: Path) -> None:
    answers = f'{{"return": {{}}}}\n{VERSION}\n{{"return": [{{"name": "mac"}}]}}'
    found = qemu.ask(script(tmp_path / "qemu", f"echo '{answers}'\nkill -9 $$\n"), REQUIRED, "")
    assert found.lacks(REQUIRED) == ["nvme"]


@pytest.mark.parametrize("name", ["none", "file", "folder", "file/below", "x" * 300])
def test_what_is_no_program_is_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path / "file", "text\n")
    (tmp_path / "folder").mkdir()
    builds = "overlay, overlay-sanitized"
    said = f": no such program; give the path of a {PROGRAM} binary, or one of our own builds: {builds}"
    assert refusal(tmp_path / name) == said


@pytest.mark.parametrize(
    ("content", "reason"),
    [("text\n", "Exec format error"), ("\x7fELF", "Exec format error"), ("#!/no/such/sh\n", "No such file")],
)
def test_a_program_that_does_not_start_here_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    assert refusal(put(tmp_path / "qemu", content, 0o755)).startswith(f" does not start: {reason}")


@pytest.mark.parametrize(
    ("commands", "code", "said"),
    [
        ("exit 1", 1, "nothing"),
        ("cat >&2; exit 3", 3, '{"execute": "qmp_capabilities"}'),
        ("echo hello", 0, "hello"),
        ("echo; echo first >&2; echo second >&2", 0, "first"),
        (f"echo {'x' * 300}", 0, "x" * 200),
        ("printf '\\377\\0\\n'", 0, "\ufffd\0"),
        ("kill -9 $$", -9, "nothing"),
        ("echo 42", 0, "42"),
        ("echo null", 0, "null"),
        ("echo '\"return\"'", 0, '"return"'),
        ("echo '{}'", 0, "{}"),
        (f"echo '{VERSION}'", 0, VERSION),
        ("""echo '{"return": 1}\n{"return": 2}'""", 0, '{"return": 1}'),
        ("""echo '{"return": 1}\n{"return": {"qemu": 7}}'""", 0, '{"return": 1}'),
        ("""echo '{"return": 1}\n{"return": {"qemu": {"major": 7}}}'""", 0, '{"return": 1}'),
        (f"""echo '{VERSION}\n{VERSION}\n{{"return": 5}}'""", 0, VERSION),
        (f"""echo '{VERSION}\n{VERSION}\n{{"return": ["mac"]}}'""", 0, VERSION),
        (f"echo '{'[' * 20000}'", 0, "[" * 200),
    ],
)
def test_a_program_that_is_no_qemu_is_refused_with_what_it_says(
    tmp_path: Path, commands: str, code: int, said: str
) -> None:
    message = refusal(script(tmp_path / "qemu", f"{commands}\n"))
    assert message == f" is no {PROGRAM} that runs here: exit code {code}, it said: {said}"


def test_a_real_program_that_is_no_qemu_is_refused() -> None:
    assert "exit code 1, it said: nothing" in refusal(Path(str(shutil.which("false"))))


def test_a_program_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "_ASK_TIMEOUT", 0.2)
    assert refusal(script(tmp_path / "qemu", "exec sleep 60\n")) == " does not answer over QMP within 0.2 s"


def test_the_machines_own_qemu_is_taken_when_it_has_all(world: Distribution) -> None:
    path = world.program(PROGRAM, COMPLETE)
    found = provide(world)
    assert (found.path, found.origin) == (path, "this machine's own")
    assert not world.asked


@pytest.mark.parametrize("host", [None, OLD, "echo broken\n"], ids=["none", "old", "broken"])
def test_another_is_fetched_when_the_machines_own_does_not_do(world: Distribution, host: str | None) -> None:
    if host is not None:
        world.program(PROGRAM, host)
    add(world, COMPLETE)
    found = provide(world)
    assert found.path.is_relative_to(world.cache.root)
    assert (found.version, found.origin) == ("10.1.2", "Debian trixie-backports, private prefix")
    assert provide(world) == found
    installs = [line for line in world.asked if " install " in line]
    assert len(installs) == 1
    assert f"-t trixie-backports install {PACKAGE} " in installs[0]
    assert not list(world.cache.root.rglob("*.deb"))
    provide(world, refresh=True)
    assert len([line for line in world.asked if " install " in line]) == 2


def test_a_fetched_one_runs_through_its_loader_with_its_own_files(world: Distribution) -> None:
    add(world, f'echo "$QEMU_MODULE_DIR|$*" >"{world.folder}/called"\n{COMPLETE}')
    folder = provide(world).path.parent / "root"
    modules, arguments = (world.folder / "called").read_text().strip().split("|")
    libraries = f"{folder}/usr/lib/x86_64-linux-gnu"
    assert modules == f"{libraries}/qemu"
    assert arguments.startswith(
        f"--argv0 {PROGRAM} --library-path {libraries}:{libraries}/systemd {folder}/usr/bin/{PROGRAM} "
        f"-L {folder}/usr/share/qemu -L {folder}/usr/share/seabios -machine none "
    )


def test_a_fetched_one_that_does_not_do_either_is_told(world: Distribution) -> None:
    add(world, OLD)
    with pytest.raises(
        CouldNotRun, match=r"QEMU 10\.1\.2 from Debian trixie-backports lacks igb, nvme\.sriov_max_vfs;"
    ):
        provide(world)


def test_a_mirror_without_qemu_is_told_and_nothing_is_left(world: Distribution) -> None:
    with pytest.raises(FetchFailed, match=f"cannot fetch {PACKAGE} from trixie-backports: Unable to fetch"):
        provide(world)
    assert not world.left("qemu")
