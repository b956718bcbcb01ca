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

from loopwise.errors import LoopwiseError
from loopwise.messages import say
from loopwise.service.cli_classify import classify
from loopwise.service.cli_labels import label, labels_app
from loopwise.service.cli_mcp import mcp
from loopwise.service.cli_models import models_app, monitor, train
from loopwise.service.cli_options import (
    HomeOption,
    ModelOption,
    PriorOption,
    ReviewShareOption,
    RoutesOption,
    TargetOption,
    load_predictor,
)

if TYPE_CHECKING:
    from loopwise.service.predictor import AxisPrediction, Prediction

app = typer.Typer(
    name="loopwise",
    help="Which loop does a task live in, code or knowledge, and should a person stay at the wheel?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> NoReturn:
    """Run the command line; leave with 0, 2 for usage, 1 for failure, 130 when interrupted."""
    # Arrow's usual pool keeps what was freed: 70 MB more at the peak of classify, and no faster.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        app()
    except LoopwiseError as error:
        say(str(error))
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


def run() -> NoReturn:
    """Run the command line as a process of its own: what `loopwise` and ``python -m loopwise`` call."""
    on_cluster = any(argument.partition("=")[0] == "--scheduler" for argument in sys.argv)
    if sys.argv[1:2] == ["classify"] and not on_cluster:
        _spare_pandas()
    main()


def _spare_pandas() -> None:
    """Let Arrow find no pandas: it would load it (0.2 s, 40 MB) only to ask whether a list is a Series.

    Arrow looks once; afterwards pandas can be imported as ever.
    """

    class NoPandas:
        """A finder that knows one thing: there is no pandas."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "pandas":
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, NoPandas)
    try:
        import pyarrow as pa

        pa.array([""])
    finally:
        sys.meta_path.remove(NoPandas)


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
    predictor = load_predictor(model, home, routes, prior, target_accuracy)
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
    features = answer.top_features
    pro = ", ".join(f"{n} {c:+.2f}" for n, c in features if c > 0) or "nothing"
    con = ", ".join(f"{n} {c:+.2f}" for n, c in features if c < 0) or "nothing"
    return f"  {axis}: {answer.label:<11} {answer.confidence:.2f}  for: {pro}  against: {con}"


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
    review_share: ReviewShareOption = None,
    home: HomeOption = None,
) -> None:
    """Measure the model on labelled tasks: accuracy, calibration, and what would go through unseen."""
    from loopwise.training.evaluate import LabelledTexts
    from loopwise.training.evaluate import evaluate as run
    from loopwise.training.print_evaluation import print_errors, print_evaluation

    data = LabelledTexts.read(labelled)
    predictor = load_predictor(model, home, None, prior, target_accuracy, review_share, lambda: data.texts)
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


app.command()(classify)
app.command()(label)
app.add_typer(labels_app)
app.command()(train)
app.command()(monitor)
app.add_typer(models_app)
app.command()(mcp)
