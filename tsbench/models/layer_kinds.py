"""The layers that a stack is made of: a class per kind, whose fields are its keywords. Imports no torch.

A keyword has the name that it has in the other families. Where such a keyword says which layer stands there
(`pooling`, `norm`, `activation`), its name is the kind, and `function` says which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from tsbench.errors import ConfigError, from_validation, unknown
from tsbench.models.choices import Activation, DropoutKind, Padding, PaddingMode


class Layer(BaseModel):
    """A layer of a stack."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    kind: str


class Conv1d(Layer):
    """A convolution over places.

    num_filters: channels it gives.
    kernel_size: places under it; odd where padding is same.
    stride: places from one of its own to the next: so many times fewer are left.
    dilation: places from one under the kernel to the next.
    padding: same: half a kernel on both sides; causal: a whole kernel in front, so that no place sees a later one;
        valid: nothing. With a stride causal and valid end on the newest place.
    padding_mode: what stands in the padding: zeros, the places next to the edge reflected at it, or the edge
        replicated.
    groups: of channels, each convolved by itself; a divisor of the channels in and of num_filters.
    bias: whether it adds one.
    """

    kind: Literal["conv1d"] = "conv1d"
    num_filters: int = Field(32, ge=1)
    kernel_size: int = Field(7, ge=1)
    stride: int = Field(1, ge=1)
    dilation: int = Field(1, ge=1)
    padding: Padding = "same"
    padding_mode: PaddingMode = "zeros"
    groups: int = Field(1, ge=1)
    bias: bool = True

    @property
    def reach(self) -> int:
        """Places that the kernel spans beside its first."""
        return self.dilation * (self.kernel_size - 1)

    @property
    def padded(self) -> int:
        """Places that are added at an end."""
        return {"same": self.reach // 2, "causal": self.reach, "valid": 0}[self.padding]

    @model_validator(mode="after")
    def _fits_itself(self) -> Conv1d:
        if self.padding == "same" and self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size = {self.kernel_size}: allowed are odd numbers, such as {self.kernel_size + 1}; "
                "padding = 'causal' or 'valid' allows even ones"
            )
        if self.num_filters % self.groups:
            raise ValueError(f"groups = {self.groups} does not divide num_filters = {self.num_filters}")
        return self


class Pooling(Layer):
    """One place for several.

    function: max or average of `size` places, the last ones by themselves where they are fewer; adaptive: averages
        over `pooled_length` equal parts.
    size: places that become one, with max and average.
    pooled_length: places that adaptive leaves; where fewer come in, they are repeated.
    """

    kind: Literal["pooling"] = "pooling"
    function: Literal["max", "average", "adaptive"] = "max"
    size: int = Field(2, ge=1)
    pooled_length: int = Field(8, ge=1)


class PaddingLayer(Layer):
    """Places added at the ends.

    before: places in front of the oldest.
    after: places behind the newest.
    padding_mode: what stands there: zeros, the places next to the edge reflected at it, or the edge replicated.
    """

    kind: Literal["padding"] = "padding"
    before: int = Field(0, ge=0)
    after: int = Field(0, ge=0)
    padding_mode: PaddingMode = "zeros"

    @model_validator(mode="after")
    def _adds_something(self) -> PaddingLayer:
        if self.before + self.after == 0:
            raise ValueError("adds nothing; set before or after, such as before = 4")
        return self


class Recurrence(Layer):
    """A recurrence over places; it gives its output at each of them.

    hidden_size: width of the state; twice as many channels come out with two directions.
    num_layers: recurrent layers, one above the other.
    bias: whether it has biases.
    dropout: share of values dropped between its layers, in training.
    bidirectional: whether a second recurrence reads the places from the newest back.
    """

    hidden_size: int = Field(64, ge=1)
    num_layers: int = Field(1, ge=1)
    bias: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)
    bidirectional: bool = False

    @model_validator(mode="after")
    def _drops_somewhere(self) -> Recurrence:
        if self.dropout > 0 and self.num_layers == 1:
            raise ValueError(
                f"dropout = {self.dropout} stands between its layers, but num_layers = 1; "
                "set num_layers = 2 or more, or add a layer of kind 'dropout'"
            )
        return self


