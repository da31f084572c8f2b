# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: right when it is empty, stale, half written or damaged."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CouldNotRun
from harness.provision import cache as module
from harness.provision.cache import PACKAGE_LISTS, Cache, Entry
from harness.provision.progress import Progress


class Builder:
    """Builds an entry of one file, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, draft: Path) -> Mapping[str, Any]:
        self.count += 1
        (draft / "sub").mkdir()
        (draft / "sub" / "file").write_text("content")
        return {"count": self.count}


def fetch(root: Path, build: Builder, key: str = "key") -> Entry:
    cache = Cache(root)
    try:
        return cache.entry("kind", key, "label", build)
    finally:
        cache.release()


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    build = Builder()
    first, second = fetch(tmp_path, build), fetch(tmp_path, build)
    assert build.count == 1
    assert first == second
    assert (second.path / "sub" / "file").read_text() == "content"
    assert second.about == {"count": 1}


@pytest.mark.parametrize("damage", ["truncate", "rewrite", "remove", "seal"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    build = Builder()
    path = fetch(tmp_path, build).path
    victim = path / "sub" / "file"
    if damage == "truncate":
        os.truncate(victim, 3)
    elif damage == "rewrite":
        victim.write_text("CONTENT")
    elif damage == "remove":
        victim.unlink()
    else:
        (path / "entry.json").write_text('{"kind": ')
    assert (fetch(tmp_path, build).path / "sub" / "file").read_text() == "content"
    assert build.count == 2


def test_a_touched_file_of_the_same_content_is_no_damage(tmp_path: Path) -> None:
    build = Builder()
    os.utime(fetch(tmp_path, build).path / "sub" / "file", (1, 1))
    fetch(tmp_path, build)
    assert build.count == 1


def test_a_touched_file_is_read_once_and_then_known_again_by_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, read = Builder(), []
    file = fetch(tmp_path, build).path / "sub" / "file"
    sealed = file.stat().st_mtime_ns
    os.utime(file, (1, 1))
    hashed = module._sha256
    monkeypatch.setattr(module, "_sha256", lambda path: read.append(path) or hashed(path))
    for _ in range(3):
        fetch(tmp_path, build)
    assert read == [file]
    assert file.stat().st_mtime_ns == sealed
    assert build.count == 1


def test_a_file_that_was_not_written_since_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder()
    fetch(tmp_path, build)
    monkeypatch.setattr(module, "_sha256", lambda _: pytest.fail("it was read"))
    fetch(tmp_path, build)
    assert build.count == 1


def test_holes_in_a_file_take_no_space(tmp_path: Path) -> None:
    def build(draft: Path) -> Mapping[str, Any]:
        with (draft / "ram").open("wb") as ram:
            ram.write(b"x" * 65536)
            ram.truncate(64 << 20)
        (draft / "small").write_text("x" * 100)
        return {}

    entry = Cache(tmp_path).entry("kind", "key", "label", build)
    assert (entry.path / "ram").stat().st_size == 64 << 20
    assert 65536 + 100 <= entry.size < 1 << 20, "a small file counts as long as it is, not by its blocks"


def test_a_build_that_fails_leaves_nothing_and_its_error_passes_through(tmp_path: Path) -> None:
    def fail(draft: Path) -> Mapping[str, Any]:
        (draft / "half").write_text("x")
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        Cache(tmp_path).entry("kind", "key", "label", fail)
    assert list((tmp_path / "kind").iterdir()) == []


def test_what_a_killed_build_left_is_cleared_away(tmp_path: Path) -> None:
    draft = tmp_path / "kind" / ".draft-key"
    draft.mkdir(parents=True)
    (draft / "stale").write_text("x")
    entry = fetch(tmp_path, Builder())
    assert not (entry.path / "stale").exists()
    assert not draft.exists()


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left for the cache"), (errno.EACCES, "cannot be written"), (errno.EROFS, "cannot be")],
)
def test_a_disk_that_refuses_is_one_clear_line(tmp_path: Path, number: int, message: str) -> None:
    def fail(draft: Path) -> Mapping[str, Any]:
        raise OSError(number, os.strerror(number), str(draft))

    with pytest.raises(CouldNotRun, match=message):
        Cache(tmp_path).entry("kind", "key", "label", fail)
    assert list((tmp_path / "kind").iterdir()) == []


def test_a_cache_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(CouldNotRun, match="is not a folder"):
        fetch(tmp_path / "cache", Builder())


RACER = """
import sys, time
from pathlib import Path
from harness.provision.cache import Cache
def build(draft):
    with open(sys.argv[2], "a") as log: log.write("built\\n")
    (draft / "file").write_text("x" * 1000)
    time.sleep(0.3)
    return {}
Cache(Path(sys.argv[1])).entry("kind", "key", "label", build)
"""


def test_processes_that_race_build_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", RACER, str(tmp_path / "cache"), str(log)]
    racers = [subprocess.Popen(command) for _ in range(4)]
    assert [racer.wait(30) for racer in racers] == [0, 0, 0, 0]
    assert log.read_text() == "built\n"


class Late(Cache, Progress):
    """Sees that there is no entry, and comes to build it when another does; waits for that when that is over."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, self)
        self.seen, self.building, self.waits, self.built = (threading.Event() for _ in range(4))

    def _build(self, *arguments: Any, **how: Any) -> None:
        self.seen.set()
        assert self.building.wait(20)
        super()._build(*arguments, **how)

    def note(self, text: str) -> None:
        assert text == "another process is working on kind-key: waiting for it"
        self.waits.set()
        assert self.built.wait(20)


