"""The command line: a thin layer that parses options, calls the library, prints, and exits.

Nothing heavy is imported at the top: ``loopwise predict`` starts in a tenth of a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Optional

import typer

from loopwise.errors import LoopwiseError, UsageError
from loopwise.service.cli_labels import label, labels_app
from loopwise.service.cli_mcp import mcp
from loopwise.service.cli_models import models_app, monitor, train
from loopwise.service.cli_options import FromOption, HomeOption

if TYPE_CHECKING:
    from loopwise.service.classify import Summary
    from loopwise.service.predictor import AxisPrediction, Prediction, Predictor
    from loopwise.service.results import OnResults

app = typer.Typer(
    name="loopwise",
    help="Which loop does a task live in, code or knowledge, and should a person stay at the wheel?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RoutesOption = Annotated[
    Optional[Path],  # noqa: UP045 - Typer reads it
    typer.Option("--routes", help="Your own table of routes, a TOML file."),
]
ModelOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--model", help="A model folder, instead of the active model."),
]
PriorOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--prior", help="Share of a class in your backlog, such as mode=autonomous:0.7; or auto."),
]
TargetOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--target-accuracy", help="How often an answer without review should be right."),
]


def main() -> NoReturn:
    """Run the command line; leave with 0, 2 for usage, 1 for failure, 130 when interrupted."""
    # Arrow's usual pool keeps what was freed: 70 MB more at the peak of classify, and no faster.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        app()
    except LoopwiseError as error:
        print(f"loopwise: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        _leave_quietly()
    except SystemExit as leaving:
        # Click makes a 1 of a reader that went away.
        if isinstance(leaving.__context__, BrokenPipeError):
            _leave_quietly()
        raise
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _leave_quietly() -> NoReturn:
    """The reader went away; so do we, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"loopwise {version('loopwise')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def predict(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT…", help="Tasks; - reads one a line.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each word adds.")] = False,
    routes: RoutesOption = None,
    model: ModelOption = None,
    prior: PriorOption = None,
    target_accuracy: TargetOption = None,
    home: HomeOption = None,
) -> None:
    """Classify one or more texts, given as arguments or, with -, on standard input."""
    predictor = _predictor(model, home, routes, prior, target_accuracy)
    for number, text in enumerate(_texts(texts)):
        prediction = predictor.predict(text)
        if json:
            from json import dumps

            print(dumps(prediction.to_dict(), ensure_ascii=True))
            continue
        if number:
            print()
        print(_readable(prediction))
        if explain:
            from loopwise.service.explain import print_explanation

            print_explanation(prediction)


def _texts(arguments: list[str]) -> Iterator[str]:
    for argument in arguments:
        if argument == "-":
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        else:
            yield argument


def _readable(prediction: Prediction) -> str:
    lines = [
        f"{prediction.loop.label}, {prediction.mode.label} → {prediction.route.name}",
        f"  {prediction.route.why}",
        _axis_line("loop", prediction.loop),
        _axis_line("mode", prediction.mode),
    ]
    if prediction.review:
        lines.append(f"  review: {prediction.review}")
    return "\n".join(lines)


def _axis_line(axis: str, answer: AxisPrediction) -> str:
    pro = ", ".join(f"{n} {c:+.2f}" for n, c in answer.top_features if c > 0) or "nothing"
    con = ", ".join(f"{n} {c:+.2f}" for n, c in answer.top_features if c < 0) or "nothing"
    return f"  {axis}: {answer.label:<11} {answer.confidence:.2f}  for: {pro}  against: {con}"


