"""`python -m benchmarks [--quick] [SECTION...]`: measure, print, and keep a table and the samples under
`benchmarks/results/`.

--quick: smaller sizes in the section `scale`; its rows are printed only.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.rows import SECTIONS
from benchmarks.timing import Result
from tsbench.bench.machine import describe_machine
from tsbench.training.devices import keep_freed_memory

FOLDER = Path(__file__).parent / "results"


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)  # the unit of parallelism is the run
    keep_freed_memory()  # for both sides, as in the tool's own processes
    quick, sections = "--quick" in arguments, [name for name in arguments if name != "--quick"]
    results = []
    for name in sections or SECTIONS:
        for result in section(name, quick)():
            results.append(result)
            print(row(result), flush=True)  # noqa: T201
    if not quick:
        keep(results)


def section(name: str, quick: bool = False) -> Callable[[], Iterator[Result]]:
    if name == "scale":  # takes as long as all others
        from benchmarks.scale import scale

        return lambda: scale(quick)
    if name == "peers":  # needs what they need: `make bench-peers`
        from benchmarks.peers import peers

        return peers
    return SECTIONS[name]


def row(result: Result) -> str:
    low, high = min(result.ratios), max(result.ratios)
    goal = "" if result.goal is None else f"{result.goal:g}{'' if result.reached else ', missed'}"
    ours, other = (sorted(s)[len(s) // 2] for s in (result.our_seconds, result.other_seconds))
    return (
        f"| {result.section} | {result.name} | {result.other} | {result.ratio:.2f} ({low:.2f} to {high:.2f}) | {goal} "
        f"| {amount(ours, result.unit)} | {amount(other, result.unit)} | {result.unit} |"
    )


def amount(number: float, unit: str) -> str:
    return f"{number:,.0f}" if unit == "MiB" else duration(number)


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def keep(results: list[Result]) -> None:
    """One JSON and one table per machine; sections that were not measured this time stay."""
    machine = describe_machine(torch.device("cpu"))
    name = re.sub(r"\W+", "-", machine.device_name.lower()).strip("-")
    path = FOLDER / f"{name}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"results": []}
    measured = {result.section for result in results}
    old = [Result(**result) for result in kept["results"] if result["section"] not in measured]
    merged = old + results
    path.write_text(
        json.dumps(
            {
                "machine": machine.model_dump(),
                "measured": datetime.now(UTC).isoformat(timespec="seconds"),
                "results": [asdict(result) for result in merged],
            },
            indent=1,
        )
    )
    head = f"{machine.device_name}, {machine.num_cores} cores, {machine.memory_gib:.0f} GiB, one thread; " + ", ".join(
        f"{package} {version}" for package, version in machine.versions.items()
    )
    table = [
        head,
        "",
        "| section | ours | against | times as fast: median (range) | goal | ours | other | per |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(row, merged),
    ]
    path.with_suffix(".md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
