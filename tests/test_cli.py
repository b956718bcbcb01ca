from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopwise.service import cli
from loopwise.service.columns import RESULT_COLUMNS
from tests.conftest import Run

BACKLOG = 'id,title,description\n1,Fix the flaky test,"It fails, ""sometimes"""\n2,Book the vet,\n'


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_predict_prints_label_confidence_and_features(loopwise: Run) -> None:
    done = loopwise("predict", "Fix the flaky login test")
    assert done.returncode == 0
    assert done.stdout.startswith("code, ")
    assert "loop: code" in done.stdout
    assert "flaky +" in done.stdout
    assert done.stderr == ""


def test_predict_takes_several_texts_and_standard_input(loopwise: Run) -> None:
    done = loopwise("predict", "--json", "Fix the test", "-", stdin="Book the vet\n\nBump eslint\n")
    texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    assert texts == ["Fix the test", "Book the vet", "Bump eslint"]


def test_predict_json_is_the_same_every_time(loopwise: Run) -> None:
    one, two = (loopwise("predict", "--json", "Plan the offsite").stdout for _ in range(2))
    assert one == two
    answer = json.loads(one)
    assert list(answer) == ["text", "loop", "mode", "review", "route"]
    assert list(answer["loop"]) == ["label", "confidence", "score", "intercept", "top_features"]


def test_explain_ends_with_the_score(loopwise: Run) -> None:
    done = loopwise("predict", "--explain", "Fix the flaky login test")
    assert "(intercept, with the prior)" in done.stdout
    assert "= code" in done.stdout


def test_classify_adds_seven_columns_and_keeps_every_cell(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "backlog.csv").write_text(BACKLOG, "utf-8")
    done = loopwise("classify", "backlog.csv", "-o", "routed.csv")
    assert done.returncode == 0
    assert "text from: title, description" in done.stderr
    assert "2 rows routed" in done.stderr
    rows = rows_of((tmp_path / "routed.csv").read_text("utf-8"))
    assert list(rows[0]) == ["id", "title", "description", *RESULT_COLUMNS]
    assert rows[0]["description"] == 'It fails, "sometimes"'
    assert rows[0]["loop"] == "code"
    assert rows[1]["loop"] == "knowledge"
    assert len(rows[0]["loop_confidence"]) == len("0.123456")


def test_classify_is_a_filter(loopwise: Run) -> None:
    done = loopwise("classify", "-", stdin=BACKLOG)
    assert [row["id"] for row in rows_of(done.stdout)] == ["1", "2"]


def test_classify_agrees_with_predict(loopwise: Run) -> None:
    row = rows_of(loopwise("classify", "-", stdin=BACKLOG).stdout)[0]
    text = 'Fix the flaky test\n\nIt fails, "sometimes"'
    answer = json.loads(loopwise("predict", "--json", text).stdout)
    assert row["loop_confidence"] == f"{answer['loop']['confidence']:.6f}"
    assert row["mode"] == answer["mode"]["label"]
    assert row["review"] == answer["review"]
    assert row["route"] == answer["route"]["name"]
    shown = ", ".join(f"{name} {value:+.2f}" for name, value in answer["loop"]["top_features"][:3])
    assert row["top_features"].startswith(f"loop: {shown} | mode: ")


def test_packed_files_are_known_by_their_ending(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(BACKLOG.encode()))
    assert loopwise("classify", "b.csv.gz", "-o", "out.csv.zst").returncode == 0
    done = loopwise("classify", "out.csv.zst", "--prefix", "again_")
    assert [row["again_loop"] for row in rows_of(done.stdout)] == [
        row["loop"] for row in rows_of(done.stdout)
    ]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, [], "there is no such file"),
        (b"", [], "the file is empty"),
        (b"\n\n", [], "the first line is blank"),
        (b"PK\x03\x04rest", [], "not a CSV but a zip archive"),
        (b"a\x00b,title\n1,2\n", [], "not a CSV: its first line holds NUL bytes"),
        (b"id,owner\n1,ann\n", [], "no text column found; the columns are: 'id', 'owner'"),
        (b"title\nx\n", ["--text", "body"], "there is no column 'body'; the columns are: 'title'"),
        (b"title\nx\n", ["-o", "nowhere/out.csv"], "the folder 'nowhere' does not exist"),
        (b"title,loop\nx,y\n", [], "the column loop would be written twice; use --replace"),
        (b"title\nx\n", ["--routes", "none.toml"], "the routes cannot be read"),
        (b"title\nx\n", ["--prior", "mode=lazy:2"], "write AXIS=CLASS:SHARE"),
        (b"title,b\nx\n", ["--strict"], "line 2 has 1 cells and the header has 2"),
        (b"title\nx\n", ["--encoding", "klingon"], "unknown encoding 'klingon'"),
    ],
)
def test_wrong_input_is_one_clear_line_and_exit_code_2(
    loopwise: Run, tmp_path: Path, content: bytes | None, options: list[str], message: str
) -> None:
    if content is not None:
        (tmp_path / "in.csv").write_bytes(content)
    before = sorted(p.name for p in tmp_path.iterdir())
    done = loopwise("classify", "in.csv", *options)
    assert done.returncode == 2
    assert message in last_line(done.stderr)
    assert "Traceback" not in done.stderr
    if "-o" not in options and "--strict" not in options:
        assert done.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == before


