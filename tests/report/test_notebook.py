"""Tables and pictures for a notebook."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from made_up import REALISTIC, write_experiment
from matplotlib.figure import Figure

from tsbench import report
from tsbench.errors import ConfigError
from tsbench.report.build import build
from tsbench.report.notebook import _DRAWN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_experiment(tmp_path_factory.mktemp("notebook"), REALISTIC, datasets=["streets", "roads"])
    build(path)
    return path


@pytest.mark.parametrize("name", ["leaderboard", "comparisons"])
def test_a_table_is_the_one_beside_the_report(folder: Path, name: str) -> None:
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(getattr(report, name)(folder).to_csv(index=False))), pd.read_csv(folder / f"{name}.csv")
    )


def test_the_ranking_has_a_row_for_every_label(folder: Path) -> None:
    assert set(report.ranking(folder)["label"]) == set(REALISTIC)


@pytest.mark.parametrize("name", sorted(_DRAWN))
def test_a_figure_can_be_saved_in_any_format(folder: Path, name: str, tmp_path: Path) -> None:
    drawn = report.figure(folder, name, task=1)

    assert isinstance(drawn, Figure)
    drawn.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_a_figure_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"report.figure: unknown picture 'step'; did you mean 'steps'"):
        report.figure(folder, "step")
    with pytest.raises(ConfigError, match=r"task = 2: .* has 2; count them from 0"):
        report.figure(folder, "cost", task=2)
    with pytest.raises(ConfigError, match="nothing to draw: no finished run of"):
        report.figure(write_experiment(tmp_path, {"gru": ["failed: x"]}), "cost")
