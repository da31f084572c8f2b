# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is wrong is told in one clear line, with the right exit code, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Terminal, fake_kernel, fake_qemu, program

EXTENDS = '{% extends "bases/q35.j2" %}{% block plugged %}'

NO_QEMU = "; give the path of a qemu-system-x86_64 binary, or one of our own builds: overlay, overlay-sanitized"

_INSTALLED = "import sys; from harness.cli import main; sys.argv[0] = 'harness'; main()"


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("nonsense", "No such command 'nonsense' (see harness -h)"),
        ("--nonsense", "No such option: --nonsense (see harness -h)"),
        ("shell", "Missing argument 'profile' (see harness shell -h)"),
        ("shell minimal --kernel", "Option '--kernel' requires an argument (see harness -h)"),
        ("shell minimal --accel fast", "'fast' is not one of 'auto', 'tcg', 'kvm' (see harness shell -h)"),
        ("shell minimal --ssh-port 65536", "'--ssh-port': Input should be less than or equal to 65535"),
        ("bench boot --count 0", "'--count': Input should be greater than or equal to 1"),
        ("bench boot --count many", "'--count': Input should be a valid integer"),
        ("cache prune --max-size lots", "--max-size lots: write a size such as 5GB, 500MB or 0"),
        ("cache prune --max-size -5", "--max-size -5: write a size such as 5GB, 500MB or 0"),
        (
            "shell igb-sriow",
            "unknown profile 'igb-sriow'; did you mean 'igb-sriov'? (there are: igb-native, igb-pair, ",
        ),
        ("profiles bases/q35", "unknown profile 'bases/q35' (there are: "),
        ("shell minimal -p nonsense", "--param nonsense: write NAME=VALUE"),
        ("shell minimal -p memroy=512", "unknown parameter 'memroy'; did you mean 'memory'? (there are: append, "),
        ("shell minimal -p memory=1", "memory=1: it takes 192..65536"),
        ("shell minimal -p memory=much", "memory=much: it takes 192..65536"),
        ("shell minimal -p append=a\nb", "append=a b: it takes text of one line"),
        ("shell nvme-sriov -p sriov_max_vfs=128", "sriov_max_vfs=128: it takes 1..127"),
        ("profiles --profile-dir nowhere", "/here/nowhere: no such folder"),
        (
            "shell minimal --kernel debian-5",
            "unknown kernel 'debian-5': choose from 7.3-base, 7.3-debug, 7.3-siov, debian-6.12, debian-7.2, or give",
        ),
        ("shell minimal --modules .", "--modules goes with a kernel given by path; 'debian-6.12' is a name"),
        ("shell minimal --kernel ./nowhere", "nowhere: No such file or directory; expected a bzImage or a vmlinux"),
        ("shell minimal --qemu nowhere", NO_QEMU),
        ("test nowhere", "nowhere: no such test file or folder, here or among the harness's own tests"),
        ("test tests/guest/nowhere.py::test_x", "tests/guest/nowhere.py::test_x: no such test file or folder"),
        ("test -n many", "-n many: write a number of workers, or auto"),
        ("test -n -1", "-n -1: write a number of workers, or auto"),
        ("test --deadline -5", "--deadline -5: give seconds, more than 0"),
        ("test --deadline nan", "--deadline nan: give seconds, more than 0"),
        ("test --deadline soon", "'--deadline': Input should be a valid number"),
        ("test --test-timeout 0", "--test-timeout 0: give seconds, more than 0"),
        ("test --junit .", "--junit . is a folder; give the name of a file"),
        ("validate --series x", "--source TREE and --series MBOX, DIR or RANGE go together"),
        ("validate --source debian:7.3 --series nowhere", "--series nowhere: nowhere: No such file or directory"),
        ("validate --source debian:7.3 --series a..b", "a range of commits needs a git tree for --source"),
        ("validate --source . --series a..b --tests nowhere", "--tests nowhere: no such test file or folder"),
        ("validate --source . --series a..b --profiles igb", "unknown profile 'igb'"),
        (
            "validate --source . --series a..b --cross sparc",
            "--cross: unknown architecture 'sparc' (there are: powerpc",
        ),
        ("validate bisect --source . --test x", "give either --series, or --good REV and --bad REV of a git tree"),
        ("validate bisect --source . --test x --good a", "give either --series, or --good REV and --bad REV"),
        ("repro nowhere", "nowhere: No such file or directory; give build/runs/RUN/TEST, or a file that"),
        ("repro . --pack x.tar.zst --shell", "--pack runs nothing: give it alone"),
        ("repro . --json --shell", "--json and --shell do not go together"),
        ("test --junit /dev/null/x/y.xml", "--junit /dev/null/x/y.xml: /dev/null is no folder"),
    ],
)
def test_bad_usage_is_refused_at_once(terminal: Terminal, arguments: str, line: str) -> None:
    assert line in terminal.refused(*arguments.split(" "))


