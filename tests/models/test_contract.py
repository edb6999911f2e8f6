"""What every registered model must keep, whoever adds it: a file in tsbench/models is all it takes to be here."""

from __future__ import annotations

import copy
import importlib
import inspect
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.ahead import forecast_with
from tsbench.models.layer_kinds import parse_layers
from tsbench.models.linear import ClosedForm
from tsbench.models.registry import ModelSpec, model_specs

INDEPENDENT = WindowShape(24, 6, 1, 1, seasonality=24)
MIXING = WindowShape(48, 12, 3, 3, seasonality=24)

SHAPES = {
    "independent": INDEPENDENT,
    "mixing": MIXING,
    "context no multiple of a segment": WindowShape(29, 7, 1, 1, seasonality=24),
    "the same, mixing": WindowShape(29, 7, 3, 3, seasonality=24),
    "horizon of one": WindowShape(24, 1, 1, 1, seasonality=24),
    "horizon shorter than a segment": WindowShape(96, 5, 1, 1, seasonality=24),
    "horizon longer than the context": WindowShape(24, 31, 1, 1, seasonality=24),
    "no season": WindowShape(10, 3, 1, 1, seasonality=1),
    "context of one": WindowShape(1, 2, 1, 1, seasonality=1),
    "context of one, mixing": WindowShape(1, 1, 3, 3, seasonality=1),
}

WITH_COVARIATES = {
    "covariates": WindowShape(24, 6, 4, 1, seasonality=24, ahead=2),
    "covariates, mixing": WindowShape(29, 7, 5, 3, seasonality=24, ahead=1),
    "past covariates alone": WindowShape(24, 6, 2, 1, seasonality=24, ahead=0),
    "static covariates alone": WindowShape(24, 6, 1, 1, seasonality=24, ahead=2),
}


def build(spec: ModelSpec, shape: WindowShape = INDEPENDENT, seed: int = 0, **arguments: Any) -> nn.Module:
    torch.manual_seed(seed)
    return spec.build(shape, spec.resolve(arguments, "test")).eval()


def windows(shape: WindowShape, count: int = 5, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, shape.context_length, shape.channels_in, generator=generator)


SPECS = [pytest.param(spec, id=name) for name, spec in model_specs().items()]
LEARNED = [p for p in SPECS if any(weight.requires_grad for weight in build(p.values[0]).parameters())]
KEYWORDS = [
    pytest.param(spec, keyword, id=f"{name}.{keyword}")
    for name, spec in model_specs().items()
    for keyword in spec.arguments
]

every_model = pytest.mark.parametrize("spec", SPECS)
learned_models = pytest.mark.parametrize("spec", LEARNED)
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@every_model
@every_shape
def test_a_forecast_has_a_row_per_step_and_is_finite(spec: ModelSpec, shape: WindowShape):
    with torch.no_grad():
        forecast = build(spec, shape)(windows(shape))

    assert forecast.shape == (5, shape.horizon, shape.channels_out)
    assert forecast.dtype == torch.float32
    assert forecast.isfinite().all()


@every_model
@every_shape
def test_a_forecast_does_not_depend_on_the_windows_beside_it(spec: ModelSpec, shape: WindowShape):
    model, context = build(spec, shape), windows(shape)
    others = 100 * windows(shape, seed=2)
    others[2] = context[2]

    with torch.no_grad():
        among_these, among_others, alone = model(context)[2], model(others)[2], model(context[2:3])[0]

    torch.testing.assert_close(among_these, among_others)
    torch.testing.assert_close(among_these, alone)


@every_model
def test_evaluation_is_deterministic_and_leaves_its_input_alone(spec: ModelSpec):
    model, context = build(spec), windows(INDEPENDENT)
    before = context.clone()

    with torch.no_grad():
        first, second = model(context), model(context)

    assert torch.equal(first, second)
    assert torch.equal(context, before)


@learned_models
@pytest.mark.parametrize("shape", [INDEPENDENT, MIXING], ids=["independent", "mixing"])
def test_the_gradient_reaches_every_parameter(spec: ModelSpec, shape: WindowShape):
    model = build(spec, shape).train()

    model(windows(shape, count=32)).square().sum().backward()

    unreached = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


@learned_models
@every_shape
def test_every_row_and_channel_of_the_context_is_used(spec: ModelSpec, shape: WindowShape):
    model, context = build(spec, shape), windows(shape, count=64).requires_grad_()

    model(context).square().sum().backward()

    assert context.grad is not None
    assert context.grad.abs().sum(0).gt(0).all()


@every_model
def test_double_precision_gives_the_same_forecast_in_double_precision(spec: ModelSpec):
    model, context = build(spec), windows(INDEPENDENT)
    with torch.no_grad():
        single = model(context)
        double = model.double()(context.double())

    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


@every_model
def test_weights_carry_over_to_another_instance(spec: ModelSpec):
    one, other = build(spec, seed=0), build(spec, seed=1)

    other.load_state_dict(one.state_dict())

    with torch.no_grad():
        assert torch.equal(one(windows(INDEPENDENT)), other(windows(INDEPENDENT)))


@learned_models
def test_weights_come_from_the_seed(spec: ModelSpec):
    one, same, other = build(spec, seed=0), build(spec, seed=0), build(spec, seed=1)
    context = windows(INDEPENDENT)

    with torch.no_grad():
        assert torch.equal(one(context), same(context))
        assert not torch.equal(one(context), other(context))


@every_model
def test_a_deep_copy_forecasts_the_same_and_shares_nothing(spec: ModelSpec):
    model, context = build(spec), windows(INDEPENDENT)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = twin(context)
        for parameter in model.parameters():
            parameter.zero_()

        assert torch.equal(twin(context), before)


# Covariates