def test_whoever_waits_for_a_build_need_not_wait_for_its_builder_to_end(tmp_path: Path) -> None:
    """The builder uses what it built, and holds it from then on."""
    first, late = Cache(tmp_path), Late(tmp_path)

    def build(draft: Path) -> dict[str, Any]:
        late.building.set()
        assert late.waits.wait(20)
        (draft / "file").write_text("x")
        return {}

    with ThreadPoolExecutor(2) as pool:
        try:
            other = pool.submit(late.entry, "kind", "key", "label", Builder())
            assert late.seen.wait(20)
            path = pool.submit(first.entry, "kind", "key", "label", build).result(20).path
            late.built.set()
            assert other.result(10).path == path
        finally:
            first.release()  # lets go of whoever waits for it
    late.release()


def test_pruning_takes_the_least_recently_used_first_and_keeps_what_is_in_use(tmp_path: Path) -> None:
    for age, key in ((300, "old"), (200, "middle"), (100, "new")):
        entry = fetch(tmp_path, Builder(), key)
        stamp = entry.last_used - age
        os.utime(entry.path / "entry.json", (stamp, stamp))
    user = Cache(tmp_path)
    in_use = user.entry("kind", "old", "label", Builder())
    os.utime(in_use.path / "entry.json", (1, 1))
    removed, busy = Cache(tmp_path).prune(len("content") * 2)
    assert [entry.key for entry in busy] == ["old"]
    assert [entry.key for entry in removed] == ["middle"]
    assert [entry.key for entry in Cache(tmp_path).entries()] == ["old", "new"]


def aged(root: Path, kind: str, *keys: str) -> None:
    """Make entries, the first of which was used longest ago."""
    for age, key in enumerate(reversed(keys), 1):
        cache = Cache(root)
        entry = cache.entry(kind, key, "label", Builder())
        cache.release()
        os.utime(entry.path / "entry.json", (1e9 - age, 1e9 - age))


def left(root: Path) -> list[tuple[str, str]]:
    return [(entry.kind, entry.key) for entry in Cache(root).entries()]


@pytest.mark.parametrize(("count", "removed"), [(0, "abc"), (1, "ab"), (2, "a"), (3, ""), (9, "")])
def test_of_one_kind_those_used_last_are_kept(tmp_path: Path, count: int, removed: str) -> None:
    aged(tmp_path, "other", "old")
    aged(tmp_path, "kind", *"abc")
    gone = Cache(tmp_path).keep("kind", count)
    assert [(entry.kind, entry.key) for entry in gone] == [("kind", key) for key in removed]
    assert ("other", "old") in left(tmp_path)
    assert [key for kind, key in left(tmp_path) if kind == "kind"] == [key for key in "abc" if key not in removed]


@pytest.mark.parametrize("own", [True, False], ids=["this object", "another"])
def test_an_entry_in_use_is_kept_however_long_ago_it_was_asked_for(tmp_path: Path, *, own: bool) -> None:
    aged(tmp_path, "kind", *"abc")
    cache, user = Cache(tmp_path), Cache(tmp_path)
    used = (cache if own else user).entry("kind", "a", "label", Builder())
    os.utime(used.path / "entry.json", (1, 1))
    assert [entry.key for entry in cache.keep("kind", 1)] == ["b"]
    assert left(tmp_path) == [("kind", "a"), ("kind", "c")]


def test_an_entry_of_no_use_is_discarded_though_this_process_has_it(tmp_path: Path) -> None:
    build, cache = Builder(), Cache(tmp_path)
    for _ in range(2):
        cache.entry("kind", "key", "label", build)
    assert cache.discard("kind", "key")
    assert left(tmp_path) == []
    cache.entry("kind", "key", "label", build)
    assert build.count == 2


def test_an_entry_that_another_uses_is_not_discarded(tmp_path: Path) -> None:
    user = Cache(tmp_path)
    path = user.entry("kind", "key", "label", Builder()).path
    cache = Cache(tmp_path)
    cache.entry("kind", "key", "label", Builder())
    assert not cache.discard("kind", "key")
    assert path.is_dir()
    user.release()
    assert cache.discard("kind", "key")


def test_nothing_is_kept_of_a_kind_that_there_is_not(tmp_path: Path) -> None:
    assert Cache(tmp_path / "new").keep("kind", 0) == []


def package_lists(root: Path) -> Path:
    folder = root / PACKAGE_LISTS
    (folder / "state/lists").mkdir(parents=True)
    (folder / "state/lists/packages").write_text("x" * 100)
    (folder / "cache.bin").write_text("x" * 50)
    os.utime(folder, (1, 1))
    return folder


def test_the_package_lists_are_listed_with_all_that_lies_in_their_folder(tmp_path: Path) -> None:
    folder = package_lists(tmp_path)
    fetch(tmp_path, Builder())
    lists, _ = Cache(tmp_path).entries()
    assert (lists.path, lists.kind, lists.label) == (folder, "apt", "package lists")
    assert (lists.size, lists.last_used) == (150, 1)


def test_the_package_lists_are_pruned_but_while_an_apt_is_at_work(tmp_path: Path) -> None:
    folder = package_lists(tmp_path)
    with Cache(tmp_path).locked(PACKAGE_LISTS):
        removed, busy = Cache(tmp_path).prune(100)
        assert (removed, [entry.path for entry in busy]) == ([], [folder])
    removed, busy = Cache(tmp_path).prune(100)
    assert ([entry.path for entry in removed], busy) == ([folder], [])
    assert not folder.exists()
