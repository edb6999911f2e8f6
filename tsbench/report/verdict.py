"""What the numbers mean, in plain words: who is best, how sure that is, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from tsbench.report.across import TASKS_FOR_AN_INTERVAL, Ranking, across_tasks, ranking
from tsbench.report.comparison import CONFIDENCE
from tsbench.report.statistics import SIGNIFICANCE
from tsbench.report.tables import SIMPLE, Entry, Results, TaskResults
from tsbench.report.wording import BLANK, compact, counted, decimals_for, fixed, listed, percent, times, whole

if TYPE_CHECKING:
    import pandas as pd

CLOSE = 0.05
"""A simple model does as well as the best where noise could explain its distance and that is within 5 %: not to be told
apart, alone, may mean that there was too little to tell by."""
MOST_NAMED = 8
"""Models in a sentence."""
FEW_DEGREES = 8
"""Of freedom of the noise of windows: below that Student's t asks for 2.4 standard errors and Holm for far more."""

FEW_SEEDS = {
    1: "says nothing of how trainings vary",
    2: "say hardly anything of how trainings vary",
    3: "say little of how trainings vary",
    4: "say little of how trainings vary",
}


@dataclass(frozen=True)
class Fact:
    """One answer for the first screen."""

    question: str
    answer: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    headline: str
    sentences: tuple[str, ...]
    facts: tuple[Fact, ...] = ()
    trouble: str = ""
    """How many runs failed or are missing; empty where none is."""


def task_verdict(results: TaskResults) -> Verdict:
    """The verdict on one task. It speaks of the points that were scored, of the noise of seeds and of test windows, of
    nothing else."""
    best = results.best
    if best is None:
        words = f"No model has a result on {results.task.dataset}."
        return Verdict(words, _what_to_do(results.entries), trouble=_trouble(results))
    sentences = [_accuracy(results, best), *_about_folds(results, best), *_certainty(results, best)]
    sentences.append(_cost(results, best))
    facts = (_best_fact(best), _gain_fact(results, best), _certainty_fact(results, best), _cost_fact(results, best))
    return Verdict(headline(results, best), tuple(sentences), (*facts, _data_fact(results, best)), _trouble(results))


def overall_verdict(results: Results) -> Verdict | None:
    """The verdict over all tasks; None for a single one, whose own verdict says it all."""
    if len(results.tasks) < 2:
        return None
    frame = across_tasks(results)
    frame = frame[frame["num_tasks"] > 0]
    if frame.empty:
        entries = [entry for task in results.tasks for entry in task.entries]
        return Verdict(
            f"No model has a result on any of {len(results.tasks)} tasks.",
            _what_to_do(entries),
            trouble=_trouble_of(entries),
        )
    first, num_tasks, order = frame.iloc[0], len(results.tasks), ranking(results)
    leaders = frame.loc[frame["mean_rank"] == first["mean_rank"], "label"].tolist()
    verb = "ranks" if len(leaders) == 1 else "rank"
    error = first["relative_error"]
    interval = _within(first, "relative_error", ".2f")
    is_baseline = any(_models_of(results, label) == {"seasonal_naive"} for label in leaders)
    against = (
        ""
        if math.isnan(error) or is_baseline
        else f", and its error is {error:.2f} of seasonal naive's in the geometric mean{interval}"
    )
    gains = ", but no better than seasonal naive over all" if error >= 1 and not is_baseline else ""
    has_network = any(planned.run.model not in SIMPLE for planned in results.plan.runs)
    simple_leads = has_network and all(_models_of(results, label) <= set(SIMPLE) for label in leaders)
    worth = f"No network is worth it over {num_tasks} tasks: " if simple_leads else ""
    where = "" if simple_leads else f" over {num_tasks} tasks"
    simple = sum(_simple_suffices(task) for task in results.tasks)
    return Verdict(
        f"{worth}{listed(leaders)} {verb} best{where}{gains}.",
        (
            f"The mean rank of {first['label']} is {first['mean_rank']:.1f}{_within(first, 'mean_rank', '.1f')} of "
            f"{len(results.labels)}; it leads on {first['wins']} of {counted(num_tasks, 'task')}{against}.",
            f"On {simple or 'none'} of {num_tasks} tasks a model that is no network leads, or does as well.",
            order.sentence,
            f"One observation is a task, and {_independence(results)}.",
        ),
        _overall_facts(results, first, order),
        _trouble_of(entry for task in results.tasks for entry in task.entries),
    )


