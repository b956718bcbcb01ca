"""Readers: what trackers and tools write, as tables."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from loopwise.errors import InputError, MissingExtraError, UsageError
from loopwise.service.csvblocks import as_utf8
from loopwise.service.layouts import LAYOUTS, Layout, recognise_layout
from loopwise.service.plan import valid_text
from loopwise.service.tables import CHUNK_ROWS, Chunk, Table, cell_text, chunks_of

if TYPE_CHECKING:
    import pyarrow as pa

_TRELLO_COLUMNS: Final = ("id", "name", "desc", "list", "labels", "members", "due", "archived", "url")
_CHECKLIST: Final = Layout("Markdown checklist", (), ("task",), {"task": "markdown"})
_TRELLO: Final = Layout("Trello board", (), ("name", "desc"), {"desc": "markdown"})


# --- JSON ---------------------------------------------------------------------------------------


def read_json(stream: IO[bytes], name: str, encoding: str | None = None, source: str = "json") -> Table:
    """Read a JSON array of objects, an object that holds one, or a Trello board.

    Raises
    ------
    InputError
        If it is no JSON, or holds no list of tasks.
    """
    text, remarks = _text_of(stream, name, encoding)
    if _is_json_lines(text):
        return _lines(text, name, remarks)
    data = _parse(text, name)
    if isinstance(data, dict) and isinstance(data.get("cards"), list) and isinstance(data.get("lists"), list):
        return _trello(data, name, remarks)
    if source == "trello":
        raise InputError(f"{name}: this is not a Trello board; its JSON has no 'cards' and 'lists'")
    where = ""
    if isinstance(data, dict):
        lists = [key for key, value in data.items() if isinstance(value, list) and value]
        if len(lists) != 1:
            found = ", ".join(map(repr, lists)) if lists else "none"
            raise InputError(f"{name}: a list of tasks was expected; the lists in this JSON object: {found}")
        where, data = lists[0], data[lists[0]]
        remarks.append(f"{name}: the tasks are those under {where!r}")
    if not isinstance(data, list):
        raise InputError(f"{name}: a list of tasks was expected, not a single value")
    # With the text of each object at hand, JSON comes out as it went in.
    native = None if where else _items_as_written(text)
    return _objects(data, native, list(range(1, len(data) + 1)), name, "JSON", remarks, "item")


def read_json_lines(stream: IO[bytes], name: str, encoding: str | None = None) -> Table:
    """Read JSON Lines: one object a line; blank lines are left out.

    Raises
    ------
    InputError
        If a line is no JSON; the message names it.
    """
    text, remarks = _text_of(stream, name, encoding)
    return _lines(text, name, remarks)


def _lines(text: str, name: str, remarks: list[str]) -> Table:
    objects, native, lines = [], [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            objects.append(_parse(line, name, number))
            native.append(line.strip())
            lines.append(number)
    return _objects(objects, native, lines, name, "JSON Lines", remarks, "line")


def _is_json_lines(text: str) -> bool:
    """Whether an object is followed by another one."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return False
    return text.lstrip()[end:].lstrip().startswith("{")


def _parse(text: str, name: str, line: int = 0) -> Any:
    try:
        # Numbers stay as they are written: 1.10 is not 1.1.
        return json.loads(text, parse_float=str)
    except json.JSONDecodeError as error:
        where = f"line {line or error.lineno}, column {error.colno}"
        raise InputError(f"{name}: {where}: this is not valid JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{name}: this JSON is nested too deeply") from None


def _items_as_written(text: str) -> list[str]:
    """Return the texts of the items of a JSON array, each on one line."""
    decoder = json.JSONDecoder()
    blanks = re.compile(r"[\s,]*")
    items: list[str] = []
    at = text.index("[") + 1
    while True:
        start = blanks.match(text, at).end()  # type: ignore[union-attr]
        if text[start] == "]":
            return items
        _, at = decoder.raw_decode(text, start)
        # A string cannot hold a line break as such: those are between the members.
        items.append(re.sub(r"\s*[\r\n]\s*", " ", text[start:at]))


