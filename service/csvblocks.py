"""Read a CSV in blocks of whole records, each kept to the byte.

Records travel as the bytes they were: results are appended to a record, never merged into a
re-written one. A block of regular records goes to Arrow; anything that Arrow would read otherwise
than Python's `csv` does (odd quoting, blank lines, ragged rows, invalid UTF-8) is read by `csv`.
"""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np

from loopwise.errors import InputError, UsageError

#: Bytes of input per block: large enough for vectorised work, small enough that memory stays under 400 MB.
BLOCK_BYTES: Final = 3 << 19
#: A record longer than this goes to the exact reader.
MAX_RECORD_BYTES: Final = 32 << 20
#: Records per block of the exact reader.
BLOCK_RECORDS: Final = 8192
DELIMITERS: Final = (",", ";", "\t", "|")
_QUOTE, _LF, _CR = 34, 10, 13
_SIGNATURES: Final = {
    b"PK\x03\x04": "a zip archive (an XLSX workbook?)",
    b"\x1f\x8b": "gzip data (name it .gz)",
    b"\x28\xb5\x2f\xfd": "zstd data (name it .zst)",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"SQLite format 3": "an SQLite database",
}

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


@dataclass(frozen=True)
class Record:
    """One record of the exact reader: its first line, its text with its line end, its cells."""

    line: int
    raw: str
    cells: list[str]


@dataclass(frozen=True)
class Block:
    """Some whole records in order.

    Attributes
    ----------
    line : int
        The line of the file on which the block begins, from 1.
    data : bytes
        The records as they are, line ends included; empty where `records` are given.
    records : list of Record or None
        The records as read by `csv`, where their quoting is not regular.
    """

    line: int
    data: bytes
    records: list[Record] | None = None


@dataclass
class CsvSource:
    """A CSV being read.

    Attributes
    ----------
    name : str
        How messages call the file.
    delimiter : str
    header : list of str
        The names of the columns, as they are.
    header_raw : bytes
        The header record as it is, without its line end and without a byte order mark.
    bom : bytes
        The byte order mark that stood before it, or nothing.
    line_end : bytes
        What ended the header record; ``\\n`` where nothing did.
    remarks : list of str
        What a user should be told about how the file was read.
    bytes_read : int
        Bytes of records handed out so far.
    """

    name: str
    delimiter: str
    header: list[str]
    header_raw: bytes
    bom: bytes
    line_end: bytes
    remarks: list[str]
    _stream: IO[bytes]
    _rest: bytes
    _line: int
    bytes_read: int = 0

    @classmethod
    def open(
        cls,
        stream: IO[bytes],
        name: str,
        *,
        delimiter: str | None = None,
        encoding: str | None = None,
        has_header: bool = True,
    ) -> CsvSource:
        """Read the beginning of a CSV: its encoding, its delimiter, its header.

        Parameters
        ----------
        stream : binary file
        name : str
            How messages call the file.
        delimiter : str, optional
            One character; recognised by the header unless given.
        encoding : str, optional
            Recognised unless given: UTF-8, UTF-16 with a byte order mark, or Windows-1252.
        has_header : bool
            Whether the first record names the columns; they are called column1, column2 … if not.

        Raises
        ------
        InputError
            If the file is empty, binary, or in an unknown or wrong encoding.
        UsageError
            If the delimiter is not one character that can be one.
        """
        if delimiter is not None and (
            len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0'
        ):
            raise UsageError(
                f"the delimiter {delimiter!r} will not do; give one ASCII character, no quote or line break"
            )
        stream, bom, remarks = as_utf8(stream, name, encoding)
        head = _read_record(stream)
        if not head.strip(b"\r\n \t"):
            more = stream.read(1)
            if not head and not more:
                raise InputError(f"{name}: the file is empty; a header and rows were expected")
            raise InputError(f"{name}: the first line is blank; it should name the columns")
        record, rest = _first_record(head)
        if b"\x00" in record:
            raise InputError(f"{name}: this is not a CSV: its first line holds NUL bytes")
        chosen = delimiter or _sniff(record)
        text = record.decode("utf-8", "surrogateescape")
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=chosen), [])
        bare = record.rstrip(b"\r\n")
        line_end = record[len(bare) :] or b"\n"
        if not has_header:
            names = [f"column{i + 1}" for i in range(len(cells))]
            return cls(name, chosen, names, b"", bom, line_end, remarks, stream, record + rest, 1)
        line = 1 + record.count(b"\n")
        return cls(name, chosen, cells, bare, bom, line_end, remarks, stream, rest, line)

    def blocks(self) -> Iterator[Block]:
        """Yield the records after the header in blocks, in order."""
        pending = self._rest
        while True:
            chunk = self._stream.read(BLOCK_BYTES)
            pending += chunk
            if not pending:
                return
            cut = self._regular_cut(pending, at_end=not chunk)
            if cut is None:
                yield from self._exact_blocks(pending)
                return
            if cut:
                self.bytes_read += cut
                yield Block(self._line, pending[:cut])
                self._line += pending.count(b"\n", 0, cut)
                pending = pending[cut:]
            if not chunk:
                return

    def _regular_cut(self, pending: bytes, *, at_end: bool) -> int | None:
        """Return where the last whole record of `pending` ends; None if only the exact reader can tell."""
        if not at_end:
            cut = _regular_end(pending, self.delimiter)
            return None if cut == 0 and len(pending) > MAX_RECORD_BYTES else cut
        ended = pending if pending.endswith(b"\n") else pending + b"\n"
        return len(pending) if _regular_end(ended, self.delimiter) == len(ended) else None

    def _exact_blocks(self, pending: bytes) -> Iterator[Block]:
        """Read the rest of the file with Python's `csv`."""
        stream = io.BufferedReader(_Joined(pending, self._stream))
        lines = _Lines(io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline=""))
        yield from exact_blocks(lines, self.delimiter, self._line, self.remarks)


