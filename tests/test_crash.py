from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loopwise import LoopwiseError
from loopwise.model.store import SHIPPED_ID, Home
from loopwise.training.labels import LabelStore, Record
from tests import crash_worker
from tests.conftest import SOAK
from tests.retraining import signed_copy

ROUNDS = 200 if SOAK else 5
#: Seconds within which a training is killed; some are done by then.
TRAINING = 8.0 if SOAK else 1.5


@pytest.mark.slow
def test_whatever_is_killed_at_whatever_moment_nothing_that_was_accepted_is_lost(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash_worker"])
    place = Home(tmp_path / "home")
    rng = random.Random(11)
    labels: set[str] = set()
    whole: set[str] = set()
    for number in range(ROUNDS):
        what = "train" if number % 5 == 2 else "all else"
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=crash_worker.work, args=(place.folder, number, what, theirs))
        process.start()
        theirs.close()
        assert ours.recv() == ("ready", "")
        time.sleep(rng.uniform(0, TRAINING if what == "train" else 0.4))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        told = list(messages(ours))
        assert process.exitcode == -signal.SIGKILL or what == "train", told

        labels |= {name for kind, name in told if kind == "label"}
        whole |= {name for kind, name in told if kind == "whole label"}
        log = LabelStore.of(place).read()
        kept = {record.id: record for record in log.records}
        assert labels <= set(kept)
        assert all(kept[name].note == "a note" for name in whole)
        assert [model.problem for model in place.models() if model.problem] == []
        assert place.active_model().fields["format_version"] == 1
        promoted = [name for kind, name in told if kind == "promoted"]
        if promoted:
            # The last one that was told, or one whose telling the kill cut off.
            active = [entry.model for entry in place.history()]
            assert promoted[-1] in active[-2:]
        # And the next process is not kept out.
        record = Record(f"after {number}", loop="code")
        LabelStore.of(place).append([record])
        labels.add(record.id)
    assert len(labels) > ROUNDS


def messages(pipe: Any) -> Iterator[tuple[str, str]]:
    while True:
        try:
            yield pipe.recv()
        except (EOFError, OSError):
            return


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_refuses_a_label_and_loses_none(own_home: Path) -> None:
    store = LabelStore.of(Home(own_home))
    store.append([Record("one", loop="code")])
    before = store.path.read_bytes()
    with full_disk(len(before) + 40), pytest.raises(LoopwiseError) as refused:
        store.append([Record("two", loop="code")])
    assert "no space left (File too large); what was there before is whole. Free some space" in str(
        refused.value
    )
    assert store.path.read_bytes() == before
    store.append([Record("two", loop="code")])
    assert [r.text for r in store.read().records] == ["one", "two"]


def test_a_full_disk_leaves_the_active_model_as_it_was(own_home: Path) -> None:
    place = Home(own_home)

    def write(folder: Path) -> None:
        signed_copy(folder)

    with place.training_lock():
        model_id = place.add_model(write)
        with full_disk(1 << 20), pytest.raises(LoopwiseError, match="no space left"):
            place.add_model(write)
    with full_disk(60), pytest.raises(LoopwiseError, match="no space left"):
        place.activate(model_id)
    assert place.active_id() == SHIPPED_ID
    assert [model.id for model in place.models()] == [SHIPPED_ID, model_id]
    place.activate(model_id)
    assert place.active_id() == model_id
    leftovers = [path.name for path in (own_home / "models").iterdir() if path.name.startswith(".")]
    assert leftovers == []


def obey_permissions() -> None:
    """Take from root the right to write where nobody may; other users never had it."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (1, 2, 3):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="takes rights from root with prctl")
def test_a_read_only_home_can_be_read_and_says_that_it_is_not_written(own_home: Path) -> None:
    LabelStore.of(Home(own_home)).append([Record("one", loop="code")])
    everything = [own_home, *own_home.rglob("*")]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "loopwise", *arguments],
            input="text,loop\ntwo,code\n",
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=obey_permissions,
        )

    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert "one" in run("labels", "list").stdout
        assert run("predict", "Fix the flaky test").stdout.startswith("code")
        for command in (["labels", "add", "-"], ["models", "promote", "shipped"]):
            done = run(*command)
            assert done.returncode == 1, done.stderr
            last = done.stderr.splitlines()[-1]
            assert "may not be written (Permission denied). Choose a folder of your own with --home" in last
            assert "Traceback" not in done.stderr
    finally:
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert [r.text for r in LabelStore.of(Home(own_home)).read().records] == ["one"]


def test_a_home_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LoopwiseError, match="cannot be written"):
        LabelStore.of(Home(tmp_path / "file")).append([Record("one", loop="code")])
    assert Home(tmp_path / "file").active_id() == SHIPPED_ID