def _objects(
    data: list[Any],
    native: list[str] | None,
    lines: list[int],
    name: str,
    kind: str,
    remarks: list[str],
    unit: str,
) -> Table:
    if not data:
        raise InputError(f"{name}: the file holds no tasks")
    if all(isinstance(item, str) for item in data):
        rows = _without_surrogates([[item] for item in data], name, remarks)
        return Table(name, kind, ["text"], lambda: chunks_of(rows, lines), None, remarks)
    for item, line in zip(data, lines, strict=True):
        if not isinstance(item, dict):
            raise InputError(f"{name}: {unit} {line} is not an object with names and values")
    header = list(dict.fromkeys(key for item in data for key in item))
    rows = [[cell_text(item.get(key)) for key in header] for item in data]
    rows = _without_surrogates(rows, name, remarks)
    layout = recognise_layout(header)
    title = f"{kind}, {layout.title}" if layout else kind
    return Table(name, title, header, lambda: chunks_of(rows, lines, native), layout, remarks)


def _without_surrogates(rows: list[list[str]], name: str, remarks: list[str]) -> list[list[str]]:
    """Replace halves of characters, which JSON can write and UTF-8 cannot hold; say in how many cells."""
    n_changed = 0
    for row in rows:
        for i, cell in enumerate(row):
            valid = valid_text(cell)
            if valid != cell:
                row[i] = valid
                n_changed += 1
    if n_changed:
        remarks.append(f"{name}: {n_changed} cells hold half a character (a lone surrogate); read as ?")
    return rows


def _trello(board: dict[str, Any], name: str, remarks: list[str]) -> Table:
    lists = {entry.get("id"): entry for entry in board["lists"]}
    members = {m.get("id"): m.get("fullName") or m.get("username") for m in board.get("members") or []}
    rows, archived = [], 0
    for card in board["cards"]:
        home = lists.get(card.get("idList"), {})
        closed = bool(card.get("closed") or home.get("closed"))
        archived += closed
        # A label without a name is its colour.
        labels = [entry.get("name") or entry.get("color") for entry in card.get("labels") or []]
        people = [members.get(m, m) for m in card.get("idMembers") or []]
        rows.append(
            [
                *(cell_text(value) for value in (card.get("id"), card.get("name"), card.get("desc"))),
                *(cell_text(value) for value in (home.get("name"), labels, people, card.get("due"))),
                "true" if closed else "false",
                cell_text(card.get("shortUrl") or card.get("url")),
            ]
        )
    if not rows:
        raise InputError(f"{name}: this Trello board holds no cards")
    if archived:
        remarks.append(f"{name}: {archived} of {len(rows)} cards are archived; they are routed too")
    rows = _without_surrogates(rows, name, remarks)
    lines = list(range(1, len(rows) + 1))
    header = list(_TRELLO_COLUMNS)
    return Table(name, "Trello board", header, lambda: chunks_of(rows, lines), _TRELLO, remarks)


# --- Parquet and XLSX ---------------------------------------------------------------------------


def read_parquet(stream: IO[bytes], name: str) -> Table:
    """Read a Parquet file, a batch of rows at a time.

    Raises
    ------
    InputError
        If it is damaged or none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream if stream.seekable() else io.BytesIO(stream.read()))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: this is not a readable Parquet file ({error})") from None

    def read() -> Iterator[Chunk]:
        line = 1
        try:
            for batch in file.iter_batches(CHUNK_ROWS):
                columns = [arrow_texts(column) for column in batch.columns]
                rows = [list(row) for row in zip(*columns, strict=True)]
                yield Chunk(list(range(line, line + len(rows))), rows, pa.Table.from_batches([batch]))
                line += len(rows)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{name}: this Parquet file is damaged ({error})") from None

    header = list(file.schema_arrow.names)
    layout = recognise_layout(header)
    return Table(name, "Parquet", header, read, layout, schema=file.schema_arrow)


def arrow_texts(column: pa.Array | pa.ChunkedArray) -> list[str]:
    """Return the cells of a column of any type as text (see `cell_text`)."""
    return [cell_text(value) for value in column.to_pylist()]


def read_xlsx(stream: IO[bytes], name: str, sheet: str | None = None) -> Table:
    """Read a sheet of an XLSX workbook, the first unless named. The first filled row is the header.

    Raises
    ------
    MissingExtraError
        If openpyxl is not installed.
    InputError, UsageError
        If it is no workbook, or has no such sheet.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.escape import unescape
    except ImportError:
        raise MissingExtraError(
            f"{name}: to read XLSX, install the extra: pip install 'loopwise[xlsx]'"
        ) from None
    try:
        book = load_workbook(io.BytesIO(stream.read()), read_only=True, data_only=True)
    except Exception as error:
        raise InputError(f"{name}: this is not a readable XLSX workbook ({error})") from None
    names = list(book.sheetnames)
    if sheet is not None and sheet not in names:
        raise UsageError(
            f"{name}: there is no sheet {sheet!r}; the sheets are: {', '.join(map(repr, names))}"
        )
    chosen = sheet or names[0]
    rows, lines, pending, empty = [], [], 0, 0
    for number, values in enumerate(book[chosen].iter_rows(values_only=True), 1):
        # A workbook spells control characters out: _x0001_.
        cells = [unescape(cell_text(value)) for value in values]
        if any(cells):
            rows.append(cells)
            lines.append(number)
            empty, pending = empty + pending, 0
        else:
            pending += bool(rows)
    if not rows:
        raise InputError(f"{name}: the sheet {chosen!r} is empty; a header and rows were expected")
    width = max(max((i + 1 for i, cell in enumerate(row) if cell), default=0) for row in rows)
    rows = [(row + [""] * width)[:width] for row in rows]
    remarks = [f"{name}: read the sheet {chosen!r}" + (f" of {len(names)}" if len(names) > 1 else "")]
    if empty:
        remarks.append(f"{name}: {empty} empty rows between the others are left out")
    header, rows, lines = rows[0], rows[1:], lines[1:]
    return Table(name, "XLSX", header, lambda: chunks_of(rows, lines), recognise_layout(header), remarks)


