"""What is written: every format, which rows, which files; nothing is lost on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwise import Predictor
from loopwise.errors import InputError, LoopwiseError, MissingExtraError, UsageError
from loopwise.service.backlogs import Reading, Writing, route_backlog, safe_names
from loopwise.service.classify import Options, Summary, harmless
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.results import ResultRows
from loopwise.service.routes import Routes
from loopwise.service.writers import CsvWriter, unique_names
from tests.conftest import ROOT, SOAK, Run

EXAMPLES = ROOT / "data" / "examples"
N_ADDED = len(RESULT_COLUMNS)
BACKLOG = "id,title\n1,Fix the flaky test\n2,Talk to the vet about the dog\n3,Bump eslint to 9\n"


def route(
    predictor: Predictor,
    folder: Path,
    data: bytes | str,
    output: str = "out.csv",
    name: str = "in.csv",
    *,
    reading: Reading | None = None,
    options: Options | None = None,
    **writing: object,
) -> tuple[Path, Summary]:
    """Classify some bytes to a file in a folder."""
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    target = folder / output
    wanted = Writing(None if "split" in writing else str(target), **writing)  # type: ignore[arg-type]
    return target, route_backlog(
        str(path), predictor, reading=reading or Reading(), writing=wanted, options=options or Options()
    )


def rows_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


# --- Formats ------------------------------------------------------------------------------------

cell = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    st.sampled_from(
        ["007", "1.0", "NA", "null", " x ", 'a "b"', "a,b", "x\r\ny", "=1+1", "\x00", "|", "\\", "_x0041_"]
    ),
)
table = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6)
)


def read_back(path: Path) -> list[list[str]]:
    """Return header and rows of a written file, as text."""
    if path.suffix in (".csv", ".tsv"):
        return rows_of(path, "\t" if path.suffix == ".tsv" else ",")
    if path.suffix == ".parquet":
        found = pq.read_table(path)
        return [found.column_names, *(list(map(str, row.values())) for row in found.to_pylist())]
    if path.suffix == ".xlsx":
        from openpyxl.utils.escape import unescape

        sheet = openpyxl.load_workbook(path).active
        return [
            ["" if c is None else unescape(str(c)) for c in row] for row in sheet.iter_rows(values_only=True)
        ]
    text = path.read_text("utf-8")
    objects = (
        json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n")[:-1]]
    )
    return [list(objects[0]), *(list(map(str, o.values())) for o in objects)]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx"])
@settings(max_examples=300 if SOAK else 15, deadline=None)
@given(rows=table)
def test_any_table_comes_back_cell_for_cell_in_every_format(
    predictor: Predictor, tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    header = ["title", *(f"c{i}" for i in range(1, len(rows[0])))]
    data = "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows)
    target, total = route(predictor, folder, data, "out" + ending, "in.jsonl")
    back = read_back(target)
    assert back[0] == [*header, *RESULT_COLUMNS]
    assert [row[: len(header)] for row in back[1:]] == rows
    assert total.rows == total.written == len(rows)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx"])
@settings(max_examples=300 if SOAK else 10, deadline=None)
@given(rows=table)
def test_what_we_write_we_read(
    predictor: Predictor, tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("again")
    names = ["title", *(f"c{i}" for i in range(1, len(rows[0])))]
    data = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    target, _ = route(predictor, folder, data, "out" + ending, "in.jsonl")
    seen: list[ResultRows] = []
    again = Writing(str(folder / "again.jsonl"))
    options = Options(replace=True)
    route_backlog(str(target), predictor, writing=again, options=options, on_results=seen.append)
    assert [row for block in seen for row in block.rows] == rows


@pytest.mark.parametrize("ending", [".tsv", ".json", ".jsonl", ".parquet", ".xlsx", ".md"])
def test_every_format_says_the_same(predictor: Predictor, tmp_path: Path, ending: str) -> None:
    as_csv, _ = route(predictor, tmp_path, BACKLOG)
    target, _ = route(predictor, tmp_path, BACKLOG, "out" + ending)
    expected = rows_of(as_csv)
    if ending == ".md":
        lines = target.read_text().splitlines()
        found = [[c.strip() for c in line.strip("|").split(" | ")] for line in (lines[0], *lines[2:])]
        found = [[c.replace("\\|", "|") for c in row] for row in found]
    else:
        found = read_back(target)
    for row, wanted in zip(found, expected, strict=True):
        for i, (one, other) in enumerate(zip(row, wanted, strict=True)):
            if wanted is expected[0] or i not in (3, 5):
                assert one == other
            else:
                assert float(one) == float(other)


def test_json_goes_out_as_it_came_in(predictor: Predictor, tmp_path: Path) -> None:
    data = '{"title": "Fix", "n": 1.10, "big": 1e400, "deep": {"a": [1, null]}}\n'
    data += '{"title": "Book", "x": "\\ud83d"}\n'
    target, _ = route(predictor, tmp_path, data, "out.jsonl", "in.jsonl")
    lines = target.read_text().splitlines()
    assert lines[0].startswith(
        '{"title": "Fix", "n": 1.10, "big": 1e400, "deep": {"a": [1, null]}, "loop": "'
    )
    assert lines[1].startswith('{"title": "Book", "x": "\\ud83d", "loop": "')
    assert isinstance(json.loads(lines[0])["loop_confidence"], float)


def test_an_indented_json_array_goes_out_item_by_item(predictor: Predictor, tmp_path: Path) -> None:
    data = json.dumps([{"title": "Fix\nit", "n": {"a": 1}}, {"title": "Book"}], indent=2)
    target, _ = route(predictor, tmp_path, data, "out.json", "in.json")
    assert target.read_text().startswith('[\n{"title": "Fix\\nit", "n": { "a": 1 }, "loop": "')
    assert [o["title"] for o in json.loads(target.read_text())] == ["Fix\nit", "Book"]


def test_replaced_members_leave_the_object(predictor: Predictor, tmp_path: Path) -> None:
    data = '{"loop": "old", "title": "Fix the test"}\n'
    with pytest.raises(UsageError, match="the column loop would be written twice"):
        route(predictor, tmp_path, data, "out.jsonl", "in.jsonl")
    target, _ = route(predictor, tmp_path, data, "out.jsonl", "in.jsonl", options=Options(replace=True))
    assert target.read_text().startswith('{"title": "Fix the test", "loop": "code"')


def test_parquet_keeps_its_types(predictor: Predictor, tmp_path: Path) -> None:
    source = EXAMPLES / "tasks.parquet"
    target = tmp_path / "out.parquet"
    route_backlog(str(source), predictor, writing=Writing(str(target)))
    before, after = pq.read_table(source), pq.read_table(target)
    assert after.select(before.column_names).equals(before)
    assert after.schema.field("loop_confidence").type == pa.float64()


def test_a_workbook_holds_text_only(predictor: Predictor, tmp_path: Path) -> None:
    data = 'title,n\n=1+1,007\n#N/A,2026-01-01\n"a\x01b",\n'
    target, _ = route(predictor, tmp_path, data, "out.xlsx")
    sheet = openpyxl.load_workbook(target).active
    assert [[c.data_type for c in row[:2]] for row in sheet.iter_rows(min_row=2, max_row=3)] == [
        ["s", "s"]
    ] * 2
    assert [c.value for c in sheet["A"]] == ["title", "=1+1", "#N/A", "a_x0001_b"]


def test_what_a_workbook_cannot_hold_is_refused_with_the_place(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="row 2 holds 40000 characters in 'title', and an XLSX cell holds 32767"
    ):
        route(predictor, tmp_path, "title\nFix\n" + "x" * 40_000 + "\n", "out.xlsx")
    names = ",".join(["title", *(f"c{i}" for i in range(16_400))])
    with pytest.raises(InputError, match="16408 columns, and an XLSX sheet holds 16384; write CSV"):
        route(predictor, tmp_path, names + "\n", "out.xlsx")
    assert not (tmp_path / "out.xlsx").exists()


def test_duplicate_names_get_a_number_where_a_name_can_stand_once(
    predictor: Predictor, tmp_path: Path
) -> None:
    assert unique_names(["a", "a", "b", "a (2)", "a"]) == ["a", "a (3)", "b", "a (2)", "a (4)"]
    target, _ = route(predictor, tmp_path, "title,Labels,Labels\nFix,x,y\n", "out.jsonl")
    assert list(json.loads(target.read_text()))[:3] == ["title", "Labels", "Labels (2)"]


def test_surplus_cells_are_refused_where_there_is_no_place_for_them(
    predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="line 3 has 3 cells and the header has 2; only a CSV has a place"):
        route(predictor, tmp_path, "title,b\nFix,1\nBook,1,2\n", "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("ending", [".parquet", ".xlsx"])
def test_a_refused_row_is_one_clear_line_in_every_format(loopwise: Run, tmp_path: Path, ending: str) -> None:
    (tmp_path / "in.csv").write_text("title,b\nFix,1\nBook,1,2\n")
    done = loopwise("classify", "in.csv", "-o", "out" + ending)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "line 3 has 3 cells and the header has 2" in done.stderr
    assert [p.name for p in tmp_path.iterdir() if p.name != "home"] == ["in.csv"]


def test_short_rows_are_filled(predictor: Predictor, tmp_path: Path) -> None:
    target, total = route(predictor, tmp_path, "title,b\nFix\n\nBook,1\n", "out.jsonl")
    assert [json.loads(line)["b"] for line in target.read_text().splitlines()] == ["", "1"]
    assert (total.ragged, total.blank) == ([2], 1)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".parquet", ".xlsx", ".md"])
def test_a_header_alone_gives_a_file_without_rows(predictor: Predictor, tmp_path: Path, ending: str) -> None:
    target, total = route(predictor, tmp_path, "title,b\n", "out" + ending)
    assert total.rows == total.written == 0
    if ending == ".json":
        assert json.loads(target.read_text()) == []
    elif ending == ".jsonl":
        assert target.read_text() == ""
    elif ending == ".md":
        assert len(target.read_text().splitlines()) == 2
    else:
        assert read_back(target) == [["title", "b", *RESULT_COLUMNS]]


def test_an_unknown_format_lists_those_that_exist(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no format 'doc'; the formats are: csv, tsv, json"):
        route(predictor, tmp_path, BACKLOG, format="doc")


def test_corrections_are_empty_in_every_format(predictor: Predictor, tmp_path: Path) -> None:
    for ending in (".csv", ".jsonl", ".xlsx"):
        target, _ = route(predictor, tmp_path, BACKLOG, "out" + ending, options=Options(for_review=True))
        assert read_back(target)[0][-2:] == ["loop_correct", "mode_correct"]
        assert read_back(target)[1][-2:] == ["", ""]


# --- Formulas -----------------------------------------------------------------------------------


def routes(predictor: Predictor, name: str) -> Routes:
    table = predictor.routes.table
    return Routes({key: type(value)(name, value.why) for key, value in table.items()})


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
@pytest.mark.parametrize("data", [BACKLOG, "title,b\nFix\nBook,1\n"])
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_our_cells_are_never_run_and_the_users_stay_as_they_are(
    predictor: Predictor, tmp_path: Path, start: str, data: str, ending: str
) -> None:
    dangerous = Predictor(predictor.model, routes(predictor, start + "cmd()"), predictor.settings)
    target, _ = route(dangerous, tmp_path, data.replace("Fix", "=Fix"), "out" + ending)
    header, *rows = rows_of(target, "\t" if ending == ".tsv" else ",")
    assert {row[header.index("route")] for row in rows} == {"'" + start + "cmd()"}
    assert any(row[header.index("title")].startswith("=Fix") for row in rows)


def test_a_prefix_that_begins_like_a_formula_is_made_harmless(predictor: Predictor, tmp_path: Path) -> None:
    target, _ = route(predictor, tmp_path, BACKLOG, options=Options(prefix="=x_"))
    assert rows_of(target)[0][2] == "'=x_loop"


def test_top_features_cannot_begin_like_a_formula(predictor: Predictor, tmp_path: Path) -> None:
    target, _ = route(predictor, tmp_path, "title\n=cmd|calc +1 @x -y\n")
    assert rows_of(target)[1][-1].startswith("loop: ")
    assert harmless("loop: =x") == "loop: =x"


# --- Which rows, which files --------------------------------------------------------------------

MIXED = (
    "id,title\r\n1,Fix the flaky test in CI\r\n2,Talk to the vet about the dog\r\n3,Bump eslint to 9\r\n"
    '4,"Decide, with the board, what to do"\r\n5,Sort the receipts into folders\r\n6,hm'
)


@pytest.mark.parametrize(
    ("only", "holds"),
    [
        (("code",), lambda r: r["loop"] == "code"),
        (("knowledge", "interactive"), lambda r: r["loop"] == "knowledge" and r["mode"] == "interactive"),
        (("code", "knowledge"), lambda r: True),
        (("review",), lambda r: r["review"] != ""),
        (("review", "autonomous"), lambda r: r["review"] != "" and r["mode"] == "autonomous"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".tsv"])
@pytest.mark.parametrize("ragged", ["", "\r\n7\r\n\r\n8,Book,surplus"])
def test_only_the_rows_that_are_asked_for_are_written(
    predictor: Predictor, tmp_path: Path, only: tuple[str, ...], holds: object, ending: str, ragged: str
) -> None:
    data = MIXED + (ragged if ending == ".csv" else "")
    whole, _ = route(predictor, tmp_path, data, "all.csv")
    target, total = route(predictor, tmp_path, data, "out" + ending, only=only)
    header, *rows = rows_of(whole)
    named = [dict(zip(header, row, strict=False)) for row in rows if row]
    expected = [row["id"] for row in named if holds(row)]  # type: ignore[operator]
    assert [row[0] for row in read_back(target)[1:]] == expected if expected else total.written == 0
    assert (total.rows, total.written + total.left_out) == (len(named), len(named))
    if ending == ".csv":
        lines = whole.read_bytes().split(b"\r\n")
        assert set(target.read_bytes().split(b"\r\n")) <= {*lines, b""}


def test_an_unknown_choice_lists_those_that_exist(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--only green: there is none such; choose of: review, code"):
        route(predictor, tmp_path, BACKLOG, only=("green",))


@pytest.mark.parametrize(("format", "ending"), [(None, ".csv"), ("jsonl", ".jsonl"), ("xlsx", ".xlsx")])
def test_split_writes_a_file_a_route_and_loses_nothing(
    predictor: Predictor, tmp_path: Path, format: str | None, ending: str
) -> None:
    _, total = route(predictor, tmp_path, MIXED, split=str(tmp_path / "new" / "routes"), format=format)
    files = sorted((tmp_path / "new" / "routes").iterdir())
    names = [path.name for path in files]
    assert names == sorted(
        n + ending for n in safe_names([r.name for r in predictor.routes.table.values()]).values()
    )
    ids = []
    for path in files:
        if path.stat().st_size:
            header, *rows = read_back(path)
            ids += [row[0] for row in rows]
            assert len({row[header.index("route")] for row in rows}) <= 1
    assert sorted(ids) == ["1", "2", "3", "4", "5", "6"]
    assert total.written == 6


def test_split_keeps_the_ending_of_tabs(predictor: Predictor, tmp_path: Path) -> None:
    route(predictor, tmp_path, "id\ttitle\n1\tFix\n", name="in.tsv", split=str(tmp_path / "routes"))
    assert {path.suffix for path in (tmp_path / "routes").iterdir()} == {".tsv"}


def test_file_names_of_routes_are_safe_and_different() -> None:
    names = safe_names(
        ["../../etc/passwd", "Claude Code", "claude-code", "CON", "日本", "", "a" * 200, "x\0y"]
    )
    assert list(names.values()) == [
        "etc-passwd", "claude-code", "claude-code-2", "route-con", "route", "route-2", "a" * 60, "x-y"
    ]  # fmt: skip


def test_split_and_output_exclude_each_other(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(BACKLOG)
    done = loopwise("classify", "in.csv", "--split", "routes", "-o", "out.csv")
    assert done.returncode == 2
    assert "--split writes a file a route into a folder, -o writes one file: choose one" in done.stderr
    assert not (tmp_path / "routes").exists()


def test_a_refused_split_leaves_no_file(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--strict"):
        route(
            predictor,
            tmp_path,
            "title,b\nFix,1\nx\n",
            split=str(tmp_path / "r"),
            options=Options(strict=True),
        )
    assert list((tmp_path / "r").iterdir()) == []


def test_a_dry_run_shows_ten_rows_and_writes_nothing(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("title\n" + "".join(f"Fix test number {i}\n" for i in range(30)))
    done = loopwise("classify", "in.csv", "--dry-run", "-o", "out.csv")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 11
    assert lines[0].split() == ["loop", "mode", "route", "review", "text"]
    assert lines[1].endswith("Fix test number 0")
    assert "a dry run: the first 10 rows are shown, nothing is written" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == ["in.csv"]


def test_a_dry_run_shows_only_what_is_asked_for(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("title\nTalk to the vet about the dog\nFix the flaky test in CI\n")
    done = loopwise("classify", "in.csv", "--dry-run", "--only", "code")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["loop", "code"]


# --- Rows in, rows out --------------------------------------------------------------------------


def test_a_lost_row_fails_loudly_and_no_file_is_kept(predictor: Predictor, tmp_path: Path) -> None:
    rows = CsvWriter.rows

    def lossy(self: CsvWriter, block: object) -> object:
        return list(rows(self, block))[1:]  # type: ignore[arg-type]

    def uncounted(self: CsvWriter, block: object) -> None:
        self.written += 2

    with (
        patch.object(CsvWriter, "write", uncounted),
        pytest.raises(LoopwiseError, match="3 rows were read, but 2 written and 0 left out") as caught,
    ):
        route(predictor, tmp_path, BACKLOG, "out.tsv")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out.tsv").exists()


# --- Nasty CSVs, each with its outcome ----------------------------------------------------------

NASTY: list[tuple[str, bytes, list[list[str]]]] = [
    ("quotes in quotes", b'title,b\n"say ""hi"" now","a ""b"""\n', [['say "hi" now', 'a "b"']]),
    ("CRLF in cells", b'title,b\r\n"two\r\nlines","x\ny"\r\n', [["two\r\nlines", "x\ny"]]),
    ("empty lines", b"title,b\n\nFix,1\n\n\nBook,2\n", [[], ["Fix", "1"], [], [], ["Book", "2"]]),
    ("NUL", b"title,b\nnul\x00cell,\x00\n", [["nul\x00cell", "\x00"]]),
    ("lone surrogates", b"title,b\nx\xed\xa0\x80y,\xc3\xa9\n", [["x\udced\udca0\udc80y", "é"]]),
    ("1 MB cell", b"title,b\n" + b"word " * 200_000 + b",1\n", [["word " * 200_000, "1"]]),
    ("BOM and semicolon", b"\xef\xbb\xbftitle;b\r\nFix, please;1\r\n", [["Fix, please", "1"]]),
    ("no trailing newline", b"title,b\nFix,1", [["Fix", "1"]]),
    ("header only", b"title,b\n", []),
    ("header only, no newline", b"title,b", []),
    ("latin-1 in one cell", b"title,b\nlatin \xe9,\xc3\xa9\n", [["latin \udce9", "é"]]),
    ("a lone quote", b'title,b\n5" pipe,1\n', [['5" pipe', "1"]]),
    ("carriage returns alone", b"title,b\rFix,1\rBook,2\r", [["Fix", "1"], ["Book", "2"]]),
    ("spaces and zeros", b"title,b\n007, 1.0 \nNA,null\n", [["007", " 1.0 "], ["NA", "null"]]),
    ("a formula", b"title,b\n=1+1,@x\n", [["=1+1", "@x"]]),
    ("duplicate names", b"title,title,title\na,b,c\n", [["a", "b", "c"]]),
]


