from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwise import Predictor
from loopwise.service import csvblocks
from loopwise.service.classify import CsvClassifier, Options, Summary, write_results
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.csvblocks import Block, CsvSource
from loopwise.service.results import ResultRows

N_ADDED = len(RESULT_COLUMNS)


def classified(
    predictor: Predictor, data: bytes, *, exact: bool = False, **options: object
) -> tuple[bytes, Summary]:
    source = CsvSource.open(io.BytesIO(data), "test.csv")
    classifier = CsvClassifier(source, predictor.columns, Options(**options))  # type: ignore[arg-type]
    out = io.BytesIO()
    if exact:
        with patch.object(classifier, "_fast", return_value=None):
            summary = write_results(classifier, out)
    else:
        summary = write_results(classifier, out)
    return out.getvalue(), summary


def cells(data: bytes, delimiter: str = ",") -> list[list[str]]:
    text = data.decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


cell = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["007", "1.0", "NA", "null", " x ", 'a "b" c', "a,b", "x\r\ny", "\n", '"', "=1+1", "é", "\x00"]
    ),
)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 4))
    return [draw(st.lists(cell, min_size=width, max_size=width)) for _ in range(draw(st.integers(0, 8)))]


@settings(max_examples=150, deadline=None)
@given(
    rows=tables(),
    # With a bare line feed the writer leaves carriage returns unquoted, so there all is quoted.
    written=st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]),
)
def test_any_table_comes_back_cell_for_cell(
    predictor: Predictor, rows: list[list[str]], written: tuple[str, int]
) -> None:
    width = len(rows[0]) if rows else 1
    out = io.StringIO(newline="")
    line_end, quoting = written
    writer = csv.writer(out, lineterminator=line_end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["title", *(f"c{i}" for i in range(1, width))])
    writer.writerows(rows)
    data = out.getvalue().encode()
    result, summary = classified(predictor, data)
    back = cells(result)
    assert [row[:width] for row in back[1:]] == cells(data)[1:]
    assert all(len(row) == width + N_ADDED for row in back)
    assert summary.rows == len(rows) == summary.quadrants.total()


@settings(max_examples=150, deadline=None)
@given(data=st.one_of(tables().map(str), st.text(st.sampled_from("ab ,;\"\n\r'é\t"), max_size=80)))
def test_the_fast_and_the_exact_reader_write_the_same_bytes(predictor: Predictor, data: str) -> None:
    raw = b"title,b\n" + data.encode()
    fast, fast_summary = classified(predictor, raw)
    exact, exact_summary = classified(predictor, raw, exact=True)
    assert fast == exact
    assert fast_summary == exact_summary


@settings(max_examples=60, deadline=None)
@given(rows=tables(), size=st.integers(8, 200), jobs=st.integers(1, 3))
def test_block_size_and_jobs_do_not_change_the_result(
    predictor: Predictor, rows: list[list[str]], size: int, jobs: int
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(
        [["title"] + ["b"] * (len(rows[0]) - 1 if rows else 0), *rows]
    )
    data = out.getvalue().encode()
    whole, _ = classified(predictor, data)
    with patch.object(csvblocks, "BLOCK_BYTES", size):
        assert classified(predictor, data, jobs=jobs)[0] == whole


def kept(result: bytes) -> list[list[str]]:
    return [row[:-N_ADDED] if len(row) > N_ADDED else row for row in cells(result)[1:]]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'title,b\n"say ""hi"" now",1\n', [['say "hi" now', "1"]]),
        (b'title,b\n"two\r\nlines",1\r\n', [["two\r\nlines", "1"]]),
        (b"title,b\nno end,1", [["no end", "1"]]),
        (b"title,b\nlone return,1\r", [["lone return", "1"]]),
        (b'title,b\n5" pipe,1\n', [['5" pipe', "1"]]),
        (b"title,b\nnul\x00cell,1\n", [["nul\x00cell", "1"]]),
        (b"title,b\nlatin \xe9,\xc3\xa9\n", [["latin \udce9", "é"]]),
        (b"title,title\na,b\n", [["a", "b"]]),
        (b"title,b\n007, 1.0 \nNA,null\n", [["007", " 1.0 "], ["NA", "null"]]),
    ],
)
def test_odd_cells_are_kept_to_the_character(
    predictor: Predictor, data: bytes, expected: list[list[str]]
) -> None:
    assert kept(classified(predictor, data)[0]) == expected


