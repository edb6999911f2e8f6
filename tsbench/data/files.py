"""Finding a card's file in data folders, embedded files and the cache, and trusting it by its checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tsbench.data.cards import DatasetCard
from tsbench.data.unpacking import LARGEST, unpacked, unpacked_pieces
from tsbench.errors import DataError
from tsbench.resources import resource_dir

DATA_VARIABLE = "TSBENCH_DATA"
"""Environment variable with folders to search, written like PATH."""
CACHE_VARIABLE = "TSBENCH_CACHE"
"""Environment variable with the folder for downloads and for what was measured on this machine; without it, the user's
cache folder."""


_PACKED = {".gz", ".bz2", ".xz", ".zip"}


def plain_name(path: Path) -> str:
    """A file's name without its suffixes; a folder's own."""
    name = path.name if path.suffix.lower() not in _PACKED else path.stem
    return (name if path.is_dir() else name.rsplit(".", 1)[0]) or "data"


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked if they are compressed. Raises DataError, see `unpacked`."""
    return unpacked(_raw(path), path)


def _raw(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; check the path, or see `tsbench datasets list` for known ones"
        ) from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder; name a file in it") from None
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read ({problem}); check the path and its permissions") from error


def cache_dir() -> Path:
    """Where downloads are kept, and what was measured on this machine."""
    from platformdirs import user_cache_path

    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_path("tsbench", appauthor=False))


def find(card: DatasetCard, data_dirs: Sequence[Path] = ()) -> Path | None:
    """The card's file in the given folders, TSBENCH_DATA, the embedded files or the cache; None if it is not here."""
    assert card.file
    return next((path for folder in _folders(data_dirs) for path in _matches(folder, card.file)), None)


def found(cards: Iterable[DatasetCard], data_dirs: Sequence[Path] = ()) -> set[str]:
    """The names of the cards that need no file, or whose files `find` would find: one walk through the folders."""
    here = {
        name for folder in _folders(data_dirs) for _, folders, files in os.walk(folder) for name in (*folders, *files)
    }
    return {
        card.name
        for card in cards
        if card.synthetic is not None or all({part.file, f"{part.file}.gz"} & here for part in card.each_file())
    }


def _folders(data_dirs: Sequence[Path]) -> list[Path]:
    variable = [Path(part) for part in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if part]
    for folder in data_dirs:
        if not folder.is_dir():
            raise DataError(f"--data-dir {folder}: no such folder")
    return [*data_dirs, *variable, resource_dir("datasets") / "files", cache_dir()]


def _matches(folder: Path, name: str) -> Iterator[Path]:
    for where, subfolders, files in os.walk(folder):
        subfolders.sort()
        yield from (Path(where) / candidate for candidate in (name, f"{name}.gz") if candidate in {*files, *subfolders})


def remedy(card: DatasetCard) -> str:
    """What to do where the card's file cannot be had."""
    return f"put {card.file} into a folder and name that with --data-dir or {DATA_VARIABLE}"


def largest(card: DatasetCard) -> int:
    """Bytes that the card's file may have: a quarter more than the card says, for line ends of two bytes."""
    return LARGEST if card.size is None else card.size + card.size // 4 + (64 << 10)


def read_verified(path: Path, card: DatasetCard) -> bytes:
    """The unpacked bytes of the card's file, checksum verified. Raises DataError on a mismatch."""
    raw = _raw(path)
    data = unpacked(raw, path, largest(card))
    wrong = mismatch(raw, data, card)
    if wrong:
        raise DataError(f"{path}: {wrong}; replace the file, or run on it under its own path: `tsbench run {path}`")
    return data


def is_unverified(card: DatasetCard) -> bool:
    """Whether the card says that nobody knows a checksum of its file."""
    return card.sha256 == "" and card.checksum is None


def mismatch(raw: bytes, data: bytes, card: DatasetCard) -> str:
    """The words for a file with another checksum than its card's; none where it is the same, or the card knows none.

    raw: the file as it lies here; data: unpacked.
    """
    if card.sha256:
        # Some mirrors serve the same text with CRLF line ends; in Parquet the two bytes are no line end.
        kind, of, expected = "sha256", " of its unpacked bytes", card.sha256
        found = [hashlib.sha256(content).hexdigest() for content in (data.replace(b"\r\n", b"\n"), data)]
    elif card.checksum:
        of = ""
        kind, expected = card.checksum.split(":")
        # What is served unpacked may have been packed here, by whoever keeps it.
        found = [_checksum(kind, content) for content in (raw, data)]
    else:
        return ""
    if expected in found:
        return ""
    return f"{kind} {found[0][:16]}...{of}, but the card {card.name!r} expects {expected[:16]}..."


def content_digests(path: Path) -> tuple[str, str]:
    """sha256 of a file's unpacked bytes, with LF line ends and as they are; the file need not fit into memory."""
    with_lf, as_it_is, kept = hashlib.sha256(), hashlib.sha256(), b""
    for piece in unpacked_pieces(path, _PIECE):
        as_it_is.update(piece)
        piece = kept + piece
        kept = b"\r" if piece.endswith(b"\r") else b""  # the line may end in the next piece
        with_lf.update(piece[: len(piece) - len(kept)].replace(b"\r\n", b"\n"))
    with_lf.update(kept)
    return with_lf.hexdigest(), as_it_is.hexdigest()


def verify(path: Path, card: DatasetCard) -> None:
    """What `read_verified` checks, of a file that need not fit into memory. Raises DataError on a mismatch."""
    if card.sha256:
        expected, found = card.sha256, content_digests(path)
    elif card.checksum:
        kind, expected = card.checksum.split(":")
        digest = hashlib.md5(usedforsecurity=False)
        if kind == "git":
            digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        found = (digest.hexdigest(), "")
    else:
        return
    if expected not in found:
        raise DataError(
            f"{path}: checksum {found[0][:16]}..., but the card {card.name!r} expects {expected[:16]}...; replace the "
            f"file, or run on it under its own path: `tsbench run {path}`"
        )


_PIECE = 1 << 23


def _checksum(kind: str, content: bytes) -> str:
    if kind == "git":  # of a blob: its header, then its bytes
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