def test_a_refused_file_leaves_nothing_behind(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("title,b\nx\n")
    assert loopwise("classify", "in.csv", "--strict", "-o", "out.csv").returncode == 2
    assert [p.name for p in tmp_path.iterdir() if p.name != "home"] == ["in.csv"]


def test_a_header_alone_gives_a_header(loopwise: Run) -> None:
    done = loopwise("classify", "-", stdin="title,owner\n")
    assert done.stdout == "title,owner," + ",".join(RESULT_COLUMNS) + "\n"


def test_replace_and_prefix(loopwise: Run) -> None:
    backlog = "loop,title\nold,Fix the test\n"
    replaced = loopwise("classify", "--replace", "-", stdin=backlog).stdout
    assert replaced.startswith("title,loop,")
    assert rows_of(replaced)[0]["loop"] == "code"
    kept = rows_of(loopwise("classify", "--prefix", "lw_", "-", stdin=backlog).stdout)
    assert (kept[0]["loop"], kept[0]["lw_loop"]) == ("old", "code")


def test_own_routes_and_an_unknown_key(loopwise: Run, tmp_path: Path) -> None:
    table = "\n".join(
        f'[{loop}.{mode}]\nname = "{loop[0]}{mode[0]}"\nwhy = "so"'
        for loop in ("code", "knowledge")
        for mode in ("autonomous", "interactive")
    )
    (tmp_path / "routes.toml").write_text(table)
    done = loopwise("predict", "--json", "--routes", "routes.toml", "Fix the flaky test")
    assert json.loads(done.stdout)["route"]["name"].startswith("c")
    (tmp_path / "routes.toml").write_text(table + '\n[music.loud]\nname = "x"\nwhy = "y"')
    done = loopwise("predict", "--routes", "routes.toml", "Fix")
    assert done.returncode == 2
    assert "unknown key 'music'; valid here: code, knowledge" in done.stderr


def test_evaluate_prints_figures_and_json(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "labelled.csv").write_text(
        "text,loop,mode,mode_unsure,source\nFix the flaky test,code,autonomous,0,a\n"
        "Book the vet,knowledge,interactive,1,b\n"
    )
    done = loopwise("evaluate", "labelled.csv")
    assert done.returncode == 0
    assert "unsafe delegation" in done.stdout
    figures = json.loads(loopwise("evaluate", "labelled.csv", "--json").stdout)
    assert figures["axes"]["loop"]["n"] == 2
    assert figures["axes"]["mode"]["n"] == 1
    assert list(figures["sources"]) == ["a", "b"]


def test_evaluate_names_the_row_with_an_unknown_label(loopwise: Run, tmp_path: Path) -> None:
    (tmp_path / "labelled.csv").write_text("text,loop,mode\nx,code,autonomous\ny,music,autonomous\n")
    done = loopwise("evaluate", "labelled.csv")
    assert done.returncode == 2
    assert "row 2 has the loop 'music'; valid are code and knowledge" in done.stderr


def test_a_closed_pipe_is_quiet(loopwise: Run, tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "big.csv").write_text("title\n" + "Fix the flaky test\n" * 200_000)
    command = f"{sys.executable} -m loopwise classify big.csv | head -n 1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("title,loop")
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_usage_errors_leave_with_2(loopwise: Run) -> None:
    assert loopwise("classify").returncode == 2
    assert loopwise("predict", "--nonsense").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "spared"),
    [
        (["classify", "backlog.csv"], True),
        (["classify", "backlog.csv", "--scheduler", "local"], False),
        (["classify", "backlog.csv", "--scheduler=local"], False),
        (["predict", "Fix the flaky test"], False),
    ],
)
def test_only_classify_on_this_machine_does_without_pandas(
    arguments: list[str], spared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(cli, "_spare_pandas", lambda: done.append("spared"))
    monkeypatch.setattr(cli, "main", lambda: done.append("run"))
    monkeypatch.setattr(sys, "argv", ["loopwise", *arguments])
    run: Callable[[], None] = cli.run
    run()
    assert done == ["spared", "run"] if spared else done == ["run"]
