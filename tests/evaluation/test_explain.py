"""Explanations: the methods agree with what can be worked out, and trained models point at the lag that matters."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tsbench.data.panel import Panel
from tsbench.evaluation import explain as methods
from tsbench.evaluation.explain import (
    attention_maps,
    evenly_spaced,
    explain,
    grad_cam,
    integrated_gradients,
    last_convolution,
    occlusion,
)
from tsbench.evaluation.importance import Explanation
from tsbench.models.registry import model_specs
from tsbench.training.forecaster import Forecaster

pytest.importorskip("captum", reason="captum is the extra 'explain'")

NAIVE = ("naive", "seasonal_naive", "profile", "naive2")
FOR_ALL = {"integrated_gradients", "occlusion"}


def built(
    model: str, *, context_length: int = 48, recipe: dict[str, Any] | None = None, **arguments: Any
) -> Forecaster:
    forecaster = Forecaster(
        model, context_length=context_length, horizon=6, channels=3, seasonality=24, recipe=recipe, **arguments
    )
    return forecaster.build(seed=0).eval()


def random_windows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# Against what can be worked out


def test_of_a_linear_map_both_methods_are_weight_times_distance_from_the_mean():
    model, context_NLC = built("linear").model, random_windows(5, 48, 1)
    weight_HL = model.head.linear.weight.detach()
    expected_NL = weight_HL[2] * (context_NLC - context_NLC.mean(1, keepdim=True)).squeeze(2)

    by_gradients = integrated_gradients(model, context_NLC, (2, 0)).squeeze(2)
    by_occlusion = occlusion(model, context_NLC, [(4, 0), (2, 0)])[:, 1]

    torch.testing.assert_close(by_gradients, expected_NL)
    torch.testing.assert_close(by_occlusion, expected_NL, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["mlp", "gru", "tcn", "transformer"])
@pytest.mark.parametrize("channel_mode", ["independent", "mixing"])
@pytest.mark.parametrize(("num_points", "tolerance"), [(methods.NUM_POINTS, 0.1), (400, 0.01)])
def test_integrated_gradients_are_complete(
    model: str, channel_mode: str, num_points: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
):
    """They sum to the forecast less that of the window's mean, the closer the more points there are."""
    monkeypatch.setattr(methods, "NUM_POINTS", num_points)
    forecaster = built(model, recipe={"channel_mode": channel_mode})
    inputs_NLC, _ = forecaster.model_input(random_windows(4, 48, 3))

    sums_N = integrated_gradients(forecaster.model, inputs_NLC, (3, 0)).sum((1, 2))

    with torch.no_grad():
        flat_NLC = inputs_NLC.mean(1, keepdim=True).expand_as(inputs_NLC)
        moved_N = (forecaster.model(inputs_NLC) - forecaster.model(flat_NLC))[:, 3, 0]
    torch.testing.assert_close(sums_N, moved_N, rtol=0, atol=tolerance * float(moved_N.abs().mean()))


def test_seasonal_naive_rests_on_its_season_and_naive_on_the_last_row():
    context_WLC = random_windows(3, 48, 3)

    seasonal, last = explain(built("seasonal_naive"), context_WLC), explain(built("naive"), context_WLC)

    for method in FOR_ALL:
        assert seasonal.peak(method) == (24, pytest.approx(1.0))
        assert seasonal.points_at(method, 24)
        assert last.peak_row(method) == (1, pytest.approx(1.0))
        assert not last.points_at(method, 24)


