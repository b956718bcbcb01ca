from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwise.errors import InputError, UsageError
from loopwise.service.cli import app
from loopwise.service.columns import RESULT_COLUMNS
from loopwise.service.facets import MAX_VALUES, NONE, OTHERS, find_facets, shown
from loopwise.service.page import QUADRANTS, PageBuilder, confidence, reasons_of, urgency
from loopwise.service.results import ResultRows
from loopwise.service.routes import Routes
from tests.conftest import ROOT

BACKLOG = ROOT / "data" / "examples" / "backlog.csv"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--<svg onload=alert(3)>]]>&amp;\"'"
#: Attributes through which a page can fetch something or run something.
FETCHING = {"src", "srcset", "data", "action", "poster", "background", "ping", "formaction", "xlink:href"}


class Parsed(HTMLParser):
    """The tags, attributes, text and scripts of a page, as a parser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.raw: dict[str, str] = {}
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self._inside = "data" if ("type", "application/json") in attrs else tag

    def handle_data(self, data: str) -> None:
        if self._inside in ("data", "script", "style"):
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        else:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    @property
    def data(self) -> Any:
        return json.loads(self.raw["data"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        data = self.data
        return [dict(zip(data["fields"], row, strict=True)) for row in data["rows"]]


def results(answers: Sequence[tuple[str, float, str, float, str]]) -> pa.Table:
    """Result columns for (loop, its confidence, mode, its confidence, review)."""
    columns: list[list[str]] = [[] for _ in RESULT_COLUMNS]
    for loop, loop_conf, mode, mode_conf, review in answers:
        cells = (loop, f"{loop_conf:.6f}", mode, f"{mode_conf:.6f}", review, "somewhere", "loop: a | mode: b")
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell)
    return pa.table([pa.array(c, pa.string()) for c in columns], names=list(RESULT_COLUMNS))


SURE = ("code", 0.99, "autonomous", 0.99, "")


def block(
    rows: Sequence[Sequence[str]],
    header: Sequence[str] = ("text",),
    answers: Sequence[tuple[str, float, str, float, str]] | None = None,
) -> ResultRows:
    """Rows with their results; the first column is the text."""
    own = [list(row) for row in rows]
    table = results(answers or [SURE] * len(own))
    return ResultRows(list(header), own, table, [row[0] for row in own], [header[0]])


def builder(*blocks: ResultRows, name: str = "tasks.csv", max_rows: int = 5000) -> PageBuilder:
    made = PageBuilder(name, Routes.shipped(), "shipped", max_rows)
    for one in blocks:
        made.add(one)
    return made


def page(*blocks: ResultRows, **options: Any) -> Parsed:
    return Parsed(builder(*blocks, **options).render())


def classify(*arguments: str | Path) -> None:
    app(["classify", *map(str, arguments)], standalone_mode=False)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_the_counts_are_those_of_the_routed_backlog(tmp_path: Path) -> None:
    classify(BACKLOG, "-o", tmp_path / "routed.csv", "--report", tmp_path / "page.html")
    with (tmp_path / "routed.csv").open(newline="", encoding="utf-8") as file:
        routed = list(csv.DictReader(file))
    seen = Parsed((tmp_path / "page.html").read_text("utf-8"))
    text = squeezed(seen.text)
    for loop, mode in QUADRANTS:
        of = [row for row in routed if (row["loop"], row["mode"]) == (loop, mode)]
        share = f"{100 * len(of) / len(routed):.0f}\u202f%"
        to_review = sum(bool(row["review"]) for row in of)
        assert squeezed(f"{len(of)} tasks: show them in the table {share} {to_review} to review") in text
    assert [row["title"] for row in seen.rows] == [row["title"] for row in routed]
    assert [QUADRANTS[row["quadrant"]] for row in seen.rows] == [(row["loop"], row["mode"]) for row in routed]
    assert [row["review"] for row in seen.rows] == [row["review"] for row in routed]
    assert [f"{row['loop']:.6f}" for row in seen.rows] == [row["loop_confidence"] for row in routed]
    assert [f"{row['mode']:.6f}" for row in seen.rows] == [row["mode_confidence"] for row in routed]
    assert f"{len(routed)} tasks, each" in text


def test_the_spread_over_people_and_labels_is_counted(tmp_path: Path) -> None:
    classify(BACKLOG, "-o", tmp_path / "routed.csv", "--report", tmp_path / "page.html")
    with (tmp_path / "routed.csv").open(newline="", encoding="utf-8") as file:
        routed = list(csv.DictReader(file))
    seen = Parsed((tmp_path / "page.html").read_text("utf-8"))
    assert [facet["name"] for facet in seen.data["facets"]] == ["assignee", "labels"]
    people = Counter(row["assignee"] for row in routed)
    for person, n in people.items():
        to_review = sum(bool(row["review"]) for row in routed if row["assignee"] == person)
        assert f"{person} {n} {to_review} " in squeezed(seen.text) + " "


@pytest.mark.parametrize("name", ["tasks.csv", f"{HOSTILE}.csv"])
def test_what_looks_like_markup_is_text(name: str) -> None:
    header = ("text", "id", f"labels{HOSTILE}", "assignee", "status")
    answers = [("code", 0.6, "interactive", 0.5, HOSTILE), SURE]
    rows = [(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE), ("Fix it", "2", "bug", "Tom", "open")]
    calm = [("Fix this", "1", "bugs", "Ana", "done"), rows[1]]
    seen = page(block(rows, header, answers), name=name)
    as_ever = page(
        block(calm, ("text", "id", "labels", "assignee", "status"), [(*answers[0][:4], "x"), SURE])
    )
    assert seen.tags["script"] == 2
    assert {tag for tag in seen.tags if tag not in as_ever.tags} == set()
    assert "img" not in seen.tags
    assert not any(attribute.startswith("on") for attribute, _ in seen.attributes)
    assert seen.rows[0]["title"] == seen.rows[0]["more"] + HOSTILE
    assert HOSTILE in seen.text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=8), st.text(min_size=1))
def test_any_text_comes_back_from_the_data_and_adds_no_tag(
    rows: list[tuple[str, str, str]], name: str
) -> None:
    made = builder(block(rows, ("text", "id", "assignee")), name=name)
    html = made.render()
    html.encode("utf-8", "replace").decode("utf-8")
    seen = Parsed(html)
    assert seen.tags["script"] == 2
    first_lines = [row[0].lstrip().partition("\n")[0] for row in rows]
    assert [row["title"] for row in seen.rows] == [shown(line, 200) for line in first_lines]


def test_nothing_comes_from_outside() -> None:
    seen = page(block([("see https://example.com/a.png", "Tom"), ("b", "Ana")], ("text", "assignee")))
    assert [pair for pair in seen.attributes if pair[0] in FETCHING] == []
    assert {value for name, value in seen.attributes if name == "href"} == {"#tasks"}
    assert seen.tags["link"] == seen.tags["iframe"] == seen.tags["base"] == 0
    assert re.findall(r"url\((?!#)|@import|@font-face", seen.raw["style"]) == []
    assert re.findall(r"fetch\(|XMLHttp|import\(|innerHTML|eval\(", seen.raw["script"]) == []
    assert not any(name == "style" for name, _ in seen.attributes)


def test_the_content_policy_allows_only_the_page_s_own_style_and_script() -> None:
    seen = page(block([("a",)]))
    policy = next(value for name, value in seen.attributes if "default-src" in value)
    own = {
        part: base64.b64encode(hashlib.sha256(seen.raw[part].encode()).digest()).decode()
        for part in ("style", "script")
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{own['style']}'; script-src 'sha256-{own['script']}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_same_backlog_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = "".join(f"task {i} fix the thing,P{i % 7},\n" for i in range(3000))
    (tmp_path / "in.csv").write_text("title,assignee,labels\n" + rows)
    for at, jobs in enumerate((1, 2, 2)):
        classify(
            tmp_path / "in.csv", "-o", tmp_path / "o.csv", "--report", tmp_path / f"{at}", "--jobs", str(jobs)
        )
    first, second, third = ((tmp_path / f"{at}").read_bytes() for at in range(3))
    assert first == second == third
    assert b"P6" in first


def test_what_would_run_unseen_is_reviewed_first_then_the_least_certain() -> None:
    low = "low confidence: mode"
    answers = [
        ("code", 0.99, "interactive", 0.20, low),
        ("code", 0.99, "autonomous", 0.90, low),
        ("code", 0.55, "autonomous", 0.99, "low confidence: loop"),
        ("code", 0.99, "interactive", 0.10, low),
        ("code", 0.51, "autonomous", 0.51, ""),
    ]
    made = builder(block([[f"t{i}"] for i in range(5)], answers=answers))
    assert [row.title for row in made.rows()] == ["t2", "t1", "t3", "t0", "t4"]
    text = squeezed(Parsed(made.render()).text)
    assert re.findall(r"t\d(?= row)", text) == ["t2", "t1", "t3", "t0"]
    assert "low confidence: mode" in text
    assert "4 (80 %) should be looked at" in text


def test_urgency_keeps_review_apart_from_the_rest() -> None:
    assert urgency(True, False, 1.0, 1.0) == urgency(False, True, 0.0, 1.0) == 2.0


def test_every_reason_counts_once_for_its_task() -> None:
    assert reasons_of("not a task; low confidence: loop, mode") == [
        "not a task",
        "low confidence: loop",
        "low confidence: mode",
    ]
    assert reasons_of("low confidence: mode") == ["low confidence: mode"]
    assert reasons_of("") == []


def test_a_large_backlog_keeps_a_stated_selection_and_all_counts() -> None:
    low = ("knowledge", 0.9, "interactive", 0.4, "low confidence: mode")
    rows = [[f"task {i}", "Tom" if i % 2 else "Ana"] for i in range(2000)]
    answers = [low if i % 40 == 0 else ("code", 0.8 + i % 100 / 1000, *SURE[2:]) for i in range(2000)]
    made = builder(max_rows=80)
    for at in range(0, 2000, 100):
        made.add(block(rows[at : at + 100], ("text", "assignee"), answers[at : at + 100]))
        assert len(made.rows()) <= 80
    seen = Parsed(made.render())
    text = squeezed(seen.text)
    assert len(seen.rows) == 80
    assert sum(bool(row["review"]) for row in seen.rows) == 50
    # Beside those to review, the least certain: 0.800 and, of equals, the first ones.
    assert {row["loop"] for row in seen.rows if not row["review"]} <= {0.801, 0.802, 0.8}
    assert "80 of 2,000 tasks" in text
    assert "first those to review (50 of 50)" in text
    assert "1,950" in text
    assert "Tom 1,000 0" in text


def test_the_selection_does_not_depend_on_how_rows_come_in() -> None:
    answers = [("code", 0.5 + (i * 37 % 50) / 100, "autonomous", 0.9, "") for i in range(300)]
    rows = [[f"t{i}"] for i in range(300)]
    whole = builder(block(rows, answers=answers), max_rows=20)
    parts = builder(
        *(block(rows[i : i + 7], answers=answers[i : i + 7]) for i in range(0, 300, 7)), max_rows=20
    )
    assert whole.rows() == parts.rows()
    assert whole.render() == parts.render()


def test_a_backlog_without_rows_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("title,assignee\n")
    classify(tmp_path / "in.csv", "-o", tmp_path / "o.csv", "--report", tmp_path / "page.html")
    seen = Parsed((tmp_path / "page.html").read_text("utf-8"))
    assert seen.rows == []
    assert "0 tasks, each" in squeezed(seen.text)


def test_bytes_that_are_no_text_do_not_stop_the_page(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b'title,assignee\n"Fix \x00 \xff it\x1b[31m",\xff\nBook,Tom\n')
    classify(
        tmp_path / "in.csv", "--encoding", "utf-8", "-o", tmp_path / "o.csv", "--report", tmp_path / "p.html"
    )
    written = (tmp_path / "p.html").read_text("utf-8")
    assert "\x00" not in written
    assert "\x1b" not in written
    assert Parsed(written).rows[0]["title"].startswith("Fix")


def test_long_cells_are_cut() -> None:
    seen = page(block([["word " * 100_000 + "\n" + "more " * 1000, "x" * 10_000]], ("text", "id")))
    (row,) = seen.rows
    assert len(row["title"]) <= 200
    assert len(row["more"]) <= 300
    assert len(row["id"]) <= 40
    assert row["title"].endswith("…")


def test_routes_of_one_s_own_are_shown(tmp_path: Path) -> None:
    shipped = (ROOT / "service" / "routes.toml").read_text("utf-8")
    (tmp_path / "routes.toml").write_text(shipped.replace('name = "Cowork"', 'name = "The <b>intern</b>"'))
    routes = ("--routes", tmp_path / "routes.toml")
    classify(BACKLOG, "-o", tmp_path / "o.csv", "--report", tmp_path / "page.html", *routes)
    seen = Parsed((tmp_path / "page.html").read_text("utf-8"))
    assert "The <b>intern</b>" in seen.text
    assert "The <b>intern</b>" in seen.data["routes"]


# Columns by which a team looks at its backlog


def test_columns_are_found_by_name_in_any_case() -> None:
    header = ["Issue key", "Summary", "Status", "ASSIGNEE", "Labels", "Labels", "Due", "Issue Type"]
    assert [(f.name, f.at) for f in find_facets(header, ["Summary"])] == [
        ("ASSIGNEE", [3]),
        ("Status", [2]),
        ("Labels", [4, 5]),
        ("Issue Type", [7]),
    ]


def test_the_text_is_no_facet() -> None:
    assert find_facets(["status"], ["status"]) == []


def test_several_columns_and_several_values_in_a_cell_count_each_once() -> None:
    (labels,) = find_facets(["labels", "labels"])
    labels.add(labels.cells([["bug, ui", "bug"], ["", ""], ["ui;api", ""]]), [0, 1, 2], [True, False, True])
    assert labels.counts == {
        "bug": [1, 0, 0, 0, 1],
        "ui": [1, 0, 1, 0, 2],
        NONE: [0, 1, 0, 0, 0],
        "api": [0, 0, 1, 0, 1],
    }


def test_a_person_with_a_comma_is_one_person() -> None:
    (assignee,) = find_facets(["Assignee"])
    assert assignee.values("Doe, Jane") == ["Doe, Jane"]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ('[{"name": "bug", "color": "f00"}, {"name": "ui"}]', ["bug", "ui"]),
        ('{"title": "v2", "number": 3}', ["v2"]),
        ('[{"login": "ana-dev", "name": ""}]', ["ana-dev"]),
        ("[]", [NONE]),
        ('["a", "b"]', ["a", "b"]),
        ("[wip] (no JSON)", ["[wip] (no JSON)"]),
        ("[" * 100_000, ["[" * 59 + "…"]),
        ('[{"name": 3}]', ['[{"name": 3}]']),
    ],
)
def test_names_are_read_out_of_json_cells(cell: str, names: list[str]) -> None:
    (labels,) = find_facets(["labels"])
    assert labels.values(cell) == names


def test_a_column_where_each_task_has_its_own_value_or_all_the_same_says_nothing() -> None:
    (own,) = find_facets(["status"])
    own.add([f"s{i}" for i in range(40)], [0] * 40, [False] * 40)
    (same,) = find_facets(["status"])
    same.add(["open"] * 40, [0] * 40, [False] * 40)
    (two,) = find_facets(["status"])
    two.add(["open"] * 39 + ["done"], [0] * 40, [False] * 40)
    assert [facet.tells_something for facet in (own, same, two)] == [False, False, True]


def test_the_number_of_values_is_bounded() -> None:
    (owner,) = find_facets(["owner"])
    owner.add(
        [f"p{i}" for i in range(MAX_VALUES)] * 3 + [f"q{i}" for i in range(50)], [0] * 3050, [True] * 3050
    )
    assert len(owner.counts) == MAX_VALUES + 1
    assert owner.counts[OTHERS] == [50, 0, 0, 0, 50]
    assert owner.ranked()[-1][0] == OTHERS


def test_tasks_of_nobody_are_listed_after_the_foremost() -> None:
    (owner,) = find_facets(["owner"])
    owner.add(["", "", "", "b", "a", "a"], [0] * 6, [False] * 6)
    assert owner.listed(1) == ([(0, "a", [2, 0, 0, 0, 0]), (2, NONE, [3, 0, 0, 0, 0])], 1)


def test_a_value_beyond_those_counted_is_found_among_the_others() -> None:
    rows = [[f"t{i}", f"p{i % (MAX_VALUES + 5)}"] for i in range(2 * MAX_VALUES)]
    seen = page(block(rows, ("text", "owner")))
    (facet,) = seen.data["facets"]
    at = seen.rows[MAX_VALUES + 2]["values"][0]
    assert [facet["values"][i] for i in at] == [OTHERS]


def test_a_confidence_is_never_shown_higher_than_it_is() -> None:
    assert [confidence(x) for x in (0.999723, 0.5, 0.29, 0.296, 0.000001)] == [
        "0.99",
        "0.50",
        "0.29",
        "0.29",
        "0.00",
    ]


# The command


def test_standard_output_is_no_place_for_the_page(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        classify(BACKLOG, "-o", tmp_path / "o.csv", "--report", "-")
    assert str(caught.value) == (
        "--report -: the page needs a file; standard output is for the routed backlog"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("report", ["in.csv", "./out.csv"])
def test_the_page_replaces_neither_the_backlog_nor_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("title\nFix it\n")
    with pytest.raises(UsageError) as caught:
        classify("in.csv", "-o", "out.csv", "--report", report)
    assert str(caught.value) == (f"--report {report}: this would replace {Path(report)}; name another file")
    assert (tmp_path / "in.csv").read_text() == "title\nFix it\n"


def test_a_missing_folder_is_named_before_anything_is_written(tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "page.html"
    with pytest.raises(UsageError) as caught:
        classify(BACKLOG, "-o", tmp_path / "o.csv", "--report", target)
    assert str(caught.value) == f"{target}: the folder {str(target.parent)!r} does not exist; create it first"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_leaves_no_page(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("title,owner\nFix it,Tom\nBook,a,b,c\n")
    with pytest.raises(InputError):
        classify(
            tmp_path / "in.csv", "-o", tmp_path / "o.csv", "--report", tmp_path / "page.html", "--strict"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_dry_run_writes_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classify(BACKLOG, "--dry-run", "--report", tmp_path / "page.html")
    assert "nothing is written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_page_counts_all_rows_whatever_else_is_written(tmp_path: Path) -> None:
    rows = [{"title": f"Fix the flaky test {i}", "labels": ["ui", f"l{i % 2}"]} for i in range(5)]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    out = tmp_path / "o.jsonl"
    classify(tmp_path / "in.json", "--only", "knowledge", "-o", out, "--report", tmp_path / "page.html")
    assert out.read_text() == ""
    seen = Parsed((tmp_path / "page.html").read_text("utf-8"))
    assert [row["title"] for row in seen.rows] == [row["title"] for row in rows]
    assert seen.data["facets"] == [{"name": "labels", "values": ["ui", "l0", "l1"]}]


@pytest.mark.slow
def test_a_missing_extra_is_named_with_its_command(tmp_path: Path) -> None:
    arguments = [
        "classify",
        str(BACKLOG),
        "-o",
        str(tmp_path / "o.csv"),
        "--report",
        str(tmp_path / "p.html"),
    ]
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from loopwise.service.cli import main\n"
        f"sys.argv = ['loopwise', *{arguments!r}]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "loopwise: --report needs jinja2, which is not installed: pip install 'loopwise[report]'\n"
    )
    assert list(tmp_path.iterdir()) == []