@pytest.mark.parametrize("command", ["shell minimal", "demo", "test", "provision", "bench boot", "doctor", "profiles"])
def test_a_bad_setting_is_refused_by_every_command(terminal: Terminal, command: str) -> None:
    terminal.env(IOV_HARNESS_ACCEL="fast")
    line = terminal.refused(*command.split())
    assert line == "IOV_HARNESS_ACCEL: Input should be 'auto', 'tcg' or 'kvm' (got 'fast')"


@pytest.mark.parametrize("command", ["shell {}", "shell minimal --kernel {}", "test {}", "shell minimal -p {}"])
def test_a_word_longer_than_any_name_is_refused_like_any_other(terminal: Terminal, command: str) -> None:
    word = "x" * 12_000
    assert word in terminal.refused(*command.format(word).split())


def test_bisecting_stops_at_bad_usage(terminal: Terminal) -> None:
    done = terminal.harness("test", "--bisect", "nowhere")
    assert done.code == 128
    assert "nowhere: no such test file" in done.line


@pytest.mark.parametrize(
    ("template", "definition", "line"),
    [
        (EXTENDS + "\n-m {{ nowhere }}\n{% endblock %}", "", "template mine.j2: 'nowhere' is undefined"),
        (EXTENDS + "\n-m {{ }}\n{% endblock %}", "", "template mine.j2, line 2: Expected an expression"),
        (EXTENDS + "\n-m {{ 1 / 0 }}\n{% endblock %}", "", "template mine.j2: division by zero"),
        (EXTENDS + "\n-m {{ {1: wiring} | tojson }}\n{% endblock %}", "", "template mine.j2: Object of type Wiring"),
        ('{% extends "bases/vax.j2" %}', "", "template mine.j2: 'bases/vax.j2' not found"),
        (EXTENDS + "\nfoo\n{% endblock %}", "", "template mine.j2: a line must be one QEMU option (-NAME ARGUMENT)"),
        ("\udcff", "", "template mine.j2: 'utf-8' codec can't decode"),
        (None, "", "mine.toml: its template mine.j2 is missing"),
        ("", "pfs = 1", "mine.toml: pfs: Input should be a valid tuple"),
        ("", "summary", "mine.toml is not TOML: "),
        ("", "# \udcff", "mine.toml is not TOML: 'utf-8' codec can't decode"),
        ("", '[[rules]]\nrequire = "memory >"\nmessage = ""', "'memory >' does not evaluate: "),
        ("", '[[rules]]\nrequire = "nowhere"\nmessage = ""', "'nowhere' does not evaluate: 'nowhere' is undefined"),
        ("", '[[rules]]\nrequire = "memory / 0"\nmessage = ""', "'memory / 0' does not evaluate: division by zero"),
        ("", '[[rules]]\nrequire = "memory < append"\nmessage = ""', "'memory < append' does not evaluate: '<' not"),
        ("", '[[rules]]\nrequire = "cpus > 64"\nmessage = "{{ x }}"', "the message '{{ x }}' does not render: 'x' is"),
        ("", '[parameters.x]\ntype = "int"\nhelp = ""\ndefault_from = "y"', "'y' does not evaluate: 'y' is undefined"),
        (
            "",
            '[parameters.x]\ntype = "int"\nhelp = ""',
            "mine.toml: parameters.x: Value error, needs either",
        ),
    ],
)
def test_a_profile_of_ones_own_that_is_wrong_is_refused_at_once(
    terminal: Terminal, template: str | None, definition: str, line: str
) -> None:
    folder = terminal.folder / "profiles"
    folder.mkdir()
    text = f'summary = "mine"\n{definition}'
    (folder / "mine.toml").write_text(text, errors="surrogateescape")
    if template is not None:
        (folder / "mine.j2").write_text(template, errors="surrogateescape")
    assert line in terminal.refused("shell", "mine", "--profile-dir", folder)


def wrong_kernels(whole: bytes) -> dict[str, tuple[bytes, str]]:
    elf = Path(shutil.which("true") or sys.executable).read_bytes()
    return {
        "empty": (b"", "is empty; expected a bzImage or a vmlinux for x86-64"),
        "text": (b"# I am no kernel\n", "is a text file; expected"),
        "cut": (whole[:1500], "is cut off: a bzImage of 2048 bytes, of which 1500 are there"),
        "elf": (elf, "is an ELF file, but no x86-64 kernel; expected"),
        "other": (bytes(range(256)) * 8, "is no kernel at all; expected"),
    }


