"""Rebuild the model that ships with the package: ``make model``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from loopwise.model.vectors import WordVectors
from loopwise.service.progress import step_progress
from loopwise.training.build import N_STEPS, BuiltModel, build
from loopwise.training.card import model_card
from loopwise.training.corpus import Corpus
from loopwise.training.fit import Recipe

FOLDER = Path(__file__).resolve().parent.parent / "model" / "shipped"


def build_shipped(n_jobs: int = 2) -> BuiltModel:
    """Build the shipped model from the corpus alone."""
    with step_progress(N_STEPS) as on_step:
        return build(Corpus.shipped(), Recipe(), WordVectors.shipped(), n_jobs=n_jobs, on_step=on_step)


if __name__ == "__main__":
    built = build_shipped()
    card = model_card(built.fields)
    built.write(FOLDER, card)
    Console().print(card, highlight=False)