# --- Plain text ---------------------------------------------------------------------------------

_DATE: Final = r"\d{4}-\d{2}-\d{2}"
_TODO: Final = re.compile(
    rf"(?P<done>x )?\s*(?:\((?P<priority>[A-Z])\) )?(?P<first>{_DATE} )?(?P<second>{_DATE} )?(?P<task>.*)"
)


def read_todo_txt(stream: IO[bytes], name: str, encoding: str | None = None) -> Table:
    """Read todo.txt: a task a line, with its priority, dates, projects and contexts. A plain list is one.

    Raises
    ------
    InputError
        If there is no task.
    """
    text, remarks = _text_of(stream, name, encoding)
    header = ["line", "done", "priority", "completed", "created", "task", "projects", "contexts"]
    rows, lines = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            rows.append(_todo_row(line))
            lines.append(number)
    if not rows:
        raise InputError(f"{name}: the file is empty; a task a line was expected")
    return Table(name, "todo.txt", header, lambda: chunks_of(rows, lines), None, remarks)


def _todo_row(line: str) -> list[str]:
    found = _TODO.match(line)
    assert found is not None  # Every part may be empty.
    done = bool(found["done"])
    first, second = (found["first"] or "").strip(), (found["second"] or "").strip()
    completed, created = (first, second) if done else ("", first)
    task = found["task"] if done or not second else f"{second} {found['task']}"
    words = task.split()
    projects = ", ".join(word[1:] for word in words if word.startswith("+") and len(word) > 1)
    contexts = ", ".join(word[1:] for word in words if word.startswith("@") and len(word) > 1)
    marks = [line, "true" if done else "false", found["priority"] or "", completed, created]
    return [*marks, task, projects, contexts]


_ITEM: Final = re.compile(
    r"(?P<indent>[ \t]*)(?:[-*+]|\d+[.)])[ \t]+(?:\[(?P<box>[ xX])\][ \t]+)?(?P<task>\S.*)"
)
_HEADING: Final = re.compile(r" {0,3}#{1,6}[ \t]+(?P<title>.*?)[ \t#]*$")
_FENCE: Final = re.compile(r" {0,3}(```|~~~)")


def read_markdown(stream: IO[bytes], name: str, encoding: str | None = None) -> Table:
    """Read the checklists of a Markdown file, or its lists if it has none; headings are sections.

    Raises
    ------
    InputError
        If there is no list.
    """
    text, remarks = _text_of(stream, name, encoding)
    items, left_out = _markdown_items(text)
    boxed = [item for item in items if item[1] is not None]
    chosen = boxed or items
    if not chosen:
        raise InputError(
            f"{name}: there is no checklist in this Markdown; lines such as '- [ ] task' were expected"
        )
    if not boxed:
        remarks.append(f"{name}: no checklist found; every list item is a task")
    left_out += len(items) - len(chosen)
    if left_out:
        remarks.append(f"{name}: {left_out} lines that are no task are left out")
    rows = [
        [section, "" if box is None else "true" if box in "xX" else "false", str(level), task]
        for _, box, level, task, section in chosen
    ]
    header = ["section", "done", "level", "task"]
    lines = [item[0] for item in chosen]
    return Table(name, "Markdown checklist", header, lambda: chunks_of(rows, lines), _CHECKLIST, remarks)