@pytest.mark.parametrize("what", ["empty", "text", "cut", "elf", "other"])
def test_a_file_that_is_no_kernel_is_refused_before_anything_is_fetched(terminal: Terminal, what: str) -> None:
    path = fake_kernel(terminal.folder)
    content, line = wrong_kernels(path.read_bytes())[what]
    path.write_bytes(content)
    assert terminal.refused("shell", "minimal", "--kernel", path).startswith(f"kernel {path} {line}")


def test_a_folder_is_no_kernel(terminal: Terminal) -> None:
    assert terminal.refused("test", "--kernel", f"{terminal.cwd}/").startswith(f"kernel {terminal.cwd} is a folder")


def test_a_kernel_by_path_without_a_slash_is_told_how_to_be_one(terminal: Terminal) -> None:
    fake_kernel(terminal.cwd).rename(terminal.cwd / "vmlinuz")
    done = terminal.harness("shell", "minimal", "--kernel", "vmlinuz")
    assert done.code == 2
    assert "unknown kernel 'vmlinuz' (a file? write ./vmlinuz)" in done.line


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_modules_is_refused(terminal: Terminal, there: bool) -> None:
    folder = terminal.folder / "mods"
    if there:
        folder.mkdir()
    kernel = fake_kernel(terminal.folder)
    line = terminal.refused("shell", "minimal", "--kernel", kernel, "--modules", folder)
    assert str(folder) in line
    assert "expected" in line
    assert "lib/modules/RELEASE" in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", NO_QEMU),
        ("exit 1", "is no qemu-system-x86_64 that runs here: exit code 1, it said: nothing"),
        ("echo one >&2; echo two >&2; exit 3", "exit code 3, it said: one"),
        ("printf '\\033[2Jgone\\n' >&2", "it said: gone"),
        ("echo '{}'", "is no qemu-system-x86_64 that runs here: exit code 0, it said: {}"),
    ],
)
def test_a_program_that_is_no_qemu_is_refused(terminal: Terminal, text: str, line: str) -> None:
    path = program(terminal.folder / "qemu", text)
    if not text:
        path.chmod(0o644)
    refusal = terminal.refused("shell", "minimal", "--qemu", path)
    assert refusal.startswith(f"QEMU {path}")
    assert refusal.endswith(line)


def test_a_qemu_without_the_device_is_refused_and_the_device_named(terminal: Terminal) -> None:
    qemu = fake_qemu(terminal.folder, lacking="nvme-subsys")
    line = terminal.refused("shell", "nvme-sriov", "--qemu", qemu)
    assert line == f"QEMU 9.8.7 ({qemu}) lacks nvme-subsys, which profile nvme-sriov needs"


def test_a_qemu_beside_us_is_not_looked_for_in_path(terminal: Terminal) -> None:
    """A relative path is what it says, not a word for execvp(3)."""
    fake_qemu(terminal.cwd, lacking="nvme-subsys").rename(terminal.cwd / "sh")
    done = terminal.harness("shell", "nvme-sriov", "--qemu", "./sh")
    assert done.code == 2
    assert "lacks nvme-subsys" in done.line


def test_a_port_in_use_is_refused(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = terminal.refused("shell", "minimal", "--ssh-port", port)
    assert line == f"--ssh-port {port}: Address already in use; choose another, or 0 for any free one"


def test_what_only_pytest_can_refuse_leaves_no_run_behind(terminal: Terminal) -> None:
    done = terminal.harness("test", *terminal.stand_ins(), "--no-such-option")
    assert done.code == 2
    assert "unrecognized arguments: --no-such-option" in done.err
    assert list(terminal.cwd.iterdir()) == []


@pytest.mark.parametrize("arguments", [["shell", "no-such"], ["shell"]])
def test_the_installed_command_says_the_same(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INSTALLED, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(("harness: unknown profile 'no-such'", "harness: Missing argument 'profile'"))
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_reads_to_its_end_says_nothing_of_a_kernel(tmp_path: Path) -> None:
    """As `harness --help | head -1`: a shell gives 141 for what SIGPIPE ends; 1 would be FAIL."""
    unread, written = os.pipe()
    os.close(unread)
    with open(written, "wb") as closed:  # noqa: PTH123 - a descriptor
        done = subprocess.run(
            [sys.executable, "-c", _INSTALLED, "--help"],
            cwd=tmp_path,
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")
