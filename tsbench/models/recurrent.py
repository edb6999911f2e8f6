"""Recurrent networks: RNN, LSTM and GRU over segments of the context, or over its single steps.

Segments instead of steps shorten the recurrence from L to L / P states; idea and parallel decoder are SegRNN's (Lin et
al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.errors import ConfigError
from tsbench.models.dropout import Dropout
from tsbench.models.layers import DirectHead, Readout, Segments
from tsbench.models.registry import register
from tsbench.models.steps import StepwiseGRU, StepwiseRNN

State = Tensor | tuple[Tensor, Tensor]
"""Of all layers, `[layers, B, D]`; an LSTM has two, output and cell."""


_STEPWISE: dict[Callable[..., nn.RNNBase], Callable[..., nn.RNNBase]] = {nn.RNN: StepwiseRNN, nn.GRU: StepwiseGRU}
"""Where a forward pass has many short steps, most of a backward pass is not arithmetic."""


class Recurrent(nn.Module):
    """A recurrent network over segments of the context.

    hidden_size: width of the state.
    num_layers: recurrent layers, one above the other.
    bias: whether the recurrence has biases; embedding and head keep theirs.
    dropout: share of values dropped between layers and before the head, in training.
    bidirectional: whether a second recurrence reads the context from its end; only with decoder direct.
    segment_length: rows read at once; none: a divisor of the season; 1: the classic form, step by step, which reads
        each row as it is, without an embedding, unless the decoder is parallel.
    decoder: direct: one linear map from the readout to the whole horizon; parallel: one more step of the
        recurrence for each segment of the horizon, all from the last state, told apart by a learned position
        (Lin et al. 2023, section 3.3); rolled: forecast one segment, read it like a segment of the context, and so
        on to the horizon (the classic decoder, for comparison).
    readout: what the direct decoder reads of the outputs: the last (of each direction), their mean, their mean
        weighted by a learned query (attention), or all of them.
    """

    def __init__(
        self,
        shape: WindowShape,
        cell: Callable[..., nn.RNNBase],
        options: dict[str, Any] | None = None,
        *,
        hidden_size: int = 128,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.1,
        bidirectional: bool = False,
        segment_length: int | None = None,
        decoder: Literal["parallel", "direct", "rolled"] = "parallel",
        readout: Literal["last", "mean", "attention", "all"] = "last",
    ) -> None:
        super().__init__()
        _check(shape, decoder, readout, bidirectional)
        self.segments = Segments(shape, segment_length)
        width = self.segments.width
        # The parallel decoder's positions take the place of an embedded segment.
        as_it_is = self.segments.length == 1 and decoder != "parallel"
        self.embed = nn.Identity() if as_it_is else nn.Sequential(nn.Linear(width, hidden_size), nn.ReLU())
        if self.segments.length == 1:
            cell = _STEPWISE.get(cell, cell)
        self.recurrence = cell(
            width if as_it_is else hidden_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
            **(options or {}),
        )
        self.decoder: DirectHead | ParallelDecoder | RolledDecoder
        match decoder:
            case "direct":
                self.readout = Readout(readout, hidden_size, self.segments.count, bidirectional)
                self.decoder = DirectHead(self.readout.width, shape, dropout)
            case "parallel":
                self.decoder = ParallelDecoder(hidden_size, shape, self.segments.length, dropout)
            case "rolled":
                self.decoder = RolledDecoder(hidden_size, shape, self.segments.length, dropout)

    def forward(self, context_BLC: Tensor) -> Tensor:
        output_BND, state = self.read(self.segments(context_BLC))
        match self.decoder:
            case DirectHead():
                return self.decoder(self.readout(output_BND))
            case ParallelDecoder():
                return self.decoder(state, self.recurrence)
            case _:
                return self.decoder(output_BND[:, -1], state, self.read)

    def read(self, segments_BNP: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The uppermost output at every segment, `[B, N, D]`, and the state after the last one."""
        return self.recurrence(self.embed(segments_BNP), state)


def _check(shape: WindowShape, decoder: str, readout: str, bidirectional: bool) -> None:
    if decoder == "direct":
        return
    if bidirectional:
        raise ConfigError(f"decoder = '{decoder}' steps forward in time; use decoder = 'direct' with bidirectional")
    if readout != "last":
        raise ConfigError(
            f"decoder = '{decoder}' starts from the last state; use decoder = 'direct' with readout = '{readout}'"
        )
    if decoder == "rolled" and shape.channels_in != shape.targets:
        raise ConfigError(
            f"decoder = 'rolled' reads its own forecast: it needs as many channels out ({shape.targets}) as in "
            f"({shape.channels_in}, covariates among them); use decoder = 'parallel' or 'direct', or no covariates"
        )


