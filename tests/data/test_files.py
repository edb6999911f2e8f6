"""Files of cards: where they are looked for, and why they can be trusted."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tsbench.data.cards import DatasetCard
from tsbench.data.files import cache_dir, fetch, find, read_bytes, read_verified
from tsbench.errors import DataError, MachineError

CONTENT = b"date,a\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n"
OTHER = b"<html>Please log in to the hotel's network</html>\n"


def card(**facts: object) -> DatasetCard:
    known = {"name": "shop", "title": "t", "source": "s", "license": "l", "file": "shop.csv"}
    return DatasetCard(**{**known, "sha256": hashlib.sha256(CONTENT).hexdigest(), **facts})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TSBENCH_CACHE", str(folder))
    return folder


class Server(ThreadingHTTPServer):
    """Serves what stands in `pages`, and remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path)
        self.send_response(200 if page is not None else 404)
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """On this machine alone: no test needs a network."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def closed_url() -> str:
    """An address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/shop.csv"


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_is_found_in_a_data_folder(tmp_path: Path) -> None:
    path = put(tmp_path / "data" / "shop.csv")

    assert find(card(), [tmp_path / "data"]) == path


def test_a_file_is_found_in_subfolders(tmp_path: Path) -> None:
    path = put(tmp_path / "data" / "long" / "term" / "shop.csv")

    assert find(card(), [tmp_path / "data"]) == path


def test_a_packed_file_is_found_under_the_name_of_the_unpacked_one(tmp_path: Path) -> None:
    path = put(tmp_path / "data" / "shop.csv.gz", gzip.compress(CONTENT))

    assert find(card(), [tmp_path / "data"]) == path
    assert read_verified(path, card()) == CONTENT


def test_the_unpacked_file_is_preferred_to_the_packed_one_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "data" / "shop.csv.gz", gzip.compress(CONTENT))
    path = put(tmp_path / "data" / "shop.csv")

    assert find(card(), [tmp_path / "data"]) == path


def test_the_variable_lists_folders_like_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "second" / "shop.csv")
    monkeypatch.setenv("TSBENCH_DATA", os.pathsep.join(["", str(tmp_path / "not_there"), str(tmp_path / "second")]))

    assert find(card()) == path


def test_folders_are_searched_in_the_order_option_variable_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [put(folder / "shop.csv") for folder in (tmp_path / "option", tmp_path / "variable", cache)]
    monkeypatch.setenv("TSBENCH_DATA", str(tmp_path / "variable"))

    for path in places:
        assert find(card(), [tmp_path / "option"]) == path
        path.unlink()
    assert find(card(), [tmp_path / "option"]) is None


def test_the_embedded_file_needs_no_folder() -> None:
    path = find(card(file="auckland_pedestrians_tiny.csv"))

    assert path is not None
    assert path.name == "auckland_pedestrians_tiny.csv"


def test_another_file_is_not_taken_for_it(tmp_path: Path) -> None:
    put(tmp_path / "data" / "my_shop.csv")
    put(tmp_path / "data" / "shop.csv.bak")

    assert find(card(), [tmp_path / "data"]) is None


def test_a_data_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-dir .*nowhere: no such folder"):
        find(card(), [tmp_path / "nowhere"])


def test_a_file_that_is_here_is_not_downloaded(tmp_path: Path, server: Server) -> None:
    path = put(tmp_path / "data" / "shop.csv")

    assert fetch(card(urls=[server.url("/shop.csv")]), [tmp_path / "data"]) == path
    assert server.asked == []


def test_a_file_that_is_not_here_is_downloaded_once_into_the_cache(cache: Path, server: Server) -> None:
    server.pages["/shop.csv"] = CONTENT
    wanted = card(urls=[server.url("/shop.csv")])

    path = fetch(wanted)

    assert path == cache / "shop.csv"
    assert read_verified(path, wanted) == CONTENT
    assert fetch(wanted) == path
    assert server.asked == ["/shop.csv"]


def test_a_download_with_another_checksum_is_refused_and_not_kept(cache: Path, server: Server) -> None:
    server.pages["/shop.csv"] = OTHER

    with pytest.raises(DataError) as refusal:
        fetch(card(urls=[server.url("/shop.csv")]))

    assert str(refusal.value) == (
        f"shop: {server.url('/shop.csv')} gave a file with another sha256 than the card's; "
        "put shop.csv into a folder and name that with --data-dir or TSBENCH_DATA"
    )
    assert list(cache.iterdir()) == []


