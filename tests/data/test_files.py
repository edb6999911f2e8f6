"""Files of cards: where they are looked for, and why they can be trusted."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tsbench.data.cards import DatasetCard
from tsbench.data.files import cache_dir, find, found, read_bytes, read_verified
from tsbench.errors import DataError

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


def test_the_two_bytes_of_a_line_end_in_a_binary_file_are_no_line_end(tmp_path: Path) -> None:
    content = b"PAR1\r\n\x00\r\n"

    wanted = card(sha256=hashlib.sha256(content).hexdigest())

    assert read_verified(put(tmp_path / "shop.csv", content), wanted) == content


def test_a_file_may_be_known_by_the_id_that_git_gives_it(tmp_path: Path) -> None:
    path = put(tmp_path / "shop.csv")
    blob = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()
    wanted = card(sha256=None, checksum=f"git:{blob}")

    assert read_verified(path, wanted) == CONTENT
    assert read_verified(put(tmp_path / "shop.csv.gz", gzip.compress(CONTENT)), wanted) == CONTENT
    with pytest.raises(DataError, match=r"shop\.csv: git .*\.\.\., but the card 'shop' expects"):
        read_verified(put(tmp_path / "shop.csv", OTHER), wanted)


def test_a_packed_file_may_be_known_by_its_packed_bytes(tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    wanted = card(sha256=None, checksum=f"md5:{hashlib.md5(packed).hexdigest()}")

    assert read_verified(put(tmp_path / "shop.csv.gz", packed), wanted) == CONTENT


def test_a_file_that_is_much_larger_than_its_card_says_is_not_unpacked(tmp_path: Path) -> None:
    path = put(tmp_path / "shop.csv.gz", gzip.compress(CONTENT * 10_000))

    with pytest.raises(DataError, match=r"unpacks to more than the 65\.6 kB that are allowed"):
        read_verified(path, card(size=len(CONTENT)))


def test_the_files_of_many_cards_are_found_in_one_walk(tmp_path: Path) -> None:
    put(tmp_path / "data" / "deep" / "shop.csv.gz", gzip.compress(CONTENT))
    made_up = card(name="made_up", file=None, sha256=None, synthetic={"seed": 1})

    assert found([card(), card(name="other", file="other.csv"), made_up], [tmp_path / "data"]) == {"shop", "made_up"}


def test_a_card_of_two_files_is_here_with_both(tmp_path: Path) -> None:
    two = card(more_files=[{"file": "more.csv"}])
    put(tmp_path / "data" / "shop.csv")
    assert found([two], [tmp_path / "data"]) == set()

    put(tmp_path / "data" / "more.csv")
    assert found([two], [tmp_path / "data"]) == {"shop"}


def test_a_card_without_a_checksum_trusts_the_file(tmp_path: Path) -> None:
    assert read_verified(put(tmp_path / "shop.csv", OTHER), card(sha256=None)) == OTHER


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "shop.csv")

    with pytest.raises(DataError, match=r"none\.csv: no such file; check the path"):
        read_bytes(tmp_path / "none.csv")
    with pytest.raises(DataError, match="a folder; name a file in it"):
        read_bytes(tmp_path)
    with pytest.raises(DataError, match=r"shop\.csv/x: cannot be read \(Not a directory\)"):
        read_bytes(path / "x")
