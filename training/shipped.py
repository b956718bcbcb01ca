"""Rebuild the model that ships with the package: ``make model``."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from loopwise.model.modelfile import CARD_NAME, ModelFile
from loopwise.service.progress import step_progress
from loopwise.training.build import N_STEPS, BuiltModel, build
from loopwise.training.card import model_card
from loopwise.training.corpus import Corpus
from loopwise.training.fit import Recipe

FOLDER = Path(__file__).resolve().parent.parent / "model" / "shipped"
RESULTS = FOLDER.parent.parent / "benchmarks" / "results"


def build_shipped(n_jobs: int = 2) -> BuiltModel:
    """Build the shipped model from the corpus alone."""
    with step_progress(N_STEPS) as on_step:
        return build(Corpus.shipped(), Recipe(), n_jobs=n_jobs, on_step=on_step)


def appendices() -> dict[str, str]:
    """Return what the benchmarks measured, for the card: ablations and peers, where they were run."""
    titles = {"ablation.md": "Ablations", "peers.md": "Peers"}
    return {
        title: (RESULTS / name).read_text("utf-8")
        for name, title in titles.items()
        if (RESULTS / name).exists()
    }


def main(arguments: list[str]) -> None:
    """Build the shipped model and its card; with ``--card`` only write the card again."""
    if "--card" not in arguments:
        built = build_shipped()
        built.write(FOLDER, "")
    card = model_card(ModelFile.load(FOLDER).fields, appendices())
    (FOLDER / CARD_NAME).write_text(card, encoding="utf-8")
    Console(soft_wrap=True).print(card, highlight=False, markup=False)


if __name__ == "__main__":
    main(sys.argv[1:])
