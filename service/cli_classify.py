"""The command `classify`: a backlog in, the same backlog with seven columns out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from loopwise.errors import UsageError
from loopwise.messages import say
from loopwise.service.cli_options import (
    FromOption,
    HomeOption,
    ModelOption,
    PriorOption,
    ReviewShareOption,
    RoutesOption,
    TargetOption,
    TextOption,
    load_predictor,
)

if TYPE_CHECKING:
    from loopwise.service.backlogs import Reading
    from loopwise.service.classify import Options, Summary
    from loopwise.service.predictor import Predictor
    from loopwise.service.results import OnResults


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
    text: TextOption = None,
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
    report: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--report", help="Also write what came out as one HTML page, for the team."),
    ] = None,
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
    review_share: ReviewShareOption = None,
    home: HomeOption = None,
) -> None:
    """Classify a backlog: every row comes back as it was, with seven columns added.

    Exit codes: 0 done, 1 failed, 2 wrong usage or input (nothing is written), 141 the reader went away.
    """
    from loopwise.service.backlogs import Reading, Writing, route_backlog
    from loopwise.service.classify import Options, n_cores
    from loopwise.service.progress import row_progress

    separator = "\t" if delimiter in ("tab", "\\t") else delimiter
    reading = Reading(source, separator, encoding, not no_header, sheet)
    writing = Writing(output, format, tuple(only or ()), split, dry_run)
    predictor = load_predictor(
        model, home, routes, prior, target_accuracy, review_share, _sampler(backlog, reading, text)
    )
    options = Options(tuple(text or ()), prefix, replace, strict, jobs or n_cores(), for_review)
    name = "standard input" if backlog == "-" else backlog
    size = Path(backlog).stat().st_size if Path(backlog).is_file() else None
    if scheduler is not None:
        _refuse_with_scheduler(
            {"--format": format, "--only": only, "--split": split, "--from": source, "--sheet": sheet}
            | {"--dry-run": dry_run, "--report": report}
        )
        total = _on_cluster(backlog, output, predictor, options, scheduler, reading, size)
    else:
        watched = _report(None if dry_run else report, name, predictor, (backlog, output))
        with watched as on_results, row_progress(size) as on_block:
            total = route_backlog(
                backlog,
                predictor,
                reading=reading,
                writing=writing,
                options=options,
                say=say,
                on_block=on_block,
                on_results=on_results,
            )
    _print_summary(total, name, dry_run)


def _sampler(backlog: str, reading: Reading, text: Sequence[str] | None) -> Callable[[], list[str]]:
    """Return what reads the first texts of a backlog, for options that look at it before it is routed."""

    def sample() -> list[str]:
        from loopwise.service.backlog_texts import first_texts

        if backlog == "-":
            raise UsageError(
                "--prior auto and --review-share read the backlog twice: name a file, not standard input"
            )
        return first_texts(backlog, reading, text)

    return sample


def _refuse_with_scheduler(others: dict[str, Any]) -> None:
    for name, value in others.items():
        if value:
            raise UsageError(f"{name} does not go with --scheduler; leave one of them out")


def _on_cluster(
    backlog: str,
    output: str | None,
    predictor: Predictor,
    options: Options,
    scheduler: str,
    reading: Reading,
    size: int | None,
) -> Summary:
    from loopwise.service.distributed import classify_backlog
    from loopwise.service.progress import row_progress

    with row_progress(size) as on_block:
        return classify_backlog(
            backlog,
            output,
            predictor,
            options,
            scheduler,
            delimiter=reading.delimiter,
            encoding=reading.encoding,
            has_header=reading.has_header,
            on_block=on_block,
        )


def _report(
    path: str | None, name: str, predictor: Predictor, others: Sequence[str | None]
) -> AbstractContextManager[OnResults | None]:
    """Return what sees the results and writes the page at the end; nothing if there is to be none."""
    if path is None:
        return nullcontext()
    from loopwise.service.page import report_page

    return report_page(path, name, predictor, others)


def _print_summary(total: Summary, name: str, dry_run: bool) -> None:
    from loopwise.model.labels import AXES

    for remark in total.remarks:
        say(remark)
    if dry_run:
        return
    if total.ragged:
        lines = ", ".join(map(str, total.ragged[:10])) + (" …" if len(total.ragged) > 10 else "")
        say(
            f"{len(total.ragged)} rows of {name} have more or fewer cells than the header (lines {lines}); "
            "kept and routed"
        )
    if total.blank:
        say(f"{total.blank} blank lines kept as they are")
    left_out = f", {total.written} of them written" if total.left_out else ""
    say(f"{total.rows} rows routed{left_out}")
    for loop in AXES["loop"]:
        for mode in AXES["mode"]:
            say(f"  {total.quadrants[loop, mode]:>7}  {loop}, {mode}")
    say(f"  {total.review:>7}  to review")
    for reason, n in total.reasons.most_common(5):
        say(f"           {n} {reason}")
