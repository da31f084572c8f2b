# SPDX-License-Identifier: GPL-2.0-or-later
"""The private apt: with an apt-get that is a script, and with the real one and a mirror that is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from makings import Distribution, put

from harness.errors import CouldNotRun
from harness.provision import apt
from harness.provision.apt import SOURCES, AptRoot, FetchFailed, Package, unpack
from harness.provision.cache import Cache

real = pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt")
REFUSING = "http://127.0.0.1:9/"  # the discard service (RFC 863), which nobody runs
FULL = ["E: Write error - write (28: No space left on device)", "E: You don't have enough free space in /x/."]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """Give a small distribution."""
    return Distribution(tmp_path, monkeypatch)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the sources.list of a machine whose real apt has fetched no lists and waits for nothing."""
    for folder in ("parts", "state/lists/partial"):
        (tmp_path / folder).mkdir(parents=True)
    configuration = f"""
        Dir::Etc::parts "{tmp_path}/parts"; Dir::Etc::sourceparts "{tmp_path}/parts";
        Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::State "{tmp_path}/state";
        Acquire::Retries::Delay "false"; Acquire::http::Proxy::127.0.0.1 "DIRECT";
    """
    monkeypatch.setenv("APT_CONFIG", str(put(tmp_path / "apt.conf", configuration)))
    monkeypatch.setattr(apt, "_KEYRINGS", (put(tmp_path / "keyring", ""),))
    return tmp_path / "sources.list"


def failure(world: Distribution) -> str:
    with pytest.raises(CouldNotRun) as caught:
        world.apt.download(["a"], world.folder / "to", suite="trixie", closure=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@real
def test_a_mirror_that_refuses_is_named_and_nothing_is_left(host: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for root in (AptRoot(cache, REFUSING), AptRoot(cache, REFUSING)):
        with pytest.raises(CouldNotRun, match=f"cannot fetch Debian's package lists from {REFUSING}: .*127") as caught:
            root.names("x")
        assert "\n" not in str(caught.value)
        assert "is the network up?" in str(caught.value)
    assert {path.name for path in cache.root.iterdir()} == {"apt", "locks"}
    assert [path.name for path in (cache.root / "apt/state/lists").iterdir() if path.is_file()] in ([], ["lock"])
    assert not host.exists()


@real
@pytest.mark.parametrize(
    ("other", "mirror"),
    [
        ("http://a.example/debian/ bookworm", "http://a.example/debian"),
        ("http://a.example/x-security sid", "http://b.example/x"),
        ("http://a.example/debian sid-security", "http://b.example/x"),
        ("http://security.a.example/debian bookworm/updates", "http://b.example/x"),
        ("http://a.example/debian bookworm/x", "http://a.example/debian"),
    ],
)
def test_the_mirror_is_that_of_the_machine_though_it_has_fetched_no_lists(host: Path, other: str, mirror: str) -> None:
    sources = [f"deb {other} main\n", "deb http://b.example/x sid main\n", "deb http://c.example/flat ./\n"]
    for order in (sources, sources[::-1]):
        put(host, "".join(order))
        assert apt._host_mirror() == mirror


@real
@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("", "names no Debian mirror: set IOV_HARNESS_DEBIAN_MIRROR"),
        ("deb http://a.example/flat ./", "names no Debian mirror: set IOV_HARNESS_DEBIAN_MIRROR"),
        ("deb http://a.example/debian-security x-security main", "names no Debian mirror"),
        ("nonsense", "is broken: Malformed line 1 in source list"),
    ],
)
def test_a_machine_whose_apt_names_no_mirror_is_told_what_to_set(
    host: Path, tmp_path: Path, sources: str, message: str
) -> None:
    put(host, f"{sources}\n")
    with pytest.raises(CouldNotRun, match=f"this machine's apt configuration {message}"):
        AptRoot(Cache(tmp_path / "cache")).names("x")


def test_the_newest_version_of_a_name_comes_first_and_only_whole_names_match(world: Distribution) -> None:
    world.announce("linux-6.9", "linux-6.10", "linux-6.10-rc1", "linux-5.20", "a-linux-6.11", "linux-6.x")
    assert world.apt.names(r"linux-\d\.\d+") == ["linux-6.10", "linux-6.9", "linux-5.20"]


