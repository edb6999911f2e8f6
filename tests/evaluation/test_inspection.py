"""What `tsbench inspect` says of a model is true."""

from __future__ import annotations

import pytest

from tsbench.evaluation.inspection import inspect_model, receptive_field
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster


def built(model: str, context_length: int = 48, **arguments: object) -> Forecaster:
    forecaster = Forecaster(model, context_length=context_length, horizon=6, channels=2, seasonality=24, **arguments)
    return forecaster.build(seed=0)


@pytest.mark.parametrize("model", model_specs())
def test_the_layers_own_weights_and_those_of_the_model_itself_add_up(model: str):
    forecaster = built(model)
    own = sum(parameter.numel() for parameter in forecaster.model.parameters(recurse=False))  # type: ignore[union-attr]

    facts = inspect_model(forecaster, channels=2)

    assert own + sum(layer.num_parameters for layer in facts.layers) == facts.num_parameters


def test_shapes_are_those_of_two_windows_with_each_channel_on_its_own():
    layers = {layer.name: layer for layer in inspect_model(built("mlp", hidden_size=7), channels=2).layers}

    assert layers["body.0"].shape_in == (4, 48)
    assert layers["body.0"].shape_out == (4, 7)
    assert layers["head"].shape_out == (4, 6, 1)


def test_frozen_weights_are_told_apart():
    forecaster = built("linear")
    forecaster.model.head.linear.weight.requires_grad_(False)  # type: ignore[union-attr]

    layer = {layer.name: layer for layer in inspect_model(forecaster, channels=2).layers}["head.linear"]

    assert (layer.num_parameters, layer.num_trainable) == (48 * 6 + 6, 6)


def test_weights_are_described_by_their_statistics():
    weight = inspect_model(built("linear", init="zeros"), channels=2).weights[0]

    assert (weight.name, weight.shape) == ("head.linear.weight", (6, 48))
    assert (weight.mean, weight.std, weight.largest) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("model", "rows"), [("naive", 1), ("seasonal_naive", 24), ("profile", 48), ("mlp", 48)])
def test_the_receptive_field_is_counted_back_from_the_last_row(model: str, rows: int):
    # seasonal_naive repeats six rows of the season: the oldest it uses is 24 rows back.
    assert receptive_field(built(model)) == rows


def test_the_receptive_field_of_a_tcn_follows_its_formula():
    forecaster = built(
        "tcn", context_length=96, segment_length=1, num_levels=3, kernel_size=3, readout="last", num_filters=8
    )

    # 1 + 2 (k - 1) (2^levels - 1), Bai et al. 2018 with two convolutions a block
    assert receptive_field(forecaster) == 29
