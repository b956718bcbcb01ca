"""The commands about labels: `label`, and `labels add | list | conflicts | remove | export | curve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from loopwise.errors import InputError, UsageError
from loopwise.messages import say
from loopwise.service.cli_options import FromOption, HomeOption, TextOption, WhoOption

if TYPE_CHECKING:
    from loopwise.model.store import Home
    from loopwise.service.backlog_texts import BacklogTexts
    from loopwise.service.label_session import Item, Outcome
    from loopwise.training.labels import LabelLog, LabelStore, Record

labels_app = typer.Typer(
    name="labels",
    help="Your own labels: add, list, settle, take back, export.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def _store(home: Path | None) -> LabelStore:
    from loopwise.model.store import Home
    from loopwise.training.labels import LabelStore

    return LabelStore.of(Home.find(home))


def _read(store: LabelStore) -> LabelLog:
    log = store.read()
    for problem in log.problems:
        say(problem)
    return log


@labels_app.command()
def add(
    file: Annotated[str, typer.Argument(help="A file of labels; - for standard input.")],
    text: TextOption = None,
    loop: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--loop", help="The column that says code or knowledge."),
    ] = None,
    mode: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--mode", help="The column that says autonomous or interactive."),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Words with grades from -2 to 2: word, loop, mode.")
    ] = False,
    corrections: Annotated[
        bool, typer.Option("--corrections", help="Read loop_correct and mode_correct, where filled.")
    ] = False,
    source: FromOption = None,
    who: WhoOption = None,
    home: HomeOption = None,
) -> None:
    """Add labels from a file. What was added before is not added twice; bad rows are named and left out."""
    from loopwise.service.backlog_texts import read_texts
    from loopwise.training.labelfiles import corrected_rows, labelled_rows, refusals, word_rows
    from loopwise.training.labels import default_who

    if words and corrections:
        raise UsageError("--words and --corrections: choose one; a file holds the one or the other")
    table = read_texts(file, text, names=("phrase", "word") if words else (), source=source)
    say(f"reading {table.name} as {table.kind}, text from: {', '.join(table.text_columns)}")
    person = who or default_who()
    if words:
        records, refused = word_rows(table, person)
    elif corrections:
        records, refused = corrected_rows(table, person)
    else:
        records, refused = labelled_rows(table, person, loop=loop, mode=mode)
    for line in refusals(refused, table.name):
        say(line)
    if refused and not records:
        raise InputError(f"{table.name}: no line holds a label; nothing was added")
    if corrections and not records:
        say(f"{table.name}: loop_correct and mode_correct are empty throughout; nothing to add")
    store = _store(home)
    report = store.add(records, refused)
    print(
        f"{report.added} added, {report.changed} changed, {report.already} there already, "
        f"{len(refused)} refused; in {store.path}"
    )
    _tell_conflicts(_read(store))


def _tell_conflicts(log: LabelLog) -> None:
    conflicts = log.conflicts()
    if conflicts:
        say(f"{len(conflicts)} answers are in conflict and not trained on; see: loopwise labels conflicts")


@labels_app.command("list")
def list_labels(json: JsonOption = False, home: HomeOption = None) -> None:
    """List what people said, oldest first; skipped tasks are not listed."""
    log = _read(_store(home))
    differing = {record.id for conflict in log.conflicts() for record in conflict.answers}
    shown = [record for record in log.records if record.kind != "skip"]
    for record in shown:
        if json:
            _print_json(_plain(record) | {"conflict": record.id in differing})
        else:
            mark = "  (in conflict)" if record.id in differing else ""
            print(f"{record.id}  {_said(record)}  {record.who}  {_short(record.text)}{mark}")
    if not json:
        tasks, words = len(log.labels("task")), len(log.labels("word"))
        say(f"{tasks} tasks and {words} words are labelled")


def _plain(record: Record) -> dict[str, Any]:
    names = ("id", "kind", "text", "loop", "mode", "who", "when", "source", "note")
    return {name: getattr(record, name) for name in names}


def _said(record: Record) -> str:
    if record.kind == "word":
        parts = [f"{name} {value:+d}" if value is not None else name for name, value in _axes(record)]
        return f"{', '.join(parts):<23}"
    return f"{', '.join(value or '?' for _, value in _axes(record)):<23}"


def _axes(record: Record) -> list[tuple[str, Any]]:
    return [("loop", record.loop), ("mode", record.mode)]


def _short(text: str, width: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _print_json(data: dict[str, Any]) -> None:
    from json import dumps

    print(dumps(data, ensure_ascii=True))


@labels_app.command()
def conflicts(json: JsonOption = False, home: HomeOption = None) -> None:
    """Show where people answered differently; such answers are not trained on until they are settled."""
    found = _read(_store(home)).conflicts()
    for conflict in found:
        if json:
            answers = [_plain(record) for record in conflict.answers]
            _print_json({"text": conflict.text, "axis": conflict.axis, "answers": answers})
            continue
        print(f"{conflict.axis}: {_short(conflict.text)}")
        for record in conflict.answers:
            print(f"    {record.id}  {record.answer(conflict.axis)!s:<11}  {record.who}, {record.when}")
    if not found:
        say("nobody differs")
    elif not json:
        say("to settle one: loopwise labels remove ID, or let one of the two answer again")


@labels_app.command()
def remove(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="From: loopwise labels list.")],
    who: WhoOption = None,
    home: HomeOption = None,
) -> None:
    """Take labels back. They stay in the file, with a line that says so."""
    for record in _store(home).remove(ids, who):
        print(f"{record.id} is taken back: {_short(record.text)}")


@labels_app.command()
def export(
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("-o", "--output", help="Where to write; standard output unless given."),
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Labelled words instead of tasks.")] = False,
    home: HomeOption = None,
) -> None:
    """Write what stands as a CSV, a line a person and text; `labels add` reads it back."""
    import csv
    import io

    from loopwise.service.classify import open_output

    standing = _read(_store(home)).standing("word" if words else "task")
    names = ("loop", "mode", "who", "when", "source", "note", "id")
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["word" if words else "text", *names])
    rows = [record for people in standing.values() for record in people]
    for record in rows:
        cells = ["" if (value := getattr(record, name)) is None else value for name in names]
        writer.writerow([record.text, *cells])
    data = out.getvalue().encode()
    if output in (None, "-"):
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    with open_output(output) as file:
        file.write(data)
    say(f"{len(rows)} labels written to {output}")


def label(
    backlog: Annotated[str, typer.Argument(help="A backlog in any format.")],
    words: Annotated[bool, typer.Option("--words", help="Ask about words instead of tasks.")] = False,
    text: TextOption = None,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many to ask about.")] = 60,
    guess: Annotated[
        bool, typer.Option("--guess/--no-guess", help="Show what the model says, and why, before you answer.")
    ] = True,
    source: FromOption = None,
    who: WhoOption = None,
    home: HomeOption = None,
) -> None:
    """Label tasks of a backlog, or its words, one keystroke an axis. Quit at any time; go on later.

    The model asks about what it is unsure of, and not twice about the same. Every answer is on disk
    before the next question.
    """
    from rich.console import Console

    from loopwise.model.store import Home
    from loopwise.service.backlog_texts import read_texts
    from loopwise.service.label_session import (
        TASK_QUESTIONS,
        WORD_QUESTIONS,
        Session,
        keyboard,
    )
    from loopwise.training.labels import Answers, LabelStore, default_who

    if backlog == "-":
        raise UsageError("label reads your keystrokes from standard input; name the backlog as a file")
    table = read_texts(backlog, text, source=source)
    say(f"reading {table.name} as {table.kind}, text from: {', '.join(table.text_columns)}")
    place = Home.find(home)
    store, person = LabelStore.of(place), who or default_who()
    done = _read(store).settled_keys("word" if words else "task", person)
    items = _word_items(table, place, number, done) if words else _task_items(table, place, number, done)
    if not items:
        what = "words" if words else "tasks"
        say(f"{table.name}: nothing left to ask; all {what} worth asking about are answered")
        return
    say(f"{table.name}: {len(items)} to ask; s skips, u undoes, n adds a note, q quits, ? helps")
    console = Console(highlight=False)
    with keyboard() as (read_key, read_line):
        session = Session(
            items,
            WORD_QUESTIONS if words else TASK_QUESTIONS,
            Answers(store, person, "word" if words else "task"),
            console,
            read_key=read_key,
            read_line=read_line,
            show_guess=guess,
        )
        outcome = session.run()
    _print_outcome(outcome, store)


def _task_items(table: BacklogTexts, place: Home, number: int, done: set[str]) -> list[Item]:
    from loopwise.service.label_session import Item
    from loopwise.service.predictor import Predictor
    from loopwise.training.queue import task_queue

    predictor = Predictor(place.active_model())
    rows = table.rows
    name = Path(table.name).name
    return [
        Item(rows[i].text, f"{name}:{rows[i].line}", guess=predictor.predict(rows[i].text))
        for i in task_queue([row.text for row in rows], predictor.model, number, done=done)
    ]


def _word_items(table: BacklogTexts, place: Home, number: int, done: set[str]) -> list[Item]:
    from loopwise.service.label_session import Item
    from loopwise.training.queue import word_queue

    questions = word_queue([row.text for row in table.rows], place.active_model(), number, done=done)
    items = []
    for asked in questions:
        why = f"{asked.n_hanging} answers hang on it" if asked.known else "the model does not know it"
        examples = [f"  · {_short(example)}" for example in asked.examples]
        details = [f"What does it say about a task?  In {asked.n_rows} tasks; {why}.", *examples]
        items.append(Item(asked.word, Path(table.name).name, details))
    return items


def _print_outcome(outcome: Outcome, store: LabelStore) -> None:
    print(
        f"{outcome.answered} answered, {outcome.skipped} skipped, {outcome.left} left; kept in {store.path}"
    )
    for axis, (agreed, told) in outcome.agreed.items():
        if told:
            print(f"  {axis}: you and the model agree on {agreed} of {told}")
    log = _read(store)
    print(
        f"{len(log.labels('task'))} tasks and {len(log.labels('word'))} words are labelled. "
        "To learn from them: loopwise train"
    )
    _tell_conflicts(log)


@labels_app.command()
def curve(
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="Also draw it: a .png, .svg or .pdf file."),
    ] = None,
    weight: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--weight", help="What a label of yours weighs next to a natural row of the corpus."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The points as one JSON object.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes.")] = 2,
    home: HomeOption = None,
) -> None:
    """Show how accuracy on your tasks grows with your labels, and what the next fifty may buy."""
    from loopwise.service.progress import step_progress
    from loopwise.training.curve import N_CURVE_STEPS, draw_curve, learning_curve, print_curve
    from loopwise.training.userlabels import DEFAULT_WEIGHT

    with step_progress(N_CURVE_STEPS) as on_step:
        found = learning_curve(
            home=home, weight=DEFAULT_WEIGHT if weight is None else weight, n_jobs=jobs, on_step=on_step
        )
    if json:
        _print_json(found.to_dict())
    else:
        print_curve(found)
    if output is not None:
        draw_curve(found, output)
        say(f"drawn to {output}")
