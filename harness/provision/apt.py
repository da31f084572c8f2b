# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages without root and without touching the host: an apt with a root of its own.

It has its own state, lists and archive folder and an empty dpkg status file; mirror, proxy and login come from the
machine's own apt configuration; the archive's signature is checked against the machine's Debian keyring.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from harness.errors import CouldNotRun
from harness.provision.cache import PACKAGE_LISTS, SOURCE_LISTS, Cache, explained
from harness.provision.progress import Advance

SUITES = ("trixie", "trixie-backports")
_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
_RELEASE_FILE = re.compile(r"^'(.+)/dists/(.+)/InRelease' ", re.MULTILINE)
"""A line of `apt-get update --print-uris`: mirror and suite."""


@dataclass(frozen=True)
class Lists:
    """What the private apt knows packages from: of which kind they are (`deb`, `deb-src`), and of which suites."""

    folder: str
    kind: str
    suites: tuple[str, ...]
    lapsing: tuple[str, ...] = ()
    """More suites, whose signed lists count even where they are older than they ought to be (`Valid-Until`)."""


BINARIES = Lists(PACKAGE_LISTS, "deb", SUITES)
SOURCES = Lists(SOURCE_LISTS, "deb-src", SUITES, lapsing=("sid",))
"""sid too: what is newest in the other suites is listed there, but the mirror may not have the files. Its lists lapse
within a week, which a mirror that stands still, such as a snapshot, outlives; any version in them will do.
"""


class FetchFailed(CouldNotRun):
    """A file that the package lists name could not be had from the mirror."""


@dataclass(frozen=True)
class Package:
    """A downloaded binary package."""

    name: str
    version: str
    path: Path


class AptRoot:
    """The private apt; its lists are fetched once per process, when first needed."""

    def __init__(self, cache: Cache, mirror: str | None = None, lists: Lists = BINARIES) -> None:
        self._cache = cache
        self._lists = lists
        self._root = cache.root / lists.folder
        self._mirror = mirror
        self._environment: Mapping[str, str] | None = None

    def names(self, pattern: str) -> list[str]:
        """Give the names of all packages that match the regular expression as a whole, the newest version first."""
        listed = self._run(["apt-cache", "pkgnames"]).split()
        found = [name for name in listed if re.fullmatch(pattern, name)]
        return sorted(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)], reverse=True)

    def download(
        self, names: Sequence[str], to: Path, *, suite: str, closure: bool, advance: Advance = lambda _: None
    ) -> list[Package]:
        """Fetch packages into the folder `to`; with `closure`, all that they depend on too.

        Raises `FetchFailed` when the mirror has no such package or does not serve its file.
        """
        self._prepare()
        (to / "partial").mkdir(parents=True, exist_ok=True)
        if closure:
            command = ["apt-get", "-qq", "-y", "--download-only", "-t", suite, "install", *names]
        else:
            command = ["apt-get", "-qq", "-t", suite, "download", *names]
        read, write = os.pipe()
        options = ["-o", f"Dir::Cache::Archives={to}", "-o", f"APT::Status-Fd={write}"]
        with self._cache.locked(self._lists.folder), tempfile.TemporaryFile("w+", errors="replace") as said:
            process = subprocess.Popen(
                [*command, *options], env=self._environment, cwd=to, pass_fds=[write],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,  # no pipe: it would fill while the other is read
            )  # fmt: skip
            os.close(write)
            with process, os.fdopen(read) as status:
                for line in status:
                    if line.startswith("dlstatus:"):
                        advance(float(line.split(":")[2]) / 100)
            said.seek(0)
            output = said.read()
        if process.returncode != 0:
            raise self._failure(f"cannot fetch {' '.join(names)} from {suite}", output)
        return [_package(path) for path in sorted(to.glob("*.deb"))]

    def source_versions(self, name: str) -> list[str]:
        """Give the versions of a source package that the lists have, the newest upstream version first."""
        listed = self._run(["apt-cache", "showsrc", "--only-source", name]).splitlines()
        versions = {line.removeprefix("Version: ") for line in listed if line.startswith("Version: ")}
        return sorted(versions, key=upstream, reverse=True)

    def download_source(self, name: str, version: str, to: Path) -> list[Path]:
        """Fetch the files of a source package into the folder `to`; raises `FetchFailed`.

        Their digests are those of the lists, which the archive has signed.
        """
        self._run(["apt-get", "-qq", "source", "--download-only", f"{name}={version}"], at=to)
        return sorted(to.iterdir())

    def _run(self, command: Sequence[str], *, at: Path | None = None) -> str:
        self._prepare()
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, cwd=at)
        if done.returncode != 0:
            raise self._failure(f"{command[0]} failed", done.stderr)
        return done.stdout

    def _prepare(self) -> None:
        """Write the configuration and fetch the lists, once, or again where they were pruned; raises `CouldNotRun`."""
        if self._environment is not None and self._root.exists():
            return
        with self._cache.locked(self._lists.folder):
            self._environment = self._updated()

    def _updated(self) -> Mapping[str, str]:
        try:
            mirror = self._mirror or _host_mirror()
            configuration = _configure(self._root, mirror, self._lists)
            environment = {**os.environ, "LC_ALL": "C.UTF-8", "APT_CONFIG": str(configuration)}
            os.utime(self._root)
        except FileNotFoundError as error:
            if error.filename not in ("apt-get", "apt-config"):
                raise
            raise CouldNotRun(
                f"{error.filename} is not on this machine: QEMU and kernels come as Debian packages"
            ) from error
        except OSError as error:
            raise explained(error, self._cache.root) from error
        command = ["apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update"]
        what = "package lists" if self._lists is BINARIES else "lists of source packages"
        with self._cache.progress.task(f"{what} of Debian {SUITES[0]}"):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise self._failure(f"cannot fetch Debian's package lists from {mirror}", done.stderr)
        return environment

    def _failure(self, what: str, output: str) -> CouldNotRun:
        if "No space left on device" in output or "enough free space" in output:
            return explained(OSError(28, "No space left on device"), self._cache.root)
        return FetchFailed(
            f"{what}: {_reason(output)} (is the network up? the mirror comes from this machine's apt configuration, "
            "or from the setting debian_mirror)"
        )