def test_the_lists_are_fetched_once_and_when_they_are_first_needed(world: Distribution) -> None:
    assert not world.asked
    world.add("a", "1", {})
    for _ in range(2):
        world.apt.names("a")
        world.apt.download(["a"], world.folder / "to", suite="trixie", closure=False)
    assert [line.split()[-1] for line in world.asked if "update" in line] == ["update"]


def test_lists_that_were_pruned_meanwhile_are_fetched_again(world: Distribution) -> None:
    world.apt.names("a")
    (lists,) = world.cache.entries()
    (removed,), _ = world.cache.prune(lists.size - 1)
    assert removed == lists
    world.apt.names("a")
    assert sum("update" in line for line in world.asked) == 2


def test_packages_are_told_with_the_versions_that_they_have(world: Distribution) -> None:
    world.add("libb", "1%3a2.0-3+deb13u1", {})
    world.add("a", "2~rc1", {})
    to = world.folder / "to"
    assert world.apt.download(["libb", "a"], to, suite="trixie-backports", closure=True) == [
        Package("a", "2~rc1", to / "a_2~rc1_amd64.deb"),
        Package("libb", "1:2.0-3+deb13u1", to / "libb_1%3a2.0-3+deb13u1_amd64.deb"),
    ]
    assert f"-t trixie-backports install libb a -o Dir::Cache::Archives={to} " in world.asked[-1]
    assert "--download-only" in world.asked[-1]


def test_without_their_closure_packages_are_only_downloaded(world: Distribution) -> None:
    world.add("a", "1", {})
    world.apt.download(["a"], world.folder / "to", suite="trixie", closure=False)
    assert "-t trixie download a " in world.asked[-1]


def test_a_download_tells_how_far_it_has_come(world: Distribution) -> None:
    world.program(
        "apt-get",
        'for word; do case $word in APT::Status-Fd=*) exec 3>"/proc/self/fd/${word#*=}" ;; *) exec 3>&2 ;; esac; done\n'
        'echo "dlstatus:1:25.5:Retrieving file 1 of 2" >&3; echo "pmstatus:a:3:x" >&3\n'
        'echo "dlstatus:2:100:Retrieving file 2 of 2 (0s: remaining)" >&3\n',
    )
    fractions: list[float] = []
    world.apt.download(["a"], world.folder / "to", suite="trixie", closure=True, advance=fractions.append)
    assert fractions == [0.255, 1.0]


def test_an_apt_that_says_much_does_not_stall(world: Distribution) -> None:
    world.apt.names("a")
    many = "i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); echo 'E: Failed to fetch this and that' $i; done; exit 100\n"
    for redirection in ("", "exec >&2; "):
        world.program("apt-get", redirection + many * 2)
        assert "cannot fetch a from trixie: Failed to fetch this and that 1 (is" in failure(world)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("W: odd\nE: first\nE: second\n", "first"),
        ("one\ntwo\n\n", "two"),
        ("", "no reason given"),
        ("\n \n", "no reason given"),
    ],
)
@pytest.mark.parametrize("command", ["update", "install"])
def test_apts_first_error_is_the_reason(world: Distribution, output: str, reason: str, command: str) -> None:
    put(world.folder / "output", output)
    world.program("apt-get", f'case "$*" in *{command}*) cat "{world.folder}/output" >&2; exit 100 ;; esac\n')
    what = "package lists from http://mirror.example/debian" if command == "update" else "cannot fetch a from trixie"
    assert f"{what}: {reason} (is the network up?" in failure(world)


@pytest.mark.parametrize("output", FULL)
@pytest.mark.parametrize("command", ["update", "install"])
def test_a_full_disk_is_told_as_one(world: Distribution, output: str, command: str) -> None:
    world.program("apt-get", f'case "$*" in *{command}*) echo "{output}" >&2; exit 100 ;; esac\n')
    message = failure(world)
    assert message.startswith(f"no space left for the cache {world.cache.root}: try `harness cache prune`")
    assert "network" not in message


def test_a_package_that_the_mirror_lacks_is_told_apart_from_other_failures(world: Distribution) -> None:
    with pytest.raises(FetchFailed, match="cannot fetch none from trixie: Unable to fetch none"):
        world.apt.download(["none"], world.folder / "to", suite="trixie", closure=False)


def test_lists_that_cannot_be_read_are_told(world: Distribution) -> None:
    world.program("apt-cache", "echo 'E: The package lists are locked' >&2; exit 100\n")
    with pytest.raises(CouldNotRun, match="apt-cache failed: The package lists are locked"):
        world.apt.names("x")


