"""What all tests share: small panels, real files where they are, and a quiet machine for torch."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tsbench.data.covariates import Covariates, Roles
from tsbench.data.panel import Panel
from tsbench.data.synthetic import synthetic_panel

ROOT = Path(__file__).parent.parent

SHARED_DATA = Path(os.environ.get("TSBENCH_TEST_DATA", ROOT.parent / "shared" / "data"))
"""Real files that the project may not carry; tests that need them are skipped where they are missing."""


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's data folders or cache."""
    monkeypatch.delenv("TSBENCH_DATA", raising=False)
    monkeypatch.setenv("TSBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side; more threads than cores would only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data files are not at {SHARED_DATA}; set TSBENCH_TEST_DATA to their folder")
    return SHARED_DATA


@pytest.fixture(scope="session")
def small_panel() -> Panel:
    """Two hourly channels of 400 rows with a daily season: enough for a context of 24 and a horizon of 6."""
    return synthetic_panel(num_rows=400, num_channels=2, seed=3)


@pytest.fixture(scope="session")
def holed_panel() -> Panel:
    """Two hourly channels of 500 rows without a tenth of their values, three stretches and a channel's first day."""
    whole = synthetic_panel(num_rows=500, num_channels=2, seed=3)
    values = whole.values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    values[:24, 1] = values[100:140, 0] = values[200:210] = values[450:457] = np.nan
    return replace(whole, values=values)


@pytest.fixture(scope="session")
def covariate_panel() -> Panel:
    """Two items of 300 hourly rows and two channels; their level moves with `price`, which is known ahead.

    `wind` is known in the past only and drives nothing; the calendar gives hours; items differ in `size` and `kind`.
    """
    roles = Roles(past=("wind",), known=("price",), calendar=("hour",), static=("size", "kind=a", "kind=b"))
    base = synthetic_panel(num_rows=600, num_channels=2, seed=3)
    wind, price = np.random.default_rng(0).normal(size=(2, 600)).astype(np.float32)
    turn = 2 * np.pi * (np.arange(600) % 300) / 24
    return replace(
        base,
        values=base.values + 3 * price[:, None],
        timestamps=np.concatenate([base.timestamps[:300]] * 2),
        items=("north", "south"),
        offsets=np.array([0, 300, 600]),
        covariates=Covariates(
            roles,
            np.stack([wind, price, np.sin(turn), np.cos(turn)], axis=1).astype(np.float32),
            np.array([[10, 1, 0], [30, 0, 1]], np.float32),
        ),
    )
