"""The model card, generated from the figures of a model file (Hugging Face's format)."""

from __future__ import annotations

from typing import Any


def model_card(fields: dict[str, Any]) -> str:
    """Return the card of a model as Markdown with YAML front matter."""
    metrics = fields["metrics"]
    lines = [
        "---",
        "license: mit",
        "language: en",
        "library_name: loopwise",
        "pipeline_tag: text-classification",
        "---",
        "",
        "# Loopwise model",
        "",
        "| held out | axis | accuracy | balanced accuracy | macro-F1 | calibration error |",
        "|---|---|---|---|---|---|",
    ]
    for kind, by_axis in metrics.items():
        for axis, f in by_axis.items():
            cells = [
                "{:.3f} [{:.3f}, {:.3f}]".format(*f[name])
                for name in ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
            ]
            lines.append(f"| {kind} | {axis} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
