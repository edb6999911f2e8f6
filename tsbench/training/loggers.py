"""Trackers that follow a training: Lightning's loggers, fed at each look at the validation part.

They are told what the record holds anyway, between the clocks, so a training takes no longer in any figure; a tracker
is never the store. Lightning's own logging would not do: with chunks of steps its step counter stands still.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tsbench.errors import MachineError, unknown

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


_MOST_SECONDS = 60
"""That a worker waits for another one to make a database."""


class Place(NamedTuple):
    """Where the tracks of one run go, and what it is called there."""

    folder: Path
    group: str
    name: str


def _csv(place: Place) -> Logger:
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(_emptied(place, "csv"), name=place.group, version=place.name)


def _tensorboard(place: Place) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(_emptied(place, "tensorboard"), name=place.group, version=place.name)


def _mlflow(place: Place) -> Logger:
    import os

    from lightning.pytorch.loggers import MLFlowLogger

    # Lightning's default is a folder, which MLflow refuses from 3.13 on.
    where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(place.folder / 'mlflow.db').resolve()}"
    with _one_at_a_time(place.folder / "mlflow.lock"):
        logger = MLFlowLogger(experiment_name=place.group, run_name=place.name, tracking_uri=where)
        logger.experiment  # noqa: B018  (makes tables, experiment and run)
    return logger


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Workers that make a database's tables at the same moment leave them half made. A lock that a kill left behind is
    waited for once."""
    patience = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < patience:
        with suppress(FileExistsError):
            lock.touch(exist_ok=False)
            break
        time.sleep(0.1)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _wandb(place: Place) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(project="tsbench", group=place.group, name=place.name, save_dir=place.folder)


def _emptied(place: Place, kind: str) -> Path:
    """A run that is repeated starts its track anew."""
    shutil.rmtree(place.folder / kind / place.group / place.name, ignore_errors=True)
    return place.folder / kind


_MAKERS: dict[str, Callable[[Place], Logger]] = {
    "csv": _csv,
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
LOGGERS = tuple(_MAKERS)


def check_loggers(names: Sequence[str]) -> tuple[str, ...]:
    """The names. Raises ConfigError for an unknown one, MachineError where its package is missing."""
    for name in names:
        if name not in _MAKERS:
            raise unknown("logger", name, _MAKERS, where="--logger")
        if name != "csv" and find_spec(name) is None:
            raise MachineError(
                f"--logger {name} needs the package {name}, which is not here; type: pip install 'tsbench[{name}]'"
            )
    return tuple(dict.fromkeys(names))


class RunLog:
    """The tracks of one run, in all the loggers that were asked for. One that fails is left out: a lost server must not
    cost a run."""

    def __init__(self, names: Sequence[str], place: Place, settings: Mapping[str, Any]) -> None:
        self.seconds = 0.0
        """What the loggers took so far: in no clock of the record."""
        self.problems: list[str] = []
        """Why loggers were left out."""
        self._loggers: dict[str, Logger] = {}
        place.folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            self._try(name, lambda name=name: self._loggers.update({name: _MAKERS[name](place)}))  # type: ignore[misc]
        self._each(lambda logger: logger.log_hyperparams(dict(settings)))

    def look(self, step: int, values: Mapping[str, float]) -> None:
        """At the validation part, after so many optimizer steps."""
        self._each(lambda logger: logger.log_metrics(dict(values), step))

    def end(self, step: int, values: Mapping[str, float], status: str) -> None:
        """The last word: what came of the run."""
        if values:
            self.look(step, values)
        self._each(lambda logger: logger.finalize("success" if status == "ok" else "failed"))
        if "wandb" in self._loggers:  # else it would take the next run for this one
            wandb: Any = self._loggers["wandb"]
            self._try("wandb", lambda: wandb.experiment.finish())

    def _each(self, work: Callable[[Logger], object]) -> None:
        for name, logger in list(self._loggers.items()):
            self._try(name, lambda logger=logger: work(logger))  # type: ignore[misc]

    def _try(self, name: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        try:
            work()
        except Exception as error:  # whatever a tracker raises
            self._loggers.pop(name, None)
            what = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.problems.append(f"--logger {name}: {what}; the run went on without it")
        self.seconds += time.perf_counter() - start
