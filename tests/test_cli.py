"""The command line: every mistake ends in one message that says where, what and what to do; help costs nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

from tsbench import cli
from tsbench.data.catalogue import groups
from tsbench.models.layer_kinds import KINDS
from tsbench.models.registry import layer_arguments


@dataclass(frozen=True)
class Outcome:
    code: int | str | None
    out: str
    err: str


def call(*words: str) -> Outcome:
    """`tsbench WORDS` in this process. Whatever is no exit, such as a traceback, goes through."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["tsbench", *words])
        patch.setenv("COLUMNS", "200")
        patch.setenv("NO_PROXY", "127.0.0.1")
        try:
            cli.main()
            code: int | str | None = 0
        except SystemExit as stop:
            code = stop.code
    return Outcome(code, out.getvalue(), err.getvalue())


def refusal(*words: str) -> str:
    """The one message of a command that must be refused."""
    outcome = call(*words)
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ")
    assert "\nerror: " not in outcome.err
    assert "Warning" not in outcome.err
    assert "error" not in outcome.out.lower()
    return outcome.err.removeprefix("error: ").strip()


def lines(num_rows: int = 60) -> list[str]:
    """A header and hourly rows of one channel."""
    stamps = [f"2024-01-{1 + hour // 24:02} {hour % 24:02}:00" for hour in range(num_rows)]
    return ["date,sold", *(f"{stamp},{hour % 24}" for hour, stamp in enumerate(stamps))]


def with_line(number: int, text: str) -> str:
    """The good file with another line there; the header is line 1."""
    return "\n".join([*lines()[: number - 1], text, *lines()[number:]])


GOOD = "\n".join(lines(400))
STAMP = "2024-01-01 05:00"
"""The stamp of line 7."""


@pytest.fixture
def sales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good file, and a working folder of this test's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sales.csv").write_text(GOOD)
    return tmp_path / "sales.csv"


BAD_FILES = {
    "empty": ("", ["the file is empty"]),
    "blank": ("\n \n", ["the file is empty"]),
    "byte order mark only": ("\ufeff", ["the file is empty"]),
    "header only": ("date,sold\n", ["no rows", "three or more are needed"]),
    "one row": ("\n".join(lines(1)), [", line 2: 1 rows", "three are needed"]),
    "two rows": ("\n".join(lines(2)), [", line 2: 2 rows", "three are needed"]),
    "blank first line": ("\n" + GOOD, [", line 1: blank", "header"]),
    "header of numbers": (
        "10,20,30\n" + "1.5,2,3\n" * 60,
        [", line 1: are 10, 20, 30 names of columns or values?", "--set header=false"],
    ),
    "binary": (bytes(range(256)) * 20, ["not a CSV file", "export it as comma-separated text"]),
    "spreadsheet": (b"PK\x03\x04\x14\x00\x08\x00" + b"\x00" * 100, ["not a CSV file", "export it as comma-separated"]),
    "no encoding": (
        GOOD.replace("sold", "s\x81").encode("latin-1"),
        [", line 1: not utf-8 text", "save the file as UTF-8"],
    ),
    "web page": ("<html><body>404, not found</body></html>\n" * 9, ["no time column", "add a column such as date"]),
    "cut archive": (gzip.compress(GOOD.encode())[:90], ["a damaged gzip file", "fetch it again"]),
    "name twice": ("date,sold,sold\n2024-01-01,1,2\n", [", line 1: column 'sold' is there twice", "name of its own"]),
    "open quotation mark": (with_line(7, f'"{STAMP},5'), ["not a table", "a quotation mark that is not closed"]),
    "long row": (with_line(7, f"{STAMP},5,6"), [", line 7: 3 cells", "names 2 columns", "mend the line"]),
    "long rows": (
        "date,sold\n" + f"{STAMP},5,6\n" * 9,
        [", line 2: more cells than column names", "give every column"],
    ),
    "short row": (with_line(7, STAMP), [", line 7, column 'sold': a missing value", "--set missing=interpolate"]),
    "blank row": (with_line(7, ""), [", line 7, column 'date': an empty cell", "2024-01-31 13:00"]),
    "no time column": ("a,b\n" + "1.5,2\n" * 60, ["no time column", "'a', 'b'", "add a column such as date"]),
    "words for time": (
        "a,b\n" + "x,2\n" * 60,
        ["no time column", "first cell of 'a': 'x'", "add a column such as date"],
    ),
    "numbers for time": (
        "timestamp,sold\n" + "".join(f"{i},1\n" for i in range(60)),
        ["column 'timestamp': numbers such as 0", "write them like 2024-01-31 13:00", "time_format = epoch_s"],
    ),
    "day or month first": (
        "date,sold\n" + "".join(f"0{1 + i % 9}.0{1 + i // 9}.2024,1\n" for i in range(60)),
        [", line 2, column 'date': '01.01.2024' may have the day or the month first", "time_format='%d.%m.%Y'"],
    ),
    "unparsable time": (with_line(7, "2024-13-45,5"), [", line 7, column 'date': '2024-13-45' is not a timestamp"]),
    "two ways to write time": (
        with_line(7, "yesterday,5"),
        [", line 7, column 'date': 'yesterday'", "all of them one way"],
    ),
    "time in another age": (
        "date,sold\n" + "".join(f"{1000 + i}-01-01,1\n" for i in range(60)),
        [", line 2, column 'date': '1000-01-01' is outside the years"],
    ),
    "time twice": (with_line(8, f"{STAMP},5"), [f", line 8: timestamp {STAMP}:00 repeats", "keep one row for each"]),
    "gap": (
        "\n".join(lines()[:20] + lines()[21:]),
        [
            ", line 21: 2024-01-01 20:00:00",
            "2024-01-01 19:00:00 was expected",
            "1 missing rows",
            "--set missing=interpolate",
        ],
    ),
    "text": (with_line(7, f"{STAMP},many"), [", line 7, column 'sold': 'many' is not a number", "mend the cell"]),
    "thousands": (
        with_line(7, f'{STAMP},"1,234"'),
        [", line 7, column 'sold': '1,234' may hold a decimal comma or a thousands", "decimal=comma"],
    ),
    "missing": (with_line(7, f"{STAMP},"), [", line 7, column 'sold': a missing value", "--set missing=interpolate"]),
    "NaN": (with_line(7, f"{STAMP},NaN"), [", line 7, column 'sold': a missing value", "--set missing=interpolate"]),
    "inf": (with_line(7, f"{STAMP},-inf"), [", line 7, column 'sold': -inf is not finite", "replace it"]),
    "more than a float": (with_line(7, f"{STAMP},1e400"), [", line 7, column 'sold': inf is not finite", "replace it"]),
    "more than float32": (with_line(7, f"{STAMP},1e39"), [", line 7, column 'sold': 1e+39 is larger", "a larger unit"]),
    "too few for a split": ("\n".join(lines(4)), ["does not fit 4 rows", "bring more rows"]),
    "too few for a window": ("\n".join(lines(30)), ["too few rows: the ", "shorten --horizon or --context-length"]),
}


