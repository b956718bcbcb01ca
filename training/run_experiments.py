"""Measure recipes for the shipped model: ``python -m loopwise.training.run_experiments [--search] [FILE]``.

Without ``--search`` these are the ablations of the model card.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from loopwise.training.corpus import Corpus
from loopwise.training.evaluate import LabelledTexts
from loopwise.training.experiments import (
    Trial,
    ablation_space,
    run_trials,
    search,
    search_report,
    trial_table,
)
from loopwise.training.fit import Recipe

ABLATION_NOTE = (
    "Lines with fewer rows are judged on fewer natural rows too: there, go by the columns of the file."
)
RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


def main(arguments: list[str]) -> None:
    """Run the trials, on a labelled file too where one is named; print a table and keep it."""
    files = [argument for argument in arguments if not argument.startswith("--")]
    labelled = LabelledTexts.read(files[0]) if files else None
    corpus = Corpus.shipped()
    progress = Console(stderr=True, highlight=False)

    def on_trial(trial: Trial) -> None:
        progress.print(f"{trial.name}: {trial.score:.4f}")

    if "--search" in arguments:
        name = "search"
        found = search(corpus, labelled, RESULTS / "search.jsonl", on_trial=on_trial)
        text = search_report(found)
    else:
        name = "ablation"
        rows = corpus.part(("train", "validation"))
        space = ablation_space(Recipe(), rows)
        trials = run_trials(space, labelled, RESULTS / "ablation.jsonl", on_trial=on_trial)
        text = f"{trial_table(trials)}\n\n{ABLATION_NOTE}"
    (RESULTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    Console(highlight=False, soft_wrap=True).print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