def upstream(version: str) -> tuple[int, ...]:
    """Give the numbers of the upstream part of a package's version: 11, 1 and 3 of `1:11.1.3+ds-1~bpo13+1`."""
    plain = re.match(r"(?:\d+:)?([\d.]+)", version)
    return tuple(int(number) for number in plain[1].split(".") if number) if plain else ()


def keyring() -> Path | None:
    """Give the machine's copy of the keys that Debian's archive is signed with; None where it has none."""
    return next((path for path in _KEYRINGS if path.exists()), None)


def unpack(packages: Sequence[Package], to: Path, cache: Cache) -> None:
    """Unpack packages into one tree; raises `CouldNotRun`."""
    to.mkdir(parents=True, exist_ok=True)
    for package in packages:
        done = subprocess.run(["dpkg-deb", "-x", package.path, to], capture_output=True, text=True, check=False)
        if "No space left on device" in done.stderr:
            raise explained(OSError(28, "No space left on device"), cache.root)
        if done.returncode != 0:
            why = done.stderr.strip().partition("\n")[0]
            raise CouldNotRun(f"package {package.path.name} does not unpack: {why}")


def _reason(output: str) -> str:
    """Give the first error that apt tells, or else the last that it says."""
    errors = [line.removeprefix("E: ").strip() for line in output.splitlines() if line.startswith("E: ")]
    return (errors or output.strip().splitlines()[-1:] or ["no reason given"])[0]


def _package(path: Path) -> Package:
    # NAME_VERSION_ARCHITECTURE.deb, with apt's %-quoting of the epoch's colon.
    name, version, _ = unquote(path.name).split("_", 2)
    return Package(name, version, path)


def _host_mirror() -> str:
    """Give the Debian mirror that the host's apt uses: the first that is no security archive."""
    # Not `indextargets`: that tells only of lists that were fetched, and a container image comes without them.
    found = _RELEASE_FILE.findall(_of_host("apt-get", "update", "--print-uris"))
    mirrors: list[str] = [uri for uri, suite in found if not suite.endswith("-security") and "security" not in uri]
    if not mirrors:
        raise CouldNotRun("this machine's apt configuration names no Debian mirror: set IOV_HARNESS_DEBIAN_MIRROR")
    return next((uri for uri in mirrors if uri.endswith("/debian")), mirrors[0])


def _host_acquire() -> str:
    """Give the host's settings of how to fetch (proxies, certificates), fit for another apt.conf."""
    dump = _of_host("apt-config", "dump").splitlines()
    lines = (line for line in dump if line.startswith("Acquire::"))
    return "\n".join(line for line in lines if not line.startswith(("Acquire::IndexTargets", "Acquire::Languages")))


def _of_host(*command: str) -> str:
    """Ask the host's own apt, which changes nothing there."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CouldNotRun(f"this machine's apt configuration is broken: {_reason(done.stderr)}")
    return done.stdout


def _configure(root: Path, mirror: str, lists: Lists) -> Path:
    keys = keyring()
    if keys is None:
        raise CouldNotRun("Debian's archive keys are not on this machine: apt-get install debian-archive-keyring")
    for folder in ("etc/parts", "state/lists/partial", "cache/archives/partial"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "status").touch()
    common = f"Types: {lists.kind}\nURIs: {mirror}\nComponents: main\nSigned-By: {keys}\n"
    sources = f"{common}Suites: {' '.join(lists.suites)}\n"
    if lists.lapsing:
        sources += f"\n{common}Suites: {' '.join(lists.lapsing)}\nCheck-Valid-Until: no\n"
    (root / "etc/debian.sources").write_text(sources, encoding="utf-8")
    configuration = root / "etc/apt.conf"
    configuration.write_text(
        f'{_host_acquire()}\nAcquire::Languages "none";\nAcquire::Retries "2";\nAcquire::http::Timeout "30";\n'
        f'Dir::Etc::sourcelist "{root}/etc/debian.sources";\nDir::Etc::sourceparts "{root}/etc/parts";\n'
        f'Dir::Etc::parts "{root}/etc/parts";\nDir::Etc::preferences "/dev/null";\n'
        f'Dir::Etc::preferencesparts "{root}/etc/parts";\n'
        f'Dir::State "{root}/state";\nDir::State::status "{root}/status";\nDir::Cache "{root}/cache";\n'
        'APT::Sandbox::User "";\nAPT::Install-Recommends "false";\n'
        'APT::Architecture "amd64";\nAPT::Architectures "amd64";\n',
        encoding="utf-8",
    )
    return configuration