_Item = tuple[int, str | None, int, str, str]


def _markdown_items(text: str) -> tuple[list[_Item], int]:
    """Return line, box, level, task and section of each list item, and how many lines are something else."""
    items: list[_Item] = []
    section, fence, left_out = "", "", 0
    indents: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        if mark := _FENCE.match(line):
            fence = "" if fence == mark[1] else fence or mark[1]
            left_out += 1
        elif fence:
            left_out += 1
        elif heading := _HEADING.match(line):
            section, indents = heading["title"], []
        elif item := _ITEM.match(line):
            indent = len(item["indent"].expandtabs(4))
            indents = [*(i for i in indents if i < indent), indent]
            items.append((number, item["box"], len(indents), item["task"].rstrip(), section))
        elif line.strip() and line[0] in " \t" and items:
            # An indented line goes on with the item before it.
            at, box, level, task, of = items[-1]
            items[-1] = (at, box, level, f"{task}\n{line.strip()}", of)
        else:
            left_out += bool(line.strip())
    return items, left_out


def _text_of(stream: IO[bytes], name: str, encoding: str | None) -> tuple[str, list[str]]:
    plain, _, remarks = as_utf8(stream, name, encoding, what="text")
    return plain.read().decode("utf-8", "replace"), remarks


# --- Which is it? -------------------------------------------------------------------------------

#: What `--from` takes besides the trackers: how it is read.
KINDS: Final = ("csv", "json", "jsonl", "parquet", "xlsx", "todo", "markdown", "trello")
_BY_ENDING: Final = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".md": "markdown",
    ".markdown": "markdown",
}
_SNIFFED: Final = 1 << 14


def sources() -> list[str]:
    """Return the names that `--from` takes."""
    return [*KINDS, *LAYOUTS]


def guess_kind(name: str, head: bytes, text_names: Sequence[str]) -> str:
    """Return the kind of a file from its name, and from its beginning where the name does not tell.

    Parameters
    ----------
    name : str
        Its path; packed files by the ending before .gz.
    head : bytes
        What it begins with.
    text_names : sequence of str
        Names of columns that hold tasks: a first line that holds one is a header.
    """
    path = Path(name.removesuffix(".gz").removesuffix(".zst"))
    kind = _BY_ENDING.get(path.suffix.lower(), "")
    if kind == "json":
        return _json_kind(head) or kind
    if kind == "jsonl" and _json_kind(head) == "json" and b"[" in head.lstrip()[:4]:
        return "json"
    if kind:
        return kind
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04") and b"xl/" in head + name.encode("utf-8", "replace"):
        return "xlsx"
    if found := _json_kind(head):
        return found
    if path.suffix.lower() == ".txt":
        first = head.decode("utf-8", "replace").partition("\n")[0].lower()
        cells = [cell.strip(' "\r\ufeff') for cell in re.split(r"[,;\t|]", first)]
        return "csv" if any(cell in text_names for cell in cells) else "todo"
    lines = head.decode("utf-8", "replace").splitlines()
    if any(re.match(r"\s*(?:[-*+]|\d+[.)])\s+\[[ xX]\]\s", line) for line in lines[:50]):
        return "markdown"
    return "csv"


def _json_kind(head: bytes) -> str:
    """Return json or jsonl for what begins as one of them."""
    bare = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    if re.match(rb"\[\s*[\[{\"\]]", bare):
        return "json"
    if not re.match(rb"\{\s*[\"}]", bare):
        return ""
    first, _, rest = bare.partition(b"\n")
    try:
        json.loads(first)
    except ValueError:
        return "json"
    return "jsonl" if rest.strip() else "json"


def read_table(
    kind: str, stream: IO[bytes], name: str, *, encoding: str | None = None, sheet: str | None = None
) -> Table:
    """Read a backlog of one of the `KINDS` but CSV."""
    if kind in ("json", "trello"):
        return read_json(stream, name, encoding, kind)
    if kind == "jsonl":
        return read_json_lines(stream, name, encoding)
    if kind == "parquet":
        return read_parquet(stream, name)
    if kind == "xlsx":
        return read_xlsx(stream, name, sheet)
    return (read_todo_txt if kind == "todo" else read_markdown)(stream, name, encoding)