@pytest.mark.filterwarnings("error::UserWarning")  # a warning would be a second message
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_refused_with_its_place_and_a_remedy(sales: Path, kind: str) -> None:
    content, words = BAD_FILES[kind]
    path = sales.with_name("bad.csv")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    message = refusal("run", str(path), "--horizon", "24")

    assert message.startswith("bad: " if "too few" in kind else str(path))
    for word in words:
        assert word in message


def test_checking_a_bad_file_gives_the_same_message_as_running_it(sales: Path) -> None:
    sales.write_text(with_line(7, f"{STAMP},many"))

    assert refusal("datasets", "check", "sales.csv") == refusal("run", "sales.csv", "--horizon", "24")


BAD_WORDS = {
    "missing file": (["run", "none.csv", "--horizon", "6"], ["none.csv: no such file", "check the path"]),
    "path below a file": (["run", "sales.csv/x.csv", "--horizon", "6"], ["sales.csv/x.csv: cannot be read", "check"]),
    "missing experiment": (["run", "none.toml"], ["none.toml: no such experiment file"]),
    "unknown experiment": (["run", "defalt"], ["'defalt'; did you mean 'default'?"]),
    "unknown target": (["plan", "eth1"], ["no experiment, dataset or file is called 'eth1'; did you mean 'etth1'"]),
    "empty target": (["plan", ""], ["no experiment, dataset or file is called ''", "allowed: ablation, auckland"]),
    "no horizon": (["run", "sales.csv"], ["sales.csv: how many rows ahead? add --horizon, such as --horizon 24"]),
    "unknown dataset": (
        ["datasets", "check", "wether"],
        ["unknown dataset 'wether'; did you mean 'weather' or 'monash_weather'?"],
    ),
    "unknown dataset to show": (["datasets", "show", "eth1"], ["unknown dataset 'eth1'; did you mean 'etth1'"]),
    "unknown dataset to fetch": (["datasets", "fetch", "synthetik"], ["did you mean 'synthetic'?"]),
    "unknown model": (["models", "grru"], ["unknown model 'grru'; did you mean 'gru'? allowed: cnn"]),
    "no results": (["report", "none"], ["none: no plan.json", "`tsbench run --output none` makes them"]),
    "no such data folder": (
        ["run", "etth1", "--horizon", "6", "--data-dir", "none"],
        ["--data-dir none: no such folder"],
    ),
}

