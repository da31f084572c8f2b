# SPDX-License-Identifier: GPL-2.0-or-later
"""Building QEMU: where its source comes from, how it is changed, and what is said where it cannot be built."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from makings import put

from harness import paths
from harness.errors import CouldNotRun, UsageError
from harness.provision import apt
from harness.provision.apt import SOURCES, AptRoot, FetchFailed
from harness.provision.cache import Cache
from harness.provision.qbuild import build, patches, source, tools
from harness.provision.qbuild.source import NotServed

needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch(1) here")
CHANGE = """\
--- a/hw/one.c
+++ b/hw/one.c
@@ -1,3 +1,3 @@
 first
-old
+new
 last
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give what passes for a QEMU's source."""
    folder = tmp_path / "qemu"
    projects = (f"subprojects/{name}/meson.build" for name in source._SUBPROJECTS)
    for name in ("configure", "meson.build", "VERSION", "hw/pci/pci.c", *projects):
        put(folder / name, f"{name}\n")
    return folder


def test_a_tree_of_ones_own_is_known_by_what_is_in_it(tree: Path) -> None:
    before = source.own(tree)
    assert source.own(tree) == before
    put(tree / ".git" / "index", "x")
    put(tree / "build" / "out.o", "x")
    put(tree / "build-asan" / "meson-private" / "coredata.dat", "x")
    assert source.own(tree).key == before.key  # what is built in it, or git's, is no change
    put(tree / "hw" / "pci" / "pci.c", "something else\n")
    assert source.own(tree).key != before.key


def test_a_tree_of_ones_own_is_copied_and_not_written_to(tree: Path, tmp_path: Path) -> None:
    put(tree / ".git" / "index", "x")
    put(tree / "build-asan" / "meson-private" / "coredata.dat", "x")
    inner = Path("subprojects", "berkeley-softfloat-3", "build", "platform.h")  # a folder of that name can be source
    put(tree / inner, "x")
    to = tmp_path / "copy"
    cache = Cache(tmp_path / "cache")
    source.own(tree).unpack(cache, AptRoot(cache), to)
    assert (to / "hw" / "pci" / "pci.c").read_text() == "hw/pci/pci.c\n"
    assert (to / inner).exists()
    assert not (to / ".git").exists()
    assert not (to / "build-asan").exists()


@pytest.mark.parametrize(("lacking", "says"), [("VERSION", "it has no VERSION"), ("configure", "it has no configure")])
def test_a_folder_that_is_no_qemus_is_refused(tree: Path, lacking: str, says: str) -> None:
    (tree / lacking).unlink()
    with pytest.raises(UsageError, match=f"--qemu-source .*{says}; give the top folder"):
        source.own(tree)
    with pytest.raises(UsageError, match="no such folder"):
        source.own(tree / "nowhere")
    with pytest.raises(UsageError, match="not a folder"):
        source.own(tree / "meson.build")


def test_a_clone_without_its_subprojects_is_told_how_to_get_them(tree: Path) -> None:
    shutil.rmtree(tree / "subprojects" / "keycodemapdb")
    with pytest.raises(UsageError, match=r"in it, run: meson subprojects download keycodemapdb$"):
        source.own(tree)


@pytest.mark.parametrize(
    ("said", "kind"), [("E: Failed to fetch x  404  Not Found", NotServed), ("E: timed out", FetchFailed)]
)
def test_only_what_the_mirror_does_not_have_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[CouldNotRun]
) -> None:
    def fail(*_: object) -> list[Path]:
        raise FetchFailed(said)

    monkeypatch.setattr(AptRoot, "download_source", fail)
    cache = Cache(tmp_path / "cache")
    with pytest.raises(kind):
        source.Source("key", "origin", version="1:11.1.3").unpack(cache, AptRoot(cache), tmp_path / "work")


def test_of_several_builds_the_newest_version_is_taken(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for number, version in enumerate(["1:10.2.2+ds-1", "1:11.1.3+ds-1", "1:9.9.9"]):
        about = {"origin": version, "version": version, "recipe": build._recipe(sanitize=False)}
        cache.entry(
            build.KIND,
            str(number),
            version,
            lambda draft, about=about: {**about, "_": put(draft / "x", "").stat().st_size},
        )
    cache.entry(build.KIND, "other", "x", lambda _: {"origin": "x", "version": "99", "recipe": "another"})
    assert build.provide(cache, AptRoot(cache), None).origin == "1:11.1.3+ds-1"


def test_the_newest_version_comes_first_and_old_ones_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ["1:10.0.13+ds-0+deb13u1", "1:10.2.2+ds-1", "1:11.1.3+ds-1~bpo13+1", "1:9.2.0-1", "1:11.1.2+ds-3"]
    monkeypatch.setattr(
        AptRoot, "_run", lambda *_, **__: "".join(f"Package: qemu\nVersion: {one}\n\n" for one in listed)
    )
    _, found = source.candidates(Cache(tmp_path), None)
    assert [one.version for one in found] == ["1:11.1.3+ds-1~bpo13+1", "1:11.1.2+ds-3", "1:10.2.2+ds-1"]
    monkeypatch.setattr(AptRoot, "_run", lambda *_, **__: "Version: 1:10.0.13+ds-0+deb13u1\n")
    with pytest.raises(CouldNotRun, match=r"no source of QEMU 10\.2 or later: give a tree by --qemu-source"):
        source.candidates(Cache(tmp_path), None)


def test_lists_of_sources_are_apart_from_those_of_packages() -> None:
    assert (SOURCES.kind, apt.BINARIES.kind) == ("deb-src", "deb")
    assert SOURCES.folder != apt.BINARIES.folder
    assert SOURCES.lapsing == ("sid",)
    assert (apt.BINARIES.suites, apt.BINARIES.lapsing) == (apt.SUITES, ())


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("1:11.1.3+ds-1~bpo13+1", (11, 1, 3)), ("10.2.2", (10, 2, 2)), ("6.12.107-1", (6, 12, 107)), ("x", ())],
)
def test_the_upstream_part_of_a_version(version: str, numbers: tuple[int, ...]) -> None:
    assert apt.upstream(version) == numbers


