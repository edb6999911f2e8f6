"""The recipe: how a model is trained, the same for all models of a comparison. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Group(BaseModel):
    """What is different for some of the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    learning_rate: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)


def _check_levels(levels: list[float]) -> list[float]:
    """Symmetric, so that each but the median has a partner and both are the ends of an interval."""
    rises = all(low < high for low, high in zip([0.0, *levels], [*levels, 1.0], strict=True))
    is_symmetric = all(abs(low + high - 1) < 1e-9 for low, high in zip(levels, levels[::-1], strict=True))
    if levels and not (rises and is_symmetric and len(levels) % 2):
        raise ValueError(
            "write levels between 0 and 1 that rise, with 0.5 and with the partner 1 - level of each, "
            "such as [0.1, 0.5, 0.9]"
        )
    return levels


class Recipe(BaseModel):
    """How to train. Why the defaults are what they are: docs/protocol.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    loss: Literal["mse", "mae", "huber"] = "mse"
    """Computed on the scaled values, after instance normalisation is undone; huber has delta 1."""
    loss_scale: Literal["none", "spread"] = "none"
    """spread: a window's errors are divided by the standard deviation of its context: all windows count alike."""
    quantiles: Annotated[list[float], AfterValidator(_check_levels)] = []
    """Levels to forecast beside the point, which is then the median. Trained models learn them with the pinball loss,
    mean over levels, in place of `loss`; all others take them from their errors on the validation split."""
    calibration: Literal["none", "conformal"] = "none"
    """conformal: learned quantiles are moved by what the validation split asks for; what is taken from errors is so
    already."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """sgd has Nesterov momentum 0.9."""
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine falls from learning_rate to zero over max_steps."""
    weight_decay: float = Field(0.01, ge=0)
    batch_size: int = Field(64, ge=1)
    """Windows per optimizer step; a window holds all channels, also when they are forecast independently."""
    max_steps: int = Field(1000, ge=1)
    """Optimizer steps: the budget."""
    validate_every: int = Field(100, ge=1)
    """Steps between two looks at the whole validation split."""
    patience: int = Field(3, ge=1)
    """Stop after so many looks without a new best; the best weights are kept in any case."""
    gradient_clip: float | None = Field(1.0, gt=0)
    """Largest norm of the whole gradient."""
    precision: Annotated[Literal["32", "tf32", "bf16", "16", "64"], BeforeValidator(str)] = "32"
    """tf32: products of single precision with ten bits after the point, on a GPU; 32 uses them nowhere."""
    instance_norm: Literal["revin", "mean", "last", "none"] = "revin"
    """What is taken off each window's channels and put back on the forecast: mean and standard deviation
    (RevIN without affine part, Kim et al. 2022), the mean, the last value, or nothing."""
    log: bool = False
    """Whether a model sees and forecasts logarithms, before instance normalisation; the loss is taken of them, too. For
    panels of several items whose values are all greater than zero."""
    channel_mode: Literal["independent", "mixing"] = "independent"
    """independent: one channel in, one out, weights shared; mixing: all channels in, all out."""
    covariates: Literal["all", "none"] = "all"
    """all: what the data bring is given to every learned model, beside the targets; none: the targets alone."""
    pretrained: str = ""
    """File of a saved forecaster to start from: tensors of the same name and shape are taken, the others start anew."""
    freeze: list[str] = []
    """Names of weights that stay as they start; patterns such as `embed.*`. `tsbench inspect MODEL` shows the names."""
    groups: dict[str, Group] = {}
    """Another learning_rate or weight_decay for weights by name; the first pattern that fits counts."""
    gradient_norms: bool = False
    """Whether the norms of gradients are recorded at each look at the validation split: by layer, and by row of the
    context. Training takes the same steps with it; each of them takes longer."""

    def for_panel(self, num_items: int, smallest: float) -> Recipe:
        """With defaults for panels of several items in place of what was not said; one item leaves it as it is.

        smallest: value of the training rows.
        """
        if num_items == 1:
            return self
        defaults = OF_MANY_ITEMS | {"log": smallest > 0}
        return self.model_copy(update={key: defaults[key] for key in defaults.keys() - self.model_fields_set})


OF_MANY_ITEMS = {
    "loss": "mae",
    "loss_scale": "spread",
    "learning_rate": 3e-3,
    "batch_size": 128,
    "max_steps": 3000,
    "validate_every": 300,
    "patience": 5,
}
"""Defaults for panels of several items, and `log` where values allow it (docs/protocol.md)."""
