"""The command line: parse, call, print. Whatever is heavy is imported inside the commands."""

from __future__ import annotations

import math
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsbench.errors import ConfigError, MachineError, OfflineError, TsbenchError, unknown

if TYPE_CHECKING:
    from rich.table import Table

    from tsbench.api import Matrix
    from tsbench.bench.records import PlannedRun
    from tsbench.data.panel import Panel

app = typer.Typer(
    name="tsbench",
    help="Which sequence model should forecast my series, how sure is that, and what does it cost?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
datasets_app = typer.Typer(help="The datasets: list, show, check and fetch them.", rich_markup_mode="markdown")
app.add_typer(datasets_app, name="datasets")

Target = Annotated[
    str,
    typer.Argument(
        help="An experiment's name or TOML file, a dataset's or a group's name, a card, or a file or folder of your "
        "own. Of one name, the experiment comes first; `group:NAME` is the group."
    ),
]
Horizon = Annotated[list[str], typer.Option("--horizon", help="Rows ahead; may be repeated.", metavar="H")]
ContextLength = Annotated[
    list[str], typer.Option("--context-length", help="Rows a model sees; may be repeated.", metavar="L")
]
Models = Annotated[
    str, typer.Option(help="Models to compare, such as `gru,tcn`. Naive, seasonal naive and linear are added.")
]
Seeds = Annotated[str, typer.Option(help="Seeds, such as `0,1,2`.")]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another recipe value (`max_steps=500`) or model keyword (`gru.hidden_size=64,128`: an axis).",
    ),
]
Only = Annotated[
    list[str],
    typer.Option(
        "--only",
        metavar="KEY=VALUE",
        help="Execute these planned runs only, such as `model=gru`, `seed=0` or `status=failed` (with --force).",
    ),
]
Device = Annotated[str, typer.Option(help="auto (the GPU where there is one), cpu or cuda.")]
Precision = Annotated[str, typer.Option(help="32, tf32 (GPU), bf16, 16 (GPU) or 64.")]
DataDirs = Annotated[
    list[Path], typer.Option("--data-dir", help="A folder to look for data files in; may be repeated.", metavar="DIR")
]
Folder = Annotated[Path, typer.Argument(help="A folder that `tsbench run` wrote.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of words.")]
Output = Annotated[
    Path | None, typer.Option(help="Folder for records and report.  [default: reports/EXPERIMENT]", metavar="DIR")
]