@pytest.mark.parametrize("shape", WITH_COVARIATES.values(), ids=WITH_COVARIATES)
@pytest.mark.parametrize("spec", [param for param in SPECS if param.values[0].learned])
def test_every_learned_model_takes_covariates(spec: ModelSpec, shape: WindowShape):
    model, context = build(spec, shape).train(), windows(shape, count=32)
    ahead = torch.randn(32, shape.horizon, shape.ahead) if shape.ahead else None
    if isinstance(model, ClosedForm):
        target, spread = torch.randn(32, shape.horizon, shape.channels_out), torch.ones(32, 1, shape.channels_out)
        model.add(*(part.double() for part in (context, target, spread)), None if ahead is None else ahead.double())
        model.solve()

    forecast = forecast_with(model, context, ahead)

    assert forecast.shape == (32, shape.horizon, shape.channels_out)
    assert forecast.isfinite().all()
    if not isinstance(model, ClosedForm):
        forecast.square().sum().backward()
        started_at_zero = "ahead.body"  # behind a last layer of zeros, which alone has a gradient at first
        unreached = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert [name for name in unreached if not name.startswith(started_at_zero)] == []


# The configuration


@pytest.mark.parametrize(("spec", "keyword"), KEYWORDS)
def test_every_keyword_says_what_it_is(spec: ModelSpec, keyword: str):
    argument = spec.arguments[keyword]

    assert len(argument.meaning) > 10
    assert argument.annotation != "object"


def python_keywords(model_class: type) -> dict[str, tuple[str, Any]]:
    """Of the constructor and, where it hands `**keywords` on, of its base's."""
    _, _, *keywords = inspect.signature(model_class.__init__).parameters.values()
    handed_on = any(keyword.kind is inspect.Parameter.VAR_KEYWORD for keyword in keywords)
    own = {k.name: (k.annotation, k.default) for k in keywords if k.kind is inspect.Parameter.KEYWORD_ONLY}
    return (python_keywords(model_class.__base__) if handed_on else {}) | own


@every_model
def test_the_registry_reads_what_python_would(spec: ModelSpec):
    model_class = getattr(importlib.import_module(spec.module), spec.class_name)
    read = {name: (argument.annotation, argument.default) for name, argument in spec.arguments.items()}
    if "init" in read:
        assert read.pop("init") == ("Init", "default")  # the registry's own

    assert read == python_keywords(model_class)
    assert spec.summary == inspect.getdoc(model_class).splitlines()[0]
    assert spec.summary.endswith(".")
    assert model_class.model_name == spec.name


def another_value(spec: ModelSpec, keyword: str) -> Any:
    """Allowed, and not the default."""
    argument = spec.arguments[keyword]
    if keyword == "groups":
        return 2  # a divisor of the filters
    if keyword == "layers":
        return [{"kind": "gru"}]
    if get_origin(argument.type) is Literal:
        return next(option for option in get_args(argument.type) if option != argument.default)
    if argument.annotation in ("int | None", "float | None"):
        return 1
    if argument.annotation == "bool":
        return not argument.default
    if argument.annotation == "float":
        return argument.default + 0.4
    return argument.default + 2 if argument.default % 2 else 2 * argument.default  # an odd kernel stays odd


NEEDS = {
    "readout": {"decoder": "direct"},
    "bidirectional": {"decoder": "direct"},
    "residual": {"num_layers": 2},
    "pooled_length": {"pooling": "adaptive"},
}
"""Keywords that matter only beside another."""


@pytest.mark.parametrize(("spec", "keyword"), KEYWORDS)
def test_every_keyword_changes_something(spec: ModelSpec, keyword: str):
    needed = {key: value for key, value in NEEDS.get(keyword, {}).items() if key in spec.arguments}

    def in_training(**arguments: Any) -> Tensor:
        model = build(spec, **needed, **arguments).train()
        torch.manual_seed(7)  # for dropout
        if isinstance(model, ClosedForm):
            target, spread = torch.randn(5, INDEPENDENT.horizon, 1), torch.ones(5, 1, 1)
            model.add(windows(INDEPENDENT).double(), target.double(), spread.double())
            model.solve()
        return model(windows(INDEPENDENT))

    assert not torch.equal(in_training(), in_training(**{keyword: another_value(spec, keyword)}))


@pytest.mark.parametrize(("spec", "keyword"), KEYWORDS)
def test_a_misspelt_keyword_is_refused_with_the_nearest_name(spec: ModelSpec, keyword: str):
    with pytest.raises(ConfigError, match=rf"gruppe: unknown key '{keyword}x'; did you mean '{keyword}'"):
        spec.resolve({f"{keyword}x": 1}, "gruppe")


@pytest.mark.parametrize(("spec", "keyword"), KEYWORDS)
def test_a_value_of_the_wrong_type_is_refused_with_its_key(spec: ModelSpec, keyword: str):
    with pytest.raises(ConfigError, match=f"gruppe: {keyword} = 'many'"):
        spec.resolve({keyword: "many"}, "gruppe")


@every_model
def test_settings_resolve_to_the_last_default(spec: ModelSpec):
    defaults = {name: argument.default for name, argument in spec.arguments.items()}
    if "layers" in defaults:
        defaults["layers"] = [layer.model_dump() for layer in parse_layers(defaults["layers"])]

    assert spec.resolve({}, "test") == spec.resolve(defaults, "test") == defaults


SEGMENTED = [param for param in SPECS if "segment_length" in param.values[0].arguments]


@pytest.mark.parametrize("spec", SEGMENTED)
@pytest.mark.parametrize("length", [0, -3])
def test_a_segment_needs_a_row(spec: ModelSpec, length: int):
    with pytest.raises(ConfigError, match=f"segment_length = {length}: allowed are whole numbers from 1"):
        build(spec, segment_length=length)
