"""A labelling session in the terminal: one keystroke an axis, every answer kept before the next question."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from loopwise.model.labels import AXES, Axis

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from loopwise.service.predictor import Prediction


class Answer(NamedTuple):
    """What a key says: the value that is kept, and how it reads."""

    value: Any
    name: str


class Question(NamedTuple):
    """One axis: its keys, and the line that names them."""

    axis: Axis
    keys: Mapping[str, Answer]
    prompt: str


def _task_question(axis: Axis) -> Question:
    keys = {label[0]: Answer(label, label) for label in AXES[axis]}
    prompt = "  ".join(f"[{key}]{answer.name[1:]}" for key, answer in keys.items())
    return Question(axis, {**keys, "-": Answer(None, "cannot tell")}, f"{axis}:  {prompt}  [-] cannot tell")


def _word_question(axis: Axis, pro: str, con: str) -> Question:
    a, b = pro[0], con[0]
    keys = {
        a.upper(): Answer(2, f"surely {pro}"),
        a: Answer(1, f"rather {pro}"),
        "-": Answer(0, "nothing"),
        b: Answer(-1, f"rather {con}"),
        b.upper(): Answer(-2, f"surely {con}"),
    }
    prompt = f"[{a}]{pro[1:]}  [{b}]{con[1:]}  [-] nothing   (a capital: surely)"
    return Question(axis, keys, f"{axis}:  {prompt}")


#: About a task: which of the two it is. About a word: what it says, and how surely.
TASK_QUESTIONS: Final = tuple(_task_question(axis) for axis in AXES)
WORD_QUESTIONS: Final = (
    _word_question("loop", "code", "knowledge"),
    _word_question("mode", "interactive", "autonomous"),
)
_HELP: Final = "s skip   u undo   n note   g show or hide the model's guess   q quit (what you said is kept)"


@dataclass(frozen=True)
class Item:
    """Something to ask about.

    Attributes
    ----------
    text : str
        The task, or the word.
    source : str
        File and line.
    details : list of str
        Shown below it.
    guess : Prediction or None
        What the model says, shown if the person wants it.
    """

    text: str
    source: str = ""
    details: list[str] = field(default_factory=list)
    guess: Prediction | None = None


class Keeper(Protocol):
    """Keeps answers; every call returns when it is on disk."""

    def keep(self, item: Item, answers: Mapping[Axis, Any], note: str, answer_id: str | None) -> str:
        """Keep the answers about an item, anew or as a revision of `answer_id`; return the id."""

    def skip(self, item: Item) -> str:
        """Keep that the item was asked about and not answered; return the id."""

    def take_back(self, answer_id: str) -> None:
        """Take back what was kept under an id."""


@dataclass
class _State:
    """Where a session is: the item, the axis, and what was said about the item so far."""

    at: int = 0
    step: int = 0
    answers: dict[Axis, Any] = field(default_factory=dict)
    note: str = ""
    answer_id: str | None = None

    def copy(self) -> _State:
        return _State(self.at, self.step, dict(self.answers), self.note, self.answer_id)


@dataclass(frozen=True)
class Outcome:
    """What came of a session.

    Attributes
    ----------
    answered, skipped, left : int
        Items.
    agreed : dict of axis to (int, int)
        Answers in agreement with the model's guess, and answers to an item with a guess.
    """

    answered: int
    skipped: int
    left: int
    agreed: dict[Axis, tuple[int, int]]


class Session:
    """Asks about items one by one.

    Parameters
    ----------
    items : sequence of Item
    questions : sequence of Question
        `TASK_QUESTIONS` or `WORD_QUESTIONS`.
    keeper : Keeper
    console : rich.console.Console
    read_key, read_line : callable
        Return the next keystroke (``""`` at the end of the input), and a line of text.
    show_guess : bool
        Whether the model's guess is shown before the answer.
    """

    def __init__(
        self,
        items: Sequence[Item],
        questions: Sequence[Question],
        keeper: Keeper,
        console: Console,
        *,
        read_key: Callable[[], str],
        read_line: Callable[[], str],
        show_guess: bool = True,
    ) -> None:
        self._items = items
        self._questions = questions
        self._keeper = keeper
        self._console = console
        self._read_key = read_key
        self._read_line = read_line
        self._show_guess = show_guess
        self._state = _State()
        #: The states before each keystroke that said something, with the ids that it was kept under.
        self._before: list[tuple[_State, list[str]]] = []
        self._said: dict[int, dict[Axis, Any]] = {}

    def run(self) -> Outcome:
        """Ask until the items or the keystrokes end, or somebody quits."""
        commands: dict[str, Callable[[], None]] = {
            "s": self._skip,
            "u": self._undo,
            "n": self._add_note,
            "g": self._toggle_guess,
            "?": lambda: self._console.print(_HELP, markup=False),
        }
        self._show_item()
        while self._state.at < len(self._items):
            key = self._read_key()
            if key in ("", "q", "\x03", "\x04"):
                break
            question = self._questions[self._state.step]
            if key in question.keys:
                self._answer(question, question.keys[key])
            elif key in commands:
                commands[key]()
            elif key not in ("\r", "\n"):
                valid = " ".join([*question.keys, *commands, "q"])
                self._console.print(f"{key!r} says nothing here; the keys are: {valid}", markup=False)
        return self._outcome()

    def _answer(self, question: Question, answer: Answer) -> None:
        state, before = self._state, self._state.copy()
        self._console.print(f"   {answer.name}", style="bold", markup=False)
        state.answers[question.axis] = answer.value
        state.step += 1
        kept = []
        if answer.value is not None:
            state.answer_id = self._keep()
            kept.append(state.answer_id)
        is_last = state.step == len(self._questions)
        if is_last and None in state.answers.values():
            kept.append(self._keeper.skip(self._items[state.at]))  # So that it is not asked again.
        self._before.append((before, kept))
        if is_last:
            self._said[state.at] = state.answers
            self._go(_State(state.at + 1))
        else:
            self._ask()

    def _keep(self) -> str:
        state = self._state
        item = self._items[state.at]
        return self._keeper.keep(item, state.answers, state.note, state.answer_id)

    def _skip(self) -> None:
        state = self._state
        self._before.append((state.copy(), [self._keeper.skip(self._items[state.at])]))
        self._said[state.at] = dict(state.answers)
        self._console.print("   skipped", style="dim")
        self._go(_State(state.at + 1))

    def _undo(self) -> None:
        if not self._before:
            self._console.print("there is nothing to undo")
            return
        before, kept = self._before.pop()
        for answer_id in kept:
            if before.answer_id == answer_id:
                self._keeper.keep(self._items[before.at], before.answers, before.note, answer_id)
            else:
                self._keeper.take_back(answer_id)
        self._said.pop(before.at, None)
        self._console.print("   taken back", style="dim")
        self._go(before)

    def _add_note(self) -> None:
        self._console.print("note: ", end="")
        before = self._state.copy()
        self._state.note = self._read_line().strip()
        kept = [self._keep()] if self._state.answer_id is not None else []
        self._before.append((before, kept))
        self._ask()

    def _toggle_guess(self) -> None:
        self._show_guess = not self._show_guess
        self._console.print("   the model's guess is " + ("shown" if self._show_guess else "hidden"))
        self._show_item()

    def _go(self, state: _State) -> None:
        self._state = state
        self._show_item()

    def _show_item(self) -> None:
        if self._state.at >= len(self._items):
            return
        from rich.panel import Panel
        from rich.text import Text

        item = self._items[self._state.at]
        body = Text(item.text, style="bold")
        for line in item.details:
            body.append(f"\n{line}", style="not bold dim")
        if self._show_guess and item.guess is not None:
            body.append("\n")
            for axis in AXES:
                body.append_text(_guess_line(axis, item.guess))
        title = f"{self._state.at + 1} of {len(self._items)}   {item.source}"
        self._console.print()
        self._console.print(
            Panel(body, title=Text(title), title_align="left", subtitle="? help", subtitle_align="right")
        )
        self._ask()

    def _ask(self) -> None:
        self._console.print(self._questions[self._state.step].prompt, markup=False)

    def _outcome(self) -> Outcome:
        answered = [at for at, said in self._said.items() if any(v is not None for v in said.values())]
        agreed: dict[Axis, tuple[int, int]] = {}
        for axis in AXES:
            pairs = [
                (self._said[at].get(axis), getattr(guess, axis).label)
                for at in answered
                if (guess := self._items[at].guess) is not None
            ]
            told = [(said, guess) for said, guess in pairs if said is not None]
            agreed[axis] = (sum(said == guess for said, guess in told), len(told))
        left = len(self._items) - self._state.at
        return Outcome(len(answered), len(self._said) - len(answered), left, agreed)


def _guess_line(axis: Axis, guess: Prediction) -> Text:
    from rich.text import Text

    answer = getattr(guess, axis)
    line = Text(f"\nmodel: {answer.label} {answer.confidence:.2f} ", style="not bold cyan")
    shown = ", ".join(f"{name} {value:+.2f}" for name, value in answer.top_features[:3])
    return line.append(f" because of {shown}" if shown else "", style="dim")


@contextmanager
def keyboard() -> Iterator[tuple[Callable[[], str], Callable[[], str]]]:
    """Yield functions that return the next keystroke (``""`` at the end) and the next line.

    A pipe is read character by character. A terminal stays in its key-by-key mode throughout: switching
    at every key, as `typer.getchar` does, throws away what is typed meanwhile.
    """
    if not sys.stdin.isatty():
        yield lambda: sys.stdin.read(1), lambda: sys.stdin.readline()
        return
    try:
        import termios
        import tty
    except ImportError:  # Windows
        import typer

        yield typer.getchar, lambda: sys.stdin.readline()
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def read_line() -> str:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        try:
            return sys.stdin.readline()
        finally:
            tty.setcbreak(terminal, termios.TCSADRAIN)

    tty.setcbreak(terminal, termios.TCSADRAIN)
    try:
        yield lambda: _key(terminal), read_line
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _key(terminal: int) -> str:
    """Return the next key. One that sends several bytes (an arrow, an umlaut) is one, and says nothing."""
    try:
        key = os.read(terminal, 1)
        if key == b"\x1b" and _is_waiting(terminal):
            key += os.read(terminal, 1)
            while key[1:2] in (b"[", b"O") and not (len(key) > 2 and 0x40 <= key[-1] <= 0x7E):
                key += os.read(terminal, 1)
        elif key >= b"\xc0":
            key += os.read(terminal, sum(key[0] >= lead for lead in (0xC0, 0xE0, 0xF0)))
    except KeyboardInterrupt:
        return ""
    return key.decode("utf-8", "replace")


def _is_waiting(terminal: int) -> bool:
    return bool(select.select([terminal], [], [], 0.02)[0])