@app.command()
def run(
    target: Target = "default",
    horizon: Horizon = [],  # noqa: B006
    context_length: ContextLength = [],  # noqa: B006
    models: Models = "",
    seeds: Seeds = "",
    settings: Set = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    device: Device = "auto",
    precision: Precision = "",
    workers: Annotated[
        str,
        typer.Option(
            help="Processes of one thread each that share the runs: a number, or auto (one per core, or per GPU; 1 "
            "for a small matrix). With 1, all runs are done in this process, on all cores.",
            metavar="N",
        ),
    ] = "auto",
    measure: Annotated[
        str,
        typer.Option(
            help="Of several workers, and of seeds trained together: read speed and latency again at the end, one "
            "model at a time on a quiet machine (alone), or leave them as read beside others (shared).",
        ),
    ] = "alone",
    pack: Annotated[
        str,
        typer.Option(
            help="Train the seeds of a run in one step: where a short measurement says that it pays (auto), never, or "
            "wherever it is possible (always).",
        ),
    ] = "auto",
    data_dir: DataDirs = [],  # noqa: B006
    output: Output = None,
    force: Annotated[bool, typer.Option("--force", help="Also run what has a record already.")] = False,
    keep_forecasters: Annotated[
        bool, typer.Option("--keep-forecasters", help="Keep what is trained in DIR/forecasters, for `tsbench explain`.")
    ] = False,
    logger: Annotated[
        list[str],
        typer.Option(
            help="Follow every training in DIR/logs: csv, or an extra: tensorboard, mlflow, wandb; may be repeated.",
            metavar="NAME",
        ),
    ] = [],  # noqa: B006
    log_format: Annotated[
        str,
        typer.Option(help="A line per event instead of bars and tables: plain, or json.", metavar="FORMAT"),
    ] = "",
) -> None:
    """Run an experiment's missing runs and write the report.

    A run that was finished is never repeated: after an interruption, the same command does the rest.

    Examples:

    - `tsbench run`: the default experiment on the embedded data

    - `tsbench run sales.csv --horizon 24`: all models on a file of yours

    - `tsbench run ett --data-dir ~/data --models gru,dlinear --seeds 0,1,2,3,4`

    - `tsbench run --set max_steps=100 --set gru.hidden_size=64,128 --output /tmp/try`

    - `tsbench run --log-format json --logger csv`: on a cluster
    """
    from tsbench.display import open_output

    out = open_output(log_format)
    matrix = _matrix(target, horizon, context_length, models, seeds, settings, precision, data_dir, output)
    from tsbench.api import carry_out
    from tsbench.bench.estimate import Estimate
    from tsbench.bench.workers import number_of_workers
    from tsbench.report.tables import read_results

    for note in _notes(matrix):
        out.note(note)
    chosen = _parse_settings(only, "--only")
    runs = matrix.missing(chosen, force=force)
    for path in matrix.set_aside_unreadable(runs):
        out.note(f"a record that cannot be read is kept as {path}, its run is done again")
    num_workers = number_of_workers(int(workers) if workers.isdecimal() else workers, matrix.plan, device)
    estimate = Estimate.from_folder(matrix.folder)
    out.plan(matrix.folder, len(matrix.plan.runs), runs, estimate, num_workers)
    try:
        with out.watch(runs, estimate, num_workers) as display:
            report = carry_out(
                matrix,
                runs,
                device=device,
                workers=num_workers,
                measure=measure,
                pack=pack,
                observer=display,
                estimate=estimate,
                keep_forecasters=keep_forecasters,
                loggers=[name for names in logger for name in names.split(",") if name],
            )
    except KeyboardInterrupt:
        if log_format and (matrix.folder / "plan.json").is_file():
            out.leaderboard(read_results(matrix.folder))
        out.stopped(len(matrix.plan.runs) - len(matrix.missing()), len(matrix.plan.runs))
        raise typer.Exit(130) from None
    out.leaderboard(read_results(matrix.folder))
    out.report(report)


@app.command()
def explain(
    target: Target = "default",
    horizon: Horizon = [],  # noqa: B006
    context_length: ContextLength = [],  # noqa: B006
    models: Models = "",
    seeds: Seeds = "",
    settings: Set = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    device: Device = "auto",
    precision: Precision = "",
    data_dir: DataDirs = [],  # noqa: B006
    output: Output = None,
    force: Annotated[bool, typer.Option("--force", help="Also explain what was explained before.")] = False,
    num_windows: Annotated[
        int, typer.Option("--windows", min=1, help="Test windows to explain, evenly spaced.", metavar="W")
    ] = 16,
) -> None:
    """Show which part of the context the forecasts rest on, and add it to the report.

    Integrated gradients and occlusion for every model, Grad-CAM for convolutions, attention maps for Transformers: of
    each configuration the first seed. What `tsbench run --keep-forecasters` kept is loaded, the rest is trained again
    and kept. Needs the extra: `pip install 'tsbench[explain]'`.

    Examples:

    - `tsbench explain`: the default experiment

    - `tsbench explain sales.csv --horizon 24 --models gru,tcn --windows 32`
    """
    matrix = _matrix(target, horizon, context_length, models, seeds, settings, precision, data_dir, output)
    from rich.console import Console

    from tsbench.api import carry_out_explanations
    from tsbench.report.tables import read_results
    from tsbench.report.terminal import peak_tables

    console = Console(soft_wrap=True)

    def tell(planned: PlannedRun, what: str) -> None:
        dataset, rows_seen, rows_ahead = planned.run.task
        console.print(f"{planned.label} on {dataset} {rows_seen}→{rows_ahead}: {what}", highlight=False, markup=False)

    runs = matrix.missing(_parse_settings(only, "--only"), force=True)
    try:
        report = carry_out_explanations(matrix, runs, device=device, num_windows=num_windows, force=force, tell=tell)
    except KeyboardInterrupt:
        console.print("\nstopped; the same command does the rest")
        raise typer.Exit(130) from None
    for table in peak_tables(read_results(matrix.folder)):
        console.print(table)
    console.print(f"report: {report}", highlight=False, markup=False)


