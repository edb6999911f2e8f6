"""The leaderboard in a terminal."""

from __future__ import annotations

import io

from made_up import REALISTIC, Write
from rich.console import Console

from tsbench.report.tables import read_results
from tsbench.report.terminal import leaderboard_tables


def printed(folder: object) -> str:
    console = Console(file=io.StringIO(), width=100)
    for table in leaderboard_tables(read_results(str(folder))):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_it_fits_a_hundred_columns_without_cutting_a_word(write: Write) -> None:
    text = printed(write({"a_model hidden_size=128, num_layers=3": [0.3, 0.31], **REALISTIC}))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "…" not in text


def test_it_marks_the_best_and_what_cannot_be_told_from_it(write: Write) -> None:
    text = printed(write(REALISTIC))
    assert "gru *" in text
    assert "lstm =" in text
    assert "profile =" not in text
    assert "1 diverged" in text


def test_a_name_in_square_brackets_is_no_markup(write: Write) -> None:
    assert "[bold]gru[/]" in printed(write({"[bold]gru[/]": [0.3]}))
