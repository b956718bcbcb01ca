from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwise.errors import UsageError
from loopwise.model.store import Home
from loopwise.training.labels import LabelStore, Record, text_key
from tests.retraining import Command, command

__all__ = ["command"]

LABELLED = "text,loop,mode\nFix the test,code,autonomous\nBook the vet,knowledge,interactive\n"


@pytest.fixture
def store(own_home: Path) -> LabelStore:
    return LabelStore.of(Home(own_home))


def record(text: str, loop: str | None = None, mode: str | None = None, who: str = "ann") -> Record:
    return Record(text, loop=loop, mode=mode, who=who)


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1), note=st.text(), who=st.text())
def test_any_text_survives_the_file(text: str, note: str, who: str) -> None:
    before = Record(text, loop="code", who=who, note=note)
    assert Record.from_line(before.to_line()) == before
    assert before.to_line().count(b"\n") == 1


def test_a_line_that_a_crash_cut_short_is_reported_and_costs_no_other(store: LabelStore) -> None:
    store.append([record("one", "code"), record("two", "code")])
    data = store.path.read_bytes()
    store.path.write_bytes(data[:-9])
    log = store.read()
    assert [r.text for r in log.records] == ["one"]
    assert log.problems == [
        f"{store.path}: line 2 was cut short by a crash; it is left out, all others count"
    ]
    store.append([record("three", "code")])
    assert [r.text for r in store.read().records] == ["one", "three"]


