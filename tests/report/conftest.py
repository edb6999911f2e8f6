"""The fixture that most tests of the report start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up import Outcome, Write, write_experiment


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write({label: outcomes by seed}, datasets=..., edit=...)`: a folder that holds such an experiment."""

    def build(outcomes: dict[str, Sequence[Outcome]], **options: Any) -> Path:
        return write_experiment(tmp_path, outcomes, **options)

    return build
