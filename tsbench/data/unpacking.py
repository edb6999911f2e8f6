"""Unpacking in memory, with bounds: no name in an archive leads to a path, and no bomb fills the memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tsbench.errors import DataError

LARGEST = 4 << 30
"""Bytes of a file of which nobody said how large it is."""
_FREELY = 64 << 20
_MOST_TIMES = 200
"""How many times its packed size a file larger than `_FREELY` may have. Packed series hold about ten times theirs."""

_STREAMS: dict[bytes, tuple[str, Any]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}
"""Kind and opener, by the first bytes."""


def unpacked(data: bytes, where: Path | str, most: int = LARGEST) -> bytes:
    """The content of a file: itself, or unpacked if it is compressed (gzip, bzip2, xz, a zip with one file).

    Raises DataError for a damaged one, and as soon as more than `most` bytes come out, or many more than went in.
    """
    if data.startswith(b"PK\x03\x04"):
        return _unzipped(data, where, most)
    for magic, (kind, opened) in _STREAMS.items():
        if data.startswith(magic):
            try:
                data = _read(opened(io.BytesIO(data)), len(data), where, most)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DataError(f"{where}: a damaged {kind} file ({error}); fetch it again") from error
            break
    _refuse_tar(data, where)
    return data


def unpacked_pieces(path: Path, size: int, tell: Callable[[int], object] = lambda size: None) -> Iterator[bytes]:
    """The content of a file that need not fit into memory, in pieces of at most `size` bytes; else as `unpacked`.

    tell: is told how many bytes of the file itself were read for each piece.
    """
    with path.open("rb") as raw:
        head = raw.read(6)
        raw.seek(0)
        opener = next((opened for magic, (_, opened) in _STREAMS.items() if head.startswith(magic)), None)
        try:
            if head.startswith(b"PK\x03\x04"):
                archive = zipfile.ZipFile(raw)
                stream: IO[bytes] = archive.open(_only_name(archive, path))
            else:
                stream = opener(raw) if opener else raw
            count = before = 0
            while piece := stream.read(size):
                if not count:
                    _refuse_tar(piece, path)
                count += len(piece)
                _refuse_bomb(count, path.stat().st_size, path)
                yield piece
                tell(raw.tell() - before)
                before = raw.tell()
        except _ZIP_ERRORS as error:
            if head.startswith(b"PK\x03\x04"):
                raise _damaged_zip(path, error) from error
            raise DataError(f"{path}: a damaged compressed file ({error}); fetch it again") from error


def _refuse_tar(data: bytes, where: Path | str) -> None:
    if data[257:262] == b"ustar":
        raise DataError(f"{where}: a tar archive; unpack it into a folder, and name that")


def _refuse_bomb(size: int, packed_size: int, where: Path | str) -> None:
    if size > _FREELY and size > _MOST_TIMES * packed_size:
        raise DataError(
            f"{where}: unpacks to more than {_MOST_TIMES} times its size, as no series does; if it is meant so, "
            "unpack it yourself"
        )


def _unzipped(data: bytes, where: Path | str, most: int) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_only_name(archive, where)) as stream:
            return _read(stream, len(data), where, most)
    except _ZIP_ERRORS as error:
        raise _damaged_zip(where, error) from error


# RuntimeError: a password; NotImplementedError, one of its kind: an unknown compression.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)


def _only_name(archive: zipfile.ZipFile, where: Path | str) -> str:
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if "[Content_Types].xml" in names:
        raise DataError(f"{where}: not a CSV file but a spreadsheet; export it as comma-separated text")
    if len(names) != 1:
        raise DataError(
            f"{where}: {len(names)} files in the archive ({', '.join(names[:4])}); unpack it into a folder, and name "
            "that"
        )
    return names[0]


def _damaged_zip(where: Path | str, error: Exception) -> DataError:
    return DataError(
        f"{where}: not a CSV file but a damaged zip archive or spreadsheet ({error}); fetch it again, or export it as "
        "comma-separated text"
    )


def _read(stream: IO[bytes], packed_size: int, where: Path | str, most: int) -> bytes:
    """All that a stream gives, in pieces, so that the bounds hold before the memory is full."""
    pieces, size = [], 0
    while piece := stream.read(1 << 20):
        size += len(piece)
        if size > most:
            raise DataError(
                f"{where}: unpacks to more than the {in_bytes(most)} that are allowed for it; it is not what it should "
                "be, or corrupt: unpack it yourself and look"
            )
        _refuse_bomb(size, packed_size, where)
        pieces.append(piece)
    return b"".join(pieces)


def in_bytes(count: int) -> str:
    """1,234 bytes as 1.2 kB."""
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count} bytes"