@app.command()
def plan(
    target: Target = "default",
    horizon: Horizon = [],  # noqa: B006
    context_length: ContextLength = [],  # noqa: B006
    models: Models = "",
    seeds: Seeds = "",
    settings: Set = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    precision: Precision = "",
    data_dir: DataDirs = [],  # noqa: B006
    output: Output = None,
) -> None:
    """Show what `tsbench run` would do: every configuration, what is done, and how long the rest will take.

    The time comes from records of the same questions; where there is none, a few training steps are timed, unless
    there are too many configurations for that.

    Examples:

    - `tsbench plan`

    - `tsbench plan ett --data-dir ~/data --horizon 96 --horizon 192`
    """
    matrix = _matrix(target, horizon, context_length, models, seeds, settings, precision, data_dir, output)
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tsbench.bench.estimate import Estimate, probe
    from tsbench.bench.workers import number_of_workers
    from tsbench.display import in_words

    console = Console(soft_wrap=True)
    for note in _notes(matrix):
        console.print(note, style="dim", highlight=False, markup=False)
    missing = matrix.missing(_parse_settings(only, "--only"))
    estimate = Estimate.from_folder(matrix.folder)
    num_workers = number_of_workers("auto", matrix.plan, "auto")
    timed = probe(estimate, missing, matrix.panels, one_thread=num_workers > 1)
    table = Table(title=escape(matrix.plan.title), title_justify="left", box=SIMPLE_HEAD)
    for header in ("configuration", "dataset", "context → horizon", "runs", "to do", "each"):
        table.add_column(header, no_wrap=header in ("runs", "to do", "each"))
    todo = _grouped(missing)
    for group, runs in _grouped(matrix.plan.runs).items():
        label, dataset, rows_seen, rows_ahead = group
        seconds = estimate.seconds(runs[0].run)
        shown = in_words(seconds) if seconds is not None else "?"
        counts = str(len(runs)), str(len(todo.get(group, ())))
        table.add_row(escape(label), escape(dataset), f"{rows_seen} → {rows_ahead}", *counts, shown)
    console.print(table)
    total = estimate.total(missing, num_workers)
    together = f" with {num_workers} workers" if min(num_workers, len(missing)) > 1 else ""
    if total is None:
        about = "how long is not known before the first of them"
    elif timed:
        about = f"about {in_words(total)}{together} ({timed} configurations timed by a few steps)"
    else:
        about = f"about {in_words(total)}{together} (from records)"
    console.print(f"{len(matrix.plan.runs)} runs planned, {len(missing)} to do, {about}")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `tsbench run` wrote.", metavar="DIR...")],
    output: Annotated[
        Path | None, typer.Option(help="Where the report of several folders goes, with their records.", metavar="DIR")
    ] = None,
) -> None:
    """Write the report of a folder anew from its records, or one report of several folders.

    Several folders are put together in another one. A run that is in two of them counts once; where its records differ,
    the report says so.

    Examples:

    - `tsbench report reports/default`

    - `tsbench report reports/before reports/after --output reports/both`
    """
    from tsbench.report.build import build

    if len(folders) == 1 and output is None:
        typer.echo(f"report: {build(folders[0])}")
        return
    if output is None:
        raise ConfigError("tsbench report: where should one report of several folders go? add --output DIR")
    from tsbench.bench.merging import merge

    for note in merge(folders, output, shlex.join(["tsbench", *sys.argv[1:]])).notes:
        typer.echo(note)
    typer.echo(f"report: {build(output)}")