def test_the_second_address_is_tried_when_the_first_gives_nothing(cache: Path, server: Server) -> None:
    server.pages["/mirror.csv"] = CONTENT

    path = fetch(card(urls=[closed_url(), server.url("/gone.csv"), server.url("/mirror.csv")]))

    assert path == cache / "shop.csv"
    assert server.asked == ["/gone.csv", "/mirror.csv"]


def test_without_a_network_the_message_says_what_to_do_instead() -> None:
    url = closed_url()

    with pytest.raises(MachineError) as refusal:
        fetch(card(urls=[url]))

    assert str(refusal.value) == (
        f"shop: shop.csv is not here and could not be downloaded from {url} (ConnectionError: no network?); "
        "put shop.csv into a folder and name that with --data-dir or TSBENCH_DATA"
    )


def test_a_page_that_is_gone_is_not_blamed_on_the_network(server: Server) -> None:
    with pytest.raises(MachineError) as refusal:
        fetch(card(urls=[server.url("/gone.csv")]))

    assert "404" in str(refusal.value)
    assert "no network?" not in str(refusal.value)


def test_a_file_without_an_address_that_is_not_here_says_where_to_put_it() -> None:
    with pytest.raises(MachineError, match=r"shop\.csv was not found and the card has no address; put shop\.csv into"):
        fetch(card())


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/shop.csv"] = CONTENT
    monkeypatch.setenv("TSBENCH_CACHE", str(put(tmp_path / "a_file") / "cache"))

    with pytest.raises(
        MachineError, match=r"a_file/cache: cannot write there .*; name another folder in TSBENCH_CACHE"
    ):
        fetch(card(urls=[server.url("/shop.csv")]))


def test_the_cache_is_the_users_own_unless_the_variable_says_otherwise(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_dir() == cache
    monkeypatch.delenv("TSBENCH_CACHE")
    assert cache_dir().name == "tsbench"


def test_a_changed_file_is_refused_with_both_checksums(tmp_path: Path) -> None:
    path = put(tmp_path / "shop.csv", CONTENT + b"2024-01-04,4\n")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = hashlib.sha256(CONTENT).hexdigest()

    with pytest.raises(DataError) as refusal:
        read_verified(path, card())

    assert str(refusal.value) == (
        f"{path}: sha256 {found[:16]}... of its unpacked bytes, but the card 'shop' expects {expected[:16]}...; "
        f"replace the file, or run on it under its own path: `tsbench run {path}`"
    )


def test_windows_line_ends_do_not_change_the_checksum(tmp_path: Path) -> None:
    path = put(tmp_path / "shop.csv", CONTENT.replace(b"\n", b"\r\n"))

    assert read_verified(path, card()) == CONTENT.replace(b"\n", b"\r\n")


def test_a_card_without_a_checksum_trusts_the_file(tmp_path: Path) -> None:
    assert read_verified(put(tmp_path / "shop.csv", OTHER), card(sha256=None)) == OTHER


def test_packed_bytes_are_known_by_their_content_not_their_name(tmp_path: Path) -> None:
    assert read_bytes(put(tmp_path / "shop.csv", gzip.compress(CONTENT))) == CONTENT
    assert read_bytes(put(tmp_path / "plain.csv.gz", CONTENT)) == CONTENT


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "shop.csv.gz", gzip.compress(CONTENT)[:30])

    with pytest.raises(DataError, match=r"shop\.csv\.gz: a damaged gzip file .*; fetch it again"):
        read_bytes(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "shop.csv")

    with pytest.raises(DataError, match=r"none\.csv: no such file; check the path"):
        read_bytes(tmp_path / "none.csv")
    with pytest.raises(DataError, match="a folder; name a file in it"):
        read_bytes(tmp_path)
    with pytest.raises(DataError, match=r"shop\.csv/x: cannot be read \(Not a directory\)"):
        read_bytes(path / "x")


def test_a_packed_address_is_verified_by_what_is_in_it(server: Server, cache: Path) -> None:
    server.pages = {"/shop.csv.gz": gzip.compress(CONTENT), "/other.csv.gz": gzip.compress(OTHER)}

    assert read_bytes(fetch(card(urls=[server.url("/shop.csv.gz")]))) == CONTENT
    (cache / "shop.csv.gz").unlink()
    with pytest.raises(DataError, match="gave a file with another sha256"):
        fetch(card(urls=[server.url("/other.csv.gz")]))
    assert not (cache / "shop.csv.gz").exists()