BAD_OPTIONS = {
    "--horizon 0": ["--horizon 0: write whole numbers from 1 to"],
    "--horizon -1": ["--horizon -1: write whole numbers from 1 to"],
    "--horizon abc": ["--horizon abc: write whole numbers", "such as --horizon 24"],
    "--horizon 1.5": ["--horizon 1.5: write whole numbers"],
    "--horizon 99999999999999999999": ["--horizon 99999999999999999999: write whole numbers"],
    "--horizon 6,6": ["6 is there twice"],
    "--horizon 1000": ["sales: too few rows", "1,000 there for the horizon", "shorten --horizon"],
    "--context-length 0": ["--context-length 0: write whole numbers from 1 to"],
    "--context-length 1000": ["sales: too few rows", "1,000 before them for the context", "shorten"],
    "--seeds a": ["--seeds a: write whole numbers from 0 to"],
    "--seeds -1": ["--seeds -1: write whole numbers from 0 to"],
    "--seeds 4294967296": ["--seeds 4294967296: write whole numbers from 0 to 4294967295"],
    "--seeds 1,1": ["1 is there twice"],
    "--models grru": ["--models: unknown model 'grru'; did you mean 'gru'?"],
    "--set =": ["--set =: write --set KEY=VALUE, such as --set max_steps=500"],
    "--set a": ["--set a: write --set KEY=VALUE"],
    "--set a=": ["--set a=: write --set KEY=VALUE"],
    "--set =3": ["--set =3: write --set KEY=VALUE"],
    "--set gru=3": ["--set gru: unknown recipe key 'gru'", "MODEL.KEYWORD"],
    "--set max_step=3": ["unknown recipe key 'max_step'; did you mean 'max_steps'?"],
    "--set max_steps=many": ["max_steps = 'many': input should be a valid integer"],
    "--set max_steps=1.5": ["max_steps = 1.5: input should be a valid integer"],
    "--set max_steps=0": ["max_steps = 0: input should be greater than or equal to 1"],
    "--set learning_rate=nan": ["learning_rate = nan: input should be"],
    "--set grru.hidden_size=3": ["unknown model 'grru'; did you mean 'gru'?"],
    "--set gru.hiden_size=3": ["[models.gru]: unknown key 'hiden_size'; did you mean 'hidden_size'?"],
    "--set gru.hidden_size=big": ["[models.gru]: hidden_size = 'big': input should be a valid integer"],
    "--set stack.layers=gru,lstm": ["[models.stack]: layer 1 = 'gru': write a table with a kind, such as { kind = "],
    "--set gru.recipe=3": ["[models.gru]: recipe = 3: write a table"],
    "--set gru.recipe.max_step=3": ["[recipe] of gru: unknown key 'max_step'; did you mean 'max_steps'?"],
    "--set gru.a.b.c=3": ["--set gru.a.b.c: write KEY, MODEL.KEYWORD or MODEL.recipe.KEY"],
    "--set .=3": ["--set .: unknown model ''"],
    "--set gru.model=lstn": ["[models.gru]: unknown model 'lstn'; did you mean 'lstm'?"],
    "--set gru.model=3": ["[models.gru]: unknown model ", "3"],
    "--precision 8": ["precision = '8': input should be '32', 'tf32', 'bf16', '16' or '64'"],
    "--only foo": ["--only foo: write --only KEY=VALUE"],
    "--only foo=1": ["--only foo=...: unknown key", "allowed: "],
    "--only modl=gru": ["--only modl=...: unknown key; did you mean 'model'?"],
    "--device gpu": ["--device: unknown device 'gpu'; did you mean 'cpu'? allowed: auto, cpu, cuda"],
    "--workers 0": ["--workers 0: write auto or a whole number from 1, such as --workers 2"],
    "--workers many": ["--workers many: write auto or a whole number from 1, such as --workers 2"],
    "--measure loud": ["--measure: unknown word 'loud'; ", "allowed: alone, shared"],
    "--pack sometimes": ["--pack: unknown word 'sometimes'; ", "allowed: always, auto, never"],
    "--log-format xml": ["--log-format: unknown format 'xml'; ", "allowed: json, plain"],
    "--logger tensorbord": ["--logger: unknown logger 'tensorbord'; did you mean 'tensorboard'?"],
    "--output sales.csv/sub": ["sales.csv/sub", "choose a folder with --output DIR"],
    "--output sales.csv": ["sales.csv", "choose a folder with --output DIR"],
}
SENSELESS_OPTIONS = [
    "--set gru.model=gru,lstm",
    "--set max_steps=[]",
    "--set max_steps=true",
    "--set learning_rate=inf",
    "--only model=xyz",
]


@pytest.mark.parametrize("kind", BAD_WORDS)
def test_what_is_not_there_is_named_with_the_nearest_that_is(sales: Path, kind: str) -> None:
    words, expected = BAD_WORDS[kind]

    message = refusal(*words)

    for part in expected:
        assert part in message


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_a_bad_option_is_refused_by_its_name(sales: Path, option: str) -> None:
    given = ["--horizon", "6"] if not option.startswith("--horizon") else []

    message = refusal("run", "sales.csv", *given, *option.split(" ", 1))

    for part in BAD_OPTIONS[option]:
        assert part in message


@pytest.mark.parametrize("option", SENSELESS_OPTIONS)
def test_an_option_that_cannot_be_meant_is_refused(sales: Path, option: str) -> None:
    """The device, which is looked at last, is there to keep a run from starting."""
    message = refusal(
        "run", "sales.csv", "--horizon", "6", "--models", "gru", "--device", "none", *option.split(" ", 1)
    )

    assert "--device" not in message


EXPERIMENT = """
datasets = ["sales.csv"]
horizons = [6]
seeds = [0]
"""

