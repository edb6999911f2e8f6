"""The leaderboard for a paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_up import REALISTIC, Write

from tsbench.report.build import build
from tsbench.report.latex import escape_tex, leaderboard_tex
from tsbench.report.tables import read_results


def rows(text: str) -> dict[str, list[str]]:
    lines = [line.strip().removesuffix(r"\\").split(" & ") for line in text.splitlines() if " & " in line]
    return {label: [cell.strip() for cell in cells] for label, *cells in lines[1:]}


def compiles(text: str, folder: Path) -> str:
    """What LaTeX says of a document with these tables; it stops at the first error, and then this raises."""
    head = r"\documentclass{article}\usepackage{booktabs, siunitx}\begin{document}"
    (folder / "paper.tex").write_text(f"{head}\n{text}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    found = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    said = found.stdout.decode(errors="replace")
    assert found.returncode == 0, said
    return said


def has_latex() -> bool:
    if not (shutil.which("pdflatex") and shutil.which("kpsewhich")):
        return False
    search = ["kpsewhich", "booktabs.sty", "siunitx.sty"]
    return subprocess.run(search, check=False, capture_output=True).returncode == 0


with_latex = pytest.mark.skipif(not has_latex(), reason="pdflatex with booktabs and siunitx is not installed")

HOSTILE = r"a_b & 50% #1 $x$ {y} \input{x} \end{tabular} ~^<>| 'q' \"dq\" é → ± − ?` -- [x] ]"
NAMES = (HOSTILE, "[2pt]", "*", "}{", "\\\\", "%", "gru hidden_size=[64, 32]")


def test_of_errors_the_best_is_bold_and_the_second_underlined(write: Write) -> None:
    found = rows(leaderboard_tex(read_results(write(REALISTIC))))

    assert found["gru"][:4] == [
        r"{\bfseries 0.3688}",
        "0.0016",
        r"{\bfseries 0.3765}",
        r"{\phantom{$-$0}\bfseries 28.1}",
    ]
    assert found["lstm"][0] == r"{\underline{0.3709}}"
    assert "".join(cell for cells in found.values() for cell in cells).count(r"\bfseries") == 3
    assert found["naive"][1] == "{--}"  # not trained: no spread over seeds


def test_marked_numbers_of_fewer_digits_stay_below_the_others(write: Write) -> None:
    found = rows(leaderboard_tex(read_results(write({"gru": [0.9, 0.91], "linear": [12.0, 12.1], "naive": [123.0]}))))

    assert found["gru"][0] == r"{\phantom{00}\bfseries 0.9050}"
    assert found["linear"][0] == r"{\phantom{0}\underline{12.0500}}"
    assert found["naive"][0] == "123.0000"


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
        ("[2pt] * -- ?` −", "{[}2pt] {*} -{}- ?{`} $-$"),
    ],
)
def test_no_text_becomes_a_command(text: str, safe: str) -> None:
    assert escape_tex(text) == safe


def parsed(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Of each table its column types and its rows of cells, by TeX's own rules; anything else is an error.

    Commands that a cell may hold are listed: a name cannot bring one of its own.
    """
    known = {"bfseries", "underline", "phantom", "textbackslash", "textasciitilde", "textasciicircum", "textless"}
    known |= {"textgreater", "textbar", "pm", "to"}
    tables = []
    for body in re.findall(r"\\begin\{tabular\}(.*?)\n *\\end\{tabular\}", text, re.DOTALL):
        head, *lines = body.strip().splitlines()
        columns = re.findall(r"l|S\[table-format=-?\d+(?:\.\d+)?\]", head)
        assert head == "{" + " ".join(columns) + "}"
        ruled = [line.strip() for line in lines]
        assert [line for line in ruled if not line.endswith(r"\\")] == [r"\toprule", r"\midrule", r"\bottomrule"]
        tables.append((columns, [cells_of(line[:-2], known) for line in ruled if line.endswith(r"\\")]))
    return tables


def cells_of(line: str, known: set[str]) -> list[str]:
    cells, depth, is_math = [""], 0, False
    for token in re.findall(r"\\(?:[A-Za-z]+|.)|.", line.strip()):
        if token[0] == "\\":
            assert token[1:] in known | set("&%$#_{}"), token
        depth += {"{": 1, "}": -1}.get(token, 0)
        is_math ^= token == "$"
        assert depth >= 0
        assert token not in "#%^~_"
        if token == "&":
            assert depth == 0
            cells.append("")
        else:
            cells[-1] += token
    assert (depth, is_math) == (0, False)
    return [cell.strip() for cell in cells]


@pytest.mark.parametrize("outcomes", [[0.3, 0.31], [0.3, "failed: x"], [None]], ids=["ok", "failed", "nothing"])
def test_whatever_a_model_is_called_every_row_has_a_cell_for_every_column(
    write: Write, outcomes: list[float | str | None]
) -> None:
    text = leaderboard_tex(read_results(write(dict.fromkeys(NAMES, outcomes) | REALISTIC, datasets=[HOSTILE, "b"])))

    tables = parsed(text)

    assert len(tables) == 2
    for columns, found in tables:
        assert len(found) == 1 + len(NAMES) + len(REALISTIC)
        for first, *cells in found:
            assert first[:1] not in ("[", "*", "")  # which the line break before it would take
            assert len(cells) + 1 == len(columns)
        for column, *cells in zip(columns, *found[1:], strict=True):
            numbers = [cell for cell in cells if not cell.startswith("{")]
            assert column == "l" or all(re.fullmatch(r"-?\d+(\.\d+)?", number) for number in numbers)
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


@with_latex
def test_latex_takes_the_tables_whatever_the_models_are_called(write: Write, tmp_path: Path) -> None:
    folder = write({name: [0.3, 0.31] for name in NAMES} | REALISTIC, datasets=[HOSTILE, "b"])

    compiles(leaderboard_tex(read_results(folder)), tmp_path)


@with_latex
def test_a_table_of_all_families_fits_into_the_column_of_an_article(write: Write, tmp_path: Path) -> None:
    finished = {label: [0.4, 0.41, 0.42] for label in REALISTIC}

    assert "Overfull" not in compiles(leaderboard_tex(read_results(write(finished))), tmp_path)


def test_names_beyond_latin_letters_are_said_at_the_top(write: Write) -> None:
    assert "use lualatex or xelatex" in leaderboard_tex(read_results(write({"gru": [0.3]}, datasets=["温度"])))
    assert "lualatex" not in leaderboard_tex(read_results(write({"gru": [0.3]}, datasets=["Zürich → §"])))


def test_the_table_lies_beside_the_report(write: Write) -> None:
    folder = write({"gru": [0.3]})

    build(folder)

    assert (folder / "leaderboard.tex").read_text(encoding="utf-8") == leaderboard_tex(read_results(folder))
