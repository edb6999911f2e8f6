"""The benchmarks measure what they say: turns, ratios, and a table that keeps what was not measured again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import scale
from benchmarks.rows import SECTIONS, bare_step, fit_step
from benchmarks.scale import Size
from benchmarks.timing import Result, compare, seconds_of


def fixed(seconds: list[float]) -> Iterator[float]:
    yield from seconds


def compared(name: str, ours: list[float], other: list[float], goal: float | None = None) -> Result:
    mine, theirs = fixed(ours), fixed(other)
    return compare(
        name,
        "row",
        lambda: next(mine),
        lambda: next(theirs),
        other_name="other",
        unit="step",
        goal=goal,
        repeats=len(ours) - 1,
    )


def test_a_ratio_is_the_median_of_the_turns_and_the_first_turn_is_forgotten():
    result = compared("training", [100.0, 1.0, 2.0, 4.0], [1.0, 2.0, 2.0, 2.0])

    assert result.ratios == [2.0, 1.0, 0.5]
    assert result.ratio == 1.0
    assert result.our_seconds == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("goal", "reached"), [(None, True), (1.9, True), (2.1, False)])
def test_a_goal_is_reached_or_marked_as_missed(goal: float | None, reached: bool):
    result = compared("training", [1.0, 1.0], [2.0, 2.0], goal)

    assert result.reached is reached
    assert ("missed" in command.row(result)) is not reached


def test_seconds_are_divided_by_the_work_that_was_done():
    assert seconds_of(lambda: 10**9)() < 1e-6


def test_sections_that_were_not_measured_again_stay_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    command.keep([compared("input", [1, 1], [2, 2]), compared("training", [1, 1], [3, 3])])
    command.keep([compared("training", [1, 1], [4, 4])])

    (path,) = tmp_path.glob("*.json")
    kept = {result["section"]: result["ratios"] for result in json.loads(path.read_text())["results"]}
    assert kept == {"input": [2.0], "training": [4.0]}
    table = path.with_suffix(".md").read_text()
    assert "| 2.00 (2.00 to 2.00) |" in table
    assert "| 4.00 (4.00 to 4.00) |" in table


def test_a_step_of_both_roads_takes_time():
    assert fit_step("linear", 8, 4) > 0
    assert bare_step("linear", 8)(4) > 0


@pytest.mark.parametrize("size", [Size(4000), Size(4000, channels=4), Size(8000, items=4, whole_run=True)], ids=str)
def test_a_size_is_measured_in_memory_and_mapped(size: Size, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scale, "_SECONDS", 0.01)
    in_memory = scale.measure(size, tmp_path)
    monkeypatch.setattr(scale, "MAPPED_FROM", 1)
    mapped = scale.measure(size, tmp_path)

    assert in_memory["fill"] == 0 < mapped["fill"]
    assert min(in_memory["step"], in_memory["mib"], mapped["step"], mapped["mib"]) > 0
    assert "mapped" in str(size)


def test_memory_is_shown_in_mebibytes():
    peak = Result("scale", "peak", "1 GiB", 1.0, [2.125], [512.0], [1088.0], "MiB")
    assert "| 512 | 1,088 | MiB |" in command.row(peak)


def test_the_sections_of_the_readme_are_those_there_are():
    text = (Path(command.__file__).parent / "README.md").read_text(encoding="utf-8")

    assert set(SECTIONS) <= {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