@app.command()
def classify(
    backlog: Annotated[str, typer.Argument(help="A backlog in any format; - for standard input.")],
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "-o", "--output", help="Where to write; standard output unless given. .gz and .zst are packed."
        ),
    ] = None,
    format: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--format",
            help="csv, tsv, json, jsonl, parquet, xlsx or markdown; by the output's ending unless given.",
        ),
    ] = None,
    text: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--text", help="A column that holds the task; repeatable. Found by name unless given."),
    ] = None,
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--only",
            help="Write only these rows: review, code, knowledge, interactive, autonomous; repeatable. "
            "Two answers to one question mean either, to two questions both.",
        ),
    ] = None,
    split: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--split", help="A folder: write a file for each route into it."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first ten rows and write nothing.")
    ] = False,
    source: FromOption = None,
    sheet: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--sheet", help="The sheet of a workbook; the first unless given."),
    ] = None,
    delimiter: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "-d", "--delimiter", help="What separates cells; recognised unless given ('tab' for tabs)."
        ),
    ] = None,
    encoding: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--encoding", help="Recognised unless given: UTF-8, UTF-16, Windows-1252."),
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The first line is a row; columns are column1 …")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace result columns that are there already.")
    ] = False,
    prefix: Annotated[
        str, typer.Option("--prefix", help="Put this before the names of the result columns.")
    ] = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse rows with more or fewer cells than the header.")
    ] = False,
    for_review: Annotated[
        bool,
        typer.Option("--for-review", help="Also add loop_correct and mode_correct, to be filled by hand."),
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="Threads; 0 for all cores.")] = 0,
    scheduler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--scheduler", help="Run on a Dask cluster: its address, such as tcp://host:8786, or local."
        ),
    ] = None,
    routes: RoutesOption = None,
    model: ModelOption = None,
    prior: PriorOption = None,
    target_accuracy: TargetOption = None,
    home: HomeOption = None,
) -> None:
    """Classify a backlog: every row comes back as it was, with seven columns added.

    Exit codes: 0 done, 1 failed, 2 wrong usage or input (nothing is written), 141 the reader went away.
    """
    from loopwise.service.backlogs import Reading, Writing, route_backlog
    from loopwise.service.classify import Options
    from loopwise.service.progress import row_progress

    predictor = _predictor(model, home, routes, prior, target_accuracy)
    n_threads = jobs or len(os.sched_getaffinity(0))
    separator = "\t" if delimiter in ("tab", "\\t") else delimiter
    options = Options(tuple(text or ()), prefix, replace, strict, n_threads, for_review)
    # Whoever wants to see the results is attached here.
    on_results: OnResults | None = None
    size = Path(backlog).stat().st_size if Path(backlog).is_file() else None
    if scheduler is not None:
        from loopwise.service.distributed import classify_backlog

        others = {"--format": format, "--only": only, "--split": split, "--from": source, "--sheet": sheet}
        for name, value in (others | {"--dry-run": dry_run}).items():
            if value:
                raise UsageError(f"{name} does not go with --scheduler; leave one of them out")
        with row_progress(size) as on_block:
            total = classify_backlog(
                backlog, output, predictor, options, scheduler,
                delimiter=separator, encoding=encoding, has_header=not no_header, on_block=on_block,
            )  # fmt: skip
        _print_summary(total, "standard input" if backlog == "-" else backlog, dry_run)
        return
    with row_progress(size) as on_block:
        total = route_backlog(
            backlog,
            predictor,
            reading=Reading(source, separator, encoding, not no_header, sheet),
            writing=Writing(output, format, tuple(only or ()), split, dry_run),
            options=options,
            say=_say,
            on_block=on_block,
            on_results=on_results,
        )
    _print_summary(total, "standard input" if backlog == "-" else backlog, dry_run)


def _say(line: str) -> None:
    print(f"loopwise: {line}", file=sys.stderr)


def _print_summary(total: Summary, name: str, dry_run: bool) -> None:
    from loopwise.model.labels import AXES

    for remark in total.remarks:
        _say(remark)
    if dry_run:
        return
    if total.ragged:
        lines = ", ".join(map(str, total.ragged[:10])) + (" …" if len(total.ragged) > 10 else "")
        _say(
            f"{len(total.ragged)} rows of {name} have more or fewer cells than the header (lines {lines}); "
            "kept and routed"
        )
    if total.blank:
        _say(f"{total.blank} blank lines kept as they are")
    left_out = f", {total.written} of them written" if total.left_out else ""
    _say(f"{total.rows} rows routed{left_out}")
    for loop in AXES["loop"]:
        for mode in AXES["mode"]:
            _say(f"  {total.quadrants[loop, mode]:>7}  {loop}, {mode}")
    _say(f"  {total.review:>7}  to review")
    for reason, n in total.reasons.most_common(5):
        _say(f"           {n} {reason}")


@app.command()
def evaluate(
    labelled: Annotated[Path, typer.Argument(help="A CSV with the columns text, loop and mode.")],
    json: Annotated[bool, typer.Option("--json", help="Figures as one JSON object.")] = False,
    errors: Annotated[
        int, typer.Option("--errors", min=0, help="Also list this many errors, worst first.")
    ] = 0,
    report: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--report", help="Also write all this as one HTML page, with plots and errors."),
    ] = None,
    model: ModelOption = None,
    prior: PriorOption = None,
    target_accuracy: TargetOption = None,
    home: HomeOption = None,
) -> None:
    """Measure the model on labelled tasks: accuracy, calibration, and what would go through unseen."""
    from loopwise.training.evaluate import LabelledTexts
    from loopwise.training.evaluate import evaluate as run
    from loopwise.training.print_evaluation import print_errors, print_evaluation

    data = LabelledTexts.read(labelled)
    predictor = _predictor(model, home, None, prior, target_accuracy, data.texts)
    if report is None:
        evaluation = run(predictor, data)
    else:
        from loopwise.service.classify import open_output
        from loopwise.training.report import render_report

        with open_output(str(report)) as out:
            evaluation = run(predictor, data)
            out.write(render_report(evaluation, data, predictor, labelled.name).encode())
    if json:
        from json import dumps

        print(dumps(evaluation.to_dict(), indent=1, allow_nan=True))
    else:
        print_evaluation(evaluation)
    if errors:
        print_errors(evaluation, data, errors)


app.command()(label)
app.add_typer(labels_app)
app.command()(train)
app.command()(monitor)
app.add_typer(models_app)
app.command()(mcp)


def _predictor(
    model: Path | None,
    home: Path | None,
    routes: Path | None,
    prior: list[str] | None,
    target_accuracy: float | None,
    texts: list[str] | None = None,
) -> Predictor:
    """Load the model and apply the options that change how its scores are read."""
    from loopwise.service.predictor import Predictor

    predictor = Predictor.load(model, home=home)
    if routes is not None:
        from loopwise.service.routes import Routes

        predictor = Predictor(predictor.model, Routes.load(routes), predictor.settings)
    if target_accuracy is not None or prior:
        from loopwise.service.settings import changed_settings

        predictor = changed_settings(predictor, prior or [], target_accuracy, texts)
    return predictor