class LSTM(Recurrence):
    """A long short-term memory over places."""

    kind: Literal["lstm"] = "lstm"


class GRU(Recurrence):
    """A gated recurrent unit over places."""

    kind: Literal["gru"] = "gru"


class RNN(Recurrence):
    """A plain recurrence over places.

    nonlinearity: of the state; relu does not saturate, but its states can grow without bound.
    """

    kind: Literal["rnn"] = "rnn"
    nonlinearity: Literal["tanh", "relu"] = "tanh"


class Attention(Layer):
    """Self-attention: each place a weighted mean of all.

    num_heads: attention heads; a divisor of the channels.
    dropout: share of attention weights dropped in training.
    position: how a place says where it stands: learned and sinusoidal are added to what comes in; rotary turns queries
        and keys, so that attention sees distances; none: nothing does.
    """

    kind: Literal["attention"] = "attention"
    num_heads: int = Field(4, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    position: Literal["learned", "sinusoidal", "rotary", "none"] = "learned"


class Linear(Layer):
    """A linear map of the channels, the same at every place.

    hidden_size: channels it gives.
    bias: whether it adds one.
    """

    kind: Literal["linear"] = "linear"
    hidden_size: int = Field(64, ge=1)
    bias: bool = True


class Norm(Layer):
    """Mean zero and variance one, then a learned scale and shift by channel.

    function: what they are taken over: batch: each channel over all windows and places; instance: each channel over the
        places of its window; layer: the channels at one place; group: groups of channels over all places.
    num_groups: groups of channels, with group; a divisor of the channels.
    """

    kind: Literal["norm"] = "norm"
    function: Literal["batch", "instance", "layer", "group"] = "layer"
    num_groups: int = Field(4, ge=1)


class ActivationLayer(Layer):
    """A nonlinearity.

    function: of each value; softmax: of all channels at a place, which then are positive and sum to one.
    """

    kind: Literal["activation"] = "activation"
    function: Literal[Activation, "softmax"] = "relu"


class Dropout(Layer):
    """Values dropped in training.

    rate: share that is dropped.
    dropout_kind: element drops single values, channel whole channels; alpha keeps mean and variance, after activation
        selu.
    """

    kind: Literal["dropout"] = "dropout"
    rate: float = Field(0.1, ge=0, lt=1)
    dropout_kind: DropoutKind = "element"


def _filled_in(layers: list[Any], info: ValidationInfo) -> list[dict[str, Any]]:
    """The tables with every default written out: what a run's key is made of."""
    return [layer.model_dump() for layer in parse_layers(layers, info.context or "")]


Layers = Annotated[list[Any], AfterValidator(_filled_in)]
"""The tables of some layers, checked; plain values before and after."""


class Residual(Layer):
    """Layers of its own, and a path around them: what comes in is added to what they give.

    layers: which leave places and channels as many as they are.
    """

    kind: Literal["residual"] = "residual"
    layers: Layers


_CLASSES = (
    Conv1d,
    Pooling,
    PaddingLayer,
    LSTM,
    GRU,
    RNN,
    Attention,
    Linear,
    Norm,
    ActivationLayer,
    Dropout,
    Residual,
)
KINDS: dict[str, type[Layer]] = {kind.model_fields["kind"].default: kind for kind in _CLASSES}


def parse_layers(layers: list[Any], above: str = "") -> list[Layer]:
    """The layers of these tables. Raises ConfigError with the number and the kind of the first that is wrong.

    above: the number of the residual layer that they are in, and a dot.
    """
    if not layers:
        where = f"layer {above.rstrip('.')} (residual): " if above else ""
        raise ConfigError(f"{where}layers = []: write one at least, such as {{ kind = 'lstm' }}")
    return [_parse_layer(layer, f"{above}{number}") for number, layer in enumerate(layers, 1)]


def _parse_layer(layer: Any, number: str) -> Layer:
    if not isinstance(layer, dict) or "kind" not in layer:
        raise ConfigError(f"layer {number} = {layer!r}: write a table with a kind, such as {{ kind = 'lstm' }}")
    kind = str(layer["kind"])
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS, f"layer {number}")
    try:
        return KINDS[kind].model_validate(layer, context=f"{number}.")
    except ValidationError as error:
        raise from_validation(error, f"layer {number} ({kind})", KINDS[kind].model_fields) from error


