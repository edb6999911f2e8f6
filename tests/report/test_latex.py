"""The leaderboard for a paper."""

from __future__ import annotations

import re

import pytest
from made_up import REALISTIC, Write

from tsbench.report.build import build
from tsbench.report.latex import escape_tex, leaderboard_tex
from tsbench.report.tables import read_results


def rows(text: str) -> dict[str, list[str]]:
    lines = [line.strip().removesuffix(r"\\").split(" & ") for line in text.splitlines() if " & " in line]
    return {label: [cell.strip() for cell in cells] for label, *cells in lines[1:]}


def test_of_errors_the_best_is_bold_and_the_second_underlined(write: Write) -> None:
    found = rows(leaderboard_tex(read_results(write(REALISTIC))))

    assert found["gru"][:4] == [r"{\bfseries 0.3688}", "0.0016", r"{\bfseries 0.3765}", r"{\bfseries 28.1}"]
    assert found["lstm"][0] == r"{\underline{0.3709}}"
    assert "".join(cell for cells in found.values() for cell in cells).count(r"\bfseries") == 3
    assert found["naive"][1] == "{--}"  # not trained: no spread over seeds


def test_a_model_with_failed_runs_is_neither_best_nor_second(write: Write) -> None:
    outcomes = {"gru": [0.1, "failed: x"], "tcn": [0.3, 0.31], "mlp": ["failed: x", "failed: x"]}

    found = rows(leaderboard_tex(read_results(write(outcomes))))

    assert found["gru"][0] == "0.1000"
    assert r"\bfseries" in found["tcn"][0]
    assert set(found["mlp"][:-1]) == {"{--}"}
    assert found["mlp"][-1] == "0 of 2 ok, 2 failed"


def test_equal_errors_are_marked_alike(write: Write) -> None:
    found = rows(leaderboard_tex(read_results(write({"gru": [0.3], "tcn": [0.3], "mlp": [0.4]}))))

    assert found["gru"][0] == found["tcn"][0] == r"{\bfseries 0.3000}"
    assert found["mlp"][0] == r"{\underline{0.4000}}"


def test_columns_have_room_for_their_longest_number(write: Write) -> None:
    text = leaderboard_tex(read_results(write(REALISTIC)))

    (formats,) = re.findall(r"\\begin\{tabular\}\{l (.*) l\}", text)
    assert formats.split()[:4] == ["S[table-format=1.4]"] * 3 + ["S[table-format=-3.1]"]
    assert len(formats.split()) == len(rows(text)["gru"]) - 1


def test_the_caption_holds_what_makes_numbers_comparable(write: Write) -> None:
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", leaderboard_tex(read_results(write(REALISTIC))))

    for words in (
        "777 scored windows",
        "points digest 9a9a9a9a",
        "mean over 3 seeds",
        "Example CPU 3000",
        "protocol 1",
    ):
        assert words in caption


def test_every_task_has_a_table_and_a_label_of_its_own(write: Write) -> None:
    text = leaderboard_tex(read_results(write({"gru": [0.3]}, datasets=["a_b", "c"])))

    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert re.findall(r"\\label\{(.*)\}", text) == ["tab:leaderboard-1", "tab:leaderboard-2"]
    assert r"\caption{a\_b, 48 $\to$ 24 steps: " in text


def test_a_folder_without_a_result_has_a_table_of_blanks(write: Write) -> None:
    text = leaderboard_tex(read_results(write({"gru": [None]})))

    assert rows(text)["gru"] == ["{--}"] * 8 + ["0 of 1 ok, 1 not run"]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a_b & 50% #1 $x$ {y}", r"a\_b \& 50\% \#1 \$x\$ \{y\}"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("<a> ~ ^ | ±", r"\textless{}a\textgreater{} \textasciitilde{} \textasciicircum{} \textbar{} $\pm$"),
        ("two\n\nlines", "two lines"),
    ],
)
def test_no_text_becomes_a_command(text: str, safe: str) -> None:
    assert escape_tex(text) == safe


def test_the_table_lies_beside_the_report(write: Write) -> None:
    folder = write({"gru": [0.3]})

    build(folder)

    assert (folder / "leaderboard.tex").read_text(encoding="utf-8") == leaderboard_tex(read_results(folder))