BAD_EXPERIMENTS = {
    "no TOML": ("datasets = [", ["mine.toml: not valid TOML"]),
    "empty": ("", ["mine.toml: key 'datasets' is missing"]),
    "typo": (EXPERIMENT + "horizon = [6]", ["mine.toml: unknown key 'horizon'; did you mean 'horizons'?"]),
    "no dataset": (EXPERIMENT.replace('"sales.csv"', ""), ["mine.toml: datasets = []", "at least 1 item"]),
    "unknown dataset": (
        EXPERIMENT.replace("sales.csv", "wether"),
        ["unknown dataset 'wether'; did you mean 'weather' or 'monash_weather'?"],
    ),
    "missing file": (EXPERIMENT.replace("sales.csv", "sale.csv"), ["sale.csv: no such file"]),
    "number for a name": (EXPERIMENT.replace('"sales.csv"', "3"), ["mine.toml: datasets.0 = 3: input should be a"]),
    "text for a number": (EXPERIMENT.replace("6", '"six"'), ["mine.toml: horizons.0 = 'six'", "valid integer"]),
    "nothing ahead": (EXPERIMENT.replace("6", "0"), ["mine.toml: horizons.0 = 0: input should be greater than"]),
    "seed twice": (EXPERIMENT.replace("0]", "1, 1]"), ["mine.toml: seeds: 1 is there twice"]),
    "list of models": (EXPERIMENT + "models = ['gru']", ["mine.toml: models = ['gru']: input should be"]),
    "unknown model": (EXPERIMENT + "[models.grru]", ["[models.grru]: unknown model 'grru'; did you mean 'gru'?"]),
    "unknown keyword": (EXPERIMENT + "[models.gru]\nhiden_size = 3", ["'hiden_size'; did you mean 'hidden_size'?"]),
    "unknown choice": (EXPERIMENT + "[models.gru]\nreadout = 'best'", ["readout = 'best': input should be"]),
    "unknown recipe key": (EXPERIMENT + "[recipe]\nmax_step = 3", ["[recipe]: unknown key 'max_step'; did you mean"]),
    "wrong recipe type": (EXPERIMENT + "[recipe]\nmax_steps = 'x'", ["[recipe]: max_steps = 'x': input should be a"]),
    "own recipe, typo": (EXPERIMENT + "[models.gru.recipe]\nmax_step = 3", ["[recipe] of gru: unknown key 'max_step'"]),
    "recipe is a number": (EXPERIMENT + "recipe = 3", ["mine.toml: recipe = 3: input should be"]),
}


@pytest.mark.parametrize("kind", BAD_EXPERIMENTS)
def test_a_broken_experiment_is_refused_with_its_file_and_key(sales: Path, kind: str) -> None:
    content, words = BAD_EXPERIMENTS[kind]
    sales.with_name("mine.toml").write_text(content)

    message = refusal("plan", "mine.toml")

    for word in words:
        assert word in message


def test_a_folder_with_the_name_of_an_experiment_is_no_experiment(sales: Path) -> None:
    sales.with_name("mine.toml").mkdir()

    assert "mine.toml" in refusal("plan", "mine.toml")


CARD = """
name = "shop"
title = "Sales of a shop"
source = "the till"
license = "CC0-1.0"
file = "shop.csv"
"""


def test_a_changed_file_of_a_card_is_refused_with_both_checksums(sales: Path) -> None:
    sales.rename(sales.with_name("shop.csv"))
    sales.with_name("shop.toml").write_text(f"{CARD}sha256 = '{'0' * 64}'")

    message = refusal("datasets", "check", "shop.toml")

    assert "shop.csv: sha256 " in message
    assert "expects 0000000000000000...; replace the file" in message


def test_without_a_network_a_card_says_where_its_file_could_be_put(sales: Path) -> None:
    sales.with_name("shop.toml").write_text(f"{CARD}urls = ['http://127.0.0.1:9/shop.csv']\nsha256 = '{'0' * 64}'")

    message = refusal("datasets", "check", "shop.toml")

    assert "shop.csv is not here, and 127.0.0.1:9 cannot be reached (no network?)" in message
    assert "download http://127.0.0.1:9/shop.csv where there is one" in message
    assert len(message.splitlines()) == 1
    assert "put shop.csv into a folder and name that with --data-dir or TSBENCH_DATA" in message


def test_cuda_is_refused_where_there_is_none(sales: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")

    message = refusal("run", "sales.csv", "--horizon", "6", "--device", "cuda")

    assert message.startswith("--device cuda: this machine has ")
    assert "use --device cpu or auto" in message
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "--horizn", "6"], "--horizon"),
        (["pln"], "'plan'"),
        (["datasets", "lst"], "'list'"),
        (["run", "--horizon"], "requires an argument"),
        (["run", "a.csv", "b.csv"], "b.csv"),
        (["report"], "DIR"),
    ],
)
def test_what_the_parser_does_not_know_is_refused_with_a_hint(words: list[str], hint: str) -> None:
    outcome = call(*words)

    assert outcome.code == 2
    assert hint in outcome.err
    assert "Traceback" not in outcome.err


def test_a_number_of_five_thousand_digits_is_refused_too(sales: Path) -> None:
    assert "write whole numbers from 1 to" in refusal("run", "sales.csv", "--horizon", "9" * 5000)


def test_blanks_after_commas_do_not_make_other_names(sales: Path) -> None:
    """`--models "gru, tcn"` is what people type; the unknown name shows that both were read."""
    message = refusal("plan", "sales.csv", "--horizon", "6", "--seeds", "0, 1", "--models", "gru, tcm")

    assert "unknown model 'tcm'; did you mean 'tcn'?" in message