def test_where_the_mirror_lacks_the_newest_an_older_one_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def provide(_: Cache, __: AptRoot, ___: AptRoot, what: source.Source, **____: bool) -> build.Built:
        tried.append(what.version)
        if what.version != "1:10.2.2":
            raise NotServed("404")
        return build.Built(tmp_path, what.origin)

    monkeypatch.setattr(build, "_provide", provide)
    found = [source.Source(one, one, version=one) for one in ("1:11.1.3", "1:11.1.2", "1:10.2.2")]
    monkeypatch.setattr(source, "candidates", lambda *_: (None, found))
    cache = Cache(tmp_path)
    assert build.provide(cache, AptRoot(cache), None).origin == "1:10.2.2"
    assert tried == ["1:11.1.3", "1:11.1.2", "1:10.2.2"]


def test_a_source_that_does_not_build_is_told_and_no_other_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def provide(*_: object, **__: bool) -> build.Built:
        raise CouldNotRun("QEMU does not build: x.c:1:1: error: y")

    monkeypatch.setattr(build, "_provide", provide)
    found = [source.Source(one, one, version=one) for one in ("1:11.1.3", "1:10.2.2")]
    monkeypatch.setattr(source, "candidates", lambda *_: (None, found))
    cache = Cache(tmp_path)
    with pytest.raises(CouldNotRun, match="does not build"):
        build.provide(cache, AptRoot(cache), None)


@needs_patch
def test_a_change_of_ours_is_made_once(tree: Path, tmp_path: Path) -> None:
    put(tree / "hw" / "one.c", "first\nold\nlast\n")
    folder = tmp_path / "ours"
    put(folder / "0001-change.patch", f"Why.\n---\n{CHANGE}")
    for _ in range(2):
        patches.apply_ours(tree, folder)
        assert (tree / "hw" / "one.c").read_text() == "first\nnew\nlast\n"


@needs_patch
@pytest.mark.parametrize(
    ("only", "then"), [("hw/one.c: old", "new"), ("hw/one.c: other", "old"), ("hw/two.c: old", "old")]
)
def test_a_change_is_only_for_trees_with_what_it_mends(tree: Path, tmp_path: Path, only: str, then: str) -> None:
    put(tree / "hw" / "one.c", "first\nold\nlast\n")
    folder = tmp_path / "ours"
    put(folder / "0001-change.patch", f"SPDX\nOnly-with: {only}\n\nWhy.\n---\n{CHANGE}")
    patches.apply_ours(tree, folder)
    assert (tree / "hw" / "one.c").read_text() == f"first\n{then}\nlast\n"


@needs_patch
def test_a_change_that_does_not_fit_is_named(tree: Path, tmp_path: Path) -> None:
    put(tree / "hw" / "one.c", "quite\nanother\nfile\n")
    folder = tmp_path / "ours"
    put(folder / "0001-change.patch", CHANGE)
    with pytest.raises(CouldNotRun, match=r"0001-change\.patch does not apply to this QEMU: .*FAILED"):
        patches.apply_ours(tree, folder)


@needs_patch
def test_the_distributions_patches_are_applied_in_their_order(tree: Path, tmp_path: Path) -> None:
    put(tree / "hw" / "one.c", "first\nold\nlast\n")
    folder = tmp_path / "patches"
    put(folder / "series", "# first\nb.patch\n\na.patch # then\n")
    put(folder / "b.patch", CHANGE)
    put(folder / "a.patch", CHANGE.replace("-old\n+new", "-new\n+newest"))
    patches.apply_series(tree, folder)
    assert (tree / "hw" / "one.c").read_text() == "first\nnewest\nlast\n"


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CouldNotRun) as caught:
        tools.check()
    text = str(caught.value)
    assert text.startswith(
        "no QEMU can be built here: gcc, ld, make, patch, pkg-config, tar, glib-2.0, zlib, slirp missing;"
    )
    assert text.endswith("apt-get install gcc binutils make patch pkgconf tar libglib2.0-dev zlib1g-dev libslirp-dev")


def test_the_device_is_small() -> None:
    """A file of QEMU's that nobody can keep in mind is no small change to it."""
    lines = len((paths.overlay() / "iov-overlay.c").read_text().splitlines())
    assert lines < 500
