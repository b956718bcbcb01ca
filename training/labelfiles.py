"""Labels from files that people made: labelled rows, corrections in a spreadsheet, words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loopwise.errors import InputError, UsageError
from loopwise.model.labels import AXES, Axis
from loopwise.training.labels import GRADES, Record

if TYPE_CHECKING:
    from loopwise.service.backlog_texts import BacklogTexts, TextRow

#: Other words for the classes; any case. A first letter will do too.
_SYNONYMS: Final[dict[str, str]] = {
    "delegate": "autonomous",
    "co-pilot": "interactive",
    "copilot": "interactive",
}
#: Columns in which people correct the model's answer; `classify --for-review` adds them, empty.
CORRECTIONS: Final[dict[Axis, str]] = {"loop": "loop_correct", "mode": "mode_correct"}

Parsed = tuple[list[Record], list[tuple[int, str]]]


def parse_label(axis: Axis, cell: str) -> str | None:
    """Return the class that `cell` names, or None if it is empty.

    Raises
    ------
    ValueError
        If it names none.
    """
    said = cell.strip().lower()
    said = _SYNONYMS.get(said, said)
    if not said:
        return None
    for label in AXES[axis]:
        if said in (label, label[0]):
            return label
    raise ValueError(f"the {axis} {cell.strip()!r} is neither {AXES[axis][0]} nor {AXES[axis][1]}")


def parse_grade(axis: Axis, cell: str) -> int | None:
    """Return the grade of a word from a number from -2 to 2 or the name of a class; None if empty.

    Raises
    ------
    ValueError
        If it is neither.
    """
    said = cell.strip()
    try:
        grade = int(said)
    except ValueError:
        label = parse_label(axis, said)
        if label is None:
            return None
        return 2 if label in ("code", "interactive") else -2
    if grade not in GRADES:
        raise ValueError(f"the {axis} grade {said} is not a whole number from -2 to 2")
    return grade


def labelled_rows(
    table: BacklogTexts, who: str, *, loop: str | None = None, mode: str | None = None
) -> Parsed:
    """Return the labels of a labelled file, and the lines that hold none, with the reason.

    Parameters
    ----------
    table : BacklogTexts
        A column ``who`` or ``note`` is kept; a column ``unsure`` (loop, mode or both) silences an axis.
    who : str
        Whose labels they are, where no column says.
    loop, mode : str, optional
        The columns of the two answers, if they are called otherwise.

    Raises
    ------
    UsageError, InputError
        If there is no such column, or the answers are the model's own.
    """
    columns = _label_columns(table, {"loop": loop, "mode": mode})
    guessed = [name for name in columns.values() if f"{name}_confidence" in table.columns]
    if guessed:
        raise UsageError(
            f"{table.name}: the column {guessed[0]!r} holds the model's own answers, which are no labels. "
            f"Make a file to correct with: loopwise classify {table.name} --replace --for-review -o FILE, "
            "then: loopwise labels add --corrections FILE"
        )

    def parse(row: TextRow) -> dict[str, Any]:
        unsure = row.cells.get("unsure", "").strip().lower()
        said: dict[str, Any] = {
            axis: None if unsure in (axis, "both") else parse_label(axis, row.cells[name])
            for axis, name in columns.items()
        }
        if not any(said.values()):
            raise ValueError(f"{' and '.join(map(repr, columns.values()))} say nothing")
        return said

    return _parsed(table, who, parse)


def _label_columns(table: BacklogTexts, wanted: dict[Axis, str | None]) -> dict[Axis, str]:
    listed = ", ".join(map(repr, table.columns))
    found: dict[Axis, str] = {}
    for axis, name in wanted.items():
        if name is not None and name not in table.columns:
            raise UsageError(f"{table.name}: there is no column {name!r}; the columns are: {listed}")
        match = name or next((c for c in table.columns if c.strip().lower() == axis), None)
        if match is not None:
            found[axis] = match
    if not found:
        raise InputError(
            f"{table.name}: there is no column 'loop' or 'mode'; name them with --loop COLUMN and "
            f"--mode COLUMN; the columns are: {listed}"
        )
    return found


def corrected_rows(table: BacklogTexts, who: str) -> Parsed:
    """Return the labels in the correction columns; empty cells say nothing.

    Raises
    ------
    UsageError
        If the file has no correction columns; the message names the command that adds them.
    """
    columns = {
        axis: next((c for c in table.columns if c == name or c.endswith("_" + name)), "")
        for axis, name in CORRECTIONS.items()
    }
    missing = [CORRECTIONS[axis] for axis, name in columns.items() if not name]
    if missing:
        raise UsageError(
            f"{table.name}: there is no column {' and no column '.join(map(repr, missing))}. Make a file to "
            "correct with: loopwise classify BACKLOG --for-review -o FILE"
        )

    def parse(row: TextRow) -> dict[str, Any]:
        return {axis: parse_label(axis, row.cells[name]) for axis, name in columns.items()}

    records, refused = _parsed(table, who, parse)
    return [r for r in records if r.loop or r.mode], refused


def word_rows(table: BacklogTexts, who: str) -> Parsed:
    """Return the graded words of a file whose text column is the word."""
    columns = _label_columns(table, dict.fromkeys(AXES))

    def parse(row: TextRow) -> dict[str, Any]:
        said: dict[str, Any] = {axis: parse_grade(axis, row.cells[name]) for axis, name in columns.items()}
        if all(grade is None for grade in said.values()):
            raise ValueError(f"{' and '.join(map(repr, columns.values()))} say nothing")
        if not any(letter.isalnum() for letter in row.text):
            raise ValueError(f"{row.text!r} is not a word")
        return said

    return _parsed(table, who, parse, kind="word")


def _parsed(
    table: BacklogTexts, who: str, parse: Callable[[TextRow], dict[str, Any]], kind: Any = "task"
) -> Parsed:
    records: list[Record] = []
    refused: list[tuple[int, str]] = []
    name = Path(table.name).name
    for row in table.rows:
        try:
            said = parse(row)
            if not row.text.strip():
                if any(value is not None for value in said.values()):
                    raise ValueError(f"there is no text in {' or '.join(map(repr, table.text_columns))}")
                continue
        except ValueError as error:
            refused.append((row.line, str(error)))
            continue
        records.append(
            Record(
                row.text,
                kind,
                **said,
                who=row.cells.get("who", "").strip() or who,
                source=f"{name}:{row.line}",
                note=row.cells.get("note", ""),
            )
        )
    return records, refused


def refusals(refused: Sequence[tuple[int, str]], name: str, shown: int = 10) -> list[str]:
    """Return messages about refused lines."""
    lines = [f"{name}: line {line} is refused: {why}" for line, why in refused[:shown]]
    if len(refused) > shown:
        lines.append(f"{name}: {len(refused) - shown} more lines are refused")
    return lines
