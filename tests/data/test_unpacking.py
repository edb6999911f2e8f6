"""Unpacking: known by the first bytes, bounded in size, and nothing of an archive reaches the disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tsbench.data.unpacking import in_bytes, unpacked
from tsbench.errors import DataError

CONTENT = b"date,a\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n"


def zipped(content: bytes, *names: str, mode: int = 0o644) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("shop.csv",):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
}


@pytest.mark.parametrize("kind", PACK)
def test_packed_bytes_are_known_by_their_first_ones(kind: str) -> None:
    assert unpacked(PACK[kind](CONTENT), "x") == CONTENT


def test_what_is_not_packed_is_left_as_it_is() -> None:
    assert unpacked(CONTENT, "x.csv.gz") == CONTENT


@pytest.mark.parametrize("kind", PACK)
def test_a_cut_archive_is_refused(kind: str) -> None:
    packed = PACK[kind](CONTENT)

    with pytest.raises(DataError, match=r"^x: .*damaged"):
        unpacked(packed[: len(packed) * 2 // 3], "x")


@pytest.mark.parametrize("kind", PACK)
def test_no_more_is_unpacked_than_is_allowed(kind: str) -> None:
    packed = PACK[kind](CONTENT * 100)

    assert unpacked(packed, "x", most=len(CONTENT) * 100) == CONTENT * 100
    with pytest.raises(DataError, match=r"x: unpacks to more than the 4\.6 kB that are allowed"):
        unpacked(packed, "x", most=len(CONTENT) * 100 - 1)


@pytest.mark.parametrize("kind", PACK)
def test_a_bomb_is_refused_before_it_fills_the_memory(kind: str) -> None:
    """200 MB of zeros in less than 250 kB: refused after the first 64 MB."""
    bomb = PACK[kind](bytes(200 << 20))
    assert len(bomb) < 250_000

    tracemalloc.start()
    with pytest.raises(DataError, match="x: unpacks to more than 200 times its size"):
        unpacked(bomb, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 150 << 20


def test_a_long_file_that_packs_well_is_no_bomb() -> None:
    content = b"2024-01-01 00:00:00,0.0\n" * 100_000

    assert unpacked(lzma.compress(content), "x") == content


@pytest.mark.parametrize("name", ["../../evil.csv", "/tmp/evil.csv", "C:\\evil.csv", "folder/shop.csv"])
def test_a_path_in_an_archive_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Archives are read in memory: whatever a path in them says, no file is made of it."""
    monkeypatch.chdir(tmp_path)
    opened: list[object] = []
    monkeypatch.setattr("builtins.open", lambda *words, **more: opened.append(words))

    assert unpacked(zipped(CONTENT, name), "x") == CONTENT
    assert opened == []
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_an_archive_is_text_not_a_way_out() -> None:
    assert unpacked(zipped(b"/etc/passwd", "shop.csv", mode=stat.S_IFLNK | 0o777), "x") == b"/etc/passwd"


def test_an_archive_of_several_files_is_unpacked_by_its_owner() -> None:
    with pytest.raises(DataError, match=r"x: 2 files in the archive \(a\.csv, b\.csv\); unpack it into a folder"):
        unpacked(zipped(CONTENT, "a.csv", "b.csv"), "x")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_is_named_as_what_it_is(mode: str) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        entry = tarfile.TarInfo("../evil.csv")
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))

    with pytest.raises(DataError, match="x: a tar archive; unpack it into a folder"):
        unpacked(file.getvalue(), "x")


def test_sizes_are_said_in_a_unit_that_fits() -> None:
    assert [in_bytes(count) for count in (12, 1234, 5_600_000, 7_890_000_000)] == [
        "12 bytes",
        "1.2 kB",
        "5.6 MB",
        "7.9 GB",
    ]
