"""Words are tested like code: commands, names, trees, tables and links of the documents are true."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import typer.main
from pydantic import BaseModel, TypeAdapter
from report.made_up import REALISTIC, write_experiment
from test_architecture import ORDER

import tsbench
from tsbench import cli
from tsbench.bench.experiment import Experiment, list_experiments, load_experiment, make_plan, parse_experiment
from tsbench.bench.records import PROTOCOL_VERSION
from tsbench.data.cards import DatasetCard, list_cards, load_card
from tsbench.data.check import write_card
from tsbench.data.datasets import load_dataset
from tsbench.data.readers import read_panel
from tsbench.data.splits import SplitRule
from tsbench.training.forecaster import Forecaster
from tsbench.training.recipe import Recipe

ROOT = Path(__file__).parent.parent

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("datasets", "datasets/files", "experiments", "reports")),
]


class Block(NamedTuple):
    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


@cache
def blocks() -> tuple[Block, ...]:
    """Every fenced block of every document."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8") if document.is_file() else ""
        for fence in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
            line = text[: fence.start()].count("\n") + 2
            found.append(Block(document, line, fence[1], fence[2]))
    return tuple(found)


def in_language(*languages: str) -> list[Block]:
    return [block for block in blocks() if block.language in languages]


def prose(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_document_is_there_and_starts_with_a_title(document: Path) -> None:
    assert document.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_resolve(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if not re.match(r"\w+:|#", target):
            assert (document.parent / target.split("#")[0]).exists(), target


# Commands. Each line is parsed by the command's own parser; what is cheap runs, of a run the whole plan is made.


def commands_in(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:1] == ["tsbench"]:
            yield shlex.join(words)


SHELL_COMMANDS = sorted(
    {command for block in in_language("bash", "sh", "console") for command in commands_in(block.text)}
)

INLINE_COMMANDS = sorted(
    {
        command
        for document in DOCUMENTS
        if document.is_file()
        for command in re.findall(r"`(tsbench [^`\n]+)`", prose(document))
    }
)

HELP_COMMANDS = sorted(
    {
        command
        for group in (typer.main.get_command(cli.app), typer.main.get_command(cli.datasets_app))
        for leaf in group.commands.values()
        for command in re.findall(r"`(tsbench[^`\n]*)`", leaf.help or "")
    }
)


def parsed(command: str) -> tuple[str, dict]:
    """The command's name and its options, read by its own parser; what the parser refuses, fails."""
    _, *words = shlex.split(command)
    parser, path = typer.main.get_command(cli.app), []
    while hasattr(parser, "commands"):
        path.append(words.pop(0))
        assert path[-1] in parser.commands, command
        parser = parser.commands[path[-1]]
    return " ".join(path), dict(parser.make_context(path[-1], words).params)


@pytest.mark.parametrize("command", sorted({*SHELL_COMMANDS, *INLINE_COMMANDS, *HELP_COMMANDS}))
def test_every_command_that_is_written_anywhere_can_be_typed(command: str) -> None:
    parsed(command)


@pytest.mark.parametrize(
    "wrong", ["tsbench rn", "tsbench run --horizn 3", "tsbench datasets chek x", "tsbench report", "tsbench models a b"]
)
def test_a_wrong_command_would_be_seen(wrong: str) -> None:
    with pytest.raises(Exception, match=r"rn|horizn|chek|folder|unexpected extra"):
        parsed(wrong)


@pytest.fixture
def readers_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the documents assume: a CSV of one's own, the README's experiment, a folder for data, and results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    stamps = np.datetime64("2024-01-01T00:00") + np.arange(800) * np.timedelta64(1, "h")
    rows = [f"{stamp},{hour % 24}" for hour, stamp in enumerate(stamps)]
    for name in ("sales", "meters"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["date,sold", *rows]))
    priced = [f"{row},{hour % 7},{hour % 5}" for hour, row in enumerate(rows)]
    (tmp_path / "prices.csv").write_text("\n".join(["date,price,load,wind", *priced]))
    for name in ("default", "before", "after"):
        write_experiment(tmp_path / "reports" / name, REALISTIC)
    scores = "dataset,horizon,mse_scaled,points_digest\nstreets,24,0.3,9a9a9a9a\n"
    (tmp_path / "chronos.csv").write_text(scores)
    own = next(block for block in in_language("toml") if block.document == ROOT / "README.md")
    (tmp_path / "my_experiment.toml").write_text(own.text)
    return tmp_path


FETCHED = {name for name in list_cards() if load_card(name).urls or "no address" in load_card(name).source}
"""Datasets whose files the project does not carry, and the experiments on them."""
FETCHED |= {name for name in list_experiments() if FETCHED & set(load_experiment(name)[1].datasets)}


CHEAP = {"models", "inspect", "report", "recommend", "compare", "export", "import"}
CHEAP |= {"datasets list", "datasets show", "datasets check"}


@pytest.mark.parametrize("command", sorted({*SHELL_COMMANDS, *HELP_COMMANDS}))
def test_every_command_of_a_manual_does_what_it_can_without_training(
    readers_desk: Path, command: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    command = command.replace("~", str(readers_desk))  # as the shell does
    name, options = parsed(command)
    if FETCHED & set(shlex.split(command)):
        monkeypatch.setenv("TSBENCH_DATA", str(request.getfixturevalue("shared_data")))
    cards: dict[str, dict[str, Any]] = {  # which the command before it wrote
        "prices": {"targets": ["price"], "known": ["load"]},
        "meters": {"memory": "mapped"},
    }
    for card, told in cards.items():
        if options.get("target") == f"{card}.toml":
            write_card(Path(f"{card}.toml"), read_panel(f"{card}.csv", **told), Path(f"{card}.csv"), told)
    if name in ("run", "plan", "explain"):
        only = cli._parse_settings(options.pop("only"), "--only")
        asked = inspect.signature(cli._matrix).parameters.keys()
        matrix = cli._matrix(**{key: value for key, value in options.items() if key in asked})
        assert matrix.missing(only)
    elif name in CHEAP:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
    else:
        assert name == "datasets fetch", "say here what can be tried of it"


def test_every_command_is_in_the_readme() -> None:
    shown = {parsed(command)[0].split()[0] for command in SHELL_COMMANDS}

    assert set(typer.main.get_command(cli.app).commands) <= shown
    for name in typer.main.get_command(cli.datasets_app).commands:
        assert re.search(rf"\b{name}\b", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }

    assert {"run", "test"} <= named
    assert named <= targets


# Scripts and tables of settings.


@pytest.mark.parametrize("block", in_language("python"), ids=str)
def test_scripts_use_names_and_keywords_that_exist(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tsbench":
            assert node.attr in tsbench.__all__
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("tsbench."):
            known = inspect.signature(getattr(tsbench, node.func.attr)).parameters
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
                assert {keyword.arg for keyword in node.keywords} <= known.keys()


@pytest.mark.parametrize("block", in_language("toml"), ids=str)
def test_settings_that_are_shown_are_accepted(block: Block) -> None:
    content = tomllib.loads(block.text)

    if "split" in content:
        TypeAdapter(SplitRule).validate_python(content["split"])
    else:
        experiment = parse_experiment(content, str(block))
        assert make_plan("shown", experiment, load_dataset)[0].runs


@pytest.mark.parametrize("block", [b for b in in_language("toml") if b.document.name == "blocks.md"], ids=str)
def test_blocks_that_are_shown_can_be_built(block: Block) -> None:
    plan, _ = make_plan("shown", parse_experiment(tomllib.loads(block.text), str(block)), load_dataset)

    for run in {planned.label: planned.run for planned in plan.runs}.values():
        forecaster = Forecaster(
            run.model,
            context_length=run.context_length,
            horizon=run.horizon,
            channels=3,
            seasonality=24,
            recipe=run.recipe,
            **run.arguments,
        ).build(seed=0)
        assert forecaster.infer(torch.randn(2, run.context_length, 3)).isfinite().all()


def rows_of(document: str, heading: str) -> dict[str, list[str]]:
    """A table below a heading: its first column, without ticks, to the other cells."""
    text = (ROOT / document).read_text(encoding="utf-8")
    section = re.search(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section, f"{document} has no section {heading!r}"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section[1].splitlines() if line[:2] == "| "
    ]
    return {first.strip("`"): rest for first, *rest in rows[1:] if set(first) != {"-"}}


@pytest.mark.parametrize(
    ("model", "document", "heading"),
    [
        (DatasetCard, "datasets/README.md", "Fields"),
        (Experiment, "experiments/README.md", "Fields"),
        (Recipe, "experiments/README.md", "The recipe"),
    ],
)
def test_every_field_is_explained_and_nothing_else(model: type[BaseModel], document: str, heading: str) -> None:
    rows = rows_of(document, heading)

    assert rows.keys() == model.model_fields.keys()
    for field, cells in rows.items():
        assert cells[-1], f"{document}: {field} is not explained"


@pytest.mark.parametrize("key", Recipe.model_fields)
def test_the_defaults_that_are_written_are_the_defaults(key: str) -> None:
    written = rows_of("experiments/README.md", "The recipe")[key][0].strip("`")

    assert tomllib.loads(f"default = {written}")["default"] == Recipe.model_fields[key].default


def test_every_experiment_that_comes_along_is_introduced() -> None:
    introduced = rows_of("experiments/README.md", "Experiments").keys()

    assert introduced - {"file"} == {f"{name}.toml" for name in list_experiments()}


def test_the_protocol_and_the_changelog_are_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert (
        (ROOT / "docs/protocol.md").read_text(encoding="utf-8").startswith(f"# Protocol, version {PROTOCOL_VERSION}\n")
    )
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# The tree and the order of imports in docs/design.md.


def tree() -> dict[Path, set[Path]]:
    """The tree block: every path that it names, by its folder."""
    block = next(block for block in blocks() if block.document.name == "design.md" and "\ntsbench/\n" in block.text)
    named: dict[Path, set[Path]] = {}
    folders = [ROOT]
    for line in block.text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = [chunk for chunk in re.split(r" {2,}", line.strip()) if " " not in chunk]  # the rest is description
        del folders[depth + 1 :]
        named.setdefault(folders[-1], set()).update(folders[-1] / name for name in names)
        folders.append(folders[-1] / names[0])
    return named


def test_every_path_in_the_tree_exists() -> None:
    for paths in tree().values():
        for path in paths:
            assert path.exists(), path


def test_every_file_of_a_folder_that_the_tree_opens_is_in_it() -> None:
    opened = {folder: names for folder, names in tree().items() if folder != ROOT}

    assert ROOT / "tsbench" in opened
    for folder, named in opened.items():
        empty_init = {path for path in folder.glob("__init__.py") if not path.read_text()}
        assert {path for path in folder.iterdir() if path.name != "__pycache__"} - empty_init == named


def test_every_package_is_opened_in_the_tree() -> None:
    packages = {path.parent for path in (ROOT / "tsbench").glob("*/__init__.py")}

    assert packages <= tree().keys()


def test_tests_mirror_the_package() -> None:
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"__pycache__"} <= {
        path.name for path in (ROOT / "tsbench").iterdir() if path.is_dir()
    }


def test_the_order_of_imports_in_the_design_is_the_one_that_is_tested() -> None:
    written = next(re.finditer(r"`(errors[^`]* < [^`]*)`", prose(ROOT / "docs/design.md")))[1]

    assert [set(stage.split(", ")) for stage in written.split(" < ")] == [set(stage) for stage in ORDER[:-1]]
