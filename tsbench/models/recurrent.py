"""Recurrent networks: RNN, LSTM and GRU over segments of the context, or over its single steps.

Segments instead of steps shorten the recurrence from L to L / P states and made the largest difference after instance
normalisation in our own measurements (docs/protocol.md); idea and parallel decoder are SegRNN's (Lin et al. 2023).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tsbench.data.windows import WindowShape
from tsbench.models.layers import DirectHead, Segments
from tsbench.models.registry import register


class Recurrent(nn.Module):
    """A recurrent network over segments of the context.

    hidden_size: width of the state.
    num_layers: recurrent layers, one above the other.
    dropout: share of values dropped between layers and before the head, in training.
    segment_length: rows read at once; none: a divisor of the season; 1: the classic form, step by step.
    decoder: direct: one linear map from the outputs to the whole horizon; parallel: one more step of the
        recurrence for each segment of the horizon, all from the last state, told apart by a learned position
        (Lin et al. 2023, section 3.3).
    readout: what the direct decoder reads: the last output, or the outputs of all segments.
    """

    cell: type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]

    def __init__(
        self,
        shape: WindowShape,
        *,
        hidden_size: int = 128,
        num_layers: int = 1,
        dropout: float = 0.1,
        segment_length: int | None = None,
        decoder: Literal["direct", "parallel"] = "parallel",
        readout: Literal["last", "all"] = "last",
    ) -> None:
        super().__init__()
        self.segments = Segments(shape, segment_length)
        self.readout = readout
        self.embed = nn.Sequential(nn.Linear(self.segments.width, hidden_size), nn.ReLU())
        between = dropout if num_layers > 1 else 0.0
        self.recurrence = self.cell(hidden_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.decoder: DirectHead | ParallelDecoder
        if decoder == "direct":
            self.decoder = DirectHead(hidden_size * (self.segments.count if readout == "all" else 1), shape, dropout)
        else:
            self.decoder = ParallelDecoder(hidden_size, shape, self.segments.length, dropout)

    def forward(self, context_BLC: Tensor) -> Tensor:
        output_BND, state = self.recurrence(self.embed(self.segments(context_BLC)))
        if isinstance(self.decoder, ParallelDecoder):
            return self.decoder(state, self.recurrence)
        return self.decoder(output_BND.flatten(1) if self.readout == "all" else output_BND[:, -1])


@register("rnn")
class RNN(Recurrent):
    """A plain recurrent network with tanh (Elman 1990) over segments of the context."""

    cell = nn.RNN


@register("lstm")
class LSTM(Recurrent):
    """A long short-term memory (Hochreiter and Schmidhuber 1997) over segments of the context."""

    cell = nn.LSTM


@register("gru")
class GRU(Recurrent):
    """A gated recurrent unit (Cho et al. 2014) over segments of the context."""

    cell = nn.GRU


class ParallelDecoder(nn.Module):
    """One step of the recurrence per segment of the horizon, all from the last state of the context."""

    def __init__(self, hidden_size: int, shape: WindowShape, length: int, dropout: float) -> None:
        super().__init__()
        self.count = math.ceil(shape.horizon / length)
        self.horizon, self.channels = shape.horizon, shape.channels_out
        self.position_ND = nn.Parameter(torch.randn(self.count, hidden_size))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden_size, length * shape.channels_out)

    def forward(self, state: Tensor | tuple[Tensor, Tensor], recurrence: nn.Module) -> Tensor:
        """state: the last of all layers, `[layers, B, D]`; an LSTM has two, output and cell."""
        if isinstance(state, tuple):
            output, cell = state
            repeated: Tensor | tuple[Tensor, Tensor] = self._repeat(output), self._repeat(cell)
        else:
            output, repeated = state, self._repeat(state)
        batch = output.shape[1]
        position = self.position_ND.repeat(batch, 1).unsqueeze(1)
        decoded, _ = recurrence(position, repeated)
        rows = self.linear(self.dropout(decoded[:, 0]))
        return rows.reshape(batch, -1, self.channels)[:, : self.horizon]

    def _repeat(self, state: Tensor) -> Tensor:
        return state.repeat_interleave(self.count, dim=1)
