"""What the forecasts rest on, in words, numbers and pictures, where somebody asked."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from made_up import CONTEXT_LENGTH, HORIZON, Write

from tsbench.bench.explanations import ExplanationStore
from tsbench.bench.records import Plan
from tsbench.evaluation.importance import Explanation
from tsbench.report.build import build
from tsbench.report.figures import Picture, choose_pens
from tsbench.report.importance import attention_maps, importance_by_lag
from tsbench.report.peaks import explained_entries, peaks, sentence
from tsbench.report.tables import read_results

SEASON = 24
ALIKE = np.full((HORIZON, CONTEXT_LENGTH), 1 / CONTEXT_LENGTH)


def at_lag(lag: int, share: float) -> np.ndarray:
    """So much at one lag of every step, the rest over all rows alike."""
    shares_SL = (1 - share) * ALIKE
    for step in range(1, HORIZON + 1):
        shares_SL[step - 1, CONTEXT_LENGTH - 1 + step - lag] += share
    return shares_SL


def in_row(back: int, share: float) -> np.ndarray:
    shares_SL = (1 - share) * ALIKE
    shares_SL[:, -back] += share
    return shares_SL


def explanation(gradients: np.ndarray, occlusion: np.ndarray | None = None, **more: dict) -> Explanation:
    importance = {"integrated_gradients": gradients, "occlusion": gradients if occlusion is None else occlusion}
    importance |= more.get("importance", {})
    return Explanation(np.arange(1, HORIZON + 1), importance, more.get("attention", {}), num_windows=16, num_channels=2)


def explain(folder: Path, found: dict[str, Explanation], seed: int = 0) -> Path:
    """Keep explanations of these labels, on every task."""
    for planned in Plan.load(folder).runs:
        if planned.label in found and planned.run.seed == seed:
            ExplanationStore(folder).write(planned.run.key(), found[planned.label])
    return folder


def said(write: Write, found: Explanation) -> str:
    folder = explain(write({"gru": [0.3, 0.31]}), {"gru": found})
    (explained,) = explained_entries(folder, read_results(folder).tasks[0])
    return sentence(explained)


def test_a_model_that_points_at_the_season_is_said_to(write: Write) -> None:
    words = said(write, explanation(at_lag(SEASON, 0.3), at_lag(SEASON, 0.5)))

    # Of the rest 1 / 48 lies at lag 24 of every step, and as much at lag 48; 72 is out of reach.
    assert words.startswith("gru: 31.5% of the importance lies at lag 24 (integrated gradients), 51.0% (occlusion).")
    assert words.endswith("It points at the season: lag 24 and its multiples hold 32.9% and 52.1%.")


def test_a_model_that_does_not_point_at_the_season_is_said_not_to(write: Write) -> None:
    words = said(write, explanation(at_lag(25, 0.3)))

    assert "31.5% of the importance lies at lag 25" in words
    assert "It does not point at the season: lag 24 and its multiples hold 2.9% and 2.9%." in words


def test_methods_that_disagree_are_both_quoted(write: Write) -> None:
    words = said(write, explanation(at_lag(25, 0.3), at_lag(SEASON, 0.3)))

    assert "31.5% of the importance lies at lag 25 (integrated gradients), 31.5% at lag 24 (occlusion)." in words
    assert "Only occlusion points at the season" in words


@pytest.mark.parametrize(("back", "where"), [(1, "the last row"), (5, "row 5 before the forecast")])
def test_a_model_that_rests_on_a_row_is_said_to(write: Write, back: int, where: str) -> None:
    words = said(write, explanation(in_row(back, 0.8)))

    assert f"It rests on a row rather than on a lag: {where} holds 80.4% over all steps (occlusion)." in words
    assert "rests on a row" not in said(write, explanation(at_lag(SEASON, 0.8)))


def test_a_model_that_nothing_moves_is_said_so(write: Write) -> None:
    assert said(write, explanation(0 * ALIKE)) == "gru: nothing in the context moves its forecasts."


def test_peaks_are_a_row_per_model_and_method(write: Write) -> None:
    folder = write({"gru": [0.3, 0.31], "cnn": [0.4, 0.4]}, datasets=["a", "b"])
    explain(folder, {"cnn": explanation(at_lag(25, 0.3), importance={"grad_cam": at_lag(SEASON, 0.3)})}, seed=1)

    frame = peaks(read_results(folder))

    assert frame[["dataset", "label", "method", "lag", "points_at_season"]].to_numpy().tolist() == [
        [dataset, "cnn", method, lag, points]
        for dataset in "ab"
        for method, lag, points in (
            ("integrated_gradients", 25, False),
            ("occlusion", 25, False),
            ("grad_cam", 24, True),
        )
    ]


def test_without_explanations_there_are_no_peaks_and_no_section(write: Write) -> None:
    folder = write({"gru": [0.3]})

    assert peaks(read_results(folder)).empty
    assert "rest on" not in build(folder).read_text(encoding="utf-8")
    assert "rest on" not in (folder / "report.md").read_text(encoding="utf-8")
    assert not (folder / "figures" / "importance.svg").exists()


EVIL = "<script>alert(1)</script>|$x_1$"


@pytest.fixture
def report(write: Write) -> Path:
    """Two models with an explanation, one of them with a hostile name, and one without."""
    folder = write({"transformer": [0.3, 0.3], EVIL: [0.4, 0.4], "gru": [0.5, 0.5]})
    attention = {"encoder 1": np.full((8, 8), 1 / 8), "decoder 1": np.full((4, 8), 1 / 8)}
    grad_cam = {"grad_cam": ALIKE}
    explain(
        folder,
        {
            "transformer": explanation(at_lag(SEASON, 0.5), attention=attention),
            EVIL: explanation(at_lag(SEASON, 0.2), importance=grad_cam),
        },
    )
    build(folder)
    return folder


def test_the_section_has_a_sentence_a_model_and_its_pictures(report: Path) -> None:
    for name in ("report.html", "report.md"):
        text = (report / name).read_text(encoding="utf-8")
        assert "What the forecasts rest on" in text
        assert "transformer: 51.0% of the importance lies at lag 24" in text
        assert not re.search(r"gru: .*importance", text)
    assert re.findall(r"figures/(importance|attention)\.svg", (report / "report.md").read_text(encoding="utf-8")) == [
        "importance",
        "attention",
    ]
    assert all((report / "figures" / f"{name}.svg").is_file() for name in ("importance", "attention"))


def test_the_section_is_harmless_and_the_same_every_time(report: Path) -> None:
    files = {name: (report / name).read_bytes() for name in ("report.html", "report.md", "figures/importance.svg")}
    build(report)

    assert {name: (report / name).read_bytes() for name in files} == files
    assert not any(b"<script>alert" in content for content in files.values())
    page = files["report.html"].decode()
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "<image" not in page  # the page's own policy would hide it


def pictures(folder: Path) -> list[Picture | None]:
    results = read_results(folder)
    explained = explained_entries(folder, results.tasks[0])
    return [draw(results.tasks[0], explained, choose_pens(results)) for draw in (importance_by_lag, attention_maps)]


def words_of(picture: Picture | None) -> list[str]:
    assert picture is not None
    return [text.text or "" for text in ElementTree.fromstring(picture.svg).iter() if text.tag.endswith("}text")]


def test_the_pictures_name_models_methods_and_layers(report: Path) -> None:
    by_lag, attention = pictures(report)

    assert {"transformer", EVIL, "integrated gradients", "occlusion", "Grad-CAM"} <= set(words_of(by_lag))
    assert "gru" not in words_of(by_lag)
    assert by_lag is not None
    assert "the season of 24 rows" in by_lag.caption
    assert {"transformer", "encoder 1", "decoder 1"} <= set(words_of(attention))
    assert EVIL not in words_of(attention)


def test_other_numbers_of_windows_are_not_hidden(write: Write) -> None:
    few = replace(explanation(ALIKE), num_windows=3)
    folder = explain(write({"gru": [0.3], "cnn": [0.4]}), {"gru": explanation(ALIKE), "cnn": few})

    by_lag, _ = pictures(folder)

    assert by_lag is not None
    assert "3 to 16 test windows" in by_lag.caption


def test_a_map_of_a_token_per_row_stays_small(write: Write) -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(700), size=700)
    found = explanation(ALIKE, attention={"encoder 1": rows})

    by_lag, attention = pictures(explain(write({"transformer": [0.3]}), {"transformer": found}))

    assert attention is not None
    assert len(attention.svg) < 200_000
    assert "Grad-CAM" not in words_of(by_lag)


def test_models_without_attention_have_no_map(write: Write) -> None:
    folder = explain(write({"gru": [0.3]}), {"gru": explanation(ALIKE)})

    assert pictures(folder)[1] is None
    assert "figures/attention.svg" not in build(folder).with_suffix(".md").read_text(encoding="utf-8")