@pytest.mark.parametrize(("data", "expected"), [case[1:] for case in NASTY], ids=[case[0] for case in NASTY])
def test_a_nasty_csv_keeps_every_cell(
    predictor: Predictor, tmp_path: Path, data: bytes, expected: list[list[str]]
) -> None:
    target, total = route(predictor, tmp_path, data)
    width = len(expected[0]) if expected and expected[0] else 2
    back = rows_of(target, ";" if b"title;" in data else ",")
    assert [row[:-N_ADDED] for row in back[1:]] == expected
    assert all(len(row) in (0, width + N_ADDED) for row in back)
    n_rows = sum(1 for row in expected if row)
    assert total.rows == total.written == n_rows
    assert total.blank == len(expected) - n_rows


def test_five_thousand_columns_come_back(predictor: Predictor, tmp_path: Path) -> None:
    names = ",".join(["title", *(f"c{i}" for i in range(4_999))])
    target, _ = route(predictor, tmp_path, names + "\n" + ",".join(map(str, range(5_000))) + "\n")
    assert rows_of(target)[1][:-N_ADDED] == [str(i) for i in range(5_000)]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".xlsx", ".md", ".tsv"])
@pytest.mark.parametrize(("data", "expected"), [c[1:] for c in NASTY if c[0] != "1 MB cell"])
def test_a_nasty_csv_loses_no_row_in_any_format(
    predictor: Predictor, tmp_path: Path, ending: str, data: bytes, expected: list[list[str]]
) -> None:
    _, total = route(predictor, tmp_path, data, "out" + ending)
    assert total.rows == total.written == sum(1 for row in expected if row)


