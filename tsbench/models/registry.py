"""The registry: every class marked with `@register` in a file of this folder, listed without importing torch.

The files are read, not imported: `tsbench models`, `tsbench plan` and the resolving of every default into a run's key
need no torch, whose import alone takes longer than all of them. Adding a file is all it takes to be listed, tested and
benchmarked.

A model is an `nn.Module` from `[B, L, C_in]` to `[B, H, C_out]`; of the channels that come in it forecasts the first
C_out, the others are covariates. Its constructor takes a `WindowShape` and then keywords with literal defaults: they
are its configuration. Its class docstring starts with one sentence and explains each keyword in a line `keyword: what
it is`. A constructor that hands `**keywords` on has those of its base as well. What is known ahead is added to its
forecast by `models/ahead.py`, unless it brings an `ahead` of its own.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from tsbench.errors import ConfigError, from_validation, unknown
from tsbench.models import choices
from tsbench.models.layer_kinds import KINDS, Layer, Layers

if TYPE_CHECKING:
    from torch import nn

    from tsbench.data.windows import WindowShape

_Class = TypeVar("_Class", bound=type)

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


def register(
    name: str, *, learned: bool = True, solved: bool = False, widths: tuple[str, ...] = (), history: bool = False
) -> Callable[[_Class], _Class]:
    """Mark a model class: the registry lists it under this name.

    learned: whether it has weights, which are set by training or solved for. Such a model gets instance normalisation
    around it.
    solved: whether its weights are solved for. How they start does not matter then; all other learned models have the
    keyword `init`.
    widths: the keywords that say how wide its layers are, the leading one first; they are chosen by an experiment in
    which all models have as many parameters.
    history: whether it reads all rows before the forecast, in original units, instead of a scaled context; shorter
    series begin with NaN. With many origins that takes long, so experiments that name no models leave it out.
    """

    def mark(model_class: _Class) -> _Class:
        model_class.model_name = name  # type: ignore[attr-defined]
        return model_class

    return mark


@dataclass(frozen=True)
class Argument:
    """One keyword of a model."""

    annotation: str
    default: Any
    meaning: str

    @property
    def type(self) -> Any:
        return eval(self.annotation, {"Literal": Literal, "Layers": Layers, **vars(choices)})

    @property
    def allowed(self) -> str:
        """What may stand there, for a reader: `relu | tanh`, `int`, `int | None`, `list of layers`."""
        if self.type is Layers:
            return "list of layers"
        words = get_args(self.type) if get_origin(self.type) is Literal else ()
        return " | ".join(words) or self.annotation


_INIT = Argument("Init", "default", "how weights start (PyTorch's way, or one for all weights; biases are then zero).")


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model without importing it."""

    name: str
    module: str
    class_name: str
    summary: str
    arguments: Mapping[str, Argument]
    learned: bool
    solved: bool
    widths: tuple[str, ...]
    reads_history: bool

    @property
    def trained(self) -> bool:
        """Whether its weights are set by steps against a loss."""
        return self.learned and not self.solved

    def resolve(self, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
        """All keywords with their values, checked. Raises ConfigError with the nearest keyword."""
        try:
            return self._checker.model_validate(dict(settings)).model_dump()
        except ValidationError as error:
            raise from_validation(error, where, self.arguments) from error
        except ConfigError as error:  # of a layer
            raise ConfigError(f"{where}: {error}") from error

    @cached_property
    def _checker(self) -> type[BaseModel]:
        """Made once: it takes longer than all that it checks."""
        fields: dict[str, Any] = {name: (argument.type, argument.default) for name, argument in self.arguments.items()}
        return create_model(self.class_name, __config__=_STRICT, **fields)

    def build(self, shape: WindowShape, arguments: Mapping[str, Any]) -> nn.Module:
        """The model itself, initialised from torch's current random state."""
        arguments = dict(arguments)
        init = arguments.pop("init", "default")
        model = getattr(importlib.import_module(self.module), self.class_name)(shape, **arguments)
        if init != "default":
            from tsbench.models.initialisers import initialise

            initialise(model, init)
        if shape.ahead and self.learned and not hasattr(model, "ahead"):
            from tsbench.models.ahead import Ahead

            # A part of the model, so that its weights are counted, saved, frozen and traced with the others.
            model.ahead = Ahead(shape)
        return model


@cache
def model_specs() -> dict[str, ModelSpec]:
    """Every registered model by name, in the order of files and classes."""
    specs = [spec for path in sorted(Path(__file__).parent.glob("*.py")) for spec in _specs_of(path)]
    return {spec.name: spec for spec in specs}


def model_spec(name: str, where: str = "models") -> ModelSpec:
    """A model by name. Raises ConfigError with the nearest name."""
    specs = model_specs()
    if name not in specs:
        raise unknown("model", name, specs, where)
    return specs[name]


def layer_arguments(kind: str) -> dict[str, Argument]:
    """The keywords of a kind of layer."""
    lineage = [base for base in reversed(KINDS[kind].__mro__) if issubclass(base, Layer) and base is not Layer]
    annotations = {name: words for base in lineage for name, words in inspect.get_annotations(base).items()}
    meanings = _meanings("\n".join(inspect.getdoc(base) or "" for base in lineage))
    return {
        name: Argument(annotations[name], None if field.is_required() else field.default, meanings.get(name, ""))
        for name, field in KINDS[kind].model_fields.items()
        if name != "kind"
    }


def _specs_of(path: Path) -> list[ModelSpec]:
    classes = {node.name: node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)}
    specs = []
    for node in classes.values():
        mark = _mark(node)
        if mark is None:
            continue
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in mark.keywords}
        learned = options.get("learned", True)
        solved = options.get("solved", False)
        has_init = learned and not solved
        lineage = _lineage(node, classes)
        documented = "\n".join(ast.get_docstring(ancestor) or "" for ancestor in lineage)
        own = ast.get_docstring(node) or documented
        specs.append(
            ModelSpec(
                name=ast.literal_eval(mark.args[0]),
                module=f"tsbench.models.{path.stem}",
                class_name=node.name,
                summary=own.splitlines()[0],
                arguments=_arguments(lineage, _meanings(documented)) | ({"init": _INIT} if has_init else {}),
                learned=learned,
                solved=solved,
                widths=options.get("widths", ()),
                reads_history=options.get("history", False),
            )
        )
    return specs


