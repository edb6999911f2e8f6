"""The registry reads files, not modules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tsbench.models
from tsbench.errors import ConfigError
from tsbench.models import registry
from tsbench.models.registry import model_spec, model_specs

THE_TWELVE = "naive seasonal_naive profile linear dlinear mlp rnn lstm gru cnn tcn transformer"

NEW_FAMILY = '''
"""A family of one."""
from torch import nn
from tsbench.models.registry import register

class Base(nn.Module):
    """A base, not registered.

    gain: what the last value is multiplied with,
        said in two lines.
    mode: none: nothing; else: something.
    """
    def __init__(self, shape, *, gain: float = 1.5, mode: str | None = None):
        super().__init__()
        self.gain, self.horizon = gain, shape.horizon

    def forward(self, context_BLC):
        return self.gain * context_BLC[:, -1:].expand(-1, self.horizon, -1)

@register("echo")
class Echo(Base):
    """Says the last value again, louder."""

def not_a_model():
    """gain: a line that is not about the model."""
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another folder of models, which the registry takes for its own."""
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    monkeypatch.setattr(tsbench.models, "__path__", [*tsbench.models.__path__, str(tmp_path)])
    model_specs.cache_clear()
    yield tmp_path
    model_specs.cache_clear()
    sys.modules.pop("tsbench.models.echo", None)


def test_twelve_forecasters_are_listed():
    assert set(model_specs()) >= set(THE_TWELVE.split())


def test_listing_imports_no_torch():
    code = "import sys; from tsbench.models.registry import model_specs; model_specs(); print('torch' in sys.modules)"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "False"


def test_a_new_file_in_the_folder_is_listed_and_can_be_built(folder: Path):
    import torch

    from tsbench.data.windows import WindowShape

    (folder / "echo.py").write_text(NEW_FAMILY)

    assert list(model_specs()) == ["echo"]
    model = model_spec("echo").build(WindowShape(3, 2), model_spec("echo").resolve({"gain": 2.0}, "test"))
    assert model(torch.tensor([[[1.0], [2.0], [3.0]]])).flatten().tolist() == [6.0, 6.0]


def test_summary_and_keywords_come_from_docstrings_and_the_inherited_constructor(folder: Path):
    (folder / "echo.py").write_text(NEW_FAMILY)

    spec = model_spec("echo")

    assert spec.summary == "Says the last value again, louder."
    assert {name: (a.annotation, a.default, a.meaning) for name, a in spec.arguments.items()} == {
        "gain": ("float", 1.5, "what the last value is multiplied with, said in two lines."),
        "mode": ("str | None", None, "none: nothing; else: something."),
        "init": ("Init", "default", spec.arguments["init"].meaning),
    }


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="here: unknown model 'transfomer'; did you mean 'transformer'"):
        model_spec("transfomer", "here")