def test_wrong_bytes_become_a_replacement_where_the_format_is_unicode(
    predictor: Predictor, tmp_path: Path
) -> None:
    target, total = route(predictor, tmp_path, b"title,b\nlatin \xe9,\xc3\xa9\n", "out.jsonl")
    assert json.loads(target.read_text())["title"] == "latin ?"
    assert any("1 cells hold bytes that are no UTF-8; written as ?" in remark for remark in total.remarks)


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8", None), ("utf-8-sig", None), ("utf-16", "utf-16"), ("cp1252", "cp1252")]
)
def test_encodings_are_recognised_and_said(
    predictor: Predictor, tmp_path: Path, encoding: str, said: str | None
) -> None:
    target, total = route(predictor, tmp_path, "title;b\r\nMenü prüfen – bald;1\r\n".encode(encoding))
    assert rows_of(target, ";")[1][:2] == ["Menü prüfen – bald", "1"]
    assert [said in remark for remark in total.remarks if said] == ([True] if said else [])


def test_an_encoding_that_is_named_is_used(predictor: Predictor, tmp_path: Path) -> None:
    data = "title,b\nПочинить тест,1\n".encode("koi8-r")
    target, _ = route(predictor, tmp_path, data, reading=Reading(encoding="koi8-r"))
    assert rows_of(target)[1][0] == "Починить тест"


def test_without_a_header_the_first_line_is_a_row(predictor: Predictor, tmp_path: Path) -> None:
    target, _ = route(
        predictor, tmp_path, "1|Fix the test\n2|Book\n",
        reading=Reading(delimiter="|", has_header=False), options=Options(text=("column2",)),
    )  # fmt: skip
    back = rows_of(target, "|")
    assert back[0][:2] == ["column1", "column2"]
    assert [row[:2] for row in back[1:]] == [["1", "Fix the test"], ["2", "Book"]]


def test_any_format_comes_through_a_pipe(loopwise: Run) -> None:
    done = loopwise("classify", "-", "--format", "jsonl", stdin='[{"title": "Fix the flaky test"}]')
    assert json.loads(done.stdout)["loop"] == "code"
    assert "reading standard input as JSON, text from: title" in done.stderr
    done = loopwise("classify", "-", "--format", "markdown", stdin="- [ ] Fix the flaky test\n")
    assert done.stdout.splitlines()[2].startswith("|  | false | 1 | Fix the flaky test | code |")


# --- Wrong options ------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", ["ab", '"', "\n", "§", "\0"])
def test_a_delimiter_that_cannot_be_one_is_refused(
    predictor: Predictor, tmp_path: Path, delimiter: str
) -> None:
    with pytest.raises(UsageError, match="will not do; give one ASCII character, no quote or line break"):
        route(predictor, tmp_path, BACKLOG, reading=Reading(delimiter=delimiter))


def test_a_codec_that_is_none_of_text_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown encoding 'hex'; try utf-8, utf-16 or windows-1252"):
        route(predictor, tmp_path, BACKLOG, reading=Reading(encoding="hex"))


def test_a_sheet_of_what_is_no_workbook_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--sheet names a sheet of a workbook, and this was taken for csv"):
        route(predictor, tmp_path, BACKLOG, reading=Reading(sheet="One"))


def test_a_missing_extra_is_named_with_its_command(predictor: Predictor, tmp_path: Path) -> None:
    with patch.dict("sys.modules", {"openpyxl": None}):
        with pytest.raises(MissingExtraError, match=r"to write XLSX, .*: pip install 'loopwise\[xlsx\]'"):
            route(predictor, tmp_path, BACKLOG, "out.xlsx")
        with pytest.raises(MissingExtraError, match=r"to read XLSX, .*: pip install 'loopwise\[xlsx\]'"):
            route_backlog(str(EXAMPLES / "tasks.xlsx"), predictor)
    assert not (tmp_path / "out.xlsx").exists()


# --- Scoring ------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", "ragged\n"])
def test_html_is_scored_as_its_text_and_written_as_it_is(
    predictor: Predictor, tmp_path: Path, more: str
) -> None:
    plain, _ = route(predictor, tmp_path, "title,b\nFix the flaky test,1\n" + more, "plain.csv")
    html, _ = route(predictor, tmp_path, "title,b\n<p>Fix the <b>flaky</b> test</p>,1\n" + more, "html.csv")
    assert rows_of(html)[1][0] == "<p>Fix the <b>flaky</b> test</p>"
    assert rows_of(html)[1][2:] == rows_of(plain)[1][2:]


def test_a_sentence_about_tags_is_scored_as_it_is(predictor: Predictor, tmp_path: Path) -> None:
    text = "Close the <div> in <Header>"
    target, _ = route(predictor, tmp_path, f"title\n{text}\n")
    expected = predictor.predict_many([text])
    assert rows_of(target)[1][1] == next(iter(expected)).loop.label


def test_every_format_of_a_backlog_gets_the_same_results(predictor: Predictor, tmp_path: Path) -> None:
    results = []
    for name in ("tasks.tsv", "tasks-excel.csv", "tasks-windows-1252.csv", "tasks.jsonl", "tasks.parquet"):
        target = tmp_path / "out.jsonl"
        route_backlog(str(EXAMPLES / name), predictor, writing=Writing(str(target)))
        rows = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
        results.append([[row[column] for column in RESULT_COLUMNS] for row in rows])
    assert all(result == results[0] for result in results)


def test_an_observer_sees_the_rows_of_every_format(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("jira.csv", "trello.json", "tasks.parquet", "todo.txt"):
        seen: list[ResultRows] = []
        total = route_backlog(
            str(EXAMPLES / name),
            predictor,
            writing=Writing(str(tmp_path / "out.csv")),
            on_results=seen.append,
        )
        assert sum(len(block.rows) for block in seen) == sum(len(block.texts) for block in seen) == total.rows
        assert all(len(row) == len(block.header) for block in seen for row in block.rows)
        assert all(block.results.column_names == list(RESULT_COLUMNS) for block in seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "unbuffered"), [("csv", "1"), ("jsonl", ""), ("jsonl", "1"), ("parquet", "")]
)
def test_a_reader_that_goes_away_is_quiet_and_exit_code_141(
    tmp_path: Path, format: str, unbuffered: str
) -> None:
    # All different, so that no packing makes the result fit into the pipe.
    rows = "".join(f"Fix the flaky test {i:x} of {i * 7919}\n" for i in range(60_000))
    (tmp_path / "big.csv").write_text("title\n" + rows)
    command = [sys.executable, "-m", "loopwise", "classify", "big.csv", "--format", format]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(5)
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(60) == 141
    assert said == "loopwise: reading big.csv as CSV, text from: title\n"