@pytest.mark.parametrize(("mirror", "program"), [(None, "apt-get"), ("http://mirror.example/debian", "apt-config")])
def test_a_machine_without_apt_is_told(world: Distribution, mirror: str | None, program: str) -> None:
    for name in ("apt-get", "apt-config"):
        (world.bin / name).unlink()
    with pytest.raises(CouldNotRun, match=f"{program} is not on this machine: QEMU and kernels come as Debian"):
        AptRoot(world.cache, mirror).names("x")


def test_a_machine_whose_apt_does_not_work_is_told(world: Distribution) -> None:
    world.program("apt-config", "echo 'E: Syntax error 50x:1: Extra junk' >&2; exit 100\n")
    assert failure(world) == "this machine's apt configuration is broken: Syntax error 50x:1: Extra junk"


def test_a_machine_without_debians_keys_is_told(world: Distribution) -> None:
    (world.folder / "keyring").unlink()
    assert "Debian's archive keys are not on this machine: apt-get install debian-archive-keyring" in failure(world)


def test_the_keys_are_the_first_that_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "_KEYRINGS", (tmp_path / "newer", tmp_path / "older"))
    assert apt.keyring() is None
    put(tmp_path / "older", "")
    assert apt.keyring() == tmp_path / "older"


def test_a_cache_that_cannot_hold_an_apt_is_told(world: Distribution) -> None:
    put(world.cache.root / "apt", "")
    assert failure(world).startswith(f"the cache {world.cache.root} is not a folder: ")


def test_how_to_fetch_comes_from_the_machine_and_what_to_fetch_does_not(world: Distribution) -> None:
    settings = 'APT::Install-Recommends "1";\nAcquire::http::Proxy "http://proxy:1";\nAcquire::Languages "de";\n'
    put(world.folder / "settings", f'{settings}Acquire::IndexTargets::deb "x";\nDir::State "/var/lib/apt";\n')
    world.program("apt-config", f'cat "{world.folder}/settings"\n')
    world.apt.names("x")
    configuration = (world.cache.root / "apt/etc/apt.conf").read_text()
    assert 'Acquire::http::Proxy "http://proxy:1";' in configuration
    for other in ('"de"', "IndexTargets", "/var/lib/apt", '"1"'):
        assert other not in configuration
    sources = (world.cache.root / "apt/etc/debian.sources").read_text()
    assert "\nURIs: http://mirror.example/debian\n" in sources
    assert "\nSuites: trixie trixie-backports\n" in sources
    assert "Check-Valid-Until" not in sources
    assert f"\nSigned-By: {world.folder}/keyring\n" in sources


def test_lists_that_lapse_count_in_their_suite_alone(world: Distribution) -> None:
    apt._configure(world.folder / "root", "http://mirror.example/debian", SOURCES)
    stanzas = (world.folder / "root/etc/debian.sources").read_text().split("\n\n")
    assert ["Suites: sid\n" in one for one in stanzas] == [False, True]
    assert ["Check-Valid-Until: no\n" in one for one in stanzas] == [False, True]
    assert all(f"Signed-By: {world.folder}/keyring\n" in one for one in stanzas)


def test_packages_are_unpacked_into_one_tree(world: Distribution) -> None:
    world.add("a", "1", {"usr/bin/a": "A"})
    world.add("b", "1", {"usr/bin/b": "B"})
    packages = world.apt.download(["a", "b"], world.folder / "to", suite="trixie", closure=True)
    unpack(packages, world.folder / "tree/root", world.cache)
    assert [(path.name, path.read_text()) for path in sorted((world.folder / "tree/root/usr/bin").iterdir())] == [
        ("a", "A"), ("b", "B"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "dpkg-deb: error: not an archive\ntar: Error\n",
            r"package a_1_amd64\.deb does not unpack: dpkg-deb: error: not",
        ),
        ("tar: x: Cannot write: No space left on device", "no space left for the cache"),
    ],
)
def test_a_package_that_does_not_unpack_is_one_clear_line(world: Distribution, said: str, message: str) -> None:
    put(world.folder / "said", said)
    world.program("dpkg-deb", f'cat "{world.folder}/said" >&2; exit 2\n')
    with pytest.raises(CouldNotRun, match=message) as caught:
        unpack([Package("a", "1", world.folder / "a_1_amd64.deb")], world.folder / "tree", world.cache)
    assert "\n" not in str(caught.value)
