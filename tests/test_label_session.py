from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from loopwise.model.store import Home
from loopwise.service.label_session import TASK_QUESTIONS, WORD_QUESTIONS, Item, Outcome, Question, Session
from loopwise.training.labels import Answers, LabelStore
from tests.retraining import Command, command

__all__ = ["command"]

BACKLOG = "id,title\n1,Fix the flaky login test\n2,Plan the offsite\n3,Tidy the glimper\n"
ITEMS = [Item("one", "b.csv:2"), Item("two", "b.csv:3"), Item("three", "b.csv:4")]
Said = list[tuple[str, str | None, str | None]]


@pytest.fixture
def store(own_home: Path) -> LabelStore:
    return LabelStore.of(Home(own_home))


def session(
    store: LabelStore, keys: str, questions: tuple[Question, ...] = TASK_QUESTIONS, kind: str = "task"
) -> tuple[Outcome, str]:
    out, typed = io.StringIO(), io.StringIO(keys)
    console = Console(file=out, width=100, highlight=False)
    asked = Session(
        ITEMS,
        questions,
        Answers(store, "ann", kind),  # type: ignore[arg-type]
        console,
        read_key=lambda: typed.read(1),
        read_line=typed.readline,
    )
    return asked.run(), out.getvalue()


def said(store: LabelStore) -> Said:
    return [(r.text, r.loop, r.mode) for r in store.read().records if r.kind != "skip"]


def test_one_keystroke_an_axis(store: LabelStore) -> None:
    outcome, shown = session(store, "cakica")
    assert (outcome.answered, outcome.skipped, outcome.left) == (3, 0, 0)
    assert said(store) == [
        ("one", "code", "autonomous"),
        ("two", "knowledge", "interactive"),
        ("three", "code", "autonomous"),
    ]
    assert "loop:  [c]ode  [k]nowledge  [-] cannot tell" in shown


def test_every_answer_is_on_disk_before_the_next_question(store: LabelStore) -> None:
    for n, expected in ((1, [("one", "code", None)]), (2, [("one", "code", "autonomous")])):
        store.path.unlink(missing_ok=True)
        session(store, "cak"[:n])
        assert said(store) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("cauq", [("one", "code", None)]),
        ("cauiq", [("one", "code", "interactive")]),
        ("cauuq", []),
        ("cauukaq", [("one", "knowledge", "autonomous")]),
        ("csuuq", []),
        ("c-uuq", []),
        ("suq", []),
        ("uq", []),
        ("cakuuuuciq", [("one", "code", "interactive")]),
    ],
)
def test_undo_takes_back_one_keystroke_after_the_other(store: LabelStore, keys: str, expected: Said) -> None:
    session(store, keys)
    assert said(store) == expected


def test_nothing_to_undo_is_said(store: LabelStore) -> None:
    assert "there is nothing to undo" in session(store, "uq")[1]


def test_who_cannot_tell_leaves_an_axis_open_and_is_not_asked_again(store: LabelStore) -> None:
    session(store, "-a--q")
    assert said(store) == [("one", None, "autonomous")]
    assert len(store.read().settled_keys("task", "ann")) == 2
    assert store.read().settled_keys("task", "bob") == set()


def test_a_half_answered_task_is_asked_again(store: LabelStore) -> None:
    session(store, "cq")
    assert store.read().settled_keys("task", "ann") == set()


def test_a_note_is_kept_with_the_answer_before_or_after_it(store: LabelStore) -> None:
    session(store, "nask Bob\ncacntwice\niq")
    assert [(r.text, r.note) for r in store.read().records] == [("one", "ask Bob"), ("two", "twice")]


def test_an_unknown_key_is_explained(store: LabelStore) -> None:
    assert "'x' says nothing here; the keys are: c k - s u n g ? q" in session(store, "xq")[1]


