"""Covariates: columns with a role, read on the road of the targets, scaled by training rows, gathered with windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tsbench.data.covariates import Covariates, Roles, encode_static, rows_ahead
from tsbench.data.panel import Panel
from tsbench.data.readers import read_panel
from tsbench.data.scaling import Scaler
from tsbench.data.windows import CovariateRows, Windows
from tsbench.errors import ConfigError, DataError


def shop(num_rows: int = 40, **columns: Any) -> pd.DataFrame:
    """A table of one item: sales, a price and a temperature."""
    count = np.arange(num_rows, dtype=float)
    table = {"date": pd.date_range("2024-01-01", periods=num_rows), "sales": count, "price": 100 + count}
    return pd.DataFrame({**table, "heat": -count, "note": "nothing", **columns})


def shops() -> pd.DataFrame:
    one = shop().assign(unique_id="one", size=10, kind="kiosk")
    return pd.concat([one, shop().assign(unique_id="two", size=30, kind="mall")], ignore_index=True)


def test_columns_with_a_role_stand_beside_the_targets_in_the_order_of_roles() -> None:
    panel = read_panel(shop(), targets="sales", past="heat", known="price", calendar=["weekday"])

    assert panel.channels == ("sales",)
    assert panel.values[:, 0].tolist() == list(range(40))
    assert panel.roles == Roles(past=("heat",), known=("price",), calendar=("weekday",))
    assert panel.covariates.rows[3, :2].tolist() == [-3, 103]
    assert panel.covariates.rows.shape == (40, 4)


def test_without_targets_the_columns_without_a_role_are_forecast() -> None:
    assert read_panel(shop().drop(columns="note"), past="heat").channels == ("sales", "price")


def test_a_panel_without_roles_has_no_covariates() -> None:
    panel = read_panel(shop(), targets="sales")

    assert panel.covariates is None
    assert not panel.roles


def test_columns_that_nothing_names_are_left_out_and_named() -> None:
    panel = read_panel(shop(), targets="sales", known="price")

    assert "left out: 'heat', 'note', as targets does not name them" in panel.notes


def test_static_facts_are_a_row_for_each_item_and_words_become_columns() -> None:
    panel = read_panel(shops(), targets="sales", static=["size", "kind"])

    assert panel.roles.static == ("size", "kind=kiosk", "kind=mall")
    assert panel.covariates.static.tolist() == [[10, 1, 0], [30, 0, 1]]


def test_items_that_are_left_out_take_their_facts_along() -> None:
    tiny = shop(5).assign(unique_id="tiny", size=20, kind="van")

    panel = read_panel(pd.concat([tiny, shops()]), static="size", targets="sales", min_rows=9)

    assert panel.items == ("one", "two")
    assert panel.covariates.static.tolist() == [[10], [30]]


def test_rows_are_put_in_order_with_their_covariates() -> None:
    panel = read_panel(shop()[::-1], targets="sales", known="price")

    assert (panel.covariates.rows[:, 0] - panel.values[:, 0] == 100).all()


def test_holes_of_covariates_are_refused_or_filled_like_those_of_targets() -> None:
    table = shop()
    table.loc[7, "price"] = np.nan

    with pytest.raises(DataError, match="column 'price': a missing value"):
        read_panel(table, targets="sales", known="price")
    assert read_panel(table, targets="sales", known="price", missing="interpolate").covariates.rows[7, 0] == 107


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"targets": "sales", "known": "sales"}, "'sales' is in 'targets' and again in 'known'"),
        ({"past": ["heat", "heat"]}, "'heat' is in 'past' and again in 'past'"),
        ({"calendar": "hours"}, "calendar: unknown 'hours'; did you mean 'hour'"),
    ],
)
def test_a_column_has_one_role(told: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_panel(shop(), **told)


@pytest.mark.parametrize(
    ("table", "told", "words"),
    [
        (shop(), {"known": "prize"}, "no column 'prize' for known"),
        (shop(), {"known": "date"}, "covariate 'date' is the time or the item"),
        (shop(), {"targets": "sales", "static": "note"}, "static tells items apart, and there is one"),
        (
            shops(),
            {"targets": "sales", "static": "price"},
            "'101.0' after '100.0' for item 'one': a static covariate is",
        ),
        (shops().assign(kind=None), {"targets": "sales", "static": "kind"}, "a missing static value"),
        (shop(note="7x"), {"targets": "sales", "past": "note"}, "column 'note'"),
    ],
)
def test_a_covariate_that_cannot_be_one_is_told_with_its_place(table: pd.DataFrame, told: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_panel(table, **told)


def test_formats_without_columns_for_covariates_refuse_them(tmp_path) -> None:
    path = tmp_path / "shop.tsf"
    path.write_text("@attribute series_name string\n@frequency daily\n@data\none:1,2,3,4,5,6,7,8,9,10\n")

    with pytest.raises(DataError, match=r"a .tsf file has no columns for covariates, but .* name price"):
        read_panel(path, known="price")
    assert read_panel(path, calendar="weekday").roles.calendar == ("weekday",)


def test_words_beyond_measure_are_refused() -> None:
    frame = pd.DataFrame({"name": [f"item {number}" for number in range(1001)]})

    with pytest.raises(DataError, match="'name' has 1,001 different words"):
        encode_static(frame, "here")


def test_covariates_are_in_the_fingerprint(covariate_panel: Panel) -> None:
    covariates = covariate_panel.covariates
    others = [
        replace(covariate_panel, covariates=replace(covariates, rows=covariates.rows + 1)),
        replace(covariate_panel, covariates=replace(covariates, static=covariates.static + 1)),
        replace(covariate_panel, covariates=replace(covariates, roles=replace(covariates.roles, past=("rain",)))),
        replace(covariate_panel, covariates=None),
    ]

    assert len({panel.fingerprint for panel in (covariate_panel, *others)}) == 5


def test_covariates_of_another_size_are_refused(covariate_panel: Panel) -> None:
    covariates = covariate_panel.covariates

    with pytest.raises(DataError, match="600 rows x 4 columns and one of 2 items x 3"):
        replace(covariate_panel, covariates=replace(covariates, rows=covariates.rows[1:]))


# Scaled and gathered


def test_covariates_are_scaled_by_training_rows_and_flags_stay() -> None:
    panel = read_panel(shop(flag=[float(row % 2) for row in range(40)]), targets="sales", known=["price", "flag"])

    scaler = Scaler.fit_covariates(panel.train)

    assert scaler.mean.tolist() == [100 + 27 / 2, 0]  # 28 of 40 rows
    assert scaler.std.tolist() == [pytest.approx(np.arange(28).std()), 1]


def test_a_batch_holds_the_covariates_of_all_its_rows_and_of_its_item(covariate_panel: Panel) -> None:
    covariates = CovariateRows.of(covariate_panel, Scaler(np.zeros(7), np.ones(7)), torch.device("cpu"))
    windows = Windows(torch.from_numpy(covariate_panel.values), torch.tensor([0, 276, 300]), 20, 4, covariates)

    context, target, given = windows.batch(torch.tensor([2, 0, 1]))

    assert (context.shape, target.shape, given.shape) == ((3, 20, 2), (3, 4, 2), (3, 24, 7))
    assert np.array_equal(given[0, :, :4], covariate_panel.covariates.rows[300:324])
    assert np.array_equal(given[2, :, :4], covariate_panel.covariates.rows[276:300])
    assert given[0, :, 4:].tolist() == [[30, 0, 1]] * 24
    assert given[2, :, 4:].tolist() == [[10, 1, 0]] * 24


def test_a_batch_without_covariates_is_a_pair(covariate_panel: Panel) -> None:
    assert (
        len(Windows(torch.from_numpy(covariate_panel.values), torch.tensor([0]), 20, 4).batch(torch.tensor([0]))) == 2
    )


def test_static_alone_or_rows_alone_are_enough(covariate_panel: Panel) -> None:
    static = Covariates(Roles(static=("size",)), np.empty((600, 0), np.float32), np.array([[10], [30]], np.float32))
    panel = replace(covariate_panel, covariates=static)

    covariates = CovariateRows.of(panel, Scaler.fit_covariates(panel.train), torch.device("cpu"))

    assert covariates.gather(torch.tensor([0, 300]), 3)[:, :, 0].tolist() == [[-1] * 3, [1] * 3]


# The future


STAMPS = [pd.date_range("2024-02-01", periods=2)] * 2
ROLES = Roles(past=("wind",), known=("price",), calendar=("weekday",))


def future(**changed: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"item": ["b", "a", "a", "b"], "timestamp": ["2024-02-02", "2024-02-02", "2024-02-01", "2024-02-01"]}
    )
    return frame.assign(price=[22.0, 12.0, 11.0, 21.0], **changed)


def test_the_future_is_found_by_item_and_time_in_any_order() -> None:
    ahead = rows_ahead(ROLES, ("a", "b"), STAMPS, future())

    assert ahead[:, :, 1].tolist() == [[11, 12], [21, 22]]
    assert np.isnan(ahead[:, :, 0]).all()  # what is known in the past only has no future
    assert np.isfinite(ahead[:, :, 2:]).all()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (None, "the forecast needs 'price' of the rows ahead; give a frame with the columns item, timestamp, price"),
        (future().drop(columns="price"), "no column 'price'; needed are item, timestamp, price"),
        (future()[:3], "no value of 'price' at 2024-02-01 00:00:00 of item 'b'"),
        (future().assign(price=[1, 2, None, 4]), "no value of 'price' at 2024-02-01 00:00:00 of item 'a'"),
        (pd.concat([future(), future()[:1]]), "2024-02-02 00:00:00 is there twice"),
    ],
)
def test_a_future_that_lacks_something_says_what(frame: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        rows_ahead(ROLES, ("a", "b"), STAMPS, frame)


def test_without_known_columns_no_future_is_needed() -> None:
    assert rows_ahead(Roles(past=("wind",), calendar=("hour",)), ("a", "b"), STAMPS, None).shape == (2, 2, 3)


def test_an_unknown_role_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown role 'knwon'; did you mean 'known'"):
        Roles.of({"knwon": ["price"]})
