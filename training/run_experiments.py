"""Run the ablations and print their table: ``python -m loopwise.training.run_experiments FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from loopwise.model.vectors import WordVectors
from loopwise.training.corpus import Corpus
from loopwise.training.evaluate import LabelledTexts
from loopwise.training.experiments import Trial, ablation_space, run_trials
from loopwise.training.fit import Recipe

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


def table(trials: list[Trial]) -> str:
    """Return trials as a Markdown table of balanced accuracies."""
    keys = list(trials[0].truth)
    head = ["", "rows", "words", *(f"{axis}, {kind}" for kind, axis in keys)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for trial in trials:
        figures = [f"{trial.balanced(kind, axis):.3f}" for kind, axis in keys]
        words = trial.n_words if trial.recipe.use_lexicon else 0
        lines.append("| " + " | ".join([trial.name, str(trial.n_rows), str(words), *figures]) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Run the ablations, on a labelled file too where one is named."""
    labelled = LabelledTexts.read(arguments[0]) if arguments else None
    corpus = Corpus.shipped().part(("train", "validation"))
    console = Console(stderr=True, highlight=False)
    trials = run_trials(
        ablation_space(Recipe(), corpus),
        WordVectors.shipped(),
        labelled,
        RESULTS / "ablation.jsonl",
        on_trial=lambda trial: console.print(f"{trial.name}: {trial.score:.4f}"),
    )
    text = table(trials)
    (RESULTS / "ablation.md").write_text(text + "\n", encoding="utf-8")
    Console(highlight=False, soft_wrap=True).print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
