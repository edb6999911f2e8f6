"""Unpacking in memory, with bounds: no name in an archive leads to a path, and no bomb fills the memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
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
    if data[257:262] == b"ustar":
        raise DataError(f"{where}: a tar archive; unpack it into a folder, and name that")
    return data


def _unzipped(data: bytes, where: Path | str, most: int) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            if "[Content_Types].xml" in names:
                raise DataError(f"{where}: not a CSV file but a spreadsheet; export it as comma-separated text")
            if len(names) != 1:
                raise DataError(
                    f"{where}: {len(names)} files in the archive ({', '.join(names[:4])}); unpack it into a folder, "
                    "and name that"
                )
            with archive.open(names[0]) as stream:
                return _read(stream, len(data), where, most)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        # RuntimeError: a password; NotImplementedError, one of its kind: an unknown compression.
        raise DataError(
            f"{where}: not a CSV file but a damaged zip archive or spreadsheet ({error}); fetch it again, or export it "
            "as comma-separated text"
        ) from error


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
        if size > _FREELY and size > _MOST_TIMES * packed_size:
            raise DataError(
                f"{where}: unpacks to more than {_MOST_TIMES} times its size, as no series does; if it is meant so, "
                "unpack it yourself"
            )
        pieces.append(piece)
    return b"".join(pieces)


def in_bytes(count: int) -> str:
    """1,234 bytes as 1.2 kB."""
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count} bytes"