@settings(max_examples=40, deadline=None)
@given(noise=st.binary(max_size=80))
def test_noise_between_the_lines_harms_no_label(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    store = LabelStore(tmp_path_factory.mktemp("labels") / "labels.jsonl")
    good = record("one", "code"), record("two", None, "interactive")
    store.path.write_bytes(good[0].to_line() + noise + b"\n" + good[1].to_line())
    kept = [r for r in store.read().records if r in good]
    assert kept == list(good)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b'{"id": 3, "kind": "task", "text": "x"}',
        b'{"id": "a", "kind": "music", "text": "x"}',
        b'{"id": "a", "kind": "task", "text": "x", "loop": "music"}',
        b'{"id": "a", "kind": "word", "text": "x", "loop": 3}',
        b'{"id": "a", "kind": "word", "text": "x", "loop": true}',
        b'{"id": "a", "kind": "task", "text": "x", "more": 1}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_label_is_left_out(store: LabelStore, line: bytes) -> None:
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(line + b"\n" + record("one", "code").to_line())
    log = store.read()
    assert [r.text for r in log.records] == ["one"]
    assert "line 1" in log.problems[0]


def test_the_latest_answer_of_the_same_person_stands(store: LabelStore) -> None:
    store.append(
        [record("Fix it", "code"), record("fix  IT", "knowledge"), record("Fix it", None, "autonomous")]
    )
    (label,) = store.read().labels()
    assert (label.loop, label.mode) == ("knowledge", "autonomous")


def test_two_people_that_differ_make_a_conflict_until_it_is_settled(store: LabelStore) -> None:
    store.append([record("Fix it", "code", "autonomous"), record("Fix it", "knowledge", "autonomous", "bob")])
    log = store.read()
    (conflict,) = log.conflicts()
    assert (conflict.axis, [r.who for r in conflict.answers]) == ("loop", ["ann", "bob"])
    (label,) = log.labels()
    assert (label.loop, label.mode) == (None, "autonomous")
    store.remove([conflict.answers[0].id])
    assert store.read().conflicts() == []
    assert store.read().labels()[0].loop == "knowledge"


def test_words_agree_by_their_sign(store: LabelStore) -> None:
    words = [
        Record("glimper", "word", loop, mode, who=who) for loop, mode, who in ((2, 1, "a"), (1, -1, "b"))
    ]
    store.append(words)
    (label,) = store.read().labels("word")
    assert (label.loop, label.mode) == (1.5, None)
    assert [c.axis for c in store.read().conflicts()] == ["mode"]


def test_a_removal_erases_nothing(store: LabelStore) -> None:
    store.append([record("one", "code")])
    before = store.path.read_bytes()
    store.remove([store.read().records[0].id])
    assert store.read().records == []
    assert store.path.read_bytes().startswith(before)


def test_removing_needs_an_id_that_exists_and_is_the_only_one(store: LabelStore) -> None:
    store.append([record("one", "code"), record("two", "code")])
    with pytest.raises(UsageError, match="there is no label 'zz'; see: loopwise labels list"):
        store.remove(["zz"])
    ids = [r.id for r in store.read().records]
    stem = "" if ids[0][0] != ids[1][0] else ids[0][0]
    if stem:
        with pytest.raises(UsageError, match="is the beginning of 2 ids"):
            store.remove([stem])
    with pytest.raises(UsageError, match="there is no label"):
        store.remove([ids[0], "zz"])
    assert len(store.read().records) == 2


def test_a_text_is_the_same_whatever_its_case_and_spaces() -> None:
    assert text_key("Fix  the\ttest") == text_key("fix the test ")
    assert text_key("Fix the test") != text_key("Fix the tests")


def test_add_counts_and_a_second_run_adds_nothing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(LABELLED)
    assert command("labels", "add", "l.csv").stdout.startswith(
        "2 added, 0 changed, 0 there already, 0 refused"
    )
    assert command("labels", "add", "l.csv").stdout.startswith(
        "0 added, 0 changed, 2 there already, 0 refused"
    )
    (tmp_path / "l.csv").write_text("text,loop\nFix the test,knowledge\n")
    assert command("labels", "add", "l.csv").stdout.startswith(
        "0 added, 1 changed, 0 there already, 0 refused"
    )


def test_bad_rows_are_refused_with_their_lines_and_the_good_ones_kept(command: Command) -> None:
    rows = 'text,loop,mode\nGood,c,co-pilot\n"two\nlines",music,\nEmpty,,\n,code,\nAlso good,,delegate\n'
    done = command("labels", "add", "-", stdin=rows)
    assert done.returncode == 0
    assert done.stdout.startswith("2 added, 0 changed, 0 there already, 3 refused")
    assert "line 3 is refused: the loop 'music' is neither code nor knowledge" in done.stderr
    assert "line 5 is refused: 'loop' and 'mode' say nothing" in done.stderr
    assert "line 6 is refused: there is no text in 'text'" in done.stderr
    listed = [json.loads(line) for line in command("labels", "list", "--json").stdout.splitlines()]
    assert [(r["loop"], r["mode"], r["source"]) for r in listed] == [
        ("code", "interactive", "standard input:2"),
        (None, "autonomous", "standard input:7"),
    ]


def test_a_file_of_bad_rows_alone_is_an_input_error(command: Command) -> None:
    done = command("labels", "add", "-", stdin="text,loop\nx,music\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith("no line holds a label; nothing was added")


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("text,kind", [], "there is no column 'loop' or 'mode'; name them with --loop COLUMN"),
        ("text,loop", ["--mode", "how"], "there is no column 'how'; the columns are: 'text', 'loop'"),
        ("what,loop", [], "no text column found; the columns are: 'what'. Name one with --text COLUMN"),
        ("text,loop", ["--corrections"], "there is no column 'loop_correct' and no column 'mode_correct'. "
         "Make a file to correct with: loopwise classify BACKLOG --for-review -o FILE"),
        ("text,loop,loop_confidence,mode", [], "the column 'loop' holds the model's own answers"),
        ("text,loop", ["--words", "--corrections"], "--words and --corrections: choose one"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_as_labels_says_what_to_do(
    command: Command, header: str, options: list[str], message: str
) -> None:
    done = command("labels", "add", "-", *options, stdin=header + "\nx,y,0.9,z\n")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_columns_may_have_other_names(command: Command) -> None:
    rows = "Aufgabe;Art;Weise\nFix it;code;interactive\n"
    done = command("labels", "add", "-", "--text", "Aufgabe", "--loop", "Art", "--mode", "Weise", stdin=rows)
    assert done.stdout.startswith("1 added")


def test_corrections_read_only_what_was_filled(command: Command, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("id,title\n1,Fix the flaky test\n2,Book the vet\n3,Bump eslint\n")
    assert command("classify", "b.csv", "--for-review", "-o", "r.csv").returncode == 0
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert lines[0].endswith(",top_features,loop_correct,mode_correct")
    assert all(line.endswith(",,") for line in lines[1:])
    none = command("labels", "add", "--corrections", "r.csv")
    assert none.stdout.startswith("0 added")
    assert "loop_correct and mode_correct are empty throughout" in none.stderr
    lines[2] = lines[2][:-2] + ",,interactive"
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
    assert command("labels", "add", "--corrections", "r.csv").stdout.startswith("1 added")
    (label,) = LabelStore.of(Home.find()).read().labels()
    assert (label.text, label.loop, label.mode) == ("Book the vet", None, "interactive")


def test_for_review_adds_two_empty_columns_whatever_way_a_row_is_read(command: Command) -> None:
    regular = 'title,n\n"Fix, the test",1\nBook the vet,2\n'
    for backlog in (regular, regular + "ragged\n", regular + 'odd "quote,3\n', regular[:-1]):
        done = command("classify", "-", "--for-review", stdin=backlog)
        assert list(done.rows[0])[-2:] == ["loop_correct", "mode_correct"]
        for row in done.rows:
            assert (row["loop_correct"], row["mode_correct"]) == ("", "")
            assert row["loop"] in ("code", "knowledge")
        plain = command("classify", "-", stdin=backlog)
        kept = [{name: row[name] for name in plain.rows[0]} for row in done.rows]
        assert kept == plain.rows


def test_corrections_that_are_there_survive_another_review(command: Command) -> None:
    backlog = "title,loop_correct,mode_correct\nFix the test,knowledge,\n"
    done = command("classify", "-", "--for-review", "--replace", stdin=backlog)
    assert [row["loop_correct"] for row in done.rows] == ["knowledge"]
    assert list(done.rows[0]).count("loop_correct") == 1


def test_the_models_own_guesses_are_never_labels(command: Command, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("title\nFix the flaky test\n")
    command("classify", "b.csv", "-o", "r.csv")
    done = command("labels", "add", "r.csv")
    assert done.returncode == 2
    assert "labels add --corrections FILE" in done.stderr
    assert LabelStore.of(Home.find()).read().records == []


def test_words_have_grades_or_classes(command: Command) -> None:
    rows = "word,loop,mode\nglimper,2,-1\ntidebook,knowledge,autonomous\nxyz,5,0\n??,1,1\n"
    done = command("labels", "add", "--words", "-", stdin=rows)
    assert "line 4 is refused: the loop grade 5 is not a whole number from -2 to 2" in done.stderr
    assert "line 5 is refused: '??' is not a word" in done.stderr
    labels = LabelStore.of(Home.find()).read().labels("word")
    assert [(w.text, w.loop, w.mode) for w in labels] == [("glimper", 2, -1), ("tidebook", -2, -2)]


@pytest.mark.parametrize("kind", [[], ["--words"]])
def test_an_export_reads_back_as_it_was(
    command: Command, tmp_path: Path, own_home: Path, kind: list[str]
) -> None:
    if kind:
        command("labels", "add", "--words", "-", stdin="word,loop,mode\nglimper,2,-1\nmole,0,\n")
    else:
        odd = LABELLED + '"two\r\nlines, ""quoted""",,interactive\n'
        command("labels", "add", "-", "--who", "bob", stdin=odd)
    command("labels", "export", *kind, "-o", "out.csv")
    store = LabelStore.of(Home(own_home))
    before = [(r.text, r.loop, r.mode, r.who) for r in store.read().records]
    assert len(before) == (2 if kind else 3)
    store.path.unlink()
    command("labels", "add", *kind, "out.csv")
    assert [(r.text, r.loop, r.mode, r.who) for r in store.read().records] == before


def test_list_and_conflicts_show_who_differs(command: Command) -> None:
    command("labels", "add", "-", "--who", "ann", stdin=LABELLED)
    done = command("labels", "add", "-", "--who", "bob", stdin="text,loop\nFix the test,knowledge\n")
    assert "1 answers are in conflict and not trained on; see: loopwise labels conflicts" in done.stderr
    listed = command("labels", "list").stdout.splitlines()
    assert [line.endswith("(in conflict)") for line in listed] == [True, False, True]
    shown = command("labels", "conflicts").stdout
    assert "loop: Fix the test" in shown
    assert "ann" in shown
    assert "bob" in shown
    assert "Book the vet" not in shown


def test_removing_from_the_command_line(command: Command) -> None:
    command("labels", "add", "-", stdin=LABELLED)
    first = command("labels", "list").stdout.split()[0]
    assert command("labels", "remove", first).stdout == f"{first} is taken back: Fix the test\n"
    assert "Fix the test" not in command("labels", "list").stdout
    done = command("labels", "remove", first)
    assert done.returncode == 2
    assert f"there is no label '{first}'" in done.stderr
