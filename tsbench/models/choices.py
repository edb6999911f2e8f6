"""The words that more than one model's keywords allow. Imports no torch: the registry reads them to check a value."""

from __future__ import annotations

from typing import Literal

Activation = Literal["relu", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh"]

Norm = Literal["none", "batch", "instance", "layer", "group"]

DropoutKind = Literal["element", "channel", "alpha"]

Padding = Literal["valid", "same", "causal"]

PaddingMode = Literal["zeros", "reflect", "replicate"]

Init = Literal[
    "default",
    "zeros",
    "constant",
    "normal",
    "uniform",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "orthogonal",
]
