"""The files of a report: complete, consistent, harmless, the same every time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_up import DATA, REALISTIC, Write, with_energy, with_gradients, write_experiment

from tsbench.bench.records import Plan, PlannedRun, Pretrained, Record, load_records
from tsbench.report.build import build, escape_markdown
from tsbench.report.page import COLUMNS

EVIL = "<script>alert(1)</script>|$x_1$"


class Page(HTMLParser):
    """What a browser would make of it: tags with attributes, and rows of the leaderboards."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def attributes(self, name: str) -> Iterator[str]:
        return (value for _, attributes in self.tags if (value := attributes.get(name)) is not None)


@pytest.fixture(scope="module")
def realistic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_experiment(tmp_path_factory.mktemp("realistic"), REALISTIC)
    build(folder)
    return folder


def read(folder: Path, name: str = "report.html") -> str:
    return (folder / name).read_text(encoding="utf-8")


def test_the_page_holds_the_unrounded_numbers_of_the_table(realistic: Path) -> None:
    frame = pd.read_csv(realistic / "leaderboard.csv")
    table = read(realistic).split('<table class="leaderboard sortable">')[1].split("</table>")[0]
    values = list(Page(table).attributes("data-value"))
    expected = [row[column.name] for _, row in frame.iterrows() for column in COLUMNS]
    assert [float(value) if value else None for value in values] == [None if pd.isna(v) else v for v in expected]


# One number in five places