def test_a_byte_order_mark_and_semicolons(predictor: Predictor) -> None:
    result, _ = classified(predictor, b"\xef\xbb\xbftitle;b\r\nFix the test;1\r\n")
    assert result.startswith(b"\xef\xbb\xbftitle;b;loop;")
    assert cells(result, ";")[1][:3] == ["Fix the test", "1", "code"]
    assert result.endswith(b"\r\n")


def test_utf_16_and_windows_1252_are_recognised_and_said(predictor: Predictor) -> None:
    for encoding, name in (("utf-16", "utf-16"), ("cp1252", "cp1252")):
        data = "title,b\nMenü prüfen – bald,1\n".encode(encoding)
        result, summary = classified(predictor, data)
        assert kept(result) == [["Menü prüfen – bald", "1"]]
        assert summary.remarks == [f"test.csv: read as {name}; the result is UTF-8"]


def test_blank_lines_are_kept_and_counted(predictor: Predictor) -> None:
    result, summary = classified(predictor, b"title,b\n\nFix the test,1\n\n")
    assert result.count(b"\n") == 4
    assert (summary.rows, summary.blank) == (1, 2)


def test_a_blank_line_of_a_one_column_file_is_a_row(predictor: Predictor) -> None:
    result, summary = classified(predictor, b"title\nFix\n\nBook\n")
    assert summary.rows == 3
    assert [row[0] for row in cells(result)[1:]] == ["Fix", "", "Book"]


def test_ragged_rows_keep_their_cells_and_are_named(predictor: Predictor) -> None:
    result, summary = classified(predictor, b"title,b\nshort\nlong,1,2,3\nfine,1\n")
    short, long, fine = cells(result)[1:]
    assert summary.ragged == [2, 3]
    assert short[:2] == ["short", ""]
    assert (long[:2], long[2 + N_ADDED :]) == (["long", "1"], ["2", "3"])
    assert {len(short), len(fine)} == {2 + N_ADDED}


def test_a_row_whose_text_columns_are_all_empty_is_a_row(predictor: Predictor) -> None:
    result, summary = classified(predictor, b"id,title,body\n1,Fix,now\n2,,\n3,Book,\n4,,late\n")
    assert [row[0] for row in cells(result)[1:]] == ["1", "2", "3", "4"]
    assert summary.rows == 4


def test_an_unclosed_quote_is_reported(predictor: Predictor) -> None:
    _, summary = classified(predictor, b'title,b\n"never closed,1\nnext,2\n')
    assert any("a quote is opened and never closed" in remark for remark in summary.remarks)


def test_a_large_cell_and_many_columns(predictor: Predictor) -> None:
    large = b"x" * 1_000_000
    assert kept(classified(predictor, b"title,b\n" + large + b",1\n")[0]) == [[large.decode(), "1"]]
    names = ",".join(["title", *(f"c{i}" for i in range(4999))]).encode()
    row = ",".join(str(i) for i in range(5000)).encode()
    assert len(cells(classified(predictor, names + b"\n" + row + b"\n")[0])[1]) == 5000 + N_ADDED


def test_memory_is_bounded_by_blocks_in_flight(predictor: Predictor) -> None:
    begun = []

    def blocks(self: CsvSource) -> Iterator[Block]:
        for line in range(50):
            begun.append(line)
            yield Block(line, b"Fix the test\n")

    source = CsvSource.open(io.BytesIO(b"title\n"), "test.csv")
    classifier = CsvClassifier(source, predictor.columns, Options(jobs=2))
    with patch.object(CsvSource, "blocks", blocks):
        next(classifier.run())
        assert len(begun) <= 2 * 2 + 1


@pytest.mark.parametrize("ragged", [b"", b"2\n3,Book,a,b\n"])
def test_an_observer_sees_every_row_with_its_results(predictor: Predictor, ragged: bytes) -> None:
    data = b"id,title,body\n1,Fix the test,now\n" + ragged
    source = CsvSource.open(io.BytesIO(data), "test.csv")
    classifier = CsvClassifier(source, predictor.columns, Options(), with_rows=True)
    seen: list[ResultRows] = []
    write_results(classifier, io.BytesIO(), on_results=seen.append)
    expected = [["1", "Fix the test", "now"], ["2", "", ""], ["3", "Book", "a"]]
    assert [row for block in seen for row in block.rows] == expected[: 3 if ragged else 1]
    assert seen[0].header == ["id", "title", "body"]
    assert seen[0].texts[0] == "Fix the test\n\nnow"
    assert seen[0].results.column_names == list(RESULT_COLUMNS)
    assert seen[0].results["loop"][0].as_py() == "code"
