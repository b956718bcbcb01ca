"""What a process does in a home until it is killed; it tells through a pipe what was done for good."""

from __future__ import annotations

import random
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

from loopwise.model.store import Home
from loopwise.service.label_session import Item
from loopwise.training.labels import Answers, LabelStore, Record
from tests.retraining import harbour, run_training, signed_copy, small_corpus


def work(folder: Path, seed: int, what: str, done: Connection) -> None:
    """Add, label, promote, roll back, prune and train for ever, in random order."""
    rng = random.Random(seed)
    home = Home(folder)
    store = LabelStore.of(home)
    done.send(("ready", ""))
    if what == "train":
        labels = harbour()[: rng.randrange(4, 12)]
        done.send(("promoted", run_training(home, small_corpus(120, 100), labels, promote=True).model_id))
        return
    for number in count():
        step = rng.choice(["add", "add", "label", "label", "model", "promote", "rollback", "prune"])
        text = f"task {seed} {number} " + "x" * rng.randrange(3000)
        if step == "add":
            records = [Record(f"{text} {n}", loop="code") for n in range(rng.randrange(1, 30))]
            store.add(records)
            for record in records:
                done.send(("label", record.id))
        elif step == "label":
            keeper = Answers(store, "ann")
            kept = keeper.keep(Item(text), {"loop": "code"}, "", None)
            done.send(("label", kept))
            keeper.keep(Item(text), {"loop": "code", "mode": "autonomous"}, "a note", kept)
            done.send(("whole label", kept))
        elif step == "model":
            with home.training_lock(wait=10):
                home.sweep_partials()
                done.send(("model", home.add_model(_write)))
        elif step == "promote":
            model_id = rng.choice(home.models()).id
            home.activate(model_id)
            done.send(("promoted", model_id))
        elif step == "rollback" and home.previous_id() is not None:
            done.send(("promoted", home.rollback()))
        elif step == "prune":
            home.prune(keep=3)


def _write(folder: Path) -> None:
    signed_copy(folder)