class Leaderboards(HTMLParser):
    """Every row of the page that holds a number for each column: its head, and the unrounded numbers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[tuple[str, list[str]]] = []
        self._head, self._values, self._in_head = "", [], False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._head, self._values = "", []
        self._in_head = (tag, ("scope", "row")) == ("th", next(iter(attrs), None))
        self._values += [value or "" for name, value in attrs if name == "data-value"]

    def handle_data(self, data: str) -> None:
        if self._in_head:
            self._head, self._in_head = data.strip(), False

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and len(self._values) == len(COLUMNS):
            self.rows.append((self._head, self._values))


Numbers = dict[tuple[str, str], float]
"""By label and column; NaN where a format shows a blank."""


def of_page(folder: Path) -> Numbers:
    rows = Leaderboards(read(folder)).rows
    return {
        (label, column.name): float(value or "nan")
        for label, values in rows
        for column, value in zip(COLUMNS, values, strict=True)
    }


def of_csv(folder: Path) -> Numbers:
    frame = pd.read_csv(folder / "leaderboard.csv")
    return {(row["label"], column.name): float(row[column.name]) for _, row in frame.iterrows() for column in COLUMNS}


def of_records(folder: Path) -> Numbers:
    frame = load_records(folder)
    finished = frame[frame["status"] == "ok"]
    found: Numbers = {}
    for label, rows in finished.groupby("label"):
        naive = finished[finished["label"] == "seasonal_naive"]["mse_scaled"].mean()
        for column in COLUMNS:
            if column.name == "skill":
                value = 1 - rows["mse_scaled"].mean() / naive
            else:
                value = rows[column.name].median() if column.group == "Cost" else rows[column.name].mean()
            found[str(label), column.name] = float(value)
    return found


def of_markdown(folder: Path) -> Numbers:
    """As shown: rounded, with a unit prefix or a percent sign."""
    section = read(folder, "report.md").split("## Leaderboard")[1].split("\n## ")[0]
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if re.match(r"\| \d", line)]
    found: Numbers = {}
    for _, label, *cells, _ in lines:
        name = re.sub(r" \(.*\)$", "", label.strip().replace("\\", ""))
        found |= {(name, c.name): as_number(text) for c, text in zip(COLUMNS, cells, strict=True)}
    return found


def of_latex(folder: Path) -> Numbers:
    """As shown, in the columns that LaTeX has."""
    names = ["mse_scaled", None, "mae_scaled", "skill", "train_windows_per_second", "predict_windows_per_second"]
    names += ["latency_p50_ms", "num_parameters"]
    found: Numbers = {}
    for line in read(folder, "leaderboard.tex").splitlines():
        if " & " in line and "{MSE}" not in line:
            label, *cells, _ = (cell.strip() for cell in line.removesuffix(r"\\").split(" & "))
            for name, cell in zip(names, cells, strict=True):
                if name:
                    shown = re.search(r"-?\d[\d.]*", re.sub(r"\\phantom\{.*?\}", "", cell))
                    value = float(shown[0]) if shown else float("nan")
                    found[label.replace("\\", ""), name] = value / 100 if name == "skill" else value
    return found


def as_number(shown: str) -> float:
    text = shown.split("±")[0].strip().replace(",", "").replace("−", "-")
    if text == "–":
        return float("nan")
    scale = {"%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(text[-1], 1.0)
    return scale * float(text.rstrip("%kMGT"))


def test_html_csv_and_records_hold_the_same_numbers(realistic: Path) -> None:
    records, csv, page = of_records(realistic), of_csv(realistic), of_page(realistic)

    assert len(records) == len(REALISTIC) * len(COLUMNS)
    assert csv == pytest.approx(records, rel=1e-12, nan_ok=True)
    assert page == pytest.approx(csv, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("shown", [of_markdown, of_latex])
def test_markdown_and_latex_show_the_same_numbers_rounded(realistic: Path, shown: Callable[[Path], Numbers]) -> None:
    """Three significant digits of a cost, four of an error; of a skill, tenths of a percent."""
    records, numbers = of_records(realistic), shown(realistic)

    assert {label for label, _ in numbers} == set(REALISTIC)
    assert {name for _, name in numbers} <= {column.name for column in COLUMNS}
    for (label, name), value in numbers.items():
        expected = records[label, name]
        assert value == pytest.approx(expected, rel=5.1e-3, abs=5.1e-4 if name == "skill" else 0, nan_ok=True)


def test_an_error_is_shown_alike_in_html_markdown_and_latex(realistic: Path) -> None:
    frame = pd.read_csv(realistic / "leaderboard.csv")
    for error in frame["mse_scaled"]:
        for name in ("report.html", "report.md", "leaderboard.tex"):
            assert f"{error:.4f}" in read(realistic, name)


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_failures_and_missing_runs_are_shown_with_their_reasons(realistic: Path, name: str) -> None:
    text = read(realistic, name)
    assert "the training loss became NaN at step 130" in text
    assert "head_size 7 does not divide 64" in text
    assert "2 of 36 planned runs failed." in text
    assert "1 of 36 planned runs has no record yet" in text
    assert "cnn on streets, 48 → 24 steps, seed 2" in text


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_conditions_are_complete(realistic: Path, name: str) -> None:
    text = read(realistic, name)
    for words in (DATA.title, DATA.attribution, DATA.license, "4,000 rows", "9a9a9a9a", "f00d" * 4, "Example CPU 3000"):
        assert words in text
    for words in ("tsbench run streets --seeds 0,1,2", "learning_rate 0.0005 instead", "Protocol 1", "2.13.0"):
        assert words in text


def test_the_layers_of_a_stack_are_written_out_among_the_conditions(write: Write) -> None:
    folder = write({"stack": [0.4]})
    layers = [{"kind": "conv1d", "num_filters": 8}, {"kind": "lstm", "hidden_size": 16}]
    run = Plan.load(folder).runs[0].run.model_copy(update={"arguments": {"layers": layers, "readout": "all"}})
    Plan(title="", experiment="", command="", runs=[PlannedRun(label="stack", run=run)]).save(folder)

    build(folder)

    words = "layers = conv1d(num_filters=8) + lstm(hidden_size=16), readout = all"
    assert words in read(folder)
    assert escape_markdown(words) in read(folder, "report.md")


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_what_was_taken_from_a_saved_forecaster_is_said(write: Write, name: str) -> None:
    tensors = Pretrained(
        taken=["embed.weight"], mismatched=["head.weight (8x4 there, 6x4 here)"], skipped=[], new=["q"]
    )

    def start(record: Record) -> Record:
        recipe = record.run.recipe.model_copy(update={"pretrained": "gru.pt"})
        run = record.run.model_copy(update={"recipe": recipe})
        return record.model_copy(update={"run": run, "pretrained": tensors if run.model == "gru" else None})

    folder = write({"gru": (0.3, 0.4), "linear": (0.5, 0.5)}, edit=start)
    build(folder)

    assert read(folder, name).count("started from gru.pt") == 1
    assert (
        "gru on streets, 48 → 24 steps started from gru.pt: 1 tensor taken; 1 of another shape and started anew "
        "(head.weight (8x4 there, 6x4 here)); 1 not in it and started anew (q)."
    ) in read(folder, name)


def test_every_picture_is_in_the_page_and_beside_the_markdown(realistic: Path) -> None:
    pictures = re.findall(r"\]\((figures/\S+\.svg)\)", read(realistic, "report.md"))
    assert len(pictures) == len(set(pictures)) == 9
    assert all((realistic / picture).is_file() for picture in pictures)
    assert sum(tag == "svg" for tag, _ in Page(read(realistic)).tags) == 9


def test_gradients_have_a_section_where_some_were_recorded_and_nowhere_else(realistic: Path, write: Write) -> None:
    folder = write({"rnn": [0.4], "lstm": [0.3], "naive": [1.2]}, datasets=["a", "b"], edit=with_gradients)
    build(folder)

    for name, heading in (("report.html", "<h2>Gradients</h2>"), ("report.md", "## Gradients")):
        assert heading in read(folder, name)
        assert read(folder, name).count("rnn: the gradient at the oldest tenth of the context is") == 2
        assert "Where norms of gradients were recorded, the timed steps took them too" in read(folder, name)
        assert "radients" not in read(realistic, name)
    assert all((folder / "figures" / f"task{number}-gradients.svg").is_file() for number in (1, 2))


def test_the_share_of_the_bare_limit_is_told_of_trained_models_alone_and_explained(realistic: Path) -> None:
    frame = pd.read_csv(realistic / "leaderboard.csv").set_index("label")
    assert frame["share_of_bare_limit"]["gru"] == pytest.approx(1.886 / 2.05)
    assert frame["share_of_bare_limit"][["naive", "seasonal_naive", "profile"]].isna().all()

    page, text = read(realistic), read(realistic, "report.md")
    table = page.split("<h3>Training against the bare limit</h3>")[1].split("</table>")[0]
    assert [a["data-model"] for tag, a in Page(table).tags if "data-model" in a] == [
        label for label in frame.index if label not in ("naive", "seasonal_naive", "profile")
    ]
    assert 'data-value="0.92">92%<' in table
    assert re.search(r"\| gru \| \S+ \| 33.9k \| 92% \|", text)  # 64 windows in 1.886 ms
    for words in (page, text):
        assert "The bare limit is what forward pass, backward pass and optimizer step" in words


def test_older_records_have_no_word_of_the_bare_limit(write: Write) -> None:
    def older(record: Record) -> Record:
        return record.model_copy(update={"cost": record.cost and record.cost.model_copy(update={"bare_step_ms": None})})

    folder = write({"gru": [0.3]}, edit=older)
    build(folder)

    assert "bare limit" not in read(folder) + read(folder, "report.md")


def test_energy_has_columns_where_it_was_read_and_nowhere_else(realistic: Path, write: Write) -> None:
    folder = write({"gru": [0.3, 0.31], "naive": [1.2], "rnn": [0.4]}, edit=with_energy)
    build(folder)

    frame = pd.read_csv(folder / "leaderboard.csv").set_index("label")
    assert frame["predict_joules"].notna().to_dict() == {"gru": True, "rnn": False, "naive": True}
    assert frame["train_kilojoules"].notna().to_dict() == {"gru": True, "rnn": False, "naive": False}
    assert "predict_joules" not in pd.read_csv(realistic / "leaderboard.csv")


def test_no_two_elements_of_the_page_share_an_id(realistic: Path) -> None:
    ids = list(Page(read(realistic)).attributes("id"))
    assert len(ids) == len(set(ids))


def test_nothing_is_loaded_from_outside_the_file(realistic: Path) -> None:
    page = Page(read(realistic))
    loading = [
        value
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "poster", "xlink:href") or (name == "href" and tag != "a")
    ]
    assert all(value is not None and value.startswith("#") for value in loading)
    assert "url(http" not in read(realistic)
    assert "@import" not in read(realistic)


def test_hostile_names_stay_text(write: Write) -> None:
    folder = write({EVIL: [0.3, 0.31], "seasonal_naive": [0.5, 0.5]}, datasets=[EVIL])
    page = Page(build(folder).read_text(encoding="utf-8"))
    assert sum(tag == "script" for tag, _ in page.tags) == 1  # our own
    for name in ("report.md", "figures/accuracy-throughput.svg"):
        assert "<script" not in read(folder, name)
    assert EVIL in "".join(pd.read_csv(folder / "leaderboard.csv")["label"])


def test_a_pipe_or_a_line_break_does_not_end_a_markdown_cell() -> None:
    assert escape_markdown("a|b\nc") == "a\\|b c"
    assert escape_markdown("seasonal_naive") == "seasonal_naive"
    assert escape_markdown("<b>*x*</b>") == "&lt;b&gt;\\*x\\*&lt;/b&gt;"


@pytest.mark.parametrize(
    ("outcomes", "datasets"),
    [
        ({"gru": [0.3]}, ["streets"]),
        ({"gru": [0.3], "linear": [0.3]}, ["a", "b"]),
        ({"gru": ["failed: x", None]}, ["streets"]),
        ({"gru": [None]}, ["streets"]),
    ],
    ids=["one model, one seed", "two tasks", "failures only", "nothing yet"],
)
def test_building_twice_gives_the_same_bytes(write: Write, outcomes: dict, datasets: list[str]) -> None:
    folder = write(outcomes, datasets=datasets)

    def files() -> dict[str, bytes]:
        build(folder)
        return {
            str(path): path.read_bytes()
            for path in folder.glob("**/*")
            if path.suffix in (".html", ".md", ".csv", ".svg")
        }

    assert files() == files()


def test_building_again_changes_no_byte_of_a_large_report(realistic: Path) -> None:
    before = read(realistic), read(realistic, "report.md"), read(realistic, "figures/forecasts.svg")
    build(realistic)
    assert (read(realistic), read(realistic, "report.md"), read(realistic, "figures/forecasts.svg")) == before


def test_the_report_is_light(write: Write) -> None:
    twelve = {label: [0.4, 0.41, 0.42] for label in REALISTIC}

    page = build(write(twelve, datasets=["a", "b", "c", "d"]))

    assert page.stat().st_size < 2_000_000


def test_of_many_tasks_three_have_pictures_and_the_tables_hold_all(write: Write) -> None:
    folder = write({"seasonal_naive": [0.5] * 2, "gru": [0.3, 0.31]}, datasets=[f"set{n}" for n in range(8)])
    build(folder)

    for name in ("report.html", "report.md"):
        text = read(folder, name)
        assert "Of 8 tasks three have pictures: those on which the skill of gru" in text
        assert "set7, 48 → 24 steps" in text
    assert len(list((folder / "figures").glob("task*-errors.svg"))) == 3
    assert (folder / "figures" / "critical-differences.svg").is_file()
    assert len(pd.read_csv(folder / "leaderboard.csv")) == 16


def test_what_has_nothing_to_show_has_no_section(write: Write) -> None:
    folder = write({"gru": ["failed: x"] * 2})
    build(folder)

    headings = re.findall(r"<h2>(.*?)</h2>", read(folder))
    assert headings == ["Leaderboard", "Failures", "Audit", "Conditions", "Downloads"]
    table = read(folder).split('<table class="leaderboard bare sortable">')[1].split("</table>")[0]
    assert re.findall(r"<th scope=\"col\".*?>(.*?)</th>", table) == ["#", "Model", "Runs"]
    assert "| 1 | gru | 0 of 2 ok, 2 failed |" in read(folder, "report.md")
    assert "Skill is blank" not in read(folder)


def test_errors_by_channel_clock_and_level_are_a_table(realistic: Path) -> None:
    frame = pd.read_csv(realistic / "errors.csv")
    gru = frame[frame["label"] == "gru"]
    assert set(gru["by"]) == {"channel", "hour", "weekday", "level"}
    mean = load_records(realistic).query("label == 'gru'")["mse_scaled"].mean()
    assert gru[gru["by"] == "hour"]["mse_scaled"].mean() == pytest.approx(mean, rel=1e-3)


def test_the_report_loads_without_torch() -> None:
    code = (
        "import sys, tsbench.report.build, tsbench.report.terminal\n"
        "sys.exit(bool({'torch', 'lightning'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_of_many_models_the_pictures_show_the_best_and_the_yardsticks_and_the_table_all(write: Write) -> None:
    many = {f"gru hidden_size={size}": (0.1 + size / 100, 0.1 + size / 100) for size in range(40)}
    folder = write({**many, "seasonal_naive": (0.9, 0.9), "naive": (1.5, 1.5)})

    build(folder)

    curves = (folder / "figures/training.svg").read_text(encoding="utf-8")
    assert "hidden_size=21" in curves
    assert "hidden_size=22" not in curves  # 24 with the two that are no networks
    assert all(label in read(folder, "leaderboard.csv") for label in many)
    said = "Drawn: the 24 best, with the best row of each model that is no network."
    assert said in read(folder, "report.md")
    assert said in read(folder)