def test_a_file_is_checked_in_words(sales: Path) -> None:
    outcome = call("datasets", "check", "sales.csv")

    assert (outcome.code, outcome.err) == (0, "")
    assert "sales: 400 rows x 1 channels, 2024-01-01 00:00:00 to 2024-01-17 15:00:00" in outcome.out
    assert "train:      280 rows from 2024-01-01 00:00:00" in outcome.out
    assert "note: time column: 'date' (inferred)" in outcome.out
    assert "note: seasonality: 24 rows (the usual season of h)" in outcome.out


def test_a_card_is_written_that_can_be_planned(sales: Path) -> None:
    sales.write_text(with_line(7, f"{STAMP},") + "\n" + "\n".join(GOOD.splitlines()[61:]))

    outcome = call("datasets", "check", "sales.csv", "--set", "missing=interpolate", "--write-card", "sales.toml")

    assert "note: missing: 1 cells and 0 rows; 1 cells were filled by a straight line in time" in outcome.out
    assert "card: sales.toml; `tsbench run sales.toml --horizon 24` runs on it" in outcome.out
    assert call("datasets", "check", "sales.toml").out.splitlines()[0] == outcome.out.splitlines()[0]
    assert "runs planned" in call("plan", "sales.toml", "--horizon", "6", "--models", "naive").out


def test_items_too_short_for_a_window_are_named_before_a_run(sales: Path) -> None:
    rows = [f"{item},{line}" for item, last in (("long", 301), ("short", 61)) for line in GOOD.splitlines()[1:last]]
    sales.write_text("\n".join(["unique_id,ds,y", *rows]))

    out = call("plan", "sales.csv", "--horizon", "6", "--context-length", "48", "--models", "naive").out

    assert (
        "sales, 48 → 6: 1 of 2 items are too short for a window in the train part and are left out of it: short" in out
    )


def test_an_unknown_word_about_a_file_names_the_option(sales: Path) -> None:
    message = refusal("datasets", "check", "sales.csv", "--set", "mising=interpolate")

    assert message.startswith("--set: unknown key 'mising'; did you mean 'missing'?")


def test_a_card_says_itself_how_its_file_is_read(sales: Path) -> None:
    assert "--set and --write-card are for data files" in refusal("datasets", "check", "etth1", "--set", "freq=h")


def test_a_channel_that_repeats_itself_is_noted_when_a_file_is_checked(sales: Path) -> None:
    sales.write_text("\n".join(f"{line},{'b' if i == 0 else 5}" for i, line in enumerate(GOOD.splitlines())))

    assert (
        "note: b repeats itself exactly from season to season in the training rows: no MASE"
        in call("datasets", "check", "sales.csv").out
    )


def test_datasets_are_listed_with_whether_their_file_is_here(sales: Path) -> None:
    rows = [row.split() for row in call("datasets", "list").out.splitlines()]

    assert ["auckland_pedestrians", "h", "1", "17,544", "886.1", "kB", "yes"] in [row[:7] for row in rows]
    assert ["etth1", "h", "1", "17,420", "2.6", "MB", "no"] in [row[:7] for row in rows]
    assert ["ltsf:", "9", "datasets"] in rows


def test_a_group_of_datasets_is_listed_and_shown() -> None:
    listed = [line.split()[0] for line in call("datasets", "list", "m4", "etth1").out.splitlines()]
    shown = call("datasets", "show", "m4").out

    names = ["m4_daily", "m4_hourly", "m4_monthly", "m4_quarterly", "m4_weekly", "m4_yearly"]
    assert listed == ["name", *names, "etth1"]
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("name:")] == names


def test_a_group_is_planned_dataset_by_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(groups(), "two", ("exchange", "ili"))
    words = ["--horizon", "6", "--models", "naive", "--data-dir", str(shared_data)]

    out = call("plan", "two", *words).out
    (tmp_path / "mine.toml").write_text('datasets = ["two", "ili"]\nhorizons = [6]\n[models.naive]')

    assert "exchange" in out
    assert "ili" in out
    assert "18 runs planned, 18 to do" in out
    assert "18 runs planned, 18 to do" in call("plan", "mine.toml", *words).out


def test_of_one_name_the_experiment_comes_before_the_group_and_says_so(sales: Path, shared_data: Path) -> None:
    out = call("plan", "ltsf", "--data-dir", str(shared_data), "--models", "naive").out

    assert out.splitlines()[0] == "ltsf: the experiment; the group of datasets is group:ltsf"
    assert "group:ltsf: how many rows ahead? add --horizon" in refusal("plan", "group:ltsf")


