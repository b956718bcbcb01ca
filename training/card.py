"""The model card, generated from the figures of a model file (Hugging Face's format)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwise.model.labels import AXES

_HELD_OUT = {
    "hands": "cross-validation, whole hands left out",
    "natural": "those of them that wrote without thought of labels",
    "test": "test rows",
}
_FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")


def model_card(fields: dict[str, Any], appendices: Mapping[str, str] | None = None) -> str:
    """Return the card of a model as Markdown with YAML front matter.

    Parameters
    ----------
    fields : dict
        The fields of a model file.
    appendices : mapping of str to str, optional
        Titles and Markdown of further measurements, such as ablations and peers.
    """
    parts = [_front_matter(fields), _purpose(fields), _figures(fields), _review(fields), _limits()]
    parts += [f"## {title}\n\n{text.strip()}\n" for title, text in (appendices or {}).items()]
    return "\n".join(parts)


def _front_matter(fields: dict[str, Any]) -> str:
    lines = [
        "---",
        "license: mit",
        "language: en",
        "library_name: loopwise",
        "pipeline_tag: text-classification",
        "tags: [task-routing, tf-idf, logistic-regression]",
        "model-index:",
        "- name: loopwise",
        "  results:",
    ]
    for axis in AXES:
        lines += [
            "  - task: {type: text-classification}",
            f"    dataset: {{name: 'Loopwise tasks, {axis}', type: loopwise-tasks, split: test}}",
            "    metrics:",
        ]
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            value = fields["metrics"]["test"][axis][name][0]
            lines.append(f"    - {{type: {name}, value: {value:.4f}}}")
    return "\n".join([*lines, "---", ""])


def _purpose(fields: dict[str, Any]) -> str:
    corpus, recipe = fields["corpus"], fields["recipe"]
    return f"""# Loopwise model

Answers two questions about a task text: which **loop** it lives in (code or knowledge), and which **mode** suits it
(autonomous or interactive). A linear model: TF-IDF over words, pairs, sub-words and a few cues, one logistic regression a
question, folded into one number a word. Trained on {corpus["n_trained"]:,} of {corpus["n_rows"]:,} rows (the test split is left out),
{corpus["n_words"]:,} graded words and {corpus["n_extra_rows"]:,} rows of a user.

Fingerprint of the corpus: `{corpus["fingerprint"][:16]}`. Recipe: `{recipe}`.
"""


def _figures(fields: dict[str, Any]) -> str:
    lines = [
        "## Figures",
        "",
        "With 95 % bootstrap intervals, under equal priors. Rows marked unsure are left out.",
        "",
        "| held out | axis | accuracy | balanced accuracy | macro-F1 | calibration error |",
        "|---|---|---|---|---|---|",
    ]
    for kind, by_axis in fields["metrics"].items():
        for axis, figures in by_axis.items():
            cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*figures[name]) for name in _FIGURES]
            lines.append(f"| {_HELD_OUT.get(kind, kind)} | {axis} | {' | '.join(cells)} |")
    lines += [
        "",
        "| test rows, class | true | predicted | precision | recall | mean confidence | calibration error |",
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for by_class in fields["metrics"]["test"].values():
        for name, c in by_class["classes"].items():
            rates = (c["precision"], c["recall"], c["mean_confidence"], c["calibration_error"])
            shown = " | ".join(f"{rate:.3f}" for rate in rates)
            lines.append(f"| {name} | {c['n_true']} | {c['n_predicted']} | {shown} |")
    return "\n".join([*lines, ""])


def _review(fields: dict[str, Any]) -> str:
    prior = ", ".join(f"{AXES[axis][0]} {share:.0%}" for axis, share in fields["prior"].items())
    lines = [
        "## Confidence and review",
        "",
        "The **label** is the class that is likelier if both are equally frequent. The **confidence** is the probability that this",
        f"label is right in a real backlog, with these shares of the first classes: {prior}. They are stated, not estimated;",
        "`--prior` changes them. Scores are calibrated with Platt's line on rows of hands that the model was not fitted on; rows that",
        "were written without thought of labels weigh as much as all others. Below these thresholds a row goes to review:",
        "",
        "| class | target accuracy | threshold | accuracy above it | held-out rows | share above it |",
        "|---|---|---|---|---|---|",
    ]
    for entry in fields["axes"].values():
        for label, table in entry["review"].items():
            for row in table:
                if row["target"] in (0.9, 0.95, 0.99):
                    reached = row["threshold"] <= 1
                    threshold = f"{row['threshold']:.3f}" if reached else "none: all are reviewed"
                    accuracy = f"{row['accuracy']:.3f}" if reached else ""
                    lines.append(
                        f"| {label} | {row['target']} | {threshold} | {accuracy} | {row['n_rows']} | {row['coverage']:.0%} |"
                    )
    return "\n".join([*lines, ""])


def _limits() -> str:
    return """## Where it fails, and who should not use it

- It reads words, not meaning. Long texts whose nouns belong to an office and whose work is a program (or the other way
  round) are its commonest mistake on the loop; a tame word in a risky task, or a weighty word in a routine one, on the mode.
- `interactive` is rare in real backlogs, and of the rows it calls interactive many could be delegated. It is meant to err on
  that side; its confidence says so, and the row goes to review.
- English only. Other languages go to review, not always.
- It does not know your team: what is routine for one is a risk for another. Label fifty of your own and retrain.
- Do not use it to decide alone about anything that harms when it goes wrong unseen, nor to judge people by their tasks.
"""
