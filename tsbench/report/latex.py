"""The leaderboards as LaTeX tables: booktabs, siunitx columns that align at the decimal point, nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from tsbench.report.tables import RANKING_RULE, Results, TaskResults, leaderboard
from tsbench.report.wording import counted, decimals_for, listed

_HEAD = "% Made by tsbench; needs in the preamble: \\usepackage{booktabs, siunitx}\n"
_BEYOND_LATIN = "% Some names hold letters that pdflatex has no font for: use lualatex or xelatex.\n"


@dataclass(frozen=True)
class _Column:
    name: str
    """As in `leaderboard.csv`."""
    title: str
    better: str = ""
    """lower or higher, where the best is marked: of errors. That the naive models are fastest says nothing."""
    digits: int = 0
    """Significant digits, of costs; 0 for as many decimals as the page shows."""
    factor: float = 1.0


_COLUMNS = (
    _Column("mse_scaled", "MSE", "lower"),
    _Column("mse_scaled_std", "s.d."),
    _Column("mae_scaled", "MAE", "lower"),
    _Column("skill", "Skill %", "higher", factor=100),
    _Column("train_windows_per_second", "Train w/s", digits=3),
    _Column("predict_windows_per_second", "Predict w/s", digits=3),
    _Column("latency_p50_ms", "p50 ms", digits=3),
    _Column("num_parameters", "Params"),
)


def leaderboard_tex(results: Results) -> str:
    """A `table` for every task, best model first. Of errors the best is bold and the second underlined."""
    frame = leaderboard(results)
    tables = []
    for number, task in enumerate(results.tasks, start=1):
        same = (frame["dataset"] == task.task.dataset) & (frame["context_length"] == task.task.context_length)
        rows = frame[same & (frame["horizon"] == task.task.horizon)]
        label = "tab:leaderboard" + (f"-{number}" if len(results.tasks) > 1 else "")
        tables.append(_table(results, task, rows.replace({"mse_scaled_std": {0: math.nan}}).to_dict("records"), label))
    text = "\n".join(tables)
    return _HEAD + (_BEYOND_LATIN if max(text) > "\u017f" else "") + text


def escape_tex(text: str) -> str:
    """Text that stays text in LaTeX, also at the beginning of a row: there the line break before it takes * and [."""
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$"}
    named |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "−": "$-$"}
    named |= {character: "\\" + character for character in "&%$#_{}"}
    named |= {"[": "{[}", "*": "{*}", "`": "{`}", "--": "-{}-"}
    return re.sub(r"--|[\\~^→<>|±−&%$#_{}[*`]", lambda found: named[found[0]], " ".join(text.split()))


def _table(results: Results, task: TaskResults, rows: Sequence[dict[Any, Any]], label: str) -> str:
    whole = [task.best is not None and entry.standing[0] == task.best.standing[0] for entry in task.entries]
    columns = [_cells(column, rows, whole) for column in _COLUMNS]
    formats = [_format(cells) for cells in columns]
    titles = ["Model", *(f"{{{escape_tex(column.title)}}}" for column in _COLUMNS)]
    body = [[escape_tex(str(row["label"])), *(cells[place] for cells in columns)] for place, row in enumerate(rows)]
    if any(row["status"] != "ok" for row in rows):
        formats, titles = [*formats, "l"], [*titles, "Runs"]
        body = [[*cells, escape_tex(row["status"])] for cells, row in zip(body, rows, strict=True)]
    lines = [
        r"\begin{table}",
        r"  \centering\footnotesize\setlength{\tabcolsep}{2.5pt}",
        rf"  \caption{{{escape_tex(_caption(results, task))}}}",
        rf"  \label{{{label}}}",
        rf"  \begin{{tabular}}{{l {' '.join(formats)}}}",
        r"    \toprule",
        rf"    {' & '.join(titles)} \\",
        r"    \midrule",
        *(rf"    {' & '.join(cells)} \\" for cells in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(results: Results, task: TaskResults) -> str:
    """What a reader must know of the numbers, wherever the table ends up."""
    metrics = next((record.metrics for entry in task.ranked for record in entry.finished if record.metrics), None)
    seeds = sorted({len({run.seed for run in entry.runs}) for entry in task.entries})
    rule = "" if all(entry.status == "ok" for entry in task.entries) else f"{RANKING_RULE} "
    scored = "; nothing was scored"
    if task.folds:
        scored = f" and {counted(len(task.folds), 'fold')}"
    elif metrics:
        scored = (
            f"; {counted(metrics.num_scored_windows, 'scored window')}"
            f"{metrics.masked and f', {metrics.masked}'}, points digest {metrics.points_digest}"
        )
    costs = f"Costs: {listed(task.machines)}. " if task.machines else ""
    return (
        f"{task.task}: MSE and MAE on scaled values, mean over "
        f"{listed([str(n) for n in seeds])} {'seed' if seeds == [1] else 'seeds'}{scored}. s.d.: standard deviation "
        "over seeds. Skill: 1 - MSE / MSE of seasonal naive. w/s: windows per second. p50: median time to forecast one "
        f"window alone. Of errors the best is bold and the second underlined. {costs}{rule}tsbench, protocol "
        f"{results.plan.protocol}."
    )


def _cells(column: _Column, rows: Sequence[dict[Any, Any]], whole: Sequence[bool]) -> list[str]:
    """whole: whether a row may be the best; not where it has failed runs, and others have none."""
    values = [float(row[column.name]) * column.factor for row in rows]
    decimals = _decimals(column, rows, values)
    texts = ["{--}" if math.isnan(value) else _written(value, column, decimals) for value in values]
    if column.better:
        best, second = _first_two(compress(values, whole), column.better == "higher")
        widest = max(map(_before_the_point, texts), key=len)
        for place in compress(range(len(rows)), whole):
            # In braces, which any release of siunitx takes. It centres what is in them, so room is made in front.
            room = widest[: len(widest) - len(_before_the_point(texts[place]))]
            room = re.sub(r"\d", "0", room).replace("-", "$-$")
            room = rf"\phantom{{{room}}}" if room else ""
            if values[place] == best:
                texts[place] = rf"{{{room}\bfseries {texts[place]}}}"
            elif values[place] == second:
                texts[place] = rf"{{{room}\underline{{{texts[place]}}}}}"
    return texts


def _before_the_point(number: str) -> str:
    return number.partition(".")[0].strip("{}")


def _decimals(column: _Column, rows: Sequence[dict[Any, Any]], values: Sequence[float]) -> int:
    """As the page has them; a spread has those of its error."""
    if column.name == "mse_scaled_std":
        return decimals_for([row["mse_scaled"] for row in rows])
    return {"skill": 1, "num_parameters": 0}.get(column.name, decimals_for(values))


def _written(value: float, column: _Column, decimals: int) -> str:
    if not column.digits:
        return f"{value:.{decimals}f}"
    rounded = float(f"{value:.{column.digits}g}")
    return f"{rounded:.{max(0, column.digits - 1 - math.floor(math.log10(abs(rounded))))}f}" if rounded else "0"


def _first_two(values: Iterable[float], higher: bool) -> tuple[float, float]:
    """The best and the second value; NaN where there is none."""
    known = sorted({value for value in values if not math.isnan(value)}, reverse=higher)
    best, second, *_ = [*known, math.nan, math.nan]
    return best, second


def _format(cells: Sequence[str]) -> str:
    """`S[table-format=2.4]`: room for the longest number on both sides of the point."""
    numbers = [found[0] for cell in cells if (found := re.search(r"-?\d+(\.\d+)?", cell))]
    sign = "-" if any(number.startswith("-") for number in numbers) else ""
    whole = max((len(number.lstrip("-").split(".")[0]) for number in numbers), default=1)
    decimals = max((len(number.partition(".")[2]) for number in numbers), default=0)
    return f"S[table-format={sign}{whole}.{decimals}]" if decimals else f"S[table-format={sign}{whole}]"
