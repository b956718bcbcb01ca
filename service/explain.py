"""Show a prediction's text with its words coloured by what they add to the score."""

from __future__ import annotations

from loopwise.model.features import tokenize
from loopwise.service.predictor import AxisPrediction, Prediction


def print_explanation(prediction: Prediction) -> None:
    """Print for each axis the text, words coloured by weight, and every contribution down to the score."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for axis in ("loop", "mode"):
        answer: AxisPrediction = getattr(prediction, axis)
        weights = dict(answer.contributions)
        shown = Text(f"  {axis} ")
        for word in prediction.text.split():
            weight = sum(weights.get(part, 0.0) for part in tokenize(word))
            shown.append(word + " ", style=_style(weight))
        console.print(shown)
        table = Table("feature", "log-odds", box=None, pad_edge=True)
        for name, weight in sorted(answer.contributions, key=lambda c: -abs(c[1])):
            if abs(weight) >= 0.005:
                table.add_row(Text(name), f"{weight:+.3f}", style=_style(weight))
        table.add_row("(intercept, with the prior)", f"{answer.intercept:+.3f}")
        table.add_row(f"= {answer.label}", f"{answer.score:+.3f}", style="bold")
        console.print(table)


def _style(weight: float) -> str:
    """Blue speaks for the label, orange against it; strong words are bold."""
    if abs(weight) < 0.1:
        return "dim"
    colour = "dodger_blue1" if weight > 0 else "dark_orange"
    return f"bold {colour}" if abs(weight) >= 0.6 else colour