@register("rnn", widths=("hidden_size",))
class RNN(Recurrent):
    """A plain recurrent network (Elman 1990) over segments of the context.

    nonlinearity: of the state; relu does not saturate, but its states can grow without bound.
    """

    def __init__(self, shape: WindowShape, *, nonlinearity: Literal["tanh", "relu"] = "tanh", **common: Any) -> None:
        super().__init__(shape, nn.RNN, {"nonlinearity": nonlinearity}, **common)


@register("lstm", widths=("hidden_size",))
class LSTM(Recurrent):
    """A long short-term memory (Hochreiter and Schmidhuber 1997) over segments of the context.

    forget_bias: where the bias of the forget gate starts: at 1 the cell remembers at first (Jozefowicz et al. 2015);
        none: PyTorch's start, around 0.
    """

    def __init__(self, shape: WindowShape, *, forget_bias: float | None = None, **common: Any) -> None:
        super().__init__(shape, nn.LSTM, **common)
        if forget_bias is not None and not self.recurrence.bias:
            raise ConfigError(f"forget_bias = {forget_bias} needs a bias; set bias = true or leave forget_bias out")
        self.forget_bias = forget_bias
        self.after_initialise()

    def after_initialise(self) -> None:
        """Start the forget gate's bias anew; `initialise` calls this when it has set all biases to zero."""
        if self.forget_bias is None:
            return
        for name, parameter in self.recurrence.named_parameters():
            if "bias" in name:
                _, forget_D, _, _ = parameter.data.chunk(4)  # PyTorch's order: input, forget, candidate, output
                # A gate has two biases, which are added: one of them is enough.
                forget_D.fill_(self.forget_bias if "bias_ih" in name else 0.0)


@register("gru", widths=("hidden_size",))
class GRU(Recurrent):
    """A gated recurrent unit (Cho et al. 2014) over segments of the context."""

    def __init__(self, shape: WindowShape, **common: Any) -> None:
        super().__init__(shape, nn.GRU, **common)


class ParallelDecoder(nn.Module):
    """One step of the recurrence per segment of the horizon, all from the last state of the context."""

    def __init__(self, hidden_size: int, shape: WindowShape, length: int, dropout: float) -> None:
        super().__init__()
        self.count = math.ceil(shape.horizon / length)
        self.horizon, self.channels = shape.horizon, shape.channels_out
        self.position_ND = nn.Parameter(torch.randn(self.count, hidden_size))
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(hidden_size, length * shape.channels_out)

    def forward(self, state: State, recurrence: nn.Module) -> Tensor:
        if isinstance(state, tuple):
            output, cell = state
            repeated: State = self._repeat(output), self._repeat(cell)
        else:
            output, repeated = state, self._repeat(state)
        batch = output.shape[1]
        position = self.position_ND.repeat(batch, 1).unsqueeze(1)
        decoded, _ = recurrence(position, repeated)
        rows = self.linear(self.dropout(decoded[:, 0]))
        return rows.reshape(batch, -1, self.channels)[:, : self.horizon]

    def _repeat(self, state: Tensor) -> Tensor:
        return state.repeat_interleave(self.count, dim=1)


class RolledDecoder(nn.Module):
    """Forecasts the next segment from the last output, reads it like a segment of the context, and so on.

    Of several quantiles it reads the medians.
    """

    def __init__(self, hidden_size: int, shape: WindowShape, length: int, dropout: float) -> None:
        super().__init__()
        self.count = math.ceil(shape.horizon / length)
        self.horizon, self.channels, self.quantiles = shape.horizon, shape.channels_out, shape.quantiles
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(hidden_size, length * shape.channels_out)

    def forward(self, output_BD: Tensor, state: State, read: Callable[[Tensor, State], tuple[Tensor, State]]) -> Tensor:
        """output, state: after the context. read: one step of the network over `[B, 1, P * C]`."""
        segments = [self.linear(self.dropout(output_BD))]
        while len(segments) < self.count:
            output_B1D, state = read(segments[-1][:, None, self.quantiles // 2 :: self.quantiles], state)
            segments.append(self.linear(self.dropout(output_B1D[:, 0])))
        return torch.cat(segments, 1).unflatten(1, (-1, self.channels))[:, : self.horizon]