class ByHand(nn.Module):
    """Two filters over pairs of rows, and a head with a weight for each filter at each place."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, 2, 2, stride=2, bias=False)
        self.head = nn.Linear(4, 1, bias=False)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor([[[1.0, 1.0]], [[1.0, -1.0]]]))
            self.head.weight.copy_(torch.tensor([[1.0, 3.0, -4.0, 2.0]]))

    def forward(self, context_BLC: Tensor) -> Tensor:
        return self.head(self.convolution(context_BLC.mT).flatten(1)).unsqueeze(2)


def test_grad_cam_is_what_one_works_out_by_hand():
    model = ByHand()

    map_NL = grad_cam(model, model.convolution, torch.tensor([[[1.0], [2.0], [5.0], [4.0]]]), (0, 0))

    # The filters give 3, 9 and -1, 1; the forecast's gradient is 1, 3 and -4, 2: in the mean 2 and -1.
    # Place 0: 2 * 3 - 1 * -1 = 7. Place 1: 2 * 9 - 1 * 1 = 17. Each place stands over two rows.
    assert map_NL.tolist() == [[7, 7, 17, 17]]


@pytest.mark.parametrize(
    ("model", "arguments", "layer"),
    [
        ("cnn", {}, "body.2"),
        ("cnn", {"decoder": "transposed"}, "body.2"),
        ("cnn", {"separable": True}, "body.2"),
        ("cnn", {"kernel_size": 1}, None),
        ("tcn", {"num_levels": 1}, "blocks.0.second"),
        ("mlp", {}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:tcn. the receptive field")
def test_grad_cam_reads_the_last_convolution_along_the_context(
    model: str, arguments: dict[str, Any], layer: str | None
):
    module = built(model, **arguments).model

    found = last_convolution(module)

    assert found is (module.get_submodule(layer) if layer else None)


def attention_by_hand(query_NQD: Tensor, key_NKD: Tensor, heads: int) -> Tensor:
    """Softmax of scaled dot products (Vaswani et al. 2017, equation 1), mean over heads, by loops."""
    width = query_NQD.shape[2] // heads
    maps = []
    for head in range(heads):
        query, key = (part[:, :, head * width : (head + 1) * width] for part in (query_NQD, key_NKD))
        maps.append(torch.softmax(query @ key.mT / width**0.5, dim=2))
    return torch.stack(maps).mean(0)


@torch.no_grad()
def test_an_attention_map_is_the_plain_formula():
    forecaster = built("transformer", position="none")
    model, (inputs_NLC, _) = forecaster.model, forecaster.model_input(random_windows(4, 48, 3))
    layer = model.encoder.layers[0]
    tokens_NSD = layer.norm1(model.embed(model.segments(inputs_NLC)))
    projected = nn.functional.linear(tokens_NSD, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)
    query_NSD, key_NSD, _ = projected.chunk(3, dim=2)

    found = attention_maps(model, inputs_NLC)

    assert list(found) == ["encoder 1", "encoder 2"]
    torch.testing.assert_close(found["encoder 1"], attention_by_hand(query_NSD, key_NSD, heads=4).mean(0))


@torch.no_grad()
def test_rotary_attention_tells_the_weights_that_it_uses():
    attention = built("transformer", position="rotary").model.encoder[0].attention
    tokens_BND = random_windows(2, attention.get_buffer("angle_NE").shape[0], 64)
    attention.num_heads = 1  # one head's weights are their mean
    attention.angle_NE = torch.cat([attention.angle_NE] * 4, dim=1)

    mixed_BND = attention.weights(tokens_BND) @ attention.value(tokens_BND)

    torch.testing.assert_close(attention.out(mixed_BND), attention(tokens_BND))


ATTENTIVE = [
    {"kind": "linear", "hidden_size": 16},
    {"kind": "attention", "position": "rotary"},
    {"kind": "pooling", "function": "max"},
    {"kind": "residual", "layers": [{"kind": "attention"}]},
]


@pytest.mark.parametrize(
    ("model", "arguments", "shapes"),
    [
        ("transformer", {}, {"encoder 1": (8, 8), "encoder 2": (8, 8)}),
        ("transformer", {"position": "rotary", "num_layers": 1}, {"encoder 1": (8, 8)}),
        ("transformer", {"segment_length": 12, "segment_stride": 4, "num_layers": 1}, {"encoder 1": (10, 10)}),
        ("transformer_encdec", {"segment_length": 4, "num_layers": 1}, {"encoder 1": (12, 12), "decoder 1": (2, 12)}),
        ("stack", {"layers": ATTENTIVE}, {"layer 1": (48, 48), "layer 2": (24, 24)}),
        ("gru", {}, {}),
    ],
)
def test_the_rows_of_attention_maps_sum_to_one(model: str, arguments: dict[str, Any], shapes: dict[str, Any]):
    found = explain(built(model, **arguments), random_windows(3, 48, 3)).attention

    assert {name: weights.shape for name, weights in found.items()} == shapes
    for weights in found.values():
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


# What an explanation is


@pytest.mark.parametrize("model", model_specs())
@pytest.mark.parametrize("channel_mode", ["independent", "mixing"])
def test_every_model_is_explained_by_shares_of_rows(model: str, channel_mode: str):
    found = explain(built(model, recipe={"channel_mode": channel_mode}), random_windows(3, 48, 3))

    own = {"grad_cam"} if model in ("cnn", "tcn", "stack") else set()
    assert set(found.importance) == FOR_ALL | own
    assert (found.num_windows, found.num_channels, found.steps_S.tolist()) == (3, 3, [1, 2, 3, 4, 5, 6])
    for shares_SL in found.importance.values():
        assert shares_SL.shape == (6, 48)
        assert (shares_SL >= 0).all()
        np.testing.assert_allclose(shares_SL.sum(axis=1), 0 if model == "ridge" else 1, rtol=1e-6)  # not solved yet


def test_channels_that_mix_count_together():
    """Of one step, what all channels of a row do to all channels of the forecast."""
    forecaster, context_WLC = built("linear", recipe={"channel_mode": "mixing"}), random_windows(2, 48, 3)
    inputs_WLC, _ = forecaster.model_input(context_WLC)
    moved_LW = sum(
        integrated_gradients(forecaster.model, inputs_WLC, (0, channel)).abs().sum((0, 2)) for channel in range(3)
    )

    found = explain(forecaster, context_WLC).importance["integrated_gradients"][0]

    np.testing.assert_allclose(found, moved_LW / moved_LW.sum(), rtol=1e-4)


@pytest.mark.parametrize("model", ["cnn", "gru", "transformer"])
def test_the_size_of_batches_does_not_matter(model: str, monkeypatch: pytest.MonkeyPatch):
    forecaster, context_WLC = built(model), random_windows(3, 48, 3)
    at_once = explain(forecaster, context_WLC)

    monkeypatch.setattr(methods, "ROWS_AT_ONCE", 200)
    one_by_one = explain(forecaster, context_WLC)

    for part in ("importance", "attention"):
        for name, array in getattr(at_once, part).items():
            np.testing.assert_allclose(getattr(one_by_one, part)[name], array, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("model", ["tcn", "transformer", "lstm"])
@pytest.mark.parametrize("training", [True, False])
def test_the_forecaster_is_left_as_it_was(model: str, training: bool):
    forecaster, context_WLC = built(model).train(training), random_windows(2, 48, 3)
    before = {name: value.clone() for name, value in forecaster.state_dict().items()}

    with torch.no_grad():
        explain(forecaster, context_WLC)

    assert forecaster.training == forecaster.model.training == training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in forecaster.parameters())
    assert all(torch.equal(value, before[name]) for name, value in forecaster.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in forecaster.modules())
    assert not context_WLC.requires_grad


def test_dropout_is_off():
    forecaster, context_WLC = built("mlp", dropout=0.9).train(), random_windows(2, 48, 3)

    one, other = (explain(forecaster, context_WLC).importance["occlusion"] for _ in range(2))

    assert np.array_equal(one, other)


def test_a_long_horizon_and_many_channels_are_sampled_from_end_to_end():
    forecaster = Forecaster("linear", context_length=24, horizon=100).build(seed=0)

    found = explain(forecaster, random_windows(2, 24, 30))

    assert (len(found.steps_S), found.steps_S[0], found.steps_S[-1]) == (24, 1, 100)
    assert found.num_channels == 8
    assert evenly_spaced(7, 3) == [0, 3, 6]


def test_double_precision_is_explained_too():
    assert explain(built("gru", recipe={"precision": "64"}), random_windows(2, 48, 3)).peak("occlusion")[1] > 0


# A lag that is known

LAG, NUM_ROWS = 17, 1500


@pytest.fixture(scope="module")
def lagged() -> Panel:
    """White noise, repeated with a loss: y(t) = 0.8 y(t - 17) + e(t). No season, and 17 is no multiple of a segment."""
    values = np.random.default_rng(0).standard_normal(NUM_ROWS)
    for row in range(LAG, NUM_ROWS):
        values[row] += 0.8 * values[row - LAG]
    return Panel(
        name="lagged",
        values=values.astype(np.float32)[:, None],
        timestamps=pd.date_range("2024-01-01", periods=NUM_ROWS, freq="h").to_numpy(dtype="datetime64[ns]"),
        channels=("echo",),
        freq="h",
        seasonality=1,
    )


def explained(model: str, panel: Panel) -> Explanation:
    recipe = {"max_steps": 200, "validate_every": 100, "learning_rate": 3e-3}
    forecaster = Forecaster(model, context_length=40, horizon=6, recipe=recipe)
    forecaster.fit(panel.train, panel.validation, seed=0, device="cpu")
    test_rows = torch.from_numpy(forecaster.scaler.apply(panel.test.values))
    return explain(forecaster, test_rows.unfold(0, 40, 30).mT)


@pytest.mark.parametrize("model", [name for name in model_specs() if name not in NAIVE])
def test_every_trained_family_points_at_the_lag_that_carries_the_signal(model: str, lagged: Panel):
    found = explained(model, lagged)

    for method in FOR_ALL:
        lag, share = found.peak(method)
        assert lag == LAG
        assert share > 3 / 45  # three times what it would be if all 45 lags were equal
        assert found.points_at(method, LAG)
    # A weight for each filter, whatever the place: it cannot see what a head does that weighs places (docs/blocks.md).
    assert "grad_cam" not in found.importance or not found.points_at("grad_cam", LAG)


@pytest.mark.parametrize("model", NAIVE)
def test_naive_models_do_not_point_there(model: str, lagged: Panel):
    found = explained(model, lagged)

    assert not any(found.points_at(method, LAG) for method in FOR_ALL)


# Without the extra


def test_without_captum_one_line_says_what_to_install():
    code = """
import sys
sys.modules["captum"] = None  # what is not installed
sys.argv = ["tsbench", "explain", "auckland_pedestrians_tiny", "--horizon", "6"]
from tsbench.cli import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert ended.stderr == (
        "error: explaining needs the package captum, which is not here; type: pip install 'tsbench[explain]'\n"
    )
    assert ended.stdout == ""
