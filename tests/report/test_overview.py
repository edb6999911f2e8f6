"""What is seen over all tasks: which tasks have pictures, who cannot be told apart, how much each gained."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

from made_up import Write

from tsbench.bench.records import Record
from tsbench.report.across import ranking
from tsbench.report.overview import critical_differences, detail_rule, detailed_tasks, heat_map
from tsbench.report.tables import read_results

THREE = {"gru": [0.40, 0.41], "linear": [0.405, 0.405], "seasonal_naive": [0.5, 0.5]}
TASKS = [f"set{number}" for number in range(9)]


def taking_turns(record: Record) -> Record:
    """gru is better on every other task, and seasonal naive the worse the later the task."""
    place = TASKS.index(record.run.dataset)
    error = {"gru": 0.4 + 0.01 * (place % 2), "linear": 0.405, "seasonal_naive": 0.5 + 0.1 * place}[record.run.model]
    assert record.metrics
    return record.model_copy(update={"metrics": record.metrics.model_copy(update={"mse_scaled": error})})


def words_of(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]


def test_few_tasks_all_have_pictures_and_nothing_is_said(write: Write) -> None:
    results = read_results(write(THREE, datasets=TASKS[:4]))
    assert detailed_tasks(results) == results.tasks
    assert detail_rule(results) == ""


def test_of_many_tasks_the_leaders_lowest_middle_and_highest_skill_have_pictures(write: Write) -> None:
    results = read_results(write(THREE, datasets=TASKS, edit=taking_turns))
    assert [task.task.dataset for task in detailed_tasks(results)] == ["set0", "set4", "set8"]
    assert "the skill of gru, the best by mean rank, is lowest" in detail_rule(results)


def test_the_diagram_names_every_model_with_its_mean_rank_and_joins_equals(write: Write) -> None:
    results = read_results(write(THREE, datasets=TASKS, edit=taking_turns))

    picture = critical_differences(ranking(results))

    assert picture is not None
    words = words_of(picture.svg)
    assert {"gru  1.4", "linear  1.6", "3.0  seasonal_naive"} <= set(words)
    assert "stroke-width: 3.5" in picture.svg  # the one bar
    assert picture.caption.startswith("Critical differences over 9 tasks")


def test_where_the_order_is_not_tested_there_is_no_diagram(write: Write) -> None:
    assert critical_differences(ranking(read_results(write(THREE, datasets=TASKS[:3])))) is None


def test_the_heat_map_holds_the_skill_of_every_model_on_every_task(write: Write) -> None:
    def fails_on_the_second(record: Record) -> Record:
        if record.run.dataset != "set1" or record.run.model != "linear":
            return record
        return record.model_copy(update={"status": "failed", "reason": "x", "metrics": None})

    found = heat_map(read_results(write(THREE | {"naive": [1.5, 1.5]}, datasets=TASKS[:2], edit=fails_on_the_second)))

    assert found is not None
    assert sorted(found.labels) == ["gru", "linear", "naive", "seasonal_naive"]
    cells = dict(zip(found.labels, found.rows[1][1], strict=True))
    assert math.isclose(float(cells["gru"].value), 1 - 0.405 / 0.5)
    assert (cells["gru"].text, cells["gru"].shade, cells["gru"].best) == ("19.0%", "good1", True)
    assert (cells["naive"].text, cells["naive"].shade) == ("−200.0%", "bad5")
    assert (cells["seasonal_naive"].shade, cells["linear"].shade, cells["linear"].value) == ("", "none", "")


def test_a_single_task_has_no_heat_map(write: Write) -> None:
    assert heat_map(read_results(write(THREE))) is None
