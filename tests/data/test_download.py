"""Downloads: gone on with where they were cut, bounded, verified, one process at a time; no test needs a network."""

from __future__ import annotations

import gzip
import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tsbench.data import download
from tsbench.data.cards import DatasetCard
from tsbench.data.download import fetch
from tsbench.data.files import read_verified
from tsbench.errors import DataError, MachineError, OfflineError

CONTENT = b"date,a\n" + b"".join(b"2024-01-01,%05d\n" % row for row in range(20_000))
CUT = 12 * download._PIECE
OTHER = b"<html>Please log in to the hotel's network</html>\n"
REMEDY = "put shop.csv into a folder and name that with --data-dir or TSBENCH_DATA"


def card(*urls: str, **facts: object) -> DatasetCard:
    known = {"name": "shop", "title": "t", "source": "s", "license": "l", "file": "shop.csv"}
    return DatasetCard(**{**known, "urls": urls, "sha256": hashlib.sha256(CONTENT).hexdigest(), **facts})


class Server(ThreadingHTTPServer):
    """Serves what stands in `pages`, and remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        """Paths, with the range that was asked for."""
        self.knows_ranges = True
        self.cuts: list[int] = []
        """After how many bytes to hang up, one for each answer to come."""
        self.seconds = 0.0
        """To wait in the middle of an answer."""

    def handle_error(self, *words: object) -> None: ...  # whoever has enough hangs up

    def url(self, path: str = "/shop.csv") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(f"{self.path} {wanted}".strip())
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_response(404)
            self.end_headers()
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-") or 0) if self.server.knows_ranges else 0
        if first >= len(page) and first:
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(page) - 1}/{len(page)}")
        self.send_header("Content-Length", str(len(page) - first))
        self.end_headers()
        last = first + self.server.cuts.pop(0) if self.server.cuts else len(page)
        self.wfile.write(page[first : (first + last) // 2])
        time.sleep(self.server.seconds)
        self.wfile.write(page[(first + last) // 2 : last])

    def log_message(self, *words: object) -> None: ...


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("TSBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """On this machine alone."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        server.pages["/shop.csv"] = CONTENT
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def closed_url() -> str:
    """An address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/shop.csv"


def kept(cache: Path) -> list[str]:
    """The files in the cache, but for locks; what is not finished without its digest."""
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return sorted("part" if path.parent != cache else path.name for path in files)


def test_a_file_that_is_here_is_not_downloaded(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "data" / "shop.csv"
    path.parent.mkdir()
    path.write_bytes(CONTENT)

    assert fetch(card(server.url()), [path.parent]) == path
    assert server.asked == []


def test_a_file_that_is_not_here_is_downloaded_once_into_the_cache(cache: Path, server: Server) -> None:
    path = fetch(card(server.url()))

    assert path == cache / "shop.csv"
    assert path.read_bytes() == CONTENT
    assert kept(cache) == ["shop.csv"]
    assert fetch(card(server.url())) == path
    assert server.asked == ["/shop.csv"]


def test_a_packed_file_is_kept_as_it_came_and_verified_unpacked(cache: Path, server: Server) -> None:
    server.pages["/shop.zip"] = gzip.compress(CONTENT)
    wanted = card(server.url("/shop.zip"))

    assert read_verified(fetch(wanted), wanted) == CONTENT
    assert (cache / "shop.csv").read_bytes() == server.pages["/shop.zip"]


def test_windows_line_ends_of_a_mirror_do_not_matter(server: Server) -> None:
    server.pages["/shop.csv"] = CONTENT.replace(b"\n", b"\r\n")

    assert fetch(card(server.url(), size=len(CONTENT))).read_bytes() == server.pages["/shop.csv"]


def test_a_cut_download_goes_on_where_it_was_cut(cache: Path, server: Server) -> None:
    server.cuts = [CUT]

    assert fetch(card(server.url())).read_bytes() == CONTENT
    assert server.asked == ["/shop.csv", f"/shop.csv bytes={CUT}-"]


def test_the_next_command_goes_on_where_the_last_one_was_cut(cache: Path, server: Server) -> None:
    server.cuts = [CUT, download._PIECE, download._PIECE]

    with pytest.raises(MachineError) as refusal:
        fetch(card(server.url()))
    assert f"{server.url()}: cut after 114.7 kB; the same command goes on from there" in str(refusal.value)
    assert kept(cache) == ["part"]

    assert fetch(card(server.url())).read_bytes() == CONTENT
    assert server.asked[-1] == f"/shop.csv bytes={CUT + 2 * download._PIECE}-"
    assert kept(cache) == ["shop.csv"]


def test_a_server_without_ranges_begins_anew(cache: Path, server: Server) -> None:
    server.knows_ranges = False
    server.cuts = [CUT]

    assert fetch(card(server.url())).read_bytes() == CONTENT
    assert server.asked == ["/shop.csv", f"/shop.csv bytes={CUT}-"]


def test_a_part_of_another_file_is_thrown_away(server: Server) -> None:
    """The server's file changes between the two halves."""
    server.pages["/shop.csv"] = CONTENT.replace(b"1", b"7")
    server.cuts = [CUT, 0]
    with pytest.raises(MachineError, match=r"cut after 98\.3 kB"):
        fetch(card(server.url()))
    server.pages["/shop.csv"] = CONTENT

    assert fetch(card(server.url())).read_bytes() == CONTENT
    assert server.asked[-2:] == [f"/shop.csv bytes={CUT}-", "/shop.csv"]


