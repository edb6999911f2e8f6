"""The wheel: `pip install` and `tsbench run` work from any folder, so it carries all that a run needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tsbench.bench.experiment import list_experiments
from tsbench.data.cards import list_cards

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; it is in the dependency group 'test'")
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("tsbench-*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


def test_the_wheel_carries_every_module(names: set[str]) -> None:
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "tsbench").rglob("*.py")} <= names


def test_the_wheel_carries_every_card_and_every_experiment(names: set[str]) -> None:
    assert {f"tsbench/_resources/datasets/{name}.toml" for name in list_cards()} <= names
    assert {f"tsbench/_resources/experiments/{name}.toml" for name in list_experiments()} <= names


def test_the_wheel_carries_the_embedded_data_with_their_licence(names: set[str], wheel: zipfile.ZipFile) -> None:
    folder = "tsbench/_resources/datasets/files"

    assert {f"{folder}/auckland_pedestrians_hourly.csv.gz", f"{folder}/auckland_pedestrians_tiny.csv"} <= names
    assert "CC BY 4.0" in wheel.read(f"{folder}/README.md").decode()
    assert "Hyesop Shin" in wheel.read(f"{folder}/README.md").decode()


def test_the_wheel_carries_the_templates_of_the_report(names: set[str]) -> None:
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "tsbench/report/templates").iterdir()}

    assert any(".html" in name for name in templates)
    assert templates <= names


def test_the_wheel_carries_no_data_that_may_not_be_passed_on(names: set[str]) -> None:
    data = {name for name in names if re.search(r"\.(csv|gz|tsf|parquet|npz)$", name)}

    assert {Path(name).name for name in data} == {"auckland_pedestrians_hourly.csv.gz", "auckland_pedestrians_tiny.csv"}


def test_the_wheel_is_small_and_holds_nothing_but_the_package(names: set[str], wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tsbench"}
    assert not any("__pycache__" in name for name in names)
    assert sum(entry.compress_size for entry in wheel.infolist()) < 2_000_000


def test_the_wheel_installs_the_command_and_names_its_needs(wheel: zipfile.ZipFile) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = next(name for name in wheel.namelist() if name.endswith("METADATA")).removesuffix("METADATA")
    metadata = wheel.read(f"{info}METADATA").decode()

    assert "tsbench = tsbench.cli:main" in wheel.read(f"{info}entry_points.txt").decode()
    assert metadata.count("Requires-Dist: ") == len(project["dependencies"]) + metadata.count("; extra == '")
    assert metadata.count("; extra == '") == sum(map(len, project["optional-dependencies"].values()))
    assert "Requires-Dist: captum<0.10,>=0.9; extra == 'explain'" in metadata
    assert f"{info}licenses/LICENSE" in wheel.namelist()


def test_an_unpacked_wheel_plans_the_default_experiment_from_any_folder(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = "import tsbench; from tsbench.api import plan_experiment as p; print(tsbench.__file__, len(p().plan.runs))"

    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )

    path, runs = run.stdout.split()
    assert Path(path).is_relative_to(tmp_path)
    assert int(runs) == 36


def test_make_installs_the_extras_whose_tests_it_runs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installs = re.findall(r"install .* -e '\.\[(.*?)\]'", (ROOT / "Makefile").read_text(encoding="utf-8"))

    assert len(installs) == 2  # uv, and pip where it fails
    tested = project["optional-dependencies"].keys() - {"tensorboard", "mlflow", "wandb"}  # Lightning's business
    assert all(set(extras.split(",")) == tested for extras in installs)
