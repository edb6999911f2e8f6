"""What trained forecasters rest on: kept beside the records, `explanations/<key>.npz`, and made here.

Reading them needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from tsbench.bench.records import PlannedRun, RecordStore, Run, forecaster_path, write_durably
from tsbench.data.panel import Panel
from tsbench.errors import TsbenchError
from tsbench.evaluation.importance import Explanation

if TYPE_CHECKING:
    import torch

    from tsbench.bench.runner import Prepared

NUM_WINDOWS = 16


class ExplanationStore:
    """The explanations below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "explanations"

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def write(self, key: str, explanation: Explanation) -> None:
        def save(file: BinaryIO) -> None:
            np.savez_compressed(file, **explanation.to_arrays())  # type: ignore[arg-type]

        write_durably(self.path(key), save)

    def read(self, key: str) -> Explanation:
        with np.load(self.path(key)) as file:
            return Explanation.from_arrays(file)


def first_seeds(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Of every label of every task the first run."""
    first: dict[tuple[str, tuple[str, int, int]], PlannedRun] = {}
    for planned in runs:
        first.setdefault((planned.label, planned.run.task), planned)
    return list(first.values())


def explain_runs(
    runs: Sequence[PlannedRun],
    panels: Mapping[str, Panel],
    folder: Path,
    device: torch.device,
    *,
    num_windows: int = NUM_WINDOWS,
    force: bool = False,
    tell: Callable[[PlannedRun, str], None] | None = None,
) -> None:
    """Explain these runs and keep what was found. What is there already, for as many windows, is left unless forced.

    tell: is told what becomes of each run. A run that failed, or that fails now, is passed over.

    Raises MachineError where captum is missing.
    """
    from tsbench.bench.runner import PreparedPanels
    from tsbench.evaluation.explain import require_captum

    require_captum()
    prepared_for = PreparedPanels(panels, device)
    for planned in runs:
        run = planned.run
        count = min(num_windows, len(panels[run.dataset].test.window_starts(run.context_length, run.horizon)))
        what = _settled(run, folder, count, force) or _explain_run(run, prepared_for(run), folder, count)
        if tell:
            tell(planned, what)


def _settled(run: Run, folder: Path, count: int, force: bool) -> str:
    """Why there is nothing to do for a run; empty where there is."""
    records, store, key = RecordStore(folder), ExplanationStore(folder), run.key()
    if key in records and (record := records.read(key)).status != "ok":
        return f"skipped, its run is recorded as {record.status}: {record.reason}"
    if key in store and store.read(key).num_windows == count and not force:
        return "explained before"
    return ""


def _explain_run(run: Run, prepared: Prepared, folder: Path, count: int) -> str:
    """Explain a run with the forecaster that was kept, else with one that is trained again from its seed and kept."""
    from tsbench.evaluation.explain import explain
    from tsbench.training.forecaster import Forecaster

    path, origin = forecaster_path(folder, run.key()), "kept forecaster"
    if path.is_file():
        forecaster = Forecaster.load(path).to(prepared.values_TC.device)
    else:
        origin = "trained again"
        try:
            windows = prepared.windows(run)
            forecaster = prepared.forecaster(run).fit_windows(windows["train"], windows["validation"], seed=run.seed)
        except TsbenchError as error:
            return f"skipped, it cannot be trained: {error}"
        write_durably(path, forecaster.save)
    ExplanationStore(folder).write(run.key(), explain(forecaster, *context_windows(run, prepared, count)))
    return f"explained on {count} test windows, {origin}"


def context_windows(run: Run, prepared: Prepared, count: int) -> list[torch.Tensor]:
    """Scaled contexts `[W, L, C]` of test windows, evenly spaced over the test part; no target is gathered.

    Then their covariates `[W, L + H, K]`, where the run has any.
    """
    import torch

    from tsbench.data.blocks import windows_at

    starts = prepared.panel.test.window_starts(run.context_length, run.horizon)
    picks = np.linspace(0, len(starts) - 1, count).round().astype(np.int64)
    contexts = windows_at(prepared.values_TC, starts.at(picks)[0], run.context_length, horizon=0)
    context = contexts.batch(torch.arange(count, device=prepared.values_TC.device))[0]
    covariates = prepared.covariates_for(run)
    if covariates is None:
        return [context]
    return [context, covariates.gather(contexts.starts_N, run.context_length + run.horizon)]
