"""The plots of the notebooks: SVG like those of the report, in the same colours.

Each function returns an SVG element as text; `side_by_side` shows one or more of them in a notebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

from loopwise.errors import MissingExtraError
from loopwise.model.labels import AXES

try:
    import matplotlib as mpl

    from loopwise.training.plots import INK, LOOK, PALE, STYLES, new_figure, to_svg
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "matplotlib":
        raise
    raise MissingExtraError(
        "the notebooks need matplotlib, which is not installed: pip install 'loopwise[notebooks]'"
    ) from error

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from loopwise.training.curve import LearningCurve

#: The four answers with colour and hatch: a loop is a hue (blue, orange), interactive is pale and hatched.
QUADRANTS: Final = {
    "code, autonomous": ("#0072B2", ""),
    "code, interactive": ("#56B4E9", "///"),
    "knowledge, autonomous": ("#D55E00", ""),
    "knowledge, interactive": ("#E69F00", "///"),
}
#: Of a bar that speaks for the answer, and of one that speaks against it.
_FOR, _AGAINST = STYLES[0][0], STYLES[1][0]
_ROW: Final = 0.24
_numbers = count()


@dataclass(frozen=True)
class SideBySide:
    """Plots in a row, as a notebook shows them.

    Attributes
    ----------
    svgs : tuple of str
    """

    svgs: tuple[str, ...]

    def _repr_html_(self) -> str:
        cells = "".join(f'<div style="flex: 1 1 0; {_widths(svg)}">{svg}</div>' for svg in self.svgs)
        return f'<div style="display: flex; flex-wrap: wrap; gap: 1em; background: white">{cells}</div>'


def _widths(svg: str) -> str:
    """Return how wide a plot may get, so that text is about as large in all."""
    points = float(svg.split('viewBox="0 0 ', 1)[1].split(" ", 1)[0])
    return f"min-width: {points:.0f}px; max-width: {1.4 * points:.0f}px"


def side_by_side(*svgs: str) -> SideBySide:
    """Return plots in a row: the last line of a notebook's cell shows them."""
    return SideBySide(svgs)


def plot_quadrants(counts: pd.DataFrame, title: str) -> str:
    """Draw the rows of a table as bars made of the four answers.

    Parameters
    ----------
    counts : DataFrame
        A row a bar, from the top; columns are names of `QUADRANTS`.
    title : str
    """
    with mpl.rc_context({**LOOK, "hatch.linewidth": 0.6}):
        figure, axes = new_figure("rows", "", (6.4, 1.2 + _ROW * len(counts)))
        left = np.zeros(len(counts))
        for name, (colour, hatch) in QUADRANTS.items():
            values = counts[name].to_numpy(dtype=float) if name in counts else np.zeros(len(counts))
            axes.barh(
                range(len(counts)), values, left=left, color=colour, hatch=hatch, edgecolor="white",
                linewidth=0.4, label=name,
            )  # fmt: skip
            left += values
        _name_rows(axes, [str(name) for name in counts.index])
        axes.set_title(title)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        return _svg(figure, title)


def plot_lengths(lengths: Mapping[str, Sequence[float]], title: str, unit: str = "characters") -> str:
    """Draw which share of the texts is at most so long, a line a source, over a logarithmic length.

    Parameters
    ----------
    lengths : mapping of str to sequence of float
        Lengths by source; a few quantiles do as well.
    title, unit : str
    """
    with mpl.rc_context(LOOK):
        figure, axes = new_figure(unit, "share of texts this short", (5.2, 3.2))
        for (name, values), (colour, marker, line) in zip(
            lengths.items(), [*STYLES, ("#009E73", "^", ":")], strict=False
        ):
            at = np.sort(np.asarray(values, dtype=float))
            share = np.arange(1, len(at) + 1) / (len(at) + 1)
            few = len(at) < 30
            axes.plot(at, share, color=colour, linestyle=line, marker=marker if few else "", label=name)
        axes.set(xscale="log", ylim=(0, 1), title=title)
        axes.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        return _svg(figure, title)


