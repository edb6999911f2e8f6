"""Where cards, embedded data and experiments lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).parent


def resource_dir(kind: Literal["datasets", "experiments"]) -> Path:
    """The folder of this kind that belongs to this installation."""
    inside = _PACKAGE / "_resources" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind
