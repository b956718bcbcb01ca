from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwise import Predictor
from loopwise.errors import InputError, UsageError
from loopwise.service.backlog_texts import read_texts
from loopwise.service.backlogs import Reading, Writing, open_backlog, route_backlog
from loopwise.service.plaintext import (
    MAX_MARKUP_LENGTH,
    html_to_text,
    looks_like_html,
    markdown_to_text,
    to_text,
    wiki_to_text,
)
from loopwise.service.readers import guess_kind
from loopwise.service.tables import Table
from tests.conftest import ROOT, Run
from tests.strategies import texts as any_text

EXAMPLES = ROOT / "data" / "examples"
#: All but the note about them.
SAMPLES = sorted(path.name for path in EXAMPLES.iterdir() if path.name != "README.md")
#: What each sample is taken for, and which columns are read.
EXPECTED = {
    "asana.csv": ("Asana CSV", ["Name", "Notes"], 7),
    "azure.csv": ("Azure Boards CSV", ["Title 1", "Title 2", "Description"], 6),
    "backlog.csv": ("CSV", ["title", "description"], 64),
    "checklist.md": ("Markdown checklist", ["task"], 10),
    "github.json": ("JSON, GitHub issues", ["title", "body"], 6),
    "harbour.csv": ("CSV", ["title"], None),
    "jira.csv": ("Jira CSV", ["Summary", "Description"], 8),
    "linear.csv": ("Linear CSV", ["Title", "Description"], 7),
    "tasks-excel.csv": ("CSV with ';'", ["task"], 6),
    "tasks-windows-1252.csv": ("CSV with ';'", ["task"], 6),
    "tasks.jsonl": ("JSON Lines", ["task"], 6),
    "tasks.parquet": ("Parquet", ["task"], 6),
    "tasks.tsv": ("TSV", ["task"], 6),
    "tasks.xlsx": ("XLSX", ["Title", "Details"], 6),
    "todo.txt": ("todo.txt", ["task"], 9),
    "trello.json": ("Trello board", ["name", "desc"], 7),
}


def read(path: Path, source: str | None = None, sheet: str | None = None) -> tuple[Table, list[list[str]]]:
    with open_backlog(str(path), Reading(source, sheet=sheet)) as backlog:
        assert isinstance(backlog.source, Table)
        return backlog.source, [row for chunk in backlog.source.read() for row in chunk.cells]


def written(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_known_and_its_text_is_found(name: str) -> None:
    assert name in EXPECTED, "a new sample: say in EXPECTED what it should be taken for"
    table = read_texts(str(EXAMPLES / name))
    kind, columns, n_rows = EXPECTED[name]
    assert (table.kind, table.text_columns) == (kind, columns)
    assert n_rows in (None, len(table.rows))
    assert any(row.text for row in table.rows)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_classifies_with_no_options(predictor: Predictor, name: str, tmp_path: Path) -> None:
    said: list[str] = []
    total = route_backlog(
        str(EXAMPLES / name), predictor, writing=Writing(str(tmp_path / "out.csv")), say=said.append
    )
    kind, columns, n_rows = EXPECTED[name]
    assert said == [f"reading {EXAMPLES / name} as {kind}, text from: {', '.join(columns)}"]
    assert n_rows in (None, total.rows)
    assert total.written == total.rows > 0


def test_every_sample_has_a_note() -> None:
    note = (EXAMPLES / "README.md").read_text("utf-8")
    assert [name for name in SAMPLES if f"`{name}`" not in note] == []


# --- JSON ---------------------------------------------------------------------------------------


def test_json_cells_are_the_values_as_they_are_written(tmp_path: Path) -> None:
    first = '{"title": "Fix", "n": 1.10, "big": 12345678901234567890, "ok": true, "none": null}'
    data = f'[{first}, {{"x": [1, "a"]}}]'
    table, rows = read(written(tmp_path, "a.json", data))
    assert table.header == ["title", "n", "big", "ok", "none", "x"]
    assert rows == [["Fix", "1.10", "12345678901234567890", "true", "", ""], ["", "", "", "", "", "1, a"]]


def test_github_labels_and_people_are_named() -> None:
    table, rows = read(EXAMPLES / "github.json")
    row = dict(zip(table.header, rows[0], strict=True))
    assert (row["labels"], row["assignees"], row["milestone"]) == ("bug, cli", "example-dev", "v0.9")


def test_a_list_may_stand_under_a_name(tmp_path: Path) -> None:
    table, rows = read(written(tmp_path, "a.json", '{"total": 1, "issues": [{"title": "Fix"}]}'))
    assert rows == [["Fix"]]
    assert table.remarks == [f"{tmp_path / 'a.json'}: the tasks are those under 'issues'"]


def test_strings_are_tasks(tmp_path: Path) -> None:
    table, rows = read(written(tmp_path, "a.json", '["Fix the test", "Book the vet"]'))
    assert (table.header, rows) == (["text"], [["Fix the test"], ["Book the vet"]])


def test_json_lines_named_json_are_recognised(tmp_path: Path) -> None:
    long = "x" * 40_000
    table, rows = read(written(tmp_path, "a.json", f'{{"title": "{long}"}}\n\n{{"title": "b", "c": 1}}\n'))
    assert table.kind == "JSON Lines"
    assert [row[1] for row in rows] == ["", "1"]


def test_json_in_utf_16_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    data = '[{"title": "Menü prüfen"}]'
    assert read(written(tmp_path, "a.json", data.encode("utf-16")))[1] == [["Menü prüfen"]]
    assert read(written(tmp_path, "b.json", data.encode("utf-8-sig")))[1] == [["Menü prüfen"]]


def test_half_characters_in_json_are_replaced_and_said(tmp_path: Path) -> None:
    table, rows = read(written(tmp_path, "a.json", r'[{"title": "a\ud83d b"}]'))
    assert rows == [["a? b"]]
    assert "1 cells hold half a character" in table.remarks[0]


def test_archived_cards_are_routed_and_said() -> None:
    table, rows = read(EXAMPLES / "trello.json")
    assert [row[table.header.index("archived")] for row in rows].count("true") == 2
    assert any("2 of 7 cards are archived; they are routed too" in remark for remark in table.remarks)
    # A label without a name is its colour.
    assert [row[table.header.index("labels")] for row in rows][4] == "red, people"
    assert rows[2][table.header.index("list")] == "Ideas"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", '[{"title": "x",}]', "line 1, column 16: this is not valid JSON"),
        ("a.jsonl", '{"title": "x"}\n{"title": \n', "line 2, column 11: this is not valid JSON"),
        ("a.jsonl", '{"title": "x"}\n7\n', "line 2 is not an object with names and values"),
        ("a.json", "7", "a list of tasks was expected, not a single value"),
        ("a.json", '{"a": [1], "b": [2]}', "the lists in this JSON object: 'a', 'b'"),
        ("a.json", "[]", "the file holds no tasks"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "title\nx\n", "line 1, column 1: this is not valid JSON"),
        ("a.parquet", "PAR1 and no more", "this is not a readable Parquet file"),
        ("a.xlsx", b"PK\x03\x04 and no more", "this is not a readable XLSX workbook"),
        ("a.md", "# Only words\n\nNothing to do.\n", "there is no checklist in this Markdown"),
        ("todo.txt", "\n\n", "the file is empty; a task a line was expected"),
        ("a.pdf", b"%PDF-1.7 x", "this is not a CSV but a PDF"),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_refused_with_the_place(
    tmp_path: Path, name: str, data: str | bytes, message: str
) -> None:
    with (
        pytest.raises(InputError, match=message.replace("[", r"\[")),
        open_backlog(str(written(tmp_path, name, data)), Reading()),
    ):
        pass


def test_an_unknown_source_lists_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--from excel: there is none such; choose of: csv, json"):
        read(written(tmp_path, "a.csv", "title\nx\n"), "excel")


# --- Parquet, XLSX, plain text ------------------------------------------------------------------


def test_parquet_cells_are_text_and_dates_are_iso() -> None:
    table, rows = read(EXAMPLES / "tasks.parquet")
    assert dict(zip(table.header, rows[2], strict=True))["estimate_days"] == ""
    assert rows[0][-2:] == ["2026-11-01", "team, infra"]


def test_a_sheet_is_named_and_a_wrong_one_lists_the_others() -> None:
    table, rows = read(EXAMPLES / "tasks.xlsx")
    assert rows[2][1] == "=HYPERLINK-like titles stay text"
    assert rows[0][3] == "2026-12-01 00:00:00"
    assert any("read the sheet 'Backlog' of 2" in remark for remark in table.remarks)
    assert any("1 empty rows" in remark for remark in table.remarks)
    assert read(EXAMPLES / "tasks.xlsx", sheet="Notes")[0].header == ["not a backlog"]
    with pytest.raises(UsageError, match="there is no sheet 'X'; the sheets are: 'Backlog', 'Notes'"):
        read(EXAMPLES / "tasks.xlsx", sheet="X")


def test_todo_txt_keeps_the_line_and_tells_its_parts() -> None:
    table, rows = read(EXAMPLES / "todo.txt")
    assert dict(zip(table.header, rows[0], strict=True)) == {
        "line": "(A) 2026-11-12 Call the insurer about the water damage +house @phone due:2026-11-27",
        "done": "false",
        "priority": "A",
        "completed": "",
        "created": "2026-11-12",
        "task": "Call the insurer about the water damage +house @phone due:2026-11-27",
        "projects": "house",
        "contexts": "phone",
    }
    assert rows[5][1:6] == ["true", "", "2026-11-18", "2026-11-01", "Update the router firmware +homelab"]


def test_a_checklist_knows_its_sections_levels_and_continued_lines() -> None:
    table, rows = read(EXAMPLES / "checklist.md")
    assert rows[1] == ["Website", "true", "1", "Redirect the old URLs"]
    assert rows[3] == ["Website", "false", "2", "script for **WebP**"]
    assert rows[7][3].endswith("one sentence each\nand send a reminder after a week")
    assert not any("this is no task" in row[3] for row in rows)
    assert any("5 lines that are no task are left out" in remark for remark in table.remarks)


def test_a_list_without_boxes_is_a_list_of_tasks(tmp_path: Path) -> None:
    table, rows = read(written(tmp_path, "a.md", "Intro\n\n- Fix the test\n- Book the vet\n"))
    assert [row[3] for row in rows] == ["Fix the test", "Book the vet"]
    assert any("every list item is a task" in remark for remark in table.remarks)


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("-", b"title,b\n1,2\n", "csv"),
        ("", b'[{"title": 1}]', "json"),
        ("", b'{"title": 1}\n{"title": 2}\n', "jsonl"),
        ("", b"- [ ] Fix\n- [x] Book\n", "markdown"),
        ("", b"[x] is how it begins,title\n", "csv"),
        ("", b"PAR1rest", "parquet"),
        ("a.csv", b'[{"title": 1}]', "csv"),
        ("a.jsonl", b'[{"title": 1}]', "json"),
        ("a.json.gz", b'[{"title": 1}]', "json"),
        ("a.txt", b"Fix the test\nBook the vet\n", "todo"),
        ("a.txt", b"id;title\n1;Fix\n", "csv"),
        ("A.XLSX", b"PK\x03\x04", "xlsx"),
    ],
)
def test_a_file_is_known_by_its_name_and_its_beginning(name: str, head: bytes, kind: str) -> None:
    assert guess_kind(name, head, ("title", "text")) == kind


@settings(max_examples=60, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=200), st.text(st.sampled_from('[]{}",:\n-x ]'), max_size=60).map(str.encode)
    )
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.md", "a.txt", "a.xlsx", "a.parquet", "a"])
def test_no_file_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    path = written(tmp_path_factory.getbasetemp(), name, data)
    try:
        with open_backlog(str(path), Reading()) as backlog:
            if isinstance(backlog.source, Table):
                width = len(backlog.source.header)
                assert all(len(row) == width for chunk in backlog.source.read() for row in chunk.cells)
            else:
                list(backlog.source.blocks())
    except InputError as error:
        assert str(error).startswith(str(path))


# --- Markup -------------------------------------------------------------------------------------


def test_html_becomes_lines_and_code_stays_between_backticks() -> None:
    html = "<div>As a <b>user</b>&nbsp;I want</div><ul><li>one</li><li><code>x()</code></li></ul>"
    html += "<style>a{}</style>"
    assert html_to_text(html) == "As a user I want\n\none\n\n`x()`"


@pytest.mark.parametrize(
    "sentence",
    [
        "Fix the closing </div> in the header",
        "<div> is never closed in <Header>",
        "a < b and c > d",
        "Use List<String> and Map<K, V>",
        "<p> tags are missing",
        "",
    ],
)
def test_a_sentence_about_tags_is_scored_unchanged(sentence: str) -> None:
    assert not looks_like_html(sentence)
    assert to_text(sentence, None) == sentence


@settings(max_examples=200, deadline=None)
@given(any_text.filter(lambda text: "<" not in text))
def test_plain_text_is_scored_unchanged(text: str) -> None:
    assert to_text(text, None) == text


def test_markdown_is_reduced_to_its_words() -> None:
    markdown = "## Steps\n\n- [ ] one **two**\n- [x] `code` [a link](http://a)\n\n![shot](x.png)\n\n"
    markdown += "```py\nx = 1\n```\n"
    assert markdown_to_text(markdown) == "Steps\none two\n`code` a link\nshot\n`x = 1`"


def test_wiki_markup_is_reduced_to_its_words() -> None:
    wiki = (
        "h2. Steps\n* one *bold* {{x_y}}\n## two [docs|http://a] [~mira]\n{code:java}\nint x;\n{code}\n"
        "||a||b||\n|1|2|\n{color:red}red{color} !shot.png|thumbnail!"
    )
    expected = "Steps\none bold `x_y`\ntwo docs mira\n`int x;`\na b\n1 2\nred shot.png"
    assert wiki_to_text(wiki) == expected


def test_wiki_markup_leaves_names_sums_and_ranges_alone() -> None:
    for text in ("snake_case_name", "a*b*c", "2+3+4", "-1 degrees", "5 - 3", "set {x} of [1, 2]"):
        assert wiki_to_text(text) == text


@settings(max_examples=100, deadline=None)
@given(any_text, st.sampled_from(["html", "markdown", "wiki"]))
def test_any_text_survives_each_markup(text: str, markup: str) -> None:
    assert isinstance(to_text(text, markup), str)  # type: ignore[arg-type]


def test_only_the_beginning_of_a_huge_cell_is_read_as_markup() -> None:
    for markup in ("html", "markdown", "wiki"):
        text = to_text("word " * 200_000 + "{code}", markup)
        assert len(text) <= MAX_MARKUP_LENGTH


def test_markup_is_taken_off_for_scoring_only(predictor: Predictor) -> None:
    table = read_texts(str(EXAMPLES / "jira.csv"))
    assert "{code" not in table.rows[0].text
    assert "`assertEquals(SOLD, seat.state());`" in table.rows[0].text
    assert "{code:java}" in table.rows[0].cells["Description"]


def test_a_column_asked_for_by_name_means_all_of_that_name() -> None:
    table = read_texts(str(EXAMPLES / "jira.csv"), ["Summary", "Comment"])
    assert "build 4.18.2" in table.rows[0].text
    assert "refund is partial" in table.rows[0].text


def test_csv_is_taken_as_plain_csv_if_that_is_said() -> None:
    assert "{code:java}" in read_texts(str(EXAMPLES / "jira.csv"), source="csv").rows[0].text


def test_labels_are_added_from_json_lines_and_xlsx(loopwise: Run, tmp_path: Path) -> None:
    rows = [
        {"text": "Fix the flaky test", "loop": "code", "mode": "autonomous"},
        {"text": "Talk to the vet", "loop": "knowledge", "mode": "interactive"},
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = loopwise("labels", "add", "labels.jsonl")
    assert done.stdout.startswith("2 added")
    assert "reading labels.jsonl as JSON Lines, text from: text" in done.stderr


def test_a_bad_label_in_json_lines_is_named_by_its_line(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text(
        '{"text": "a", "loop": "code"}\n\n{"text": "b", "loop": "music"}\n'
    )
    done = loopwise("labels", "add", "labels.jsonl")
    assert "labels.jsonl: line 3 is refused: the loop 'music' is neither code nor knowledge" in done.stderr


def test_monitor_reads_a_board(loopwise: Run) -> None:
    done = loopwise("monitor", EXAMPLES / "trello.json", "--json")
    assert done.returncode == 0, done.stderr
    assert "as Trello board, text from: name, desc" in done.stderr