def _what_to_do(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Where nothing finished: the reasons, the most frequent first, and how to go on."""
    reasons = Counter(record.reason.rstrip(".") for entry in entries for record in entry.failed)
    sentences = []
    if reasons:
        said = [f"{reason} ({counted(number, 'run')})" for reason, number in reasons.most_common(3)]
        more = f"; and {counted(len(reasons) - 3, 'other reason')}" if len(reasons) > 3 else ""
        sentences = [
            f"{'Why' if len(said) == 1 else 'Why, the most frequent first'}: {'; '.join(said)}{more}.",
            "To go on, change what the reason names, in the experiment or with --set, and give the command again: what "
            "has changed is carried out. Where the cause lay elsewhere, in the machine or in a model's code, --force "
            "--only status=failed repeats these runs (or status=diverged, status=out_of_memory).",
        ]
    if any(entry.num_missing for entry in entries):
        sentences.append("The command that is named under Conditions makes the runs that have no record yet.")
    return tuple(sentences)


def _models_of(results: Results, label: str) -> set[str]:
    return {planned.run.model for planned in results.plan.runs if planned.label == label}


def _overall_facts(results: Results, first: pd.Series, order: Ranking) -> tuple[Fact, ...]:
    label, num_tasks = str(first["label"]), len(results.tasks)
    entries = [entry for task in results.tasks for entry in task.ranked if entry.label == label]
    ahead = "not tested" if not order.enough else "level with others"
    if order.enough and not any(label in group for group in order.level):
        ahead = "ahead of all"
    few = "over " if order.enough else "too few to test: "
    skill = percent(first["skill"])
    gain = Fact("Gain over seasonal naive", "unknown" if skill == BLANK else skill, "geometric mean over tasks")
    if all(entry.model == "seasonal_naive" for entry in entries):
        gain = Fact("Gain over seasonal naive", "none", "it ranks best itself")
    rates = [rate for entry in entries if (rate := entry.cost("predict_windows_per_second"))]
    fits = [seconds for entry in entries if (seconds := entry.fit_seconds)]
    fitted = f"fitted in {compact(median(fits))} s, " if fits else ""
    windows = sum(task.best.num_scored_windows for task in results.tasks if task.best)
    datasets = list(dict.fromkeys(task.task.dataset for task in results.tasks))
    return (
        Fact("Best mean rank", label, f"{first['mean_rank']:.1f} of {len(results.labels)}, leads on {first['wins']}"),
        gain,
        Fact("How sure", ahead, f"{few}{counted(num_tasks, 'task')}, {_seeds(entries)}"),
        Fact(
            "What it costs",
            f"{compact(median(rates) if rates else None)} windows/s",
            f"forecast in batches; {fitted}medians over tasks",
        ),
        Fact(
            "On what data",
            counted(len(datasets), "dataset"),
            f"{listed(datasets) if len(datasets) <= 4 else counted(num_tasks, 'task')}; "
            f"{counted(windows, 'scored window')}",
        ),
    )


def _seeds(entries: list[Entry]) -> str:
    fewest = min((len(entry.errors) for entry in entries), default=0)
    return f"{counted(fewest, 'seed')} each"


def _within(row: pd.Series, name: str, digits: str) -> str:
    """The interval of a figure over tasks, where there are enough of them."""
    lower, upper = row[f"{name}_lower"], row[f"{name}_upper"]
    return "" if math.isnan(lower) else f" (95% interval over tasks {lower:{digits}} to {upper:{digits}})"


def _independence(results: Results) -> str:
    """What limits the number of tasks as a number of observations."""
    datasets = len({task.task.dataset for task in results.tasks})
    few = "" if len(results.tasks) >= TASKS_FOR_AN_INTERVAL else ": with so few there are no intervals over tasks"
    if datasets == len(results.tasks):
        return f"every task is another dataset{few}"
    return f"{len(results.tasks)} tasks on {counted(datasets, 'dataset')} are not independent of each other{few}"


def headline(results: TaskResults, best: Entry) -> str:
    """Who forecasts a task best, or that no network is worth it there, in one sentence."""
    ranked, dataset = results.ranked, results.task.dataset
    if len(ranked) == 1:
        return f"{best.label} is the only model with a result on {dataset}."
    has_network = any(entry.model not in SIMPLE for entry in ranked)
    simple_peers = [entry for entry in _as_good(results) if entry.model in SIMPLE]
    naive = next((entry for entry in [best, *simple_peers] if entry.model == "naive"), None)
    if naive:
        because = (
            "it has the lowest error" if naive is best else f"it does as well as {best.label}, by all that can be told"
        )
        return f"No model beats {naive.label} on {dataset}: {because}."
    if best.model in SIMPLE and not has_network and any(entry.model not in SIMPLE for entry in results.entries):
        return f"{best.label} has the lowest error on {dataset}; no network has a result."
    if best.model in SIMPLE:
        return f"{'No network is worth it' if has_network else 'Simple is best'} on {dataset}: " + (
            f"{best.label} has the lowest error."
        )
    if simple_peers:
        do = "does" if len(simple_peers) == 1 else "do"
        names = listed([entry.label for entry in simple_peers])
        return f"No network is worth it on {dataset}: {names} {do} as well as {best.label}."
    if not results.peers:
        return f"{best.label} forecasts {dataset} best."
    return f"{best.label} forecasts {dataset} best, but {_names(results.peers)} cannot be told from it."


def _as_good(results: TaskResults) -> list[Entry]:
    """Of those that cannot be told from the best, the ones close to it."""
    best = results.best
    return [entry for entry in results.peers if best and entry.mse <= (1 + CLOSE) * best.mse]


def _names(entries: list[Entry]) -> str:
    """All names if they are few, else how many."""
    return listed([entry.label for entry in entries]) if len(entries) <= 3 else f"{len(entries)} others"


def _simple_suffices(results: TaskResults) -> bool:
    leading = [results.best, *_as_good(results)] if results.best else []
    return any(entry.model in SIMPLE for entry in leading if entry)


def _accuracy(results: TaskResults, best: Entry) -> str:
    against = [_against(best, results.of_model(model)) for model in ("seasonal_naive", "linear")]
    against = [words for words in against if words]
    gains = f", {listed(against)}" if against else ""
    return f"The mean squared error (MSE) of {best.label} on scaled test values is {_with_spread(best)}{gains}."


def _about_folds(results: TaskResults, best: Entry) -> list[str]:
    if best.fold_spread is None:
        return []
    return [
        f"Every error is a mean over {len(results.folds)} folds, in each of which the models were trained anew on all "
        f"rows before it; over them that of {best.label} has a standard deviation of {best.fold_spread:.2g}."
    ]


def _with_spread(entry: Entry) -> str:
    decimals = decimals_for([entry.mse])
    seeds = f"({counted(len(entry.errors), 'seed')})"
    if not entry.has_seed_noise:
        return f"{fixed(entry.mse, decimals)} (the same for every seed)"
    if entry.spread is None:
        return f"{fixed(entry.mse, decimals)} {seeds}"
    return f"{fixed(entry.mse, decimals)} ± {fixed(entry.spread, decimals)} {seeds}"


def _against(best: Entry, other: Entry | None) -> str:
    if other is None or other is best or other.mse == 0:
        return ""
    gain = 1 - best.mse / other.mse
    if abs(gain) < 0.0005:
        return f"level with {other.label}"
    return f"{percent(abs(gain))} {'below' if gain > 0 else 'above'} {other.label}"


def _certainty(results: TaskResults, best: Entry) -> list[str]:
    others = [entry for entry in results.compared if entry is not best]
    if not others:
        return [
            "There is nothing to compare it with: seasonal_naive and linear beside it, which take seconds, would tell "
            "whether it is worth its price.",
            *_about_failed(results, best),
        ]
    unknown = [entry for entry in others if results.same_as_best(entry) is None]
    if len(unknown) == len(others) and not results.comparison.degrees:
        return [
            "With fewer than two seeds nothing can be said about certainty: another seed may change the order. "
            "`--seeds 0,1,2` gives a spread."
        ]
    return [
        *_comparison(results, best),
        *_confidence_set(results),
        *_about_unknown(unknown),
        *_about_failed(results, best),
        _caveat(results),
    ]


def _comparison(results: TaskResults, best: Entry) -> list[str]:
    """Whether noise could explain that the best is ahead, as far as somebody can say."""
    noise, test = _noise(results), _test(results)
    apart = [entry for entry in results.compared if results.same_as_best(entry) is False]
    if not results.peers:
        if not apart:
            return []
        all_of_them = len(apart) == len(results.compared) - 1
        who = "No other model is" if all_of_them else f"{_names(apart)} {'is' if len(apart) == 1 else 'are'} not"
        return [f"{who} within {noise} of it ({test}, p < {SIGNIFICANCE:g} against each)."]
    rest = f"; the distance to {_names(apart)} is larger than that" if apart else ""
    names = _listed([f"{entry.label} ({_distance(entry, best)})" for entry in results.peers])
    return [f"{noise.capitalize()} alone could explain its distance to {names}, by {test}, p ≥ {SIGNIFICANCE:g}{rest}."]


def _listed(names: list[str]) -> str:
    """The first of them where they are many."""
    return listed(
        names if len(names) <= MOST_NAMED else [*names[: MOST_NAMED - 1], f"{len(names) - MOST_NAMED + 1} more"]
    )


def _noise(results: TaskResults) -> str:
    return "the noise of seeds and test windows" if results.comparison.degrees else "seed noise"


def _test(results: TaskResults) -> str:
    found = results.comparison
    name = "a paired test over windows and seeds" if found.degrees else "Welch's t-test over seeds"
    return f"{name}, after Holm's correction for {counted(found.num_pairs, 'pair')}"


def _confidence_set(results: TaskResults) -> list[str]:
    """Of Hansen, Lunde and Nason, where losses by window are known."""
    p_values = results.comparison.confidence_p
    held = [e.label for e, p in zip(results.compared, p_values, strict=True) if p >= 1 - CONFIDENCE]
    return [f"The model confidence set, which holds the best with {CONFIDENCE:.0%}: {_listed(held)}."] if held else []


def _caveat(results: TaskResults) -> str:
    """What one observation is, how few there are, and what was corrected for: beside the claim, not in a footnote."""
    found = results.comparison
    trained = [len(entry.errors) for entry in results.compared if entry.has_seed_noise]
    few = min(trained, default=0)
    limits = f"{counted(few, 'seed')} {FEW_SEEDS[few]}" if few in FEW_SEEDS else ""
    pairs = "all pairs are corrected for, because the best is known only after looking at all"
    if not found.degrees:
        return (
            "The test speaks of seeds only, because these records keep no loss of each window (`tsbench run --force` "
            "makes them anew): it does not say that the order would hold on another test period"
            + (f"; {limits}" if limits else "")
            + f"; {pairs}."
        )
    windows = results.compared[0].num_scored_windows
    overlap = (
        f", whose targets overlap by up to {results.task.horizon - 1:,} steps," if results.task.horizon > 1 else ""
    )
    lacking = [entry.label for entry, s in zip(results.compared, found.samples, strict=True) if s.losses_M is None]
    sentences = [
        f"One observation is a window, its loss a mean over steps, channels and seeds: {windows:,} of them{overlap} "
        f"tell as much as {found.degrees + 1:,} independent ones"
        + (", which is too few to see any but the largest differences" if found.degrees < FEW_DEGREES else "")
        + (f"; {limits}" if limits else "")
        + f"; {pairs}. A period unlike the test part may have another order."
    ]
    if lacking:
        sentences.append(
            f"The records of {listed(lacking)} keep no loss of each window: they are judged by seeds only."
        )
    return " ".join(sentences)


def _distance(entry: Entry, best: Entry) -> str:
    """How far above the best: what cannot be told apart need not be close when seeds are few and spread widely."""
    return f"+{percent(entry.mse / best.mse - 1)}" if best.mse > 0 else f"+{entry.mse:.3g}"


def _about_unknown(unknown: list[Entry]) -> list[str]:
    names = _names(unknown) if unknown else ""
    return [f"Of {names} nothing certain can be said: fewer than two seeds finished."] if names else []


def _about_failed(results: TaskResults, best: Entry) -> list[str]:
    """What the ranking rule did to models with failed runs, above all where their numbers look better."""
    failed = [entry for entry in results.ranked if entry.standing[0] > best.standing[0]]
    if not failed:
        return []
    sentences = [f"{listed([entry.label for entry in failed])} had failed runs and took no part in this test."]
    lower = [entry.label for entry in failed if entry.mse < best.mse]
    if lower:
        sentences.append(f"{listed(lower)} would lead by the seeds that finished.")
    return sentences


def _cost(results: TaskResults, best: Entry) -> str:
    cheapest = _cheapest(results, best)
    if len(results.machines) > 1:
        return "The runs were made on different machines, so their costs cannot be compared."
    if best.is_imported:
        return f"{best.label} was imported: nothing is known of its cost here."
    if cheapest is not best:
        return f"{cheapest.label} is the cheapest of these: {_cheaper_by(cheapest, best)}."
    train = best.cost("train_windows_per_second")
    trains = f"trains on {compact(train)} windows/s" if train else "needs no training"
    also = "is the cheapest of these: it " if results.peers else ""
    return (
        f"{best.label} {also}{trains}, forecasts {compact(best.cost('predict_windows_per_second'))} windows/s and has "
        f"{whole(best.cost('num_parameters'))} parameters."
    )


def _cheapest(results: TaskResults, best: Entry) -> Entry:
    """Of the best and those that cannot be told from it: the one that forecasts fastest."""
    return max([best, *results.peers], key=lambda entry: entry.cost("predict_windows_per_second") or 0)


def _cheaper_by(cheapest: Entry, best: Entry) -> str:
    rates, free = [], []
    for verb, name in (("forecasts", "predict_windows_per_second"), ("trains", "train_windows_per_second")):
        fast, slow = cheapest.cost(name), best.cost(name)
        if fast and slow:
            rates.append(f"{verb} {times(fast / slow)}")
        elif slow:
            free.append("needs no training")
    faster = [f"{listed(rates)} as fast as {best.label}"] if rates else []
    few, many = cheapest.cost("num_parameters"), best.cost("num_parameters")
    return f"it {listed([*faster, *free])}, with {whole(few)} parameters against {whole(many)}"


def _trouble(results: TaskResults) -> str:
    return _trouble_of(results.entries)


def _trouble_of(entries: Iterable[Entry]) -> str:
    entries = list(entries)
    planned = sum(len(entry.runs) for entry in entries)
    failed = sum(len(entry.failed) for entry in entries)
    missing = sum(entry.num_missing for entry in entries)
    found = [f"{failed:,} failed"] if failed else []
    found += [f"{missing:,} {'has' if missing == 1 else 'have'} no record yet"] if missing else []
    return f"Of {counted(planned, 'planned run')} {listed(found)}." if found else ""


def _best_fact(best: Entry) -> Fact:
    return Fact("Lowest error", best.label, f"mean squared error (MSE) {_with_spread(best)}, scaled values")


def _gain_fact(results: TaskResults, best: Entry) -> Fact:
    question = "Gain over seasonal naive"
    skill = results.skill(best)
    if skill is None:
        return Fact(question, "unknown", results.no_skill_because.removeprefix("Skill is blank: "))
    if best is results.of_model("seasonal_naive"):
        return Fact(question, "none", "it has the lowest error itself")
    linear = results.of_model("linear")
    against = _against(best, linear)
    return Fact(question, percent(skill), f"less squared error; {against}" if against else "less squared error")


def _certainty_fact(results: TaskResults, best: Entry) -> Fact:
    question, others = "How sure", [entry for entry in results.compared if entry is not best]
    if not others:
        return Fact(question, "no comparison", "the only model with a full result")
    if all(results.same_as_best(entry) is None for entry in others):
        return Fact(question, "unknown", "fewer than two seeds")
    seeds = f"over {counted(len(best.errors), 'seed')}"
    noise = "seeds and test windows" if results.comparison.degrees else "seeds"
    if not results.peers:
        apart = [entry for entry in others if results.same_as_best(entry) is False]
        ahead = "all" if len(apart) == len(others) else counted(len(apart), "model")
        return Fact(question, f"ahead of {ahead}", f"beyond the noise of {noise}, {seeds}")
    names = listed([entry.label for entry in results.peers])
    level = names if len(results.peers) == 1 else f"{len(results.peers)} others"
    who = f"{names}: " if len(results.peers) <= 4 else ""
    return Fact(question, f"level with {level}", f"{who}within the noise of {noise}, {seeds}")


def _cost_fact(results: TaskResults, best: Entry) -> Fact:
    if best.is_imported:
        return Fact("What it costs", "unknown", "imported: made elsewhere")
    seconds = best.fit_seconds
    trained = f"fitted in {compact(seconds)} s" if seconds else "no training"
    parameters = f"{whole(best.cost('num_parameters'))} parameters"
    rate = compact(best.cost("predict_windows_per_second"))
    cheapest = _cheapest(results, best)
    hint = "" if cheapest is best or len(results.machines) > 1 else f"; cheapest of its level: {cheapest.label}"
    return Fact("What it costs", f"{rate} windows/s", f"forecast in batches; {trained}, {parameters}{hint}")


def _data_fact(results: TaskResults, best: Entry) -> Fact:
    record = best.finished[0]
    assert record.metrics
    size = f"{record.data.num_rows:,} rows × {counted(len(record.data.channels), 'channel')}"
    windows = counted(best.num_scored_windows, "scored window")
    windows += f" ({record.metrics.masked})" if record.metrics.masked else ""
    return Fact("On what data", record.data.title, f"{size}; {windows}, {results.task.horizon} steps ahead")
