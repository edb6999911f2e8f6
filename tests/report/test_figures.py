"""Pictures: what they draw, and what they keep of names and colours."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from made_up import REALISTIC, write_experiment

from tsbench.bench.records import RecordStore
from tsbench.report.figures import (
    Picture,
    accuracy_against_throughput,
    choose_pens,
    error_by_step,
    forecasts,
    training_curves,
)
from tsbench.report.labels import TEXT_HEIGHT, place_labels, spread, text_width
from tsbench.report.svg import INK
from tsbench.report.tables import Results, read_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_experiment(tmp_path_factory.mktemp("figures"), REALISTIC))


@pytest.fixture(scope="module")
def pictures(results: Results) -> dict[str, Picture]:
    pens, task = choose_pens(results), results.tasks[0]
    drawn = (
        accuracy_against_throughput(task, pens),
        error_by_step(task, pens),
        forecasts(task, RecordStore(results.folder), pens),
        training_curves(task, pens),
    )
    return {picture.name: picture for picture in drawn if picture}


def texts(picture: Picture) -> list[str]:
    return [
        element.text or "" for element in ElementTree.fromstring(picture.svg).iter() if element.tag.endswith("}text")
    ]


@pytest.mark.parametrize("name", ["accuracy-throughput", "error-by-step"])
def test_every_model_with_a_result_is_named_in_words(pictures: dict[str, Picture], name: str) -> None:
    words = " ".join(texts(pictures[name]))
    assert all(label in words for label in REALISTIC)


def test_forecasts_show_the_leaders_and_seasonal_naive_against_the_truth(pictures: dict[str, Picture]) -> None:
    words = [text.strip() for text in texts(pictures["forecasts"])]
    assert {"truth", "gru", "lstm", "mlp", "seasonal_naive"} <= set(words)
    assert "rnn" not in words
    assert any(word.startswith("South, from 2019-05") for word in words)


def test_only_trained_models_have_training_curves(pictures: dict[str, Picture]) -> None:
    words = texts(pictures["training"])
    assert "gru" in words
    assert "naive" not in words


def test_pictures_take_the_ink_of_the_page_and_have_a_text_alternative(pictures: dict[str, Picture]) -> None:
    assert len(pictures) == 4
    for picture in pictures.values():
        root = ElementTree.fromstring(picture.svg)
        assert INK not in picture.svg
        assert "currentColor" in picture.svg
        assert root.get("role") == "img"
        assert picture.caption in (root.get("aria-label") or "")


def test_pens_differ_between_labels(results: Results) -> None:
    pens = choose_pens(results)
    assert len(set(pens.values())) == len(REALISTIC)


def test_colours_have_a_contrast_of_three_on_light_and_dark_paper(results: Results) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for pen in choose_pens(results).values():
        light, dark, own = luminance("#fcfbf9"), luminance("#15171b"), luminance(pen.colour)
        assert (light + 0.05) / (own + 0.05) >= 3
        assert (own + 0.05) / (dark + 0.05) >= 3


def test_labels_of_crowded_points_do_not_cover_each_other() -> None:
    points = [(100.0 + 6 * i, 100.0 + 3 * (i % 3)) for i in range(8)]
    names = [f"model {i}" for i in range(8)]
    corners = place_labels(points, names, (0, 0, 400, 200))
    boxes = [(x, y, x + text_width(name), y + TEXT_HEIGHT) for (x, y), name in zip(corners, names, strict=True)]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_spread_moves_no_more_than_needed_and_keeps_the_order() -> None:
    assert spread([50.0, 10.0], gap=5, bottom=0, top=100) == [50.0, 10.0]
    moved = spread([20.0, 20.0, 21.0], gap=10, bottom=0, top=100)
    assert all(math.isclose(b - a, 10) for a, b in pairwise(moved))
    assert sum(moved) / 3 == pytest.approx(61 / 3)
    assert max(spread([99.0, 99.5], gap=10, bottom=0, top=100)) <= 100
