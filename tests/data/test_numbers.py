"""Numbers: the mark of decimals and thousands is read off all cells of a file, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsbench.data.panel import Panel
from tsbench.data.readers import read_panel
from tsbench.errors import DataError


def panel_of(tmp_path: Path, *rows: str, header: str = "date;a;b", **told: object) -> Panel:
    """Daily rows, from these cells again and again."""
    path = tmp_path / "numbers.csv"
    days = [f"2024-0{1 + day // 28}-{1 + day % 28:02};{rows[day % len(rows)]}" for day in range(28)]
    path.write_text("\n".join([header, *days]), encoding="utf-8")
    return read_panel(path, **told)


@pytest.mark.parametrize(
    ("rows", "expected", "note"),
    [
        (["1,5;2", "0,25;3"], [[1.5, 2], [0.25, 3]], "numbers: decimal comma (inferred from 'a')"),
        (["1.234,5;1.000", "2,5;3"], [[1234.5, 1000], [2.5, 3]], "numbers: decimal comma (inferred from 'a')"),
        (
            ["1,234.5;2", "7;3.5"],
            [[1234.5, 2], [7, 3.5]],
            "numbers: thousands separator ',' (inferred from 'a')",
        ),
        (["1,234,567;2", "7;3.5"], [[1234567, 2], [7, 3.5]], "numbers: thousands separator ',' (inferred from"),
        (["1 234;2.5", "7;3"], [[1234, 2.5], [7, 3]], "numbers: thousands separator ' ' (inferred from 'a')"),
        (["1\u00a0234,5;2", "7;3"], [[1234.5, 2], [7, 3]], "numbers: decimal comma (inferred from 'a')"),
        (["1'234.5;2", "7;3"], [[1234.5, 2], [7, 3]], 'numbers: thousands separator "\'"'),
        (["-1,5e3;2", "+0,5;3"], [[-1500, 2], [0.5, 3]], "numbers: decimal comma"),
    ],
)
def test_how_numbers_are_written_is_seen_and_stated(tmp_path: Path, rows: list, expected: list, note: str) -> None:
    panel = panel_of(tmp_path, *rows)

    assert panel.values[:2].tolist() == expected
    assert any(line.startswith(note) for line in panel.notes)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"decimal": "comma"}, 1.234),
        ({"thousands": "comma"}, 1234),
        ({"decimal": "comma", "thousands": "point"}, 1.234),
    ],
)
def test_one_comma_and_three_digits_are_refused_until_it_is_told_what_they_mean(
    tmp_path: Path, told: dict, expected: float
) -> None:
    with pytest.raises(
        DataError, match="line 2, column 'a': '1,234' may hold a decimal comma or a thousands separator"
    ):
        panel_of(tmp_path, "1,234;2", "7;3")

    assert panel_of(tmp_path, "1,234;2", "7;3", **told).values[0, 0] == pytest.approx(expected)


def test_another_column_shows_what_a_comma_means(tmp_path: Path) -> None:
    assert panel_of(tmp_path, "1,234;0,5", "7;3").values[0].tolist() == pytest.approx([1.234, 0.5])


def test_a_decimal_comma_in_one_column_and_a_point_in_another_are_refused(tmp_path: Path) -> None:
    """12.5 would become 125."""
    with pytest.raises(DataError, match=r"column 'b': '12\.5' is not a number"):
        panel_of(tmp_path, "1,5;12.5", "2,25;3")


def test_words_among_numbers_are_refused_and_the_numeric_columns_are_offered(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        panel_of(tmp_path, "sunny;2", "rainy;3")

    assert "line 2, column 'a': 'sunny' is not a number (28 such cells in this column)" in str(refusal.value)
    assert "--set targets=b --write-card numbers.toml" in str(refusal.value)


def test_true_and_false_become_one_and_zero_and_that_is_stated(tmp_path: Path) -> None:
    panel = panel_of(tmp_path, "True;2", "False;3")

    assert panel.values[:2].tolist() == [[1, 2], [0, 3]]
    assert "numbers: True and False are taken as 1 and 0 in 'a'" in panel.notes


@pytest.mark.parametrize("cell", ["9" * 400, "1e400", "-inf"])
def test_a_number_beyond_all_bounds_is_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=r"column 'a': -?inf is not finite"):
        panel_of(tmp_path, f"{cell};2", "7;3")
