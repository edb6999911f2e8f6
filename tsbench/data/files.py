"""Finding a card's file: data folders, embedded files, the cache, the network; and trusting it by its checksum."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tsbench.data.cards import DatasetCard
from tsbench.errors import DataError, MachineError
from tsbench.resources import resource_dir

DATA_VARIABLE = "TSBENCH_DATA"
"""Environment variable with folders to search, written like PATH."""
CACHE_VARIABLE = "TSBENCH_CACHE"
"""Environment variable with the folder for downloads and for what was measured on this machine; without it, the user's
cache folder."""


_PACKED = {".gz", ".bz2", ".xz", ".zip"}
_UNPACK = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
}
"""By their first bytes."""


def plain_name(path: Path) -> str:
    """A file's name without its suffixes; a folder's own."""
    name = path.name if path.suffix.lower() not in _PACKED else path.stem
    return (name if path.is_dir() else name.rsplit(".", 1)[0]) or "data"


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked if they are compressed (gzip, bzip2, xz, a zip with one file). Raises DataError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; check the path, or see `tsbench datasets list` for known ones"
        ) from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder; name a file in it") from None
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read ({problem}); check the path and its permissions") from error
    if data.startswith(b"PK\x03\x04"):
        return _unzipped(data, path)
    for magic, (kind, unpack) in _UNPACK.items():
        if data.startswith(magic):
            try:
                return unpack(data)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DataError(f"{path}: a damaged {kind} file ({error}); fetch it again") from error
    return data


def _unzipped(data: bytes, path: Path) -> bytes:
    """The one file of an archive, in memory: nothing is written, so no path in it can lead anywhere."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            if "[Content_Types].xml" in names:
                raise DataError(f"{path}: not a CSV file but a spreadsheet; export it as comma-separated text")
            if len(names) != 1:
                raise DataError(
                    f"{path}: {len(names)} files in the archive ({', '.join(names[:4])}); unpack it into a folder, and "
                    "name that"
                )
            return archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        # RuntimeError: a password; NotImplementedError, one of its kind: an unknown compression.
        raise DataError(
            f"{path}: not a CSV file but a damaged zip archive or spreadsheet ({error}); fetch it again, or export it "
            "as comma-separated text"
        ) from error


def cache_dir() -> Path:
    """Where downloads are kept, and what was measured on this machine."""
    import pooch

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("tsbench"))


def find(card: DatasetCard, data_dirs: Sequence[Path] = ()) -> Path | None:
    """The card's file in the given folders, TSBENCH_DATA, the embedded files or the cache; None if it is not here."""
    assert card.file
    variable = [Path(part) for part in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if part]
    for folder in data_dirs:
        if not folder.is_dir():
            raise DataError(f"--data-dir {folder}: no such folder")
    folders = [*data_dirs, *variable, resource_dir("datasets") / "files", cache_dir()]
    return next((path for folder in folders for path in _matches(folder, card.file)), None)


def _matches(folder: Path, name: str) -> Iterator[Path]:
    for where, subfolders, files in os.walk(folder):
        subfolders.sort()
        yield from (Path(where) / candidate for candidate in (name, f"{name}.gz") if candidate in {*files, *subfolders})


def fetch(card: DatasetCard, data_dirs: Sequence[Path] = ()) -> Path:
    """The card's file, downloaded to the cache if it is nowhere else.

    Raises MachineError when it must be downloaded and cannot be.
    """
    found = find(card, data_dirs)
    if found:
        return found
    import pooch
    import requests

    assert card.file
    remedy = f"put {card.file} into a folder and name that with --data-dir or {DATA_VARIABLE}"
    if not card.urls:
        raise MachineError(f"{card.name}: {card.file} was not found and the card has no address; {remedy}")
    logger = pooch.get_logger()
    logger.setLevel("WARNING")
    problem = ""
    for url in card.urls:
        try:
            return Path(pooch.retrieve(url, f"sha256:{card.sha256}", fname=card.file, path=cache_dir()))
        except requests.HTTPError as error:
            problem = str(error)
        except requests.RequestException as error:
            problem = f"{type(error).__name__}: no network?"
        except OSError as error:
            raise MachineError(
                f"{cache_dir()}: cannot write there ({error.strerror}); name another folder in {CACHE_VARIABLE}"
            ) from error
        except ValueError as error:  # pooch's word for a wrong checksum; nothing is left in the cache
            raise DataError(f"{card.name}: {url} gave a file with another sha256 than the card's; {remedy}") from error
    raise MachineError(
        f"{card.name}: {card.file} is not here and could not be downloaded from {', '.join(card.urls)} ({problem}); "
        f"{remedy}"
    )


def read_verified(path: Path, card: DatasetCard) -> bytes:
    """The unpacked bytes of the card's file, checksum verified. Raises DataError on a mismatch."""
    data = read_bytes(path)
    if card.sha256:
        # Some mirrors serve the same file with CRLF line ends.
        found = hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()
        if found != card.sha256:
            raise DataError(
                f"{path}: sha256 {found[:16]}... of its unpacked bytes, but the card {card.name!r} expects "
                f"{card.sha256[:16]}...; replace the file, or run on it under its own path: `tsbench run {path}`"
            )
    return data
