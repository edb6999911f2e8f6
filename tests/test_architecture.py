"""The architecture: imports go one way, nothing heavy comes along unasked, and every package used is declared."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import tsbench
import tsbench.report

ORDER = [
    ("errors", "resources"),
    ("data",),
    ("models",),
    ("training",),
    ("evaluation",),
    ("bench",),
    ("report",),
    ("api", "display"),
    ("cli",),
    ("__main__",),
]
"""A module imports only from its own package and from earlier lines. `tsbench/__init__.py`, the public face, stands
outside: it imports everything lazily, and nothing imports it."""

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tsbench"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> frozenset[str]:
    """Everything that a module imports anywhere: at its top, in functions, for type checkers."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import; write it out"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return frozenset(found)


def own_imports_of(module: str) -> set[str]:
    return {name for name in imports_of(module) if name.split(".")[0] == "tsbench"}


def stage(module: str) -> int:
    part = module.split(".")[1]
    return next(i for i, parts in enumerate(ORDER) if part in parts)


INNER = [module for module in MODULES if module != "tsbench"]


def test_every_module_has_its_place_in_the_order() -> None:
    assert {module.split(".")[1] for module in INNER} == {part for parts in ORDER for part in parts}


@pytest.mark.parametrize("module", INNER)
def test_imports_point_to_earlier_stages(module: str) -> None:
    package = module.split(".")[1]

    for name in own_imports_of(module):
        assert name != "tsbench", f"{module} imports the public face"
        assert name.split(".")[1] == package or stage(name) < stage(module), f"{module} imports {name}"


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {module: own_imports_of(module) - {module} for module in INNER}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_a_circle_or_a_wrong_way_would_be_seen() -> None:
    """The checks above rest on these: imports in functions and for type checkers count."""
    assert "tsbench.bench.runner" in own_imports_of("tsbench.api")  # inside a function
    assert "tsbench.data.panel" in own_imports_of("tsbench.cli")  # for type checkers
    assert stage("tsbench.data.panel") < stage("tsbench.models.registry") < stage("tsbench.cli")


FACES = {"tsbench", "tsbench.report"}
"""What a user imports names from: these are loaded when they are first used."""


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_inner_init_files_are_empty(module: str) -> None:
    assert (MODULES[module].read_text(encoding="utf-8") == "") == (module not in FACES)


def test_the_reports_names_are_loaded_when_they_are_used() -> None:
    assert loaded_after("from tsbench import report; dir(report)") & HEAVY == set()
    assert [getattr(tsbench.report, name).__name__ for name in tsbench.report.__all__] == tsbench.report.__all__
    with pytest.raises(AttributeError, match="no attribute 'leaderbord'"):
        tsbench.report.leaderbord  # noqa: B018


def third_party_imports() -> dict[str, str]:
    """Every top-level name from outside, with one module that imports it."""
    outside = {}
    for module in MODULES:
        for name in imports_of(module):
            top = name.split(".")[0]
            if top != "tsbench" and top not in sys.stdlib_module_names:
                outside[top] = module
    return outside


def declared_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [*project["dependencies"], *(need for extra in project["optional-dependencies"].values() for need in extra)]
    return {normal(re.split(r"[<>=~! \[;]", need)[0]) for need in needs}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_every_package_that_is_imported_is_a_declared_dependency() -> None:
    homes = packages_distributions()

    for name, module in third_party_imports().items():
        assert declared_dependencies() & {normal(home) for home in homes[name]}, f"{module} imports {name}"


OF_LIGHTNING = {"tensorboard", "mlflow-skinny", "sqlalchemy", "alembic", "wandb"}
"""Behind its loggers: extras that it imports itself, and that are not here."""


def test_every_declared_dependency_is_imported() -> None:
    homes = packages_distributions()

    assert declared_dependencies() - OF_LIGHTNING <= {
        normal(home) for name in third_party_imports() for home in homes[name]
    }


def calls_of_print(module: str) -> Iterator[int]:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            to_stderr = any(ast.unparse(word) == "file=sys.stderr" for word in node.keywords)
            if not (module == "tsbench.cli" and to_stderr):  # the one message of a mistake
                yield node.lineno


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_printed_past_the_console(module: str) -> None:
    assert list(calls_of_print(module)) == []


def loaded_after(code: str) -> set[str]:
    """The top-level names of all modules that a fresh interpreter has loaded after this code."""
    tail = "\nimport json, sys\nsys.stdout.write(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


TORCH = {"torch", "lightning"}
HEAVY = TORCH | {"pandas", "numpy", "scipy", "sklearn", "matplotlib", "pydantic", "rich", "typer", "requests"}


def test_import_tsbench_imports_nothing_heavy() -> None:
    assert loaded_after("import tsbench; dir(tsbench)") & HEAVY == set()


def test_records_and_experiments_need_no_torch() -> None:
    assert loaded_after("import tsbench.bench.records, tsbench.bench.experiment, tsbench.api") & TORCH == set()


def test_the_report_needs_no_torch() -> None:
    modules = [module for module in INNER if module.startswith("tsbench.report.")]

    assert "tsbench.report.build" in modules
    assert loaded_after(f"import {', '.join(modules)}") & TORCH == set()


@pytest.mark.parametrize("name", tsbench.__all__)
def test_every_public_name_resolves_to_the_thing_of_that_name(name: str) -> None:
    assert getattr(tsbench, name).__name__ == name


def test_the_public_names_are_the_ones_that_type_checkers_see() -> None:
    shown = {
        alias.asname
        for node in ast.walk(tree_of("tsbench"))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tsbench.")
        for alias in node.names
    }

    assert shown == set(tsbench.__all__)
    assert set(tsbench.__all__) <= set(dir(tsbench))


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Forcaster'"):
        tsbench.Forcaster  # noqa: B018
