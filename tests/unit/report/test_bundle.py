# SPDX-License-Identifier: GPL-2.0-or-later
"""Failure bundles: packed and unpacked, whole or not at all, whoever made them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from harness.errors import CouldNotRun, UsageError
from harness.outcome import Outcome, Verdict
from harness.report import unpacking
from harness.report.bundle import Bundle, Contents, opened, pack

TEST = "tests/guest/sriov/test_numvfs.py::test_it[igb-stub]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run" / "guest-test_it"
    (made / "machine-2").mkdir(parents=True)
    Verdict(test=TEST, outcome=Outcome.FAIL, reason="assert 0 == 7").save(made)
    (made / "console.log").write_text("Linux\n")
    (made / "machine-2" / "console.log").write_text("Linux, too\n")
    return made


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with zstandard.open(path, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_a_bundle_holds_the_folder_and_more(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(b"kernel")
    pack(
        folder, {"kernel/bzImage": image}, Contents(kernel_content="c0", image="kernel/bzImage"), tmp_path / "b.tar.zst"
    )
    with opened(tmp_path / "b.tar.zst") as unpacked:
        assert unpacked.verdict.test == TEST
        assert unpacked.contents.kernel_content == "c0"
        assert unpacked.image is not None
        assert unpacked.image.read_bytes() == b"kernel"
        assert (unpacked.folder / "machine-2" / "console.log").read_text() == "Linux, too\n"
        where = unpacked.folder
    assert not where.exists()


def test_a_folder_is_a_bundle_that_stays(folder: Path) -> None:
    with opened(folder) as there:
        assert (there.folder, there.image) == (folder, None)
    assert folder.is_dir()


def test_a_bundle_says_nothing_of_who_packed_it(folder: Path, tmp_path: Path) -> None:
    pack(folder, {}, Contents(), tmp_path / "b.tar.zst")
    with zstandard.open(tmp_path / "b.tar.zst") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        assert {(one.uid, one.gid, one.uname, one.gname) for one in tar} == {(0, 0, "", "")}


def test_what_cannot_be_written_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match="cannot be written: No such file"):
        pack(folder, {}, Contents(), tmp_path / "nowhere" / "b.tar.zst")
    with pytest.raises(CouldNotRun):
        pack(folder, {"gone": tmp_path / "gone"}, Contents(), tmp_path / "b.tar.zst")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_nothing_is_unpacked_beside_the_bundle(tmp_path: Path) -> None:
    record = Verdict(test=TEST, outcome=Outcome.FAIL).model_dump_json(by_alias=True).encode()
    link = tarfile.TarInfo("t/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    made = archive(
        tmp_path / "b.tar.zst",
        (tarfile.TarInfo("t/outcome.json"), record),
        (tarfile.TarInfo("../escaped"), b"x"),
        (tarfile.TarInfo(str(tmp_path / "absolute")), b"x"),
        (link, b""),
    )
    with opened(made) as there:
        assert [path.name for path in there.folder.iterdir()] == ["outcome.json"]
        assert not (there.folder.parent.parent / "escaped").exists()
    assert not (tmp_path / "absolute").exists()


@pytest.mark.parametrize("image", ["../outcome.json", "/etc/passwd", "nowhere"])
def test_a_kernel_is_only_taken_from_within(folder: Path, image: str) -> None:
    (folder / "bundle.json").write_text(Contents(image=image).model_dump_json(by_alias=True))
    assert Bundle(folder).image is None


def test_a_bundle_that_unpacks_to_too_much_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "console.log").write_bytes(bytes(100_000))
    pack(folder, {}, Contents(), tmp_path / "b.tar.zst")
    monkeypatch.setattr(unpacking, "_LARGEST", 50_000)
    with pytest.raises(UsageError, match="unpacks to more than"), opened(tmp_path / "b.tar.zst"):
        pass


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "No such file or directory; give build/runs/RUN/TEST, or a file that `harness repro --pack` made"),
        (b"hello\n", "is no archive that can be read: zstd decompress error"),
        (zstandard.compress(b"hello\n" * 1000), "is no archive that can be read"),
        (b"", "is no archive that can be read"),
    ],
)
def test_what_is_no_bundle_is_named(tmp_path: Path, data: bytes | None, why: str) -> None:
    path = tmp_path / "b.tar.zst"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError, match=why), opened(path):
        pass


def test_an_archive_of_anything_else_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected one folder in it, not 0"), opened(archive(tmp_path / "b.tar.zst")):
        pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no record of a test there"), opened(tmp_path / "empty"):
        pass
    (tmp_path / "empty" / "outcome.json").write_text("{}")
    with pytest.raises(UsageError, match="is no record of this version"), opened(tmp_path / "empty"):
        pass


@pytest.mark.parametrize("headers", [{"GNU.sparse.size": "-100000"}, {"GNU.sparse.size": "x"}, {"path": "a\0b"}])
def test_headers_that_lie_are_no_way_around(tmp_path: Path, headers: dict[str, str]) -> None:
    member = tarfile.TarInfo("t/file")
    member.pax_headers = {**headers, "GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with pytest.raises(UsageError), opened(archive(tmp_path / "b.tar.zst", (member, b"x"))):
        pass
