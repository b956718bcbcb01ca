"""What people said about tasks and words: an append-only file, one JSON object a line.

Nothing is ever erased or changed in place. A later line with the same id is a revision (the second
answer about a task, a note); a removal is a line of its own. So a crash can cost at most the line
that was being written, and that line is told apart when the file is read.

This module needs nothing outside the standard library: adding a label is quick.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from loopwise.errors import ModelError, UsageError
from loopwise.model.labels import AXES, Axis
from loopwise.model.safefiles import append, utc_now, writer_lock
from loopwise.model.store import Home

Kind = Literal["task", "word", "skip", "removal"]
KINDS: Final = ("task", "word", "skip", "removal")
#: A word's grade points to code and to interactive, as in the lexicon.
GRADES: Final = (-2, -1, 0, 1, 2)


def default_who() -> str:
    """Return the name under which this system knows the user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "someone"


def text_key(text: str) -> str:
    """Return what identifies a text, whatever its case and white space."""
    plain = " ".join(unicodedata.normalize("NFKC", text).split()).casefold()
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """One thing that one person said.

    Attributes
    ----------
    text : str
        The task, or the word; empty for a removal.
    kind : str
        One of `KINDS`; a skip says that the person was asked and did not answer.
    loop, mode : str, int or None
        For a task, a class of the axis; for a word, one of `GRADES`; None where nothing was said.
    who, when, source, note : str
        By whom, when in UTC, from which file and line, and a remark.
    id : str
        Eight hexadecimal digits. Records of the same id are revisions; a removal has that of its victim.
    """

    text: str
    kind: Kind = "task"
    loop: Any = None
    mode: Any = None
    who: str = field(default_factory=default_who)
    when: str = field(default_factory=utc_now)
    source: str = ""
    note: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def key(self) -> str:
        """What identifies the text (see `text_key`)."""
        return text_key(self.text)

    def answer(self, axis: Axis) -> Any:
        """What was said on `axis`, or None."""
        return self.loop if axis == "loop" else self.mode

    def to_line(self) -> bytes:
        """Return the line of the file, line end included."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """Parse a line of the file.

        Raises
        ------
        ValueError
            If it is no record.
        """
        data = json.loads(line)
        names = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or not {"id", "kind", "text"} <= set(data) <= names:
            raise ValueError("not a label")
        texts = [data.get(name, "") for name in ("text", "who", "when", "source", "note", "id")]
        if data["kind"] not in KINDS or not all(isinstance(value, str) for value in texts):
            raise ValueError("a field is of the wrong type")
        for axis, names_ in AXES.items():
            valid: Sequence[Any] = GRADES if data["kind"] == "word" else names_
            if data.get(axis) is not None and (type(data[axis]) is bool or data[axis] not in valid):
                raise ValueError(f"unknown {axis} {data[axis]!r}")
        return cls(**{"who": "", "when": "", **data})


@dataclass(frozen=True)
class Conflict:
    """People that answered differently about the same text.

    Attributes
    ----------
    text : str
    axis : str
    answers : list of Record
        The standing answer of each person.
    """

    text: str
    axis: Axis
    answers: list[Record]


@dataclass(frozen=True)
class Label:
    """What stands about a text, everybody heard.

    Attributes
    ----------
    text : str
    loop, mode : str, float or None
        For a task, a class; for a word, the mean grade; None where nothing was said or people differ.
    records : list of Record
        What it rests on, one a person.
    """

    text: str
    loop: Any
    mode: Any
    records: list[Record] = field(default_factory=list, repr=False)

    @property
    def key(self) -> str:
        """What identifies the text (see `text_key`)."""
        return text_key(self.text)

    def answer(self, axis: Axis) -> Any:
        """What stands on `axis`, or None."""
        return self.loop if axis == "loop" else self.mode


@dataclass(frozen=True)
class LabelLog:
    """The label file as read.

    Attributes
    ----------
    records : list of Record
        Every record at its last revision, in the order of those, without the removed ones.
    problems : list of str
        Lines that could not be read.
    """

    records: list[Record]
    problems: list[str]

    def standing(self, kind: Kind = "task") -> dict[str, list[Record]]:
        """Return by text what each person says now: the latest answer on each axis."""
        by_text: dict[str, dict[str, Record]] = {}
        for record in self.records:
            if record.kind == kind:
                people = by_text.setdefault(record.key, {})
                before = people.pop(record.who, None)
                people[record.who] = _merged(before, record) if before else record
        return {key: list(people.values()) for key, people in by_text.items()}

    def labels(self, kind: Kind = "task") -> list[Label]:
        """Return what stands about each text; nothing on an axis on which people differ."""
        found = []
        for records in self.standing(kind).values():
            answers = {axis: _settled(records, axis) for axis in AXES}
            if any(answer is not None for answer in answers.values()):
                found.append(Label(records[-1].text, answers["loop"], answers["mode"], records))
        return found

    def settled_keys(self, kind: Kind, who: str) -> set[str]:
        """Return the keys of the texts that `who` need not be asked about: answered, or skipped by them."""
        skipped = {r.key for r in self.records if r.kind == "skip" and r.who == who}
        return skipped | {
            key
            for key, people in self.standing(kind).items()
            if all(any(r.answer(axis) is not None for r in people) for axis in AXES)
        }

    def conflicts(self) -> list[Conflict]:
        """Return where people differ, tasks first."""
        found = []
        for kind in ("task", "word"):
            for records in self.standing(kind).values():
                for axis in AXES:
                    said = [record for record in records if record.answer(axis) is not None]
                    if said and _settled(said, axis) is None:
                        found.append(Conflict(said[-1].text, axis, said))
        return found


def _merged(before: Record, after: Record) -> Record:
    """Return a person's later record, with the earlier answers on which it is silent."""
    loop, mode = (before.answer(axis) if after.answer(axis) is None else after.answer(axis) for axis in AXES)
    return replace(after, loop=loop, mode=mode, note=after.note or before.note)