def plot_parts(
    parts: Sequence[tuple[str, float]], title: str, unit: str = "log-odds toward the answer"
) -> str:
    """Draw signed contributions as bars, in the order given, from the top.

    Parameters
    ----------
    parts : sequence of (str, float)
    title, unit : str
    """
    with mpl.rc_context(LOOK):
        figure, axes = new_figure(unit, "", (4.4, 0.9 + _ROW * len(parts)))
        values = [value for _, value in parts]
        axes.barh(range(len(parts)), values, color=[_FOR if v > 0 else _AGAINST for v in values], height=0.7)
        axes.axvline(0, color=PALE, linewidth=0.6)
        _name_rows(axes, [name for name, _ in parts])
        axes.set_title(title)
        return _svg(figure, title)


def plot_shares(
    values: Mapping[str, Sequence[float]], x: Sequence[float], labels: tuple[str, str], title: str
) -> str:
    """Draw one or two shares over numbers, each a line with points.

    Parameters
    ----------
    values : mapping of str to sequence of float
        Shares by the name of the line.
    x : sequence of float
    labels : (str, str)
        Of both axes.
    title : str
    """
    with mpl.rc_context(LOOK):
        figure, axes = new_figure(*labels, (4.4, 3.2))
        for (name, shares), (colour, marker, line) in zip(values.items(), STYLES, strict=False):
            axes.plot(x, shares, color=colour, marker=marker, linestyle=line, markersize=4.5, label=name)
        axes.set_title(title)
        axes.legend(frameon=False, fontsize=8)
        return _svg(figure, title)


def plot_curve(curve: LearningCurve, title: str) -> str:
    """Draw a learning curve with the intervals of its points.

    Parameters
    ----------
    curve : LearningCurve
    title : str
    """
    with mpl.rc_context(LOOK):
        figure, axes = new_figure("labels of your own", "accuracy on your other tasks", (4.8, 3.2))
        x = [point.n_labels for point in curve.points]
        for axis, (colour, marker, line) in zip(AXES, STYLES, strict=True):
            points = [point.accuracy[axis] for point in curve.points]
            low, high = [p.low for p in points], [p.high for p in points]
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
            values = [p.value for p in points]
            axes.plot(x, values, color=colour, marker=marker, linestyle=line, label=axis)
        axes.set(ylim=(None, 1.01), title=title)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        return _svg(figure, title)


def plot_before_after(before: Mapping[str, float], after: Mapping[str, float], title: str) -> str:
    """Draw two shares an axis, joined by a line from before to after.

    Parameters
    ----------
    before, after : mapping of str to float
        By the name of the row.
    title : str
    """
    with mpl.rc_context(LOOK):
        figure, axes = new_figure("share of right answers", "", (4.8, 1.1 + 0.5 * len(before)))
        rows = range(len(before))
        old, new = list(before.values()), [after[name] for name in before]
        axes.hlines(rows, old, new, color=PALE, linewidth=1.5)
        axes.scatter(old, rows, color=_AGAINST, marker="s", zorder=3, label="before")
        axes.scatter(new, rows, color=_FOR, marker="o", zorder=3, label="after")
        for row, (a, b) in enumerate(zip(old, new, strict=True)):
            axes.annotate(f"{b - a:+.3f}", (max(a, b), row), (6, -3), textcoords="offset points", color=INK)
        _name_rows(axes, list(before))
        axes.set_title(title)
        axes.set_ylim(len(before) - 0.5, -0.5)
        axes.margins(x=0.15)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        return _svg(figure, title)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a bar plot, the first one on top."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def _svg(figure: mpl.figure.Figure, title: str) -> str:
    return to_svg(figure, f"notebook-{next(_numbers)}", title)