def test_words_are_graded(store: LabelStore) -> None:
    outcome, shown = session(store, "CaKI--", WORD_QUESTIONS, "word")
    assert "mode:  [i]nteractive  [a]utonomous  [-] nothing   (a capital: surely)" in shown
    assert outcome.answered == 3
    grades = [(w.text, w.loop, w.mode) for w in store.read().labels("word")]
    assert grades == [("one", 2, -1), ("two", -2, 2), ("three", 0, 0)]


def test_a_session_from_the_command_line_is_resumed_where_it_was_left(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "b.csv").write_text(BACKLOG)
    first = command("label", "b.csv", "--who", "ann", stdin="ca\nq")
    assert first.returncode == 0
    assert "3 to ask" in first.stderr
    assert "1 answered, 0 skipped, 2 left" in first.stdout
    assert "model: " in first.stdout
    second = command("label", "b.csv", "--who", "ann", "--no-guess", stdin="kasq")
    assert "2 to ask" in second.stderr
    assert "1 answered, 1 skipped, 0 left" in second.stdout
    assert "model: " not in second.stdout.split("answered")[0]
    third = command("label", "b.csv", "--who", "ann")
    assert "nothing left to ask" in third.stderr
    assert len(LabelStore.of(Home.find()).read().labels()) == 2


def test_the_guess_can_be_switched_off_and_on(command: Command, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("title\nFix the flaky login test\n")
    shown = command("label", "b.csv", "--no-guess", stdin="gq").stdout
    assert shown.count("model: code") == 1
    assert "because of" in shown


def test_the_summary_counts_agreement_with_the_model(command: Command, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("title\nFix the flaky login test\n")
    assert "loop: you and the model agree on 0 of 1" in command("label", "b.csv", stdin="ka").stdout


def test_words_of_a_backlog_are_asked_with_examples(command: Command, tmp_path: Path) -> None:
    rows = "title\nTidy the glimper\nGlimper again\nThe old glimper\nBook the vet\n"
    (tmp_path / "b.csv").write_text(rows)
    done = command("label", "b.csv", "--words", stdin="CA")
    assert "In 3 tasks; the model does not know it." in done.stdout
    assert "Tidy the glimper" in done.stdout
    (word,) = LabelStore.of(Home.find()).read().labels("word")
    assert (word.text, word.loop, word.mode) == ("glimper", 2, -2)


def test_a_backlog_cannot_come_over_the_same_pipe_as_the_keystrokes(command: Command) -> None:
    done = command("label", "-", stdin="title\nx\n")
    assert done.returncode == 2
    assert "label reads your keystrokes from standard input" in done.stderr


@pytest.mark.slow
def test_a_killed_session_keeps_every_answer(tmp_path: Path, own_home: Path) -> None:
    rows = "".join(f"Task number {chr(97 + n)} about {'xyz'[n % 3]}\n" for n in range(9))
    (tmp_path / "b.csv").write_text("title\n" + rows)
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "loopwise", "label", "b.csv"],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for key in "cakic":
        process.stdin.write(key)
        process.stdin.flush()
        # The answer is repeated, and then the next question is asked: by now it must be on disk.
        for starts in (("   code", "   know", "   auto", "   inter"), ("loop:", "mode:")):
            while not (line := process.stdout.readline()).startswith(starts):
                assert line
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    kept = [(r.loop, r.mode) for r in LabelStore.of(Home(own_home)).read().records]
    assert kept == [("code", "autonomous"), ("knowledge", "interactive"), ("code", None)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_at_a_terminal_a_key_counts_without_enter(tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "b.csv").write_text("title\nFix the test\nPlan the offsite\n")
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "loopwise", "label", "b.csv"],
        cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    # All at once: what is typed while an answer is being kept counts too; an arrow key says nothing.
    os.write(ours, b"ci\x1b[Akq")
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert "1 answered, 0 skipped, 1 left" in out
    kept = [(r.loop, r.mode) for r in LabelStore.of(Home(own_home)).read().records]
    assert kept == [("code", "interactive"), ("knowledge", None)]
