"""Several folders of results as one: plans put together, records copied, what contradicts itself said.

One run key in two folders is one question: the same answer is kept once, of two answers the first. One label for two
questions gets the folder's name after it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tsbench.bench.explanations import ExplanationStore
from tsbench.bench.records import Plan, PlannedRun, Record, RecordStore
from tsbench.errors import ConfigError, MachineError

MERGED = "merged"
"""What the plan of a merged folder is called: a merge overwrites another merge, never an experiment."""

MOST_CONFLICTS = 10
"""Contradictions that are told one by one."""

Task = tuple[str, int, int]


@dataclass(frozen=True)
class _Source:
    folder: Path
    name: str
    plan: Plan

    @property
    def store(self) -> RecordStore:
        return RecordStore(self.folder)

    @cached_property
    def keys(self) -> set[str]:
        """Of the runs that were asked for last; records of earlier experiments stay behind."""
        return {planned.run.key() for planned in self.plan.runs}


def merge(folders: Sequence[str | Path], output: str | Path, command: str = "") -> Plan:
    """Put the results of several folders into another one, as if one experiment had made them. Returns its plan.

    The plan's notes say what was put together, which labels were renamed, and where two records of one run differ.

    Raises ConfigError where folders were made under different protocols, or where `output` holds an experiment.
    """
    output = Path(output)
    sources = [_Source(Path(folder), name, Plan.load(Path(folder))) for folder, name in _named(folders).items()]
    _check(sources, output)
    runs: dict[str, PlannedRun] = {}
    notes = [f"put together from {', '.join(source.name for source in sources)}"]
    for source in sources:
        labels, renamed = _labels(list(runs.values()), source)
        notes += renamed
        for planned in source.plan.runs:
            runs.setdefault(planned.run.key(), planned.model_copy(update={"label": labels[planned.label]}))
    notes += _copy(sources, runs, output)
    plan = Plan(
        title=" and ".join(dict.fromkeys(source.plan.title for source in sources)),
        experiment=MERGED,
        command=command,
        protocol=sources[0].plan.protocol,
        differences=_once(line for source in sources for line in source.plan.differences),
        notes=[*notes, *_once(line for source in sources for line in source.plan.notes)],
        folds={dataset: names for source in sources for dataset, names in source.plan.folds.items()},
        runs=list(runs.values()),
    )
    plan.save(output)
    return plan


def _named(folders: Sequence[str | Path]) -> dict[Path, str]:
    """Each folder once, by the shortest end of its path that no other has."""
    paths = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(paths, names, strict=True))


def _check(sources: list[_Source], output: Path) -> None:
    protocols = {source.plan.protocol: source.folder for source in sources}
    if len(protocols) > 1:
        found = " and ".join(f"{folder} under protocol {protocol}" for protocol, folder in protocols.items())
        raise ConfigError(f"{found}: such numbers cannot stand in one table; `tsbench run` makes the older ones anew")
    if output.resolve() in (source.folder for source in sources):
        raise ConfigError(f"--output {output}: is one of the folders to put together; name another")
    if (output / "plan.json").is_file() and Plan.load(output).experiment != MERGED:
        raise ConfigError(f"--output {output}: holds an experiment of its own; name another folder")


def _labels(planned: list[PlannedRun], source: _Source) -> tuple[dict[str, str], list[str]]:
    """What each label of a source is called among those before, and notes about what is called otherwise than there."""
    before, own = _questions(planned), _questions(source.plan.runs)
    labels, notes = {}, []
    for label, questions in own.items():
        twin = next((name for name, there in before.items() if _is_same(there, questions)), None)
        if twin is not None and (twin == label or twin not in own):
            labels[label] = twin
        else:
            labels[label] = f"{label} ({source.name})" if label in before else label
        if labels[label] != label:
            notes.append(f"{label} of {source.name} is called {labels[label]} here: {_why(label in before)}")
    return labels, notes


def _why(is_taken: bool) -> str:
    return "elsewhere the name means other settings" if is_taken else "elsewhere the same settings have that name"


def _questions(planned: Sequence[PlannedRun]) -> dict[str, dict[Task, str]]:
    """By label and task: everything but the data and the seed, as text."""
    found: dict[str, dict[Task, str]] = {}
    for one in planned:
        questions = found.setdefault(one.label, {})
        if one.run.task not in questions:
            settings = {"model", "arguments", "recipe", "pretrained_digest"}
            questions[one.run.task] = one.run.model_dump_json(include=settings)
    return found


def _is_same(there: Mapping[Task, str], here: Mapping[Task, str]) -> bool:
    """Whether two labels ask the same on the tasks that both have; where they share none, whether they do at all."""
    shared = there.keys() & here.keys()
    if shared:
        return all(there[task] == here[task] for task in shared)
    return set(there.values()) == set(here.values())


def _copy(sources: list[_Source], runs: Mapping[str, PlannedRun], output: Path) -> list[str]:
    """Copy what answers the planned runs; returns what is to be said of runs that were answered twice."""
    store, twice, conflicts = RecordStore(output), 0, []
    for key, planned in runs.items():
        holders = [source for source in sources if key in source.keys and key in source.store]
        if not holders:
            continue
        chosen, conflict = _first_answer(key, planned, holders)
        _copy_file(chosen.store.path(key), store.path(key))
        _copy_file(chosen.store.path(key).with_suffix(".npz"), store.path(key).with_suffix(".npz"))
        _copy_file(ExplanationStore(chosen.folder).path(key), ExplanationStore(output).path(key))
        conflicts += [conflict] if conflict else []
        twice += len(holders) > 1 and not conflict
    if twice:
        conflicts.append(f"{twice:,} runs are in more than one folder with the same result; costs are the first one's")
    if len(conflicts) > MOST_CONFLICTS:
        more = f"{len(conflicts) - MOST_CONFLICTS:,} more like these"
        return [*conflicts[:MOST_CONFLICTS], more]
    return conflicts


def _first_answer(key: str, planned: PlannedRun, holders: list[_Source]) -> tuple[_Source, str]:
    """Whose record is kept, the first that finished; and where they differ, what is to be said of the others."""
    if len({source.store.path(key).read_bytes() for source in holders}) == 1:
        return holders[0], ""
    records = {source.name: source.store.read(key) for source in holders}
    chosen = next((source for source in holders if records[source.name].status == "ok"), holders[0])
    answers = {name: _answer(record) for name, record in records.items()}
    if len(set(answers.values())) == 1:
        return chosen, ""
    dataset, context_length, horizon = planned.run.task
    said = ", ".join(f"{answer} in {name}" for name, answer in answers.items())
    return chosen, (
        f"{planned.label} on {dataset}, {context_length} → {horizon} steps, seed {planned.run.seed} has different "
        f"results ({said}): shown is that of {chosen.name}"
    )


def _answer(record: Record) -> str:
    return record.status if record.metrics is None else f"test MSE {record.metrics.mse_scaled:.6g}"


def _copy_file(source: Path, target: Path) -> None:
    """Also that there is no such file: an earlier merge may have left one."""
    try:
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        else:
            target.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            f"{target}: cannot be written ({error.strerror}); choose a folder with --output DIR"
        ) from error


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