@app.command()
def recommend(
    folder: Folder,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Of one window alone, 95th percentile.", metavar="MS")
    ] = None,
    max_memory_mib: Annotated[float | None, typer.Option(help="Peak memory.", metavar="MIB")] = None,
    max_parameters: Annotated[int | None, typer.Option(help="Trained parameters.", metavar="N")] = None,
    max_train_seconds: Annotated[
        float | None, typer.Option(help="Training and validation together.", metavar="S")
    ] = None,
    max_joules: Annotated[
        float | None, typer.Option(help="To forecast 1,000 windows; known of a GPU alone.", metavar="J")
    ] = None,
    min_predict_windows_per_second: Annotated[
        float | None, typer.Option(help="Windows forecast per second, in batches.", metavar="RATE")
    ] = None,
    within: Annotated[
        str,
        typer.Option(help="Also the cheapest model whose error is that close to the best, such as `2%`.", metavar="X%"),
    ] = "",
    cheapest: Annotated[
        str,
        typer.Option(help="Cheapest by: latency, memory, parameters, training, energy or throughput.", metavar="COST"),
    ] = "latency",
    dataset: Annotated[list[str], typer.Option(help="This dataset only; may be repeated.", metavar="NAME")] = [],  # noqa: B006
    horizon: Horizon = [],  # noqa: B006
    context_length: ContextLength = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Say which model to take under limits, how sure that is, and what it gains and costs.

    For every task of a folder of results, and over all of them. What cannot be told from the best is named, and what
    comes nearest where nothing fits.

    Examples:

    - `tsbench recommend reports/default --max-latency-ms 5 --max-memory-mib 500 --within 2%`

    - `tsbench recommend reports/default --max-parameters 0`: without training
    """
    from dataclasses import asdict

    from tsbench.report.recommendation import recommend as find

    found = find(
        folder,
        max_latency_ms=max_latency_ms,
        max_memory_mib=max_memory_mib,
        max_parameters=max_parameters,
        max_train_seconds=max_train_seconds,
        max_joules=max_joules,
        min_predict_windows_per_second=min_predict_windows_per_second,
        within=_fraction(within, "--within") if within else None,
        cheapest=cheapest,
        datasets=dataset,
        horizons=_integers(",".join(horizon), "--horizon", 1),
        context_lengths=_integers(",".join(context_length), "--context-length", 1),
    )
    if json:
        _print_json([asdict(recommendation) for recommendation in found])
        return
    for recommendation in found:
        typer.echo(f"{recommendation.title}\n  {recommendation.headline}")
        for sentence in recommendation.sentences:
            typer.echo(f"  {sentence}")


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A folder of results: what was.", metavar="DIR_A")],
    after: Annotated[Path, typer.Argument(help="Another: what is now.", metavar="DIR_B")],
    any_machine: Annotated[
        bool, typer.Option("--any-machine", help="Compare costs also where the machines differ.")
    ] = False,
    fail_on: Annotated[
        str,
        typer.Option(help="Exit with 1 where something is worse (or fails), slower, or any of both.", metavar="WHAT"),
    ] = "",
    json: Json = False,
) -> None:
    """Say what got better, worse or slower from one folder of results to another.

    The same task and label, or else the same model and arguments, are compared on the same points, by the report's own
    tests; what differs between the folders (machine, versions, data, settings) is said first. A speed is slower where
    its whole interval lies more than 5 % below.

    Examples:

    - `tsbench compare reports/before reports/after`

    - `tsbench compare reports/before reports/after --fail-on worse`: for a continuous build
    """
    from dataclasses import asdict

    from rich.console import Console

    from tsbench.report.changes import compare as find
    from tsbench.report.terminal import changes_table

    if fail_on and fail_on not in ("worse", "slower", "any"):
        raise unknown("word", fail_on, ("worse", "slower", "any"), where="--fail-on")
    changes = find(before, after, any_machine=any_machine)
    if json:
        _print_json(asdict(changes))
    else:
        console = Console(soft_wrap=True)
        for sentence in changes.differences:
            console.print(sentence, highlight=False, markup=False)
        console.print(changes_table(changes))
        for name, labels in (("before", changes.only_before), ("after", changes.only_after)):
            if labels:
                console.print(f"only {name}: {', '.join(labels)}", highlight=False, markup=False)
        console.print(changes.summary, highlight=False, markup=False)
    if fail_on and not changes.knows(fail_on):
        raise ConfigError(f"--fail-on {fail_on}: nothing was compared that could tell, see the reasons above")
    if fail_on and changes.found(fail_on):
        raise typer.Exit(1)


@app.command()
def export(
    folder: Folder,
    format: Annotated[str, typer.Option(help="Whose columns: fev or gift-eval.", metavar="NAME")],
    output: Annotated[
        Path | None, typer.Option(help="The CSV file to write.  [default: NAME.csv in DIR]", metavar="FILE")
    ] = None,
) -> None:
    """Write the results as another benchmark's CSV: fev's evaluation summaries, or GIFT-Eval's leaderboard rows.

    What is not measured here stays empty, and notes say so.

    Example: `tsbench export reports/default --format fev`
    """
    from tsbench.bench.records import write_durably
    from tsbench.report.interchange import export as frame_of

    frame = frame_of(folder, format)
    path = output or folder / f"{format}.csv"
    text = frame.to_csv(index=False)
    write_durably(path, lambda file: file.write(text.encode()))
    for note in frame.attrs["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"{format}: {path}")


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A CSV file of scores, or of forecasts.", metavar="FILE")],
    into: Annotated[Path, typer.Option(help="The folder of results that it belongs to.", metavar="DIR")],
    name: Annotated[str, typer.Option("--as", help="What the model is called in the tables.", metavar="NAME")],
    dataset: Annotated[
        str, typer.Option(help="Which dataset of the folder the forecasts are of, where there are several.")
    ] = "",
    data: Annotated[
        str, typer.Option(help="The file or card to read it from, where its name is no card's.", metavar="FILE")
    ] = "",
    data_dir: DataDirs = [],  # noqa: B006
) -> None:
    """Bring in a model that was run elsewhere, and write the report with it.

    Scores: columns `dataset, horizon, mse_scaled, points_digest`, maybe `context_length, seed` and other metrics.
    Forecasts: `origin` (the timestamp of step 1) or `timestamp`, `step`, `forecast`, and `item`, `channel`, `seed`
    where there are several; they are scored here. Only the same points are accepted.

    Example: `tsbench import chronos.csv --into reports/default --as chronos`
    """
    from tsbench.bench.imports import import_results
    from tsbench.report.build import build

    for record in import_results(file, into, name, dataset=dataset, data=data, data_dirs=data_dir):
        assert record.metrics
        rows_seen, rows_ahead = record.run.context_length, record.run.horizon
        where = f"{name} on {record.run.dataset} {rows_seen}→{rows_ahead}, seed {record.run.seed}"
        typer.echo(f"{where}: imported, test MSE {record.metrics.mse_scaled:.4f} (scaled)")
    typer.echo(f"report: {build(into)}")


@app.command()
def models(
    name: Annotated[str, typer.Argument(help="A model's name: show its keywords.", show_default=False)] = "",
) -> None:
    """List the models, or the keywords of one with their defaults.

    Examples: `tsbench models`, `tsbench models gru`
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tsbench.bench.records import written
    from tsbench.models.registry import model_spec, model_specs

    console = Console()
    if not name:
        table = Table("model", "what it is", "keywords")
        for spec in model_specs().values():
            table.add_row(
                spec.name, spec.summary, ", ".join(f"{k}={written(a.default)}" for k, a in spec.arguments.items())
            )
        console.print(table)
        return
    spec = model_spec(name, "tsbench models")
    console.print(f"{spec.name}: {spec.summary}", highlight=False)
    if not spec.arguments:
        console.print("It has no keywords.")
        return
    table = Table("keyword", "type", "default", "meaning")
    for keyword, argument in spec.arguments.items():
        values = argument.default if isinstance(argument.default, list) else [argument.default]
        default = "\n".join(written(value, full=True) for value in values)
        table.add_row(keyword, escape(argument.allowed), default, argument.meaning)
    console.print(table)
    if "layers" in spec.arguments:
        console.print(_layer_table())


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    context_length: Annotated[int, typer.Option(min=1, help="Rows the model sees.", metavar="L")] = 96,
    horizon: Annotated[int, typer.Option(min=1, help="Rows ahead.", metavar="H")] = 24,
    channels: Annotated[int, typer.Option(min=1, help="Channels of the series.", metavar="C")] = 1,
    seasonality: Annotated[int, typer.Option(min=1, help="Rows in a season.", metavar="ROWS")] = 24,
    past: Annotated[str, typer.Option(help="Covariates known up to the horizon, such as `wind,load`.")] = "",
    known: Annotated[str, typer.Option(help="Covariates known ahead, such as `price`.")] = "",
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="A keyword of the model, or a key of the recipe.")
    ] = [],  # noqa: B006
) -> None:
    """Look inside a model before it is trained: layers, shapes, weights, operations, receptive field.

    Examples:

    - `tsbench inspect gru`

    - `tsbench inspect tcn --context-length 336 --set segment_length=1 --set num_levels=3`

    - `tsbench inspect mlp --known price`
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from tsbench.data.covariates import Roles
    from tsbench.evaluation.inspection import inspect_model
    from tsbench.training.forecaster import Forecaster
    from tsbench.training.recipe import Recipe

    chosen = _parse_settings(settings, "--set")
    recipe = {key: chosen.pop(key) for key in list(chosen) if key in Recipe.model_fields}
    forecaster = Forecaster(
        model,
        context_length=context_length,
        horizon=horizon,
        channels=channels,
        seasonality=seasonality,
        covariates=Roles(past=_names(past), known=_names(known)),
        recipe=recipe,
        **chosen,
    ).build(seed=0)
    facts = inspect_model(forecaster, channels)
    console = Console()
    layers = Table("layer", "kind", "in", "out", "weights", "buffers", "dtype", box=SIMPLE_HEAD)
    for layer in facts.layers:
        shapes = ["x".join(map(str, shape)) if shape else "" for shape in (layer.shape_in, layer.shape_out)]
        counts = [f"{count:,}" if count else "" for count in (layer.num_parameters, layer.num_buffers)]
        if layer.num_trainable < layer.num_parameters:
            counts[0] += " (frozen)" if layer.num_trainable == 0 else f" ({layer.num_trainable:,} trainable)"
        *parents, name = layer.name.split(".")
        layers.add_row("  " * len(parents) + name, layer.kind, *shapes, *counts, layer.dtype)
    console.print(layers)
    weights = Table("weight", "shape", "mean", "std", "largest", title="Weights at the start, seed 0", box=SIMPLE_HEAD)
    for weight in facts.weights:
        shape = "x".join(map(str, weight.shape))
        weights.add_row(weight.name, shape, *(f"{value:.4f}" for value in (weight.mean, weight.std, weight.largest)))
    if facts.weights:
        console.print(weights)
    console.print(
        f"{facts.num_parameters:,} parameters; {facts.flops_per_window:,} operations for a window", highlight=False
    )
    console.print(
        f"receptive field: {facts.receptive_field} of {context_length} rows reach the forecast", highlight=False
    )
    if 0 < facts.receptive_field < context_length:
        console.print("[yellow]warning: the oldest rows of the context cannot change the forecast[/yellow]")


@datasets_app.command("list")
def list_datasets(
    names: Annotated[
        list[str], typer.Argument(help="Datasets or groups to list; all when left out.", metavar="[NAME...]")
    ] = [],  # noqa: B006
    data_dir: DataDirs = [],  # noqa: B006
) -> None:
    """List the datasets that have a card, and whether their files are here.

    Examples: `tsbench datasets list`, `tsbench datasets list monash --data-dir ~/data`
    """
    from rich.console import Console

    from tsbench.data.cards import list_cards, load_card
    from tsbench.data.catalogue import groups, listing, members
    from tsbench.data.files import found

    cards = [load_card(name) for name in members(names or list_cards())]
    console = Console()
    for line in listing(cards, found(cards, data_dir), console.width if console.is_terminal else None):
        typer.echo(line)
    if not names:
        typer.echo("groups, which may stand wherever a dataset is named:")
        for group, datasets in groups().items():
            typer.echo(f"  {group}: {len(datasets)} datasets")


@datasets_app.command("show")
def show_dataset(name: Annotated[str, typer.Argument(help="A dataset's name, or a group's.")]) -> None:
    """Show a dataset's card: source, licence, split, known defects.

    Example: `tsbench datasets show etth1`
    """
    from tsbench.data.cards import load_card
    from tsbench.data.catalogue import members
    from tsbench.data.files import is_unverified

    for number, card in enumerate(map(load_card, members([name]))):
        typer.echo("\n" if number else "", nl=False)
        for key, value in card.model_dump(exclude_none=True).items():
            if value not in ("", (), {}):
                lines = [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
                typer.echo(f"{key + ':':22}{lines[0]}")
                for line in lines[1:]:
                    typer.echo(" " * 22 + line)
        if any(map(is_unverified, card.each_file())):
            typer.echo(f"{'not verified:':22}no checksum of the file is known")


@datasets_app.command("check")
def check_dataset(
    name: Annotated[
        str,
        typer.Argument(help="A dataset's or a group's name, a card, a data file or a folder.", metavar="NAME|FILE"),
    ],
    data_dir: DataDirs = [],  # noqa: B006
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="How to read the file: a field of a card, such as `missing=interpolate`."
        ),
    ] = [],  # noqa: B006
    write_card: Annotated[
        Path | None,
        typer.Option(
            "--write-card", help="Write what was understood as a card (TOML) beside the file.", metavar="PATH"
        ),
    ] = None,
) -> None:
    """Read a dataset or a file, and say what was understood or what is wrong.

    Examples:

    - `tsbench datasets check sales.csv`

    - `tsbench datasets check sales.csv --set missing=interpolate --write-card sales.toml`: fill holes
    """
    from tsbench.data import check
    from tsbench.data.catalogue import members
    from tsbench.data.datasets import known_dataset, load_dataset, looks_like_file
    from tsbench.data.readers import read_panel
    from tsbench.data.reading import Reading

    names = [known_dataset(member) for member in members([name])]
    is_data = looks_like_file(name) and not name.endswith(".toml")
    if (settings or write_card) and not is_data:
        raise ConfigError(f"{name}: --set and --write-card are for data files; a card says already how to read its own")
    told = _parse_settings(settings, "--set")
    Reading.of("--set", **told)
    for number, member in enumerate(names):
        panel = read_panel(member, **told) if is_data else load_dataset(member, data_dirs=data_dir)
        typer.echo("\n" if number else "", nl=False)
        for line in check.describe(panel):
            typer.echo(line)
        _print_scale(panel)
    if write_card is not None:
        check.write_card(write_card, panel, Path(name), told)
        typer.echo(f"card: {write_card}; `tsbench run {write_card} --horizon {max(panel.seasonality, 2)}` runs on it")


@datasets_app.command("fetch")
def fetch_dataset(
    names: Annotated[list[str], typer.Argument(help="Datasets or groups to download to the cache.", metavar="NAME...")],
    data_dir: DataDirs = [],  # noqa: B006
) -> None:
    """Download datasets that are not here, and verify their checksums.

    What was cut is gone on with. What one dataset lacks does not stop the others; without a network, the first ends it.

    Examples: `tsbench datasets fetch etth1 weather`, `tsbench datasets fetch monash`
    """
    from tsbench.data.cards import load_card
    from tsbench.data.catalogue import members
    from tsbench.data.download import fetch
    from tsbench.data.files import is_unverified, read_verified

    problems = []
    for card in map(load_card, members(names)):
        if card.synthetic is not None:
            typer.echo(f"{card.name}: made from a seed, nothing to fetch")
            continue
        try:
            for part in card.each_file():
                path = fetch(part, data_dir)
                read_verified(path, part)
                unverified = " (not verified: no checksum of it is known)" if is_unverified(part) else ""
                typer.echo(f"{card.name}: {path}{unverified}")
        except OfflineError:
            raise
        except TsbenchError as error:
            problems.append(error)
    if problems:
        raise MachineError("\n".join(map(str, problems)))


def main() -> None:
    """The entry point: a user's mistake ends in one message and exit code 2, a bug in a traceback."""
    # How long torch's threads (GNU OpenMP) wait for each other by spinning. A GRU step of 12 ms, two threads on two
    # cores, took 147 ms beside four other busy processes, with this limit 55 ms; on a quiet machine the limit costs
    # nothing (12.3 against 12.6 ms). Read when torch is first imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except TsbenchError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:  # `tsbench ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _matrix(
    target: str,
    horizon: list[str],
    context_length: list[str],
    models: str,
    seeds: str,
    settings: list[str],
    precision: str,
    data_dir: list[Path],
    output: Path | None,
) -> Matrix:
    from tsbench.api import plan_experiment

    chosen = _parse_settings(settings, "--set")
    if precision:
        chosen["precision"] = precision
    return plan_experiment(
        target,
        horizons=_integers(",".join(horizon), "--horizon", 1),
        context_lengths=_integers(",".join(context_length), "--context-length", 1),
        models=_names(models),
        seeds=_integers(seeds, "--seeds", 0),
        settings=chosen,
        data_dirs=data_dir,
        output=output,
        command=shlex.join(["tsbench", *sys.argv[1:]]),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _parse_settings(texts: list[str], option: str) -> dict[str, Any]:
    from tsbench.bench.experiment import parse_setting

    return dict(parse_setting(text, option) for text in texts)


_LARGEST = 2**32 - 1
"""The largest seed that torch and numpy both take."""


def _integers(text: str, option: str, smallest: int) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not part.isdecimal() or len(part) > 10 or not smallest <= int(part) <= _LARGEST:
            raise ConfigError(
                f"{option} {part}: write whole numbers from {smallest} to {_LARGEST}, such as {option} {smallest + 23}"
            )
    return [int(part) for part in parts]


def _fraction(text: str, option: str) -> float:
    """A part of something, written as 2% or as 0.02."""
    number = text.strip().removesuffix("%").strip()
    try:
        value = float(number) / (100 if "%" in text else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < (math.inf if "%" in text else 1):
        raise ConfigError(f"{option} {text}: write a part, such as {option} 2% or {option} 0.02")
    return value


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def _layer_table() -> Table:
    """What may stand in a list of layers."""
    from rich.table import Table

    from tsbench.models.layer_kinds import KINDS
    from tsbench.models.registry import layer_arguments

    table = Table("layer", "keyword", "type", "default", "meaning")
    for kind, layer in KINDS.items():
        table.add_section()
        table.add_row(kind, "", "", "", str(layer.__doc__).splitlines()[0])
        for keyword, argument in layer_arguments(kind).items():
            default = "" if argument.default is None else str(argument.default)
            table.add_row("", keyword, argument.allowed, default, argument.meaning)
    return table


def _notes(matrix: Matrix) -> list[str]:
    inferred = [f"{panel.name}: {note}" for panel in matrix.panels.values() for note in panel.inferred]
    return [*matrix.notes, *inferred, *matrix.plan.notes]


def _grouped(runs: list[PlannedRun]) -> dict[tuple[str, str, int, int], list[PlannedRun]]:
    groups: dict[tuple[str, str, int, int], list[PlannedRun]] = {}
    for planned in runs:
        groups.setdefault((planned.label, *planned.run.task), []).append(planned)
    return groups


def _print_scale(panel: Panel) -> None:
    import numpy as np

    from tsbench.evaluation.metrics import seasonal_differences

    scale_IC, _ = seasonal_differences(panel, panel.train.bounds, np.arange(len(panel.items)))
    for channel, still_I in zip(panel.channels, (scale_IC == 0).T, strict=True):
        if still_I.any():
            items = f" in {int(still_I.sum()):,} of {len(panel.items):,} items" if panel.has_items else ""
            typer.echo(
                f"note: {channel} repeats itself exactly from season to season in the training rows{items}: no MASE"
            )
