"""Pictures: what they draw, and what they keep of names and colours."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from made_up import REALISTIC, Write, with_energy, with_gradients, write_experiment

from tsbench.bench.records import Record, RecordStore
from tsbench.report.costs import accuracy_against_costs, speed, time_to_quality
from tsbench.report.figures import (
    Picture,
    accuracy_against_throughput,
    choose_pens,
    error_by_step,
    forecasts,
    training_curves,
)
from tsbench.report.gradients import gradient_norms
from tsbench.report.labels import TEXT_HEIGHT, place_labels, spread, text_width
from tsbench.report.residuals import error_groups, residuals, where_errors_lie
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
    assert {"easiest: North", "median: South", "hardest: North", "evenly spaced: South"} <= set(words)
    assert any(word.startswith("from 2019-05") for word in words)


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


def test_accuracy_is_set_against_every_cost_that_was_measured(results: Results) -> None:
    picture = accuracy_against_costs(results.tasks[0], choose_pens(results))
    assert picture is not None
    words = " ".join(texts(picture))
    assert all(title in words for title in ("latency, p50 ms", "training, seconds", "peak memory, MiB", "parameters"))
    assert "Triangles at the upper edge" in picture.caption  # naive
    assert "kJ" not in words
    assert "Joules" not in picture.caption


def test_energy_is_an_axis_where_records_have_it(write: Write) -> None:
    results = read_results(write(REALISTIC, edit=with_energy))
    gru, seasonal, rnn = (results.tasks[0].of_model(model) for model in ("gru", "seasonal_naive", "rnn"))
    assert gru
    assert seasonal
    assert rnn
    assert gru.cost("train_kilojoules") == pytest.approx(gru.cost("num_parameters") / 40_000 * 50 * 32_000 / 1e6)
    assert (seasonal.cost("predict_joules"), seasonal.cost("train_kilojoules")) == (0.1, None)
    assert rnn.cost("predict_joules") is None

    picture = accuracy_against_costs(results.tasks[0], choose_pens(results))

    assert picture is not None
    words = " ".join(texts(picture))
    assert all(title in words for title in ("J per 1,000 windows", "training, kJ"))
    assert "Joules are those of the whole GPU" in picture.caption


def test_time_to_quality_is_of_trained_models_alone(results: Results) -> None:
    picture = time_to_quality(results.tasks[0], choose_pens(results))
    assert picture is not None
    words = [word.strip() for word in texts(picture)]
    assert {"optimizer steps", "seconds", "gru", "linear"} <= set(words)
    assert "naive" not in words


def test_speed_is_drawn_by_batch_size_and_as_a_distribution(results: Results) -> None:
    picture = speed(results.tasks[0], choose_pens(results))
    assert picture is not None
    words = [word.strip() for word in texts(picture)]
    assert {"1", "8", "64", "256", "windows in a batch", "milliseconds for one window alone"} <= set(words)


def test_errors_are_drawn_by_channel_in_the_order_of_the_leader_and_by_the_clock(write: Write) -> None:
    def south_is_easier(record: Record) -> Record:
        if record.metrics is None:
            return record
        by_channel = {"mse_scaled": [0.5, 0.2] if record.run.model == "gru" else [0.1, 0.9]}
        return record.model_copy(update={"metrics": record.metrics.model_copy(update={"by_channel": by_channel})})

    results = read_results(write({"gru": [0.3], "linear": [0.4]}, edit=south_is_easier))
    assert error_groups(results.tasks[0].ranked)["channel"][1] == {"gru": [0.5, 0.2], "linear": [0.1, 0.9]}

    picture = where_errors_lie(results.tasks[0], choose_pens(results))

    assert picture is not None
    words = texts(picture)
    assert words.index("South") < words.index("North")
    assert {"by channel", "by hour of the target", "by weekday of the target", "by level of the series"} <= set(words)
    assert {"Mon", "Sun", "0", "20"} <= set(words)


def test_residuals_have_a_panel_each_and_older_records_none(write: Write) -> None:
    results = read_results(write({"gru": [0.3], "linear": [0.4]}))
    picture = residuals(results.tasks[0], choose_pens(results))
    assert picture is not None
    assert {"bias by step ahead", "distribution", "autocorrelation, one step ahead"} <= set(texts(picture))

    older = read_results(write({"gru": [0.3]}, edit=lambda record: record.model_copy(update={"diagnostics": None})))
    assert residuals(older.tasks[0], choose_pens(older)) is None
    assert set(error_groups(older.tasks[0].ranked)) == {"channel"}


# Gradients


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> Picture:
    results = read_results(write_experiment(tmp_path_factory.mktemp("gradients"), REALISTIC, edit=with_gradients))
    picture = gradient_norms(results.tasks[0], choose_pens(results))
    assert picture is not None
    return picture


def test_every_model_with_gradients_has_a_panel_a_layer_and_a_sentence(gradients: Picture) -> None:
    trained = [label for label in REALISTIC if label not in ("naive", "seasonal_naive", "profile")]

    words = texts(gradients)
    assert sorted(word for word in words if word in REALISTIC) == sorted(trained)
    assert words.count("head") == len(trained) - 1
    assert sorted(sentence.split(":")[0] for sentence in gradients.sentences) == sorted(trained)


def test_of_many_layers_some_are_named_the_first_and_the_last_included(gradients: Picture) -> None:
    named = [word for word in texts(gradients) if word.startswith("e.")]

    assert [name.split(".")[-2] for name in named] == ["0", "2", "4", "7", "9", "11"]
    assert all(len(name) <= 18 for name in named)


def test_the_sentence_says_which_share_of_the_gradient_reaches_the_oldest_rows(gradients: Picture) -> None:
    said = {sentence.split(":")[0]: sentence for sentence in gradients.sentences}

    assert "is 1e-21 of that at the newest tenth at the last look, 1e-21 at the first." in said["rnn"]  # 3^-44
    assert "is 0.64 of that at the newest tenth at the last look, 0.64 at the first." in said["lstm"]  # 0.99^44
    assert "is 0 of that" in said["mlp"]
    assert "0 is less than the smallest number of its precision" in said["mlp"]


def test_all_models_share_the_scale_of_rows_and_the_forgetful_leave_it_at_the_bottom(gradients: Picture) -> None:
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    exponents = [int(word[2:].translate(digits)) for word in texts(gradients) if word.startswith("10⁻")]

    assert -12 <= min(exponents) <= -9  # the largest is 0.1; the rnn's smallest, 0.1 * 3^-47, is 4e-24
    assert {exponents.count(exponent) for exponent in exponents} == {3}  # nine models in rows of three: the left ones


def test_a_single_look_a_single_row_and_norms_that_are_no_numbers_can_be_drawn(write: Write) -> None:
    def strange(record: Record) -> Record:
        (look, *_), size = with_gradients(record).gradients, record.run.seed
        odd = look.model_copy(update={"by_row": [[math.nan], [math.inf, 1.0], [0.0, 0.0]][size], "by_layer": {}})
        return record.model_copy(update={"gradients": [odd]})

    results = read_results(write({f"gru {seed}": [None] * seed + [0.3] for seed in range(3)}, edit=strange))
    picture = gradient_norms(results.tasks[0], choose_pens(results))

    assert picture is not None
    assert picture.sentences == ()


def test_without_recorded_gradients_there_is_no_picture(results: Results) -> None:
    assert gradient_norms(results.tasks[0], choose_pens(results)) is None


def test_a_single_model_has_no_picture_of_one_point(write: Write) -> None:
    results = read_results(write({"gru": [0.3, 0.31]}))

    assert accuracy_against_throughput(results.tasks[0], choose_pens(results)) is None


def test_long_names_are_drawn_by_their_ends_and_every_model_stays_in_the_legend(write: Write) -> None:
    long = "transformer segment_length=24 hidden_size=128 position=rotary pooling=mean dropout="
    results = read_results(write({f"{long}{rate}": [0.3, 0.31] for rate in (0.1, 0.2, 0.3)} | {"naive": [1.2]}))

    picture = forecasts(results.tasks[0], RecordStore(results.folder), choose_pens(results))

    assert picture is not None
    names = [element for element in ElementTree.fromstring(picture.svg).iter() if (element.text or "").endswith("=0.3")]
    assert [name.text.strip() for name in names if name.text] == ["transformer s…y pooling=mean dropout=0.3"]
    width = float(ElementTree.fromstring(picture.svg).get("viewBox", "").split()[2])
    for text in (element for element in ElementTree.fromstring(picture.svg).iter() if element.tag.endswith("}text")):
        start = re.search(r"translate\(([\d.]+)", text.get("transform", ""))
        left = float(start[1]) if start else float(text.get("x", 0))
        assert left < width - 40 or len(text.text or "") < 8  # nothing begins where it would be cut off


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
