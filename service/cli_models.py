"""The commands about models: `train`, `monitor`, and `models list | show | diff | promote | …`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from loopwise.errors import LoopwiseError, UsageError
from loopwise.messages import say
from loopwise.service.cli_options import FromOption, HomeOption, TextOption

if TYPE_CHECKING:
    from loopwise.model.store import Home
    from loopwise.training.fit import Recipe
    from loopwise.training.gate import Contradictions
    from loopwise.training.labels import Record

models_app = typer.Typer(
    name="models",
    help="Your models: list, show, compare, promote, go back, clean up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def train(
    labels: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--labels", help="A file of labels for this run only; `labels add` keeps them."),
    ] = None,
    weight: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--weight", help="What a label of yours weighs next to a natural row of the corpus; 8."),
    ] = None,
    promote: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--promote/--no-promote", help="Make it active whatever it measures, or in no case."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Ask nothing; the gate alone decides on promotion.")
    ] = False,
    search: Annotated[
        bool,
        typer.Option("--search", help="First try other recipes on held-out rows, and take a better one."),
    ] = False,
    measure: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--measure", help="With --search: a labelled CSV to measure on as well."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes.")] = 2,
    home: HomeOption = None,
) -> None:
    """Train on the corpus and your labels, and compare with the active model on held-out rows.

    The new model becomes active by itself only if it is no worse.
    """
    from loopwise.model.store import Home
    from loopwise.service.progress import step_progress
    from loopwise.training.candidate import N_TRAIN_STEPS
    from loopwise.training.candidate import train as run
    from loopwise.training.gate import contradictions
    from loopwise.training.labels import LabelStore
    from loopwise.training.print_training import print_contradictions, print_train_report
    from loopwise.training.userlabels import DEFAULT_WEIGHT, UserLabels

    if measure is not None and not search:
        raise UsageError("--measure goes with --search; to measure a model use: loopwise evaluate FILE")
    records = _records(labels) if labels is not None else []
    place = Home.find(home)
    log = LabelStore.of(place).read()
    for problem in log.problems:
        say(problem)
    own = UserLabels.of(log, records)
    if conflicts := log.conflicts():
        say(f"{len(conflicts)} answers are in conflict and left out; see: loopwise labels conflicts")
    if not own.tasks and not own.words:
        say("there are no labels of your own; make some with: loopwise label BACKLOG")
    doubtful = contradictions(place.active_model(), own)
    print_contradictions(doubtful)
    if doubtful.too_many and promote is None and not yes:
        _ask_about(doubtful)
    recipe = _searched(place, measure, jobs) if search else None
    with step_progress(N_TRAIN_STEPS) as on_step:
        report = run(
            records,
            home=home,
            recipe=recipe,
            weight=DEFAULT_WEIGHT if weight is None else weight,
            promote=promote,
            n_jobs=jobs,
            on_step=on_step,
        )
    print_train_report(report)


def _searched(place: Home, measure: str | None, jobs: int) -> Recipe:
    """Search for a recipe, print what was found, and return the choice; each trial is kept in the home."""
    from loopwise.model.safefiles import clear_errors
    from loopwise.service.progress import step_progress
    from loopwise.training.corpus import Corpus
    from loopwise.training.evaluate import LabelledTexts
    from loopwise.training.experiments import search, search_report, search_space
    from loopwise.training.fit import Recipe

    labelled = LabelledTexts.read(measure) if measure is not None else None
    space = search_space(Recipe())
    log = place.folder / "search.jsonl"
    say(f"trying {len(space)} recipes; each is written to {log}")
    with clear_errors(log), step_progress(len(space)) as on_step:
        place.folder.mkdir(parents=True, exist_ok=True)
        found = search(
            Corpus.shipped(),
            labelled,
            log,
            space=space,
            n_jobs=jobs,
            on_trial=lambda trial: on_step(trial.name),
        )
    print(search_report(found))
    return found.chosen.recipe


def _records(labels: str) -> list[Record]:
    from loopwise.service.backlog_texts import read_texts
    from loopwise.training.labelfiles import labelled_rows, refusals

    table = read_texts(labels)
    records, refused = labelled_rows(table, "this run")
    for line in refusals(refused, table.name):
        say(line)
    return records


def _ask_about(doubtful: Contradictions) -> None:
    """Stop before the time of a training is spent on labels that may be wrong."""
    way_out = (
        "If they are right: loopwise train --promote. To see what a model of them is worth: "
        "loopwise train --no-promote. To take some back: loopwise labels remove ID"
    )
    if not sys.stdin.isatty():
        raise LoopwiseError(f"{doubtful}; nothing was trained. {way_out}")
    say(way_out)
    if not typer.confirm("Train all the same, without promoting?", default=False):
        raise LoopwiseError("nothing was trained")


def monitor(
    backlog: Annotated[str, typer.Argument(help="A backlog in any format; - for standard input.")],
    baseline: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--baseline", help="An earlier batch to compare with, instead of the corpus."),
    ] = None,
    text: TextOption = None,
    source: FromOption = None,
    json: Annotated[bool, typer.Option("--json", help="The figures as one JSON object.")] = False,
    home: HomeOption = None,
) -> None:
    """Compare a batch with what the model was made for, and say when to label and retrain."""
    from loopwise.model.store import Home
    from loopwise.service.backlog_texts import read_texts
    from loopwise.training.corpus import Corpus
    from loopwise.training.labels import LabelStore
    from loopwise.training.monitor import monitor as run
    from loopwise.training.print_training import print_drift
    from loopwise.training.userlabels import UserLabels

    place = Home.find(home)
    model = place.active_model()
    table = read_texts(backlog, text, source=source)
    say(f"reading {table.name} as {table.kind}, text from: {', '.join(table.text_columns)}")
    texts = [row.text for row in table.rows]
    if baseline is not None:
        reference = [row.text for row in read_texts(baseline, text).rows]
    else:
        corpus = Corpus.shipped()
        if corpus.fingerprint != model.fields["corpus"].get("fingerprint"):
            say("the active model was trained on another corpus; to catch up: loopwise train")
        reference = corpus.part(("test",)).texts
    labels = UserLabels.of(LabelStore.of(place).read())
    report = run(texts, model, reference, is_backlog=baseline is not None, labels=labels)
    if json:
        from json import dumps

        print(dumps(report.to_dict(), indent=1))
    else:
        print_drift(report)


@models_app.command("list")
def list_models(home: HomeOption = None) -> None:
    """List the models, the shipped one first; an arrow points at the active one."""
    from loopwise.model.store import Home
    from loopwise.training.print_training import print_models

    print_models(Home.find(home).models())


@models_app.command()
def show(
    model_id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[ID]", help="The active one unless given."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Show the card of a model: its figures, and where it comes from."""
    from loopwise.model.modelfile import CARD_NAME
    from loopwise.model.store import Home

    place = Home.find(home)
    chosen = model_id or place.active_id()
    model = place.load(chosen)
    print(f"{chosen}{', active' * (chosen == place.active_id())}, in {model.folder}")
    corpus, labels = model.fields.get("corpus", {}), model.fields.get("labels", {})
    print(f"corpus {corpus.get('fingerprint', 'unknown')}, {corpus.get('n_rows', '?')} rows")
    print(f"your labels: {labels.get('n_tasks', 0)} tasks, {labels.get('n_words', 0)} words")
    for entry in place.history():
        if entry.model == chosen and entry.when:
            print(f"{entry.when}  {entry.action}  {entry.why}".rstrip())
    card = model.folder / CARD_NAME
    if card.exists():
        print(card.read_text("utf-8", errors="replace").rstrip())