# What comes out of them


@dataclass(frozen=True)
class Size:
    """What stands between two layers, `[B, N, D]`."""

    places: int
    channels: int

    def __str__(self) -> str:
        places = "1 place" if self.places == 1 else f"{self.places} places"
        return f"{places} x {self.channels} channel{'s' if self.channels > 1 else ''}"


def sizes_after(layers: list[Layer], size: Size, above: str = "") -> list[Size]:
    """What comes out of each of the layers. Raises ConfigError where one cannot read what comes in.

    above: as in `parse_layers`.
    """
    sizes = []
    for number, layer in enumerate(layers, 1):
        where = f"stack: layer {above}{number} ({layer.kind}): {size} come in"
        problem = _problem(layer, size)
        if problem:
            raise ConfigError(f"{where}, but {problem}")
        if isinstance(layer, Residual):
            *_, after = sizes_after(parse_layers(layer.layers), size, f"{above}{number}.")
            if after != size:
                raise ConfigError(f"{where}, but {after} come out of its layers; {_to_match(size, after)}")
        size = _size_after(layer, size)
        sizes.append(size)
    return sizes


def _size_after(layer: Layer, size: Size) -> Size:
    match layer:
        case Conv1d():
            padded = size.places + layer.padded * (2 if layer.padding == "same" else 1)
            return Size((padded - layer.reach - 1) // layer.stride + 1, layer.num_filters)
        case Pooling(function="adaptive"):
            return replace(size, places=layer.pooled_length)
        case Pooling():
            return replace(size, places=-(-size.places // layer.size))
        case PaddingLayer():
            return replace(size, places=size.places + layer.before + layer.after)
        case Recurrence():
            return replace(size, channels=layer.hidden_size * (2 if layer.bidirectional else 1))
        case Linear():
            return replace(size, channels=layer.hidden_size)
    return size


def _to_match(size: Size, after: Size) -> str:
    """What to type so that a residual layer gives what comes in."""
    advice = []
    if after.channels != size.channels:
        advice.append(f"end them with {{ kind = 'linear', hidden_size = {size.channels} }}")
    if after.places != size.places:
        advice.append("use padding = 'same' or 'causal' and stride = 1, and put pooling outside")
    return " and ".join(advice)


def _problem(layer: Layer, size: Size) -> str:
    """Why a layer cannot read what comes in, and what to type instead; empty where it can."""
    match layer:
        case Conv1d(padding="valid") if layer.reach >= size.places:
            return (
                f"its kernel spans {layer.reach + 1} places; "
                "use padding = 'same' or 'causal', or a smaller kernel_size or dilation"
            )
        case Conv1d() if layer.padding_mode == "reflect" and layer.padded >= size.places:
            return _too_short_to_reflect(layer.padded)
        case Conv1d() if size.channels % layer.groups:
            return f"groups = {layer.groups} must divide the channels; {_divisors(size.channels)}"
        case PaddingLayer(padding_mode="reflect") if max(layer.before, layer.after) >= size.places:
            return _too_short_to_reflect(max(layer.before, layer.after))
        case Norm(function="group") if size.channels % layer.num_groups:
            return f"num_groups = {layer.num_groups} must divide the channels; {_divisors(size.channels)}"
        case Norm(function="instance") if size.places == 1:
            return "function = 'instance' needs two places or more; use function = 'layer'"
        case Attention() if size.channels % layer.num_heads:
            return (
                f"num_heads = {layer.num_heads} must divide the channels; {_divisors(size.channels)}, "
                f"or put {{ kind = 'linear', hidden_size = {16 * layer.num_heads} }} in front"
            )
        case Attention(position="rotary") if size.channels // layer.num_heads % 2:
            return (
                f"position = 'rotary' turns pairs of channels, and a head has {size.channels // layer.num_heads}; "
                "change num_heads, or use position = 'sinusoidal'"
            )
    return ""


def _too_short_to_reflect(count: int) -> str:
    return (
        f"padding_mode = 'reflect' adds {count} at an end and needs more than it adds; use padding_mode = 'replicate'"
    )


def _divisors(channels: int) -> str:
    return "allowed: " + ", ".join(str(count) for count in range(1, channels + 1) if channels % count == 0)
