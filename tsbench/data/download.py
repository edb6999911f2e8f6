"""Downloading a card's file: resumed where it was cut, bounded in size, one process at a time, verified at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tsbench.data.cards import DatasetCard
from tsbench.data.files import CACHE_VARIABLE, cache_dir, find, largest, mismatch, remedy
from tsbench.data.unpacking import in_bytes, unpacked
from tsbench.errors import DataError, MachineError, OfflineError

if TYPE_CHECKING:
    import requests

_TIMEOUTS = (10, 30)
"""Seconds to connect, and between two pieces."""
_PIECE = 1 << 13
"""Bytes that are written at once; a cut loses less than that."""
_TRIES = 3
"""Of one address, for what was cut."""


def fetch(card: DatasetCard, data_dirs: Sequence[Path] = ()) -> Path:
    """The card's file, downloaded to the cache if it is nowhere else. On a terminal, a bar shows how far it is.

    Raises OfflineError when no address can be reached, MachineError when none gives the file, DataError when the last
    gives another one.
    """
    found = find(card, data_dirs)
    if found:
        return found
    if not card.urls:
        raise MachineError(f"{card.name}: {card.file} was not found and the card has no address; {remedy(card)}")
    try:
        return _downloaded(card)
    except OSError as error:
        raise MachineError(
            f"{cache_dir()}: cannot write there ({error.strerror or error}); name another folder in {CACHE_VARIABLE}"
        ) from error


def _downloaded(card: DatasetCard) -> Path:
    from filelock import FileLock

    assert card.file
    target, workshop = cache_dir() / card.file, cache_dir() / "partial"
    workshop.mkdir(parents=True, exist_ok=True)
    with FileLock(workshop / f"{card.file}.lock"):
        if target.exists():  # another process has fetched it meanwhile
            return target
        problems: list[Exception] = []
        for url in card.urls:
            # Of this address and this content: a card that has changed begins anew.
            known = f"{url} {card.sha256} {card.checksum}"
            part = workshop / f"{card.file}.{hashlib.sha256(known.encode()).hexdigest()[:12]}"
            try:
                _from_address(url, part, card)
                part.replace(target)
                return target
            except (MachineError, DataError) as error:
                problems.append(error)
        raise _failure(card, problems)


def _failure(card: DatasetCard, problems: list[Exception]) -> Exception:
    if all(isinstance(problem, OfflineError) for problem in problems):
        hosts = ", ".join(dict.fromkeys(urlsplit(url).netloc for url in card.urls))
        return OfflineError(
            f"{card.name}: {card.file} is not here, and {hosts} cannot be reached (no network?); download "
            f"{card.urls[0]} where there is one, and {remedy(card)}"
        )
    kind = DataError if isinstance(problems[-1], DataError) else MachineError
    return kind(f"{card.name}: {card.file} could not be downloaded: {'; '.join(map(str, problems))}; {remedy(card)}")


def _from_address(url: str, part: Path, card: DatasetCard) -> None:
    """The verified file at `part`, going on from what is there of it.

    Raises OfflineError, MachineError or DataError; what came stays where the next call can go on from it.
    """
    problem: Exception | None = None
    for _ in range(_TRIES):
        if not _can_go_on(card):
            part.unlink(missing_ok=True)
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(url, part, card)
            _verify(part, card, url)
            return
        except DataError as error:
            part.unlink(missing_ok=True)
            if not before:  # else what was here before may have been wrong, not the address
                raise
            problem = error
        except _CutError as error:
            problem = MachineError(str(error))
            if not part.exists() or part.stat().st_size <= before:
                break
    assert problem is not None
    raise problem


def _can_go_on(card: DatasetCard) -> bool:
    """Whether a checksum will tell if two halves belong together."""
    return bool(card.sha256 or card.checksum)


class _CutError(Exception):
    """The connection ended before the file did."""


def _receive(url: str, part: Path, card: DatasetCard) -> None:
    """Append what is missing of the file at an address; begin anew where the server cannot go on."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "tsbench"}  # identity: ranges count the file's own bytes
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as answer:
            if answer.status_code == 416:  # all of it was here, or more than all
                raise DataError(f"{url} has no more than the {in_bytes(have)} that came before")
            answer.raise_for_status()
            goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            _append(answer, part, have if answer.status_code == 206 and goes_on else 0, card)
    except requests.HTTPError as error:
        raise MachineError(str(error)) from error
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
        raise _CutError(_cut(url, part, card)) from error
    except requests.exceptions.SSLError as error:
        raise MachineError(f"{url}: no trusted connection ({error})") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        if part.exists() and part.stat().st_size > have:
            raise _CutError(_cut(url, part, card)) from error
        raise OfflineError(f"{urlsplit(url).netloc} cannot be reached") from error
    except requests.RequestException as error:
        raise MachineError(f"{url}: {error}") from error


def _cut(url: str, part: Path, card: DatasetCard) -> str:
    size = part.stat().st_size if part.exists() else 0
    goes_on = "; the same command goes on from there" if size and _can_go_on(card) else ""
    return f"{url}: cut after {in_bytes(size)}{goes_on}"


def _append(answer: requests.Response, part: Path, have: int, card: DatasetCard) -> None:
    """Write an answer behind the first `have` bytes, and stop where the file grows larger than it may."""
    length = answer.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    most = largest(card)
    with part.open("ab" if have else "wb") as file, progress(str(card.file), have, total) as advance:
        if total is not None and total > most:
            raise DataError(_too_large(answer.url, in_bytes(total), most))
        for piece in answer.iter_content(_PIECE):
            have += len(piece)
            if have > most:
                raise DataError(_too_large(answer.url, f"more than {in_bytes(most)}", most))
            file.write(piece)
            advance(len(piece))


def _too_large(url: str, size: str, most: int) -> str:
    return f"{url} gives {size}, but {in_bytes(most)} are allowed for this file"


def _verify(part: Path, card: DatasetCard, url: str) -> None:
    raw = part.read_bytes()
    data = unpacked(raw, url, largest(card))
    wrong = mismatch(raw, data, card)
    if wrong:
        raise DataError(f"{url} gave another file than the card's: {wrong}")
    if not _can_go_on(card) and data.lstrip()[:1] == b"<":
        raise DataError(f"{url} gave a web page")


@contextmanager
def progress(title: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, silence elsewhere; what is yielded is told of each piece."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    words = TextColumn("{task.description}", markup=False)
    columns = words, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, completed=have, total=total)
        yield lambda size: bar.advance(task, size)