def parse_exactly(block: Block, delimiter: str, remarks: list[str]) -> list[Record]:
    """Return the records of a block as Python's `csv` reads them."""
    if block.records is not None:
        return block.records
    text = io.StringIO(block.data.decode("utf-8", "surrogateescape"), newline="")
    blocks = exact_blocks(_Lines(text), delimiter, block.line, remarks)
    return [record for part in blocks for record in part.records or []]


def exact_blocks(lines: _Lines, delimiter: str, line: int, remarks: list[str]) -> Iterator[Block]:
    """Yield blocks of records read with Python's `csv`."""
    records: list[Record] = []
    for cells in csv.reader(lines, delimiter=delimiter):
        raw = lines.take()
        records.append(Record(line, raw, cells))
        if raw.count('"') % 2 and lines.ended and "\n" in raw:
            remarks.append(
                f"line {line}: a quote is opened and never closed; the rest of the file is one cell"
            )
        line += raw.count("\n")
        if len(records) >= BLOCK_RECORDS:
            yield Block(records[0].line, b"", records)
            records = []
    if records:
        yield Block(records[0].line, b"", records)


class _Lines:
    """Lines for `csv.reader` that remember what was taken."""

    def __init__(self, file: Any) -> None:
        self._file = iter(file)
        self._taken: list[str] = []
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        try:
            line: str = next(self._file)
        except StopIteration:
            self.ended = True
            raise
        self._taken.append(line)
        return line

    def take(self) -> str:
        """Return the text taken since the last call."""
        raw, self._taken = "".join(self._taken), []
        return raw