def test_a_group_that_is_checked_is_checked_dataset_by_dataset(
    monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    monkeypatch.setitem(groups(), "two", ("exchange", "ili"))

    out = call("datasets", "check", "two", "--data-dir", str(shared_data)).out

    assert "exchange: 7,588 rows x 8 channels" in out
    assert "\n\nili: 966 rows x 7 channels" in out


def test_what_one_dataset_lacks_does_not_keep_the_others_from_being_fetched(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ili").mkdir()
    (tmp_path / "ili" / "national_illness.csv").write_bytes((shared_data / "ltsf/national_illness.csv").read_bytes())

    outcome = call("datasets", "fetch", "monash_m3_monthly", "ili", "--data-dir", str(tmp_path / "ili"))

    assert outcome.code == 2
    assert outcome.out.startswith("ili: ")
    assert outcome.err.startswith("error: monash_m3_monthly: m3_monthly_dataset.tsf was not found and the card has no")


def test_without_a_network_a_group_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens

    message = refusal("datasets", "fetch", "monash")

    assert message.startswith(
        "monash_australian_demand: australian_electricity_demand_dataset.tsf is not here, and zenodo"
    )
    assert len(message.splitlines()) == 1


def test_a_card_is_shown_without_its_empty_fields() -> None:
    out = call("datasets", "show", "etth1").out

    assert "name:                 etth1" in out
    assert "CC BY-ND 4.0" in out
    assert "synthetic" not in out


def test_a_card_without_a_checksum_says_so() -> None:
    assert "not verified:         no checksum of the file is known" in call("datasets", "show", "monash_dominick").out
    assert "not verified" not in call("datasets", "show", "m4_monthly").out  # git knows its files


def test_fetching_what_is_here_only_verifies_it() -> None:
    out = call("datasets", "fetch", "auckland_pedestrians_tiny", "synthetic").out

    assert "auckland_pedestrians_tiny: " in out
    assert "auckland_pedestrians_tiny.csv" in out
    assert "synthetic: made from a seed, nothing to fetch" in out


def test_models_are_listed_and_explained() -> None:
    assert {"naive", "gru", "tcn", "transformer"} <= set(call("models").out.replace("│", " ").split())
    assert "hidden_size" in call("models", "gru").out
    assert "It has no keywords." in call("models", "naive").out


def test_the_layers_of_a_stack_are_listed_with_their_keywords() -> None:
    out = call("models", "stack").out

    words = set(out.replace("│", " ").split())
    assert {*KINDS, *(keyword for kind in KINDS for keyword in layer_arguments(kind))} <= words
    assert "list of layers" in out
    assert "conv1d(" in out
    assert "layers=conv1d+activation+" in call("models").out.replace("\n", "")


SMALL = ["--horizon", "2", "--context-length", "24", "--models", "naive", "--seeds", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The one real run of this file: naive and its opponents for two steps on a series with a constant channel."""
    folder = tmp_path_factory.mktemp("finished")
    rows = [f"2024-01-{1 + i // 24:02} {i % 24:02}:00,{(i * 7) % 11},5" for i in range(240)]
    (folder / "sales.csv").write_text("\n".join(["date,sold,price", *rows]))
    outcome = call("run", str(folder / "sales.csv"), *SMALL, "--set", "max_steps=2", "--output", str(folder / "out"))
    return folder, outcome


def test_a_run_ends_with_a_leaderboard_and_the_path_of_the_report(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished

    assert (outcome.code, outcome.err) == (0, "")
    assert "sales: seasonality: 24 rows (the usual season of h)" in outcome.out  # what was inferred is said
    assert "3 runs planned, 3 to do" in outcome.out
    for model in ("naive", "seasonal_naive", "linear"):
        assert model in outcome.out
    assert outcome.out.rstrip().endswith(f"report: {folder / 'out' / 'report.html'}")
    assert (folder / "out" / "report.html").is_file()


def test_as_json_every_line_of_a_run_is_an_event(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    words = ["run", str(folder / "sales.csv"), *SMALL, "--set", "max_steps=2", "--output", str(folder / "logged")]

    outcome = call(*words, "--log-format", "json")

    events = [json.loads(line) for line in outcome.out.splitlines()]
    assert (outcome.code, outcome.err) == (0, "")
    names = [event["event"] for event in events if event["event"] != "note"]
    assert names == ["plan", *["start", "end"] * 3, *["leaderboard"] * 3, "report"]
    assert [event["rank"] for event in events if event["event"] == "leaderboard"] == [1, 2, 3]
    assert [event["seconds_left"] is None for event in events if event["event"] in ("plan", "end")] == [
        True,
        False,
        False,
        False,
    ]


def test_the_same_command_finds_nothing_left_to_do(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    records = {path: path.read_bytes() for path in (folder / "out" / "records").rglob("*.json")}

    words = ["run", str(folder / "sales.csv"), *SMALL, "--set", "max_steps=2", "--output", str(folder / "out")]
    again = call(*words)

    assert again.code == 0
    assert "3 runs planned, 0 to do" in again.out
    assert {path: path.read_bytes() for path in (folder / "out" / "records").rglob("*.json")} == records


def test_a_constant_channel_works_and_mase_says_why_it_is_blank(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished

    for path in (folder / "out" / "records").rglob("*.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "ok"
        assert record["metrics"]["mase"] is None
        assert record["metrics"]["note"].startswith("MASE is blank: price repeats itself exactly")
        assert math.isfinite(record["metrics"]["mse_scaled"])


def test_the_report_is_written_anew_from_the_records(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    (folder / "out" / "report.html").unlink()

    outcome = call("report", str(folder / "out"))

    assert (outcome.code, outcome.out) == (0, f"report: {folder / 'out' / 'report.html'}\n")
    assert (folder / "out" / "report.html").is_file()


def test_a_recommendation_is_words_or_json(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished

    words, told = (call("recommend", str(folder / "out"), "--within", "2 %", *rest) for rest in ([], ["--json"]))

    assert (words.code, words.err, told.code) == (0, "", 0)
    (found,) = json.loads(told.out)
    assert words.out.splitlines() == [
        "sales, 24 → 2 steps",
        f"  {found['headline']}",
        *(f"  {sentence}" for sentence in found["sentences"]),
    ]
    assert found["best"]["label"] in found["headline"]


@pytest.mark.parametrize("within", ["two", "2", "-1%", "nan%"])
def test_a_part_is_written_with_percent_or_below_one(finished: tuple[Path, Outcome], within: str) -> None:
    folder, _ = finished

    message = refusal("recommend", str(folder / "out"), "--within", within)

    assert message == f"--within {within}: write a part, such as --within 2% or --within 0.02"


def test_a_folder_has_not_changed_since_itself(finished: tuple[Path, Outcome]) -> None:
    out = str(finished[0] / "out")

    words, told = call("compare", out, out, "--fail-on", "any"), call("compare", out, out, "--json")

    assert (words.code, words.err) == (0, "")
    assert (
        words.out.endswith("Of 3 models: 2 not told apart, 1 unknown for want of seeds.\n") or "3 not told" in words.out
    )
    assert [pair["relative"] for pair in json.loads(told.out)["pairs"]] == [0, 0, 0]


def test_a_check_fails_on_what_got_worse(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    out = finished[0] / "out"
    shutil.copytree(out, tmp_path / "worse")
    for path in (tmp_path / "worse" / "records").rglob("*.json"):
        text = path.read_text()
        if '"model": "naive"' in text:
            record = json.loads(text)
            path.write_text(
                json.dumps(record | {"status": "failed", "reason": "it broke", "metrics": None, "cost": None})
            )

    codes = [call("compare", str(out), str(tmp_path / "worse"), *rest).code for rest in ([], ["--fail-on", "worse"])]

    assert codes == [0, 1]
    assert "unknown word 'wrse'; did you mean 'worse'?" in refusal("compare", str(out), str(out), "--fail-on", "wrse")


def test_a_check_that_can_see_nothing_does_not_pass(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    out = finished[0] / "out"
    shutil.copytree(out, tmp_path / "there")
    for path in (tmp_path / "there" / "records").rglob("*.json"):
        path.write_text(path.read_text().replace('"device_name": "', '"device_name": "Another '))

    outcome = call("compare", str(out), str(tmp_path / "there"), "--fail-on", "slower")

    assert outcome.code == 2
    assert outcome.err.startswith("error: --fail-on slower: nothing was compared that could tell")


def test_one_report_of_several_folders_needs_a_place_of_its_own(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    out, both = str(finished[0] / "out"), tmp_path / "both"
    shutil.copytree(out, tmp_path / "copy")

    outcome = call("report", out, str(tmp_path / "copy"), "--output", str(both))

    assert outcome.out.splitlines()[0] == "put together from out, copy"
    assert (
        outcome.out.splitlines()[1]
        == "3 runs are in more than one folder with the same result; costs are the first one's"
    )
    assert outcome.out.splitlines()[-1] == f"report: {both / 'report.html'}"
    assert (both / "leaderboard.csv").read_bytes() == (Path(out) / "leaderboard.csv").read_bytes()
    assert "add --output DIR" in refusal("report", out, str(tmp_path / "copy"))
    assert "holds an experiment of its own" in refusal("report", out, "--output", str(tmp_path / "copy"))


@pytest.mark.parametrize("name", ["fev", "gift-eval"])
def test_results_are_exported_with_notes_about_what_is_empty(
    finished: tuple[Path, Outcome], tmp_path: Path, name: str
) -> None:
    out = str(finished[0] / "out")

    outcome = call("export", out, "--format", name, "--output", str(tmp_path / "rows.csv"))

    *notes, last = outcome.out.splitlines()
    assert (outcome.code, outcome.err, last) == (0, "", f"{name}: {tmp_path / 'rows.csv'}")
    assert all(note.startswith("note: ") for note in notes)
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 4
    assert "unknown format 'fv'; did you mean 'fev'?" in refusal("export", out, "--format", "fv")


def test_a_model_from_elsewhere_is_imported_and_reported(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(finished[0] / "out", tmp_path / "out")
    record = json.loads(next((tmp_path / "out" / "records").rglob("*.json")).read_text())
    digest = record["metrics"]["points_digest"]
    (tmp_path / "theirs.csv").write_text(f"dataset,horizon,mse_scaled,points_digest\nsales,2,0.5,{digest}\n")
    words = ["import", str(tmp_path / "theirs.csv"), "--into", str(tmp_path / "out"), "--as"]

    outcome = call(*words, "theirs")

    assert outcome.out.splitlines() == [
        "theirs on sales 24→2, seed 0: imported, test MSE 0.5000 (scaled)",
        f"report: {tmp_path / 'out' / 'report.html'}",
    ]
    assert ",imported," in (tmp_path / "out" / "leaderboard.csv").read_text()
    assert "--as 'naive': is taken or empty" in refusal(*words, "naive")


def explained(folder: Path, *words: str) -> Outcome:
    settings = ["--set", "max_steps=2", "--output", str(folder / "out")]
    return call("explain", str(folder / "sales.csv"), *SMALL, *settings, *words)


def test_explaining_ends_with_a_table_and_the_path_of_the_report(finished: tuple[Path, Outcome]) -> None:
    pytest.importorskip("captum", reason="captum is the extra 'explain'")
    folder, _ = finished

    first, again, more = (
        explained(folder),
        explained(folder),
        explained(folder, "--windows", "3", "--only", "model=linear"),
    )

    assert (first.code, first.err) == (0, "")
    assert "linear on sales 24→2: explained on 16 test windows, trained again" in first.out
    rows = [line.split() for line in first.out.splitlines()]
    assert ["seasonal_naive", "occlusion", "24", "100.0%", "yes"] in rows
    assert ["naive", "occlusion", "1", "50.0%", "no"] in rows  # one row, at lags 1 and 2
    assert first.out.rstrip().endswith(f"report: {folder / 'out' / 'report.html'}")
    assert "What the forecasts rest on" in (folder / "out" / "report.md").read_text(encoding="utf-8")
    assert again.out.count("explained before") == 3
    assert "linear on sales 24→2: explained on 3 test windows, kept forecaster" in more.out
    assert " on sales 24→2: " not in more.out.replace("linear on sales", "")


def test_the_number_of_windows_has_one_default() -> None:
    from tsbench.bench.explanations import NUM_WINDOWS

    (option,) = (parameter for parameter in COMMANDS["explain",].params if parameter.name == "num_windows")
    assert option.default == NUM_WINDOWS


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command that does something, with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


def test_the_commands_are_the_ones_that_were_agreed_on() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "run",
        "explain",
        "plan",
        "report",
        "recommend",
        "compare",
        "export",
        "import",
        "inspect",
        "models",
        "datasets list",
        "datasets show",
        "datasets check",
        "datasets fetch",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_its_options_and_gives_an_example(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]

    assert command.help.splitlines()[0].endswith(".")
    assert "Example" in command.help
    assert f"`tsbench {' '.join(path)}" in command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), parameter.name


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_shown_and_is_no_mistake(path: tuple[str, ...]) -> None:
    outcome = call(*path, "--help")

    assert outcome.code == 0
    assert f"tsbench {' '.join(path)}" in outcome.out
    assert call(*path, "-h").out == outcome.out


def imported_by(code: str, *heavy: str) -> list[str]:
    """Which of these packages a fresh interpreter has loaded after this code."""
    tail = f"\nimport sys; print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return json.loads(run.stderr.splitlines()[-1].replace("'", '"'))


def test_help_imports_nothing_heavy() -> None:
    calls = [[], *map(list, COMMANDS), ["datasets"]]
    code = f"""
import sys
from tsbench.cli import main
for words in {calls!r}:
    sys.argv = ["tsbench", *words, "--help"]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 0, words
"""

    assert imported_by(code, "torch", "lightning", "pandas", "numpy", "matplotlib", "scipy", "sklearn") == []


def test_listing_models_and_datasets_needs_no_torch() -> None:
    code = """
import sys
from tsbench.cli import main
for words in (["models"], ["models", "gru"], ["datasets", "list"], ["datasets", "check", "synthetic"]):
    sys.argv = ["tsbench", *words]
    main()
"""
    code = code.replace(
        "    main()", "    try:\n        main()\n    except SystemExit as stop:\n        assert not stop.code"
    )

    assert imported_by(code, "torch", "lightning", "matplotlib") == []


def test_making_a_plan_needs_no_torch() -> None:
    code = "from tsbench.api import plan_experiment\nassert len(plan_experiment('smoke').plan.runs) > 12"

    assert imported_by(code, "torch", "lightning", "matplotlib") == []


def test_inspect_shows_where_covariates_go_in() -> None:
    plain, told = call("inspect", "linear"), call("inspect", "linear", "--past", "wind", "--known", "price, load")

    assert "Ahead" not in plain.out
    assert "2x24x6" in told.out  # of each step and its neighbours, what is known ahead: price and load
    assert told.code == 0


def test_force_keeps_a_record_that_cannot_be_read_and_makes_it_anew(sales: Path) -> None:
    words = ["run", str(sales), "--horizon", "4", "--context-length", "24", "--models", "naive", "--seeds", "0"]
    words += ["--set", "max_steps=2", "--set", "validate_every=2", "--workers", "1", "--log-format", "plain"]
    assert call(*words).code == 0
    broken, *others = sorted(Path("reports/sales/records").glob("*/*.json"))
    broken.write_text("{}")

    assert "not a record this version reads" in refusal(*words)
    outcome = call(*words, "--force")

    aside = broken.with_suffix(".unreadable")
    assert outcome.code == 0
    assert f"note a record that cannot be read is kept as {aside}, its run is done again" in outcome.out
    assert aside.read_text() == "{}"
    assert sorted(Path("reports/sales/records").glob("*/*.json")) == [broken, *others]
    assert '"status": "ok"' in broken.read_text()