def _settled(records: Sequence[Record], axis: Axis) -> Any:
    """Return the answer that nobody contradicts, or None; for grades, their mean if the signs agree."""
    answers = [record.answer(axis) for record in records if record.answer(axis) is not None]
    if not answers:
        return None
    if isinstance(answers[0], int):
        return None if min(answers) < 0 < max(answers) else sum(answers) / len(answers)
    return answers[0] if len(set(answers)) == 1 else None


@dataclass(frozen=True)
class AddReport:
    """What `LabelStore.add` did.

    Attributes
    ----------
    added, changed, already : int
        Texts that this person had not labelled, had labelled otherwise, had labelled just so.
    refused : list of (int, str)
        Lines of the file that hold no label, and why.
    """

    added: int
    changed: int
    already: int
    refused: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class LabelStore:
    """The labels of a home.

    Attributes
    ----------
    path : Path
        The file; it need not exist.
    """

    path: Path

    @classmethod
    def of(cls, home: Home) -> LabelStore:
        """Return the store of a home."""
        return cls(home.labels_path)

    def read(self) -> LabelLog:
        """Read everything that stands; lines that a crash cut short are reported and left out.

        Raises
        ------
        ModelError
            If the file cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return LabelLog([], [])
        except OSError as error:
            raise ModelError(f"{self.path}: cannot be read ({error.strerror})") from error
        records: dict[str, Record] = {}
        problems = []
        lines = data.split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = Record.from_line(line)
            except (ValueError, RecursionError) as error:
                torn = number == len(lines) or not line.rstrip().endswith(b"}")
                why = "was cut short by a crash" if torn else f"is not a label ({error})"
                problems.append(f"{self.path}: line {number} {why}; it is left out, all others count")
                continue
            records.pop(record.id, None)
            if record.kind != "removal":
                records[record.id] = record
        return LabelLog(list(records.values()), problems)

    def lock(self) -> AbstractContextManager[None]:
        """Return a context in which no other process writes labels."""
        return writer_lock(self.path.with_name("labels.lock"), "labels")

    def append(self, records: Iterable[Record]) -> None:
        """Add records and return when they are on disk.

        Raises
        ------
        LoopwiseError
            If they cannot be written; the file is as it was.
        """
        data = b"".join(record.to_line() for record in records)
        if data:
            with self.lock():
                append(self.path, data)

    def add(self, records: Sequence[Record], refused: Sequence[tuple[int, str]] = ()) -> AddReport:
        """Add the records that say something new: a second run adds nothing."""
        n_added = n_changed = 0
        new: list[Record] = []
        with self.lock():
            log = self.read()
            standing = {
                (kind, key, record.who): record
                for kind in ("task", "word")
                for key, people in log.standing(kind).items()
                for record in people
            }
            for record in records:
                place = (record.kind, record.key, record.who)
                before = standing.get(place)
                now = _merged(before, record) if before else record
                if before and all(before.answer(axis) == now.answer(axis) for axis in AXES):
                    continue
                n_added, n_changed = n_added + (before is None), n_changed + (before is not None)
                standing[place] = now
                new.append(record)
            append(self.path, b"".join(record.to_line() for record in new)) if new else None
        return AddReport(n_added, n_changed, len(records) - len(new), list(refused))

    def remove(self, ids: Sequence[str], who: str | None = None) -> list[Record]:
        """Take back records by their ids, or by beginnings of these that are unique.

        Raises
        ------
        UsageError
            If there is no such record, or several; nothing is taken back then.
        """
        records = self.read().records
        victims = [_find(records, wanted) for wanted in ids]
        self.append(Record("", "removal", id=victim.id, who=who or default_who()) for victim in victims)
        return victims


def _find(records: Sequence[Record], wanted: str) -> Record:
    found = [record for record in records if wanted and record.id.startswith(wanted.lower())]
    if not found:
        raise UsageError(f"there is no label {wanted!r}; see: loopwise labels list")
    if len(found) > 1:
        ids = ", ".join(record.id for record in found[:5])
        raise UsageError(f"{wanted!r} is the beginning of {len(found)} ids: {ids}; write more of it")
    return found[0]


@dataclass(frozen=True)
class Answers:
    """Keeps one person's answers in a labelling session, each on disk before the call returns.

    Attributes
    ----------
    store : LabelStore
    who : str
    kind : str
        ``"task"`` or ``"word"``.
    """

    store: LabelStore
    who: str
    kind: Kind = "task"

    def keep(self, item: Any, answers: Mapping[Axis, Any], note: str, answer_id: str | None) -> str:
        """Keep the answers about an item, anew or as a revision of `answer_id`; return the id."""
        loop, mode = (answers.get(axis) for axis in AXES)
        record = Record(item.text, self.kind, loop, mode, who=self.who, source=item.source, note=note)
        record = replace(record, id=answer_id) if answer_id else record
        self.store.append([record])
        return record.id

    def skip(self, item: Any) -> str:
        """Keep that the item was asked about and not answered; return the id."""
        record = Record(item.text, "skip", who=self.who, source=item.source)
        self.store.append([record])
        return record.id

    def take_back(self, answer_id: str) -> None:
        """Take back what was kept under an id."""
        self.store.append([Record("", "removal", who=self.who, id=answer_id)])