class _Joined(io.RawIOBase):
    """Some bytes, and then a stream."""

    def __init__(self, first: bytes, stream: IO[bytes]) -> None:
        self._first = memoryview(first)
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._first:
            n = min(len(buffer), len(self._first))
            buffer[:n] = self._first[:n]
            self._first = self._first[n:]
            return n
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _regular_end(data: bytes, delimiter: str) -> int | None:
    """Return where the last whole record of `data` ends, 0 if there is none, None if quoting is odd.

    Quoting is regular where every quote that opens stands at the beginning of a cell, and every one
    that closes at the end of one; only then does counting quotes tell where records end.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(array == _QUOTE)
    if not len(quotes):
        return data.rfind(b"\n") + 1
    before = np.full(len(quotes), _LF, dtype=np.uint8)
    inner = quotes > 0
    before[inner] = array[quotes[inner] - 1]
    after = np.full(len(quotes), _LF, dtype=np.uint8)
    inner = quotes < len(array) - 1
    after[inner] = array[quotes[inner] + 1]
    separator = ord(delimiter)
    opening, closing = before[0::2], after[1::2]
    # A quote after a quote goes on with the cell: the two stand for one.
    begins = (opening == separator) | (opening == _LF) | (opening == _QUOTE)
    ends = (closing == separator) | (closing == _LF) | (closing == _CR) | (closing == _QUOTE)
    if not (begins.all() and ends.all()):
        return None
    line_ends = np.flatnonzero(array == _LF)
    outside = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _read_record(stream: IO[bytes]) -> bytes:
    """Return the beginning of a stream, at least its first whole record if there is one."""
    head = b""
    while True:
        chunk = stream.read(1 << 16)
        head += chunk
        if not chunk or _record_end(head):
            return head


def _record_end(head: bytes) -> int:
    """Return where the first record ends, 0 if it goes on."""
    start = 0
    while (at := head.find(b"\n", start)) >= 0:
        if head.count(b'"', 0, at) % 2 == 0:
            return at + 1
        start = at + 1
    return 0


def _first_record(head: bytes) -> tuple[bytes, bytes]:
    end = _record_end(head)
    if not end:
        # No line feed: the whole is the header, or lines end in carriage returns alone.
        at = head.find(b"\r")
        end = at + 1 if at >= 0 else len(head)
    return head[:end], head[end:]


def _sniff(record: bytes) -> str:
    """Return the delimiter that the header holds most often outside quotes."""
    bare = b"".join(record.split(b'"')[0::2])
    return max(DELIMITERS, key=lambda d: bare.count(d.encode()))


def as_utf8(
    stream: IO[bytes], name: str, encoding: str | None, what: str = "a CSV"
) -> tuple[IO[bytes], bytes, list[str]]:
    """Return a stream of UTF-8 bytes without a byte order mark, the mark, and remarks."""
    first = stream.read(BLOCK_BYTES)
    for signature, found in _SIGNATURES.items():
        if first.startswith(signature):
            raise InputError(f"{name}: this is not {what} but {found}")
    whole: IO[bytes] = io.BufferedReader(_Joined(first, stream))
    if encoding is None:
        if first.startswith(codecs.BOM_UTF8):
            whole.read(len(codecs.BOM_UTF8))
            return whole, codecs.BOM_UTF8, []
        encoding = _recognise(first)
        if encoding == "utf-8":
            return whole, b"", []
        remark = f"{name}: read as {encoding}; the result is UTF-8"
    else:
        try:
            encoding = codecs.lookup(encoding).name
            io.TextIOWrapper(io.BytesIO(), encoding)  # Not every codec is one of text.
        except LookupError:
            raise InputError(
                f"{name}: unknown encoding {encoding!r}; try utf-8, utf-16 or windows-1252"
            ) from None
        if encoding == "utf-8":
            return whole, b"", []
        remark = ""
    errors = "replace" if encoding == "cp1252" else "strict"
    text = io.TextIOWrapper(whole, encoding, errors, newline="")
    return io.BufferedReader(_Encoded(text, name, encoding)), b"", [remark] if remark else []


def _recognise(first: bytes) -> str:
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(first)
        return "utf-8"
    except UnicodeDecodeError:
        # Where some characters are proper UTF-8, the others are accidents and are kept as they are.
        proper = [c for c in first.decode("utf-8", "ignore") if ord(c) > 0x7F]
        return "utf-8" if proper else "cp1252"


class _Encoded(io.RawIOBase):
    """A text stream as UTF-8 bytes."""

    def __init__(self, text: io.TextIOWrapper, name: str, encoding: str) -> None:
        self._text, self._name, self._encoding = text, name, encoding
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready:
            try:
                self._ready = memoryview(self._text.read(1 << 18).encode("utf-8", "surrogatepass"))
            except UnicodeError as error:
                message = f"{self._name}: not valid {self._encoding} ({error}); name another --encoding"
                raise InputError(message) from error
        n = min(len(buffer), len(self._ready))
        buffer[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n
