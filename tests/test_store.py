from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loopwise.errors import LoopwiseError, ModelError, UsageError
from loopwise.model.modelfile import FIELDS_NAME, WEIGHTS_NAME
from loopwise.model.safefiles import writer_lock
from loopwise.model.store import SHIPPED_ID, Home
from tests.retraining import Command, command, signed_copy

__all__ = ["command"]


@pytest.fixture
def home(own_home: Path) -> Home:
    return Home(own_home)


def add(home: Home) -> str:
    def write(folder: Path) -> None:
        signed_copy(folder)

    with home.training_lock():
        return home.add_model(write)


def test_the_shipped_model_is_entry_0_and_active_in_an_empty_home(home: Home) -> None:
    (entry,) = home.history()
    assert (entry.model, entry.action) == (SHIPPED_ID, "ship")
    assert home.active_id() == SHIPPED_ID
    assert [(m.id, m.is_active) for m in home.models()] == [(SHIPPED_ID, True)]
    assert not home.folder.exists()


def test_rollback_goes_back_step_by_step_and_then_says_that_there_is_no_more(home: Home) -> None:
    a, b = add(home), add(home)
    home.activate(a)
    home.activate(b, why="better")
    assert [home.rollback(), home.rollback()] == [a, SHIPPED_ID]
    with pytest.raises(UsageError, match="no model was active before shipped; see: loopwise models list"):
        home.rollback()
    assert [(e.model, e.action) for e in home.history()[1:]] == [
        (a, "promote"), (b, "promote"), (a, "rollback"), (SHIPPED_ID, "rollback"),
    ]  # fmt: skip
    assert home.history()[2].why == "better"


def test_after_a_rollback_a_promotion_starts_a_new_branch(home: Home) -> None:
    a, b, c = add(home), add(home), add(home)
    for model in (a, b):
        home.activate(model)
    home.rollback()
    home.activate(c)
    assert home.previous_id() == a


def test_rollback_passes_over_a_model_that_cannot_be_loaded(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = add(home), add(home)
    home.activate(a)
    home.activate(b)
    (home.model_folder(a) / WEIGHTS_NAME).unlink()
    assert home.rollback() == SHIPPED_ID
    assert f"{a} is passed over" in capsys.readouterr().err


def test_a_promotion_that_expects_another_active_model_is_not_done(home: Home) -> None:
    a, b = add(home), add(home)
    home.activate(a)
    assert not home.activate(b, expected=SHIPPED_ID)
    assert home.active_id() == a
    assert home.activate(b, expected=a)


@pytest.mark.parametrize("model_id", ["../../etc", "/etc", "a/b", "..", ".hidden", ""])
def test_an_id_that_leads_out_of_the_home_is_refused(home: Home, model_id: str) -> None:
    with pytest.raises(ModelError, match="is not the id of a model; see: loopwise models list"):
        home.activate(model_id)
    home.folder.mkdir(parents=True, exist_ok=True)
    (home.folder / "history.jsonl").write_text(json.dumps({"model": model_id, "action": "promote"}) + "\n")
    with pytest.raises(ModelError, match="is not the id of a model"):
        home.active_model()


def test_a_model_that_does_not_exist_is_named_with_those_that_do(home: Home) -> None:
    a = add(home)
    with pytest.raises(UsageError, match=f"there is no model 'x' in .*; there are: shipped, {a}"):
        home.activate("x")


def test_a_damaged_model_is_not_promoted(home: Home) -> None:
    a = add(home)
    (home.model_folder(a) / FIELDS_NAME).write_bytes(b"{}")
    with pytest.raises(ModelError, match="has no format_version"):
        home.activate(a)
    assert home.active_id() == SHIPPED_ID
    assert "has no format_version" in home.models()[1].problem


def test_half_a_model_is_never_listed_and_goes_with_the_next_training(home: Home) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / WEIGHTS_NAME).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with home.training_lock(), pytest.raises(LoopwiseError, match="no space left"):
        home.add_model(fail)
    (home.folder / "models" / ".99.partial").mkdir()
    assert [m.id for m in home.models()] == [SHIPPED_ID]
    with home.training_lock():
        home.sweep_partials()
    assert list((home.folder / "models").iterdir()) == []


def test_prune_keeps_the_active_the_previous_and_the_newest(home: Home) -> None:
    ids = [add(home) for _ in range(6)]
    home.activate(ids[0])
    home.activate(ids[1])
    assert home.prune(keep=1) == ids[2:5]
    assert [m.id for m in home.models()] == [SHIPPED_ID, ids[0], ids[1], ids[5]]
    assert home.prune(keep=1) == []


def test_an_id_is_not_used_twice(home: Home) -> None:
    a = add(home)
    home.activate(a)
    home.activate(SHIPPED_ID)
    shutil.rmtree(home.model_folder(a))
    assert add(home) != a


def test_a_reader_that_is_overtaken_takes_the_newer_model(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = add(home), add(home)
    home.activate(b)
    answers = iter([a, b])
    monkeypatch.setattr(Home, "active_id", lambda self: next(answers))
    shutil.rmtree(home.model_folder(a))
    assert home.active_model().folder.name == b


def test_an_active_model_that_is_gone_names_the_way_back(home: Home) -> None:
    a = add(home)
    home.activate(a)
    shutil.rmtree(home.model_folder(a))
    with pytest.raises(ModelError, match=r"the active model is gone.*Go back with: loopwise models rollback"):
        home.active_model()
    assert home.rollback() == SHIPPED_ID


def test_a_history_that_cannot_be_read_names_its_line(home: Home) -> None:
    home.folder.mkdir()
    (home.folder / "history.jsonl").write_text('{"model": "shipped", "action": "promote"}\n{"mod')
    with pytest.raises(ModelError, match="line 2 is not an entry of the history; remove the file"):
        home.active_id()


def test_the_second_writer_waits_and_is_told_for_whom(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with writer_lock(lock, "second", wait=20, say=told.append):
            order.append("second")

    with writer_lock(lock, "train"):
        thread = threading.Thread(target=second)
        thread.start()
        while not told:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert told[0].startswith("waiting for loopwise train (process ")


def test_another_process_that_trains_is_named_and_nothing_is_broken(home: Home, tmp_path: Path) -> None:
    code = (
        f"from loopwise.model.store import Home; import sys\n"
        f"with Home.find({str(home.folder)!r}).training_lock():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(
        LoopwiseError, match=f"loopwise train \\(process {other.pid} on .*try again when it is done"
    ):
        home.training_lock().__enter__()
    assert home.active_model()
    other.kill()
    other.communicate()
    with home.training_lock():
        pass


def test_models_from_the_command_line(command: Command, home: Home) -> None:
    a = add(home)
    assert command("models", "promote", a).stdout == f"{a} is active now\n"
    listed = command("models", "list").stdout
    assert "shipped" in listed
    assert f"→  {a}" in listed
    shown = command("models", "show").stdout
    assert shown.startswith(f"{a}, active, in {home.model_folder(a)}")
    assert "promote  by hand" in shown
    assert command("models", "rollback").stdout == "shipped is active now\n"
    assert command("models", "rollback").returncode == 2
    assert command("models", "prune", "--keep", "0").stdout == f"deleted: {a}\n"
    assert command("models", "prune").stdout == "nothing to delete\n"
    done = command("models", "promote", "nonsense")
    assert done.returncode == 2
    assert "there is no model 'nonsense'" in done.stderr