def _meanings(documented: str) -> dict[str, str]:
    """Of each keyword that docstrings explain in a line `keyword: what it is`, which may go on, further in."""
    lines = re.findall(r"^(\w+): (.+(?:\n {4,}.+)*)", documented, flags=re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in lines}


def _mark(node: ast.ClassDef) -> ast.Call | None:
    """The `@register(...)` above a class."""
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "register":
            return mark
    return None


def _lineage(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The class and, where its constructor is missing or hands `**keywords` on, its base in the file: base first."""
    constructor = _constructor(node)
    if constructor and not constructor.args.kwarg:
        return [node]
    base = next(base.id for base in node.bases if isinstance(base, ast.Name) and base.id in classes)
    return [*_lineage(classes[base], classes), node]


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    functions = (statement for statement in node.body if isinstance(statement, ast.FunctionDef))
    return next((function for function in functions if function.name == "__init__"), None)


def _arguments(lineage: list[ast.ClassDef], meanings: Mapping[str, str]) -> dict[str, Argument]:
    constructors = [constructor for constructor in map(_constructor, lineage) if constructor]
    return {
        keyword.arg: Argument(
            annotation=ast.unparse(keyword.annotation) if keyword.annotation else "object",
            default=ast.literal_eval(default) if default else None,
            meaning=meanings.get(keyword.arg, ""),
        )
        for constructor in constructors
        for keyword, default in zip(constructor.args.kwonlyargs, constructor.args.kw_defaults, strict=True)
    }