@models_app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A model, or shipped.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    backlog: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Also show which tasks of this CSV they answer differently."),
    ] = None,
    text: TextOption = None,
    home: HomeOption = None,
) -> None:
    """Compare two models: on the test rows, and on a backlog."""
    from loopwise.model.store import Home
    from loopwise.service.backlog_texts import read_texts
    from loopwise.training.candidate import diff_models
    from loopwise.training.corpus import Corpus
    from loopwise.training.print_training import print_difference

    place = Home.find(home)
    old, new = place.load(a), place.load(b)
    texts = [row.text for row in read_texts(backlog, text).rows] if backlog is not None else None
    compared, changed = diff_models(old, new, Corpus.shipped(), texts)
    print_difference(old, new, compared, changed, texts)


@models_app.command()
def promote(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="From: loopwise models list; or shipped.")],
    home: HomeOption = None,
) -> None:
    """Make a model the active one."""
    from loopwise.model.store import Home

    Home.find(home).activate(model_id, why="by hand")
    print(f"{model_id} is active now")


@models_app.command()
def rollback(home: HomeOption = None) -> None:
    """Go back to the model that was active before; again, to the one before that."""
    from loopwise.model.store import Home

    print(f"{Home.find(home).rollback()} is active now")


@models_app.command()
def prune(
    keep: Annotated[int, typer.Option("--keep", min=0, help="How many of the newest others stay.")] = 5,
    home: HomeOption = None,
) -> None:
    """Delete old models, but never the active one nor the one before it."""
    from loopwise.model.store import Home

    deleted = Home.find(home).prune(keep)
    print(f"deleted: {', '.join(deleted)}" if deleted else "nothing to delete")