def test_a_card_that_has_changed_begins_anew(server: Server) -> None:
    server.cuts = [CUT, 0]
    with pytest.raises(MachineError):
        fetch(card(server.url(), sha256="0" * 64))
    server.asked.clear()

    assert fetch(card(server.url())).read_bytes() == CONTENT
    assert server.asked == ["/shop.csv"]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(cache: Path, server: Server) -> None:
    server.cuts = [CUT, 0]
    with pytest.raises(MachineError):
        fetch(card(server.url()))
    (part,) = (path for path in (cache / "partial").iterdir() if path.suffix != ".lock")
    part.write_bytes(CONTENT + CONTENT)

    assert fetch(card(server.url())).read_bytes() == CONTENT
    assert server.asked[-2:] == [f"/shop.csv bytes={2 * len(CONTENT)}-", "/shop.csv"]


def test_a_download_with_another_checksum_is_refused_and_not_kept(cache: Path, server: Server) -> None:
    server.pages["/shop.csv"] = OTHER
    found, expected = (hashlib.sha256(content).hexdigest()[:16] for content in (OTHER, CONTENT))

    with pytest.raises(DataError) as refusal:
        fetch(card(server.url()))

    assert str(refusal.value) == (
        f"shop: shop.csv could not be downloaded: {server.url()} gave another file than the card's: sha256 {found}... "
        f"of its unpacked bytes, but the card 'shop' expects {expected}...; {REMEDY}"
    )
    assert kept(cache) == []


def test_the_second_address_is_tried_when_the_first_gives_another_file_or_nothing(cache: Path, server: Server) -> None:
    server.pages |= {"/login": OTHER, "/mirror.csv": CONTENT}

    path = fetch(card(closed_url(), server.url("/gone.csv"), server.url("/login"), server.url("/mirror.csv")))

    assert path.read_bytes() == CONTENT
    assert server.asked == ["/gone.csv", "/login", "/mirror.csv"]
    assert kept(cache) == ["shop.csv"]


def test_an_answer_that_is_larger_than_the_card_says_is_not_received(cache: Path, server: Server) -> None:
    server.pages["/shop.csv"] = bytes(10_000_000)

    with pytest.raises(DataError, match=r"gives 10\.0 MB, but 490\.5 kB are allowed for this file"):
        fetch(card(server.url(), size=len(CONTENT)))
    assert kept(cache) == []


def test_an_answer_that_grows_larger_than_the_card_says_is_cut_off(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Handler, "send_header", lambda *words: None)  # no length is told
    server.pages["/shop.csv"] = bytes(10_000_000)

    with pytest.raises(DataError, match=r"gives more than 490\.5 kB, but"):
        fetch(card(server.url(), size=len(CONTENT)))
    assert kept(cache) == []


def test_a_bomb_is_refused_and_not_kept(cache: Path, server: Server) -> None:
    server.pages["/shop.csv"] = gzip.compress(bytes(50_000_000))

    with pytest.raises(DataError, match=r"unpacks to more than the 490\.5 kB that are allowed"):
        fetch(card(server.url(), size=len(CONTENT)))
    assert kept(cache) == []


def test_what_cannot_be_verified_is_never_put_together_from_two_answers(cache: Path, server: Server) -> None:
    server.cuts = [CUT]

    assert fetch(card(server.url(), sha256="")).read_bytes() == CONTENT
    assert server.asked == ["/shop.csv", "/shop.csv"]


def test_a_web_page_is_not_taken_for_a_file_without_a_checksum(cache: Path, server: Server) -> None:
    server.pages["/shop.csv"] = OTHER

    with pytest.raises(DataError, match=r"gave a web page; put shop\.csv"):
        fetch(card(server.url(), sha256=""))
    assert kept(cache) == []


def test_without_a_network_one_line_says_what_to_do_instead() -> None:
    url = closed_url()

    with pytest.raises(OfflineError) as refusal:
        fetch(card(url, url + "2"))

    host = url.removeprefix("http://").removesuffix("/shop.csv")
    assert str(refusal.value) == (
        f"shop: shop.csv is not here, and {host} cannot be reached (no network?); download {url} where there is one, "
        f"and {REMEDY}"
    )


def test_a_page_that_is_gone_is_not_blamed_on_the_network(server: Server) -> None:
    with pytest.raises(MachineError) as refusal:
        fetch(card(server.url("/gone.csv")))

    assert "404" in str(refusal.value)
    assert "no network?" not in str(refusal.value)


def test_a_file_without_an_address_that_is_not_here_says_where_to_put_it() -> None:
    with pytest.raises(MachineError, match=rf"shop\.csv was not found and the card has no address; {REMEDY}"):
        fetch(card())


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").write_bytes(b"")
    monkeypatch.setenv("TSBENCH_CACHE", str(tmp_path / "a_file" / "cache"))

    with pytest.raises(
        MachineError, match=r"a_file/cache: cannot write there .*; name another folder in TSBENCH_CACHE"
    ):
        fetch(card(server.url()))


def test_two_processes_fetch_a_file_once(cache: Path, server: Server) -> None:
    server.seconds = 1.0
    wanted = card(server.url())
    code = f"""
from tsbench.data.cards import DatasetCard
from tsbench.data.download import fetch
print(fetch(DatasetCard(**{wanted.model_dump(exclude_unset=True)!r})))
"""

    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]

    assert [process.communicate(timeout=60)[0].strip() for process in both] == [str(cache / "shop.csv")] * 2
    assert (cache / "shop.csv").read_bytes() == CONTENT
    assert server.asked == ["/shop.csv"]


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch(card(server.url()))
    assert capfd.readouterr() == ("", "")

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's word for: this is a terminal
    fetch(card(server.url())).unlink()
    server.seconds = 0.3
    fetch(card(server.url()))
    out, err = capfd.readouterr()
    assert out == ""
    assert "shop.csv" in err
    assert "kB" in err


def test_no_connection_is_waited_for_without_end() -> None:
    assert max(download._TIMEOUTS) <= 60
