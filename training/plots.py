"""The plots of the report, as small SVG images that stand inside an HTML page.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart; classes also
differ in marker and line, so that a plot survives a black-and-white printer.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from loopwise.training.metrics import N_BINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

#: Colour, marker and line of an axis' first and second class (blue, vermilion).
STYLES: Final = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"))
#: Of text and axes, and of what only guides the eye.
INK: Final = "#333333"
PALE: Final = "#777777"
#: Fewer rows than this say nothing about risk.
_MIN_ROWS: Final = 20
_Z: Final = 1.96
#: How all plots look; drawn inside ``mpl.rc_context(LOOK)``.
LOOK: Final[dict[Any, Any]] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "svg.fonttype": "none",
    "svg.hashsalt": "loopwise",
}


def reliability_bins(correct: Bools, confidence: Floats, n_bins: int = N_BINS) -> Floats:
    """Return mean confidence, accuracy and rows of bins of equal mass, as the calibration error has them.

    Parameters
    ----------
    correct : ndarray of bool, shape (n,)
    confidence : ndarray of float, shape (n,)
    n_bins : int

    Returns
    -------
    ndarray of shape (at most n_bins, 3)
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, n_bins) if len(part)]
    rows = [(confidence[part].mean(), correct[part].mean(), len(part)) for part in parts]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def risk_coverage(correct: Bools, confidence: Floats) -> tuple[Floats, Floats]:
    """Return the share of rows answered and the share of errors among them, surest rows first.

    Equally sure rows are answered together, so that their order cannot matter.
    """
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    risk = np.cumsum(~correct[order]) / answered
    last = np.append(np.diff(confidence[order]) != 0, True) if len(order) else np.zeros(0, dtype=bool)
    return answered[last] / max(len(order), 1), risk[last]


def plot_reliability(correct: Bools, confidence: Floats, label: str, second: bool) -> str:
    """Return a reliability diagram of one predicted class as SVG.

    Parameters
    ----------
    correct, confidence : ndarray of shape (n,)
        Of the rows predicted as this class.
    label : str
    second : bool
        Whether it is the second class of its axis; sets colour and marker.
    """
    bins = reliability_bins(correct, confidence)
    colour, marker, _ = STYLES[second]
    with mpl.rc_context(LOOK):
        figure, axes = new_figure("confidence", "share that is right")
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.8, linestyle=":")
        if len(bins):
            low, high = _wilson(bins[:, 1], bins[:, 2])
            axes.vlines(bins[:, 0], low, high, color=colour, linewidth=0.8, alpha=0.6)
            axes.plot(bins[:, 0], bins[:, 1], color=colour, marker=marker, markersize=4.5)
        else:
            axes.text(0.5, 0.5, "no such prediction", ha="center", color=PALE)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), title=f"said {label}, {len(correct)} rows")
        return to_svg(figure, f"reliability-{label}", f"Reliability diagram of the predictions {label}")


def plot_risk_coverage(
    correct: Bools, confidence: Floats, second: Bools, names: tuple[str, str], title: str
) -> str:
    """Return the risk-coverage curve of one axis as SVG: all rows, and by predicted class.

    Parameters
    ----------
    correct, confidence, second : ndarray of shape (n,)
        Whether a row is right, how sure its answer is, and whether that is the second class.
    names : (str, str)
        The two classes.
    title : str
    """
    with mpl.rc_context(LOOK):
        figure, axes = new_figure("share answered, surest first", "share wrong among those")
        top = _draw_risk(axes, correct, confidence, "all", (INK, "", "-"), 1.6)
        for is_second, name in enumerate(names):
            said = second == bool(is_second)
            drawn = _draw_risk(axes, correct[said], confidence[said], f"said {name}", STYLES[is_second], 1.1)
            top = max(top, drawn)
        axes.axhline(0.05, color=PALE, linewidth=0.8, linestyle=":")
        axes.set(xlim=(0, 1.02), ylim=(0, min(1.0, top * 1.15 + 0.02)), title=title)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        return to_svg(figure, f"risk-{title}", f"Risk-coverage curve of {title}")


def _draw_risk(
    axes: Axes, correct: Bools, confidence: Floats, label: str, style: tuple[str, str, str], width: float
) -> float:
    """Draw one curve, and return its highest risk; the first few rows are left out as noise."""
    coverage, risk = risk_coverage(correct, confidence)
    shown = coverage * len(correct) >= min(_MIN_ROWS, len(correct))
    colour, _, line = style
    at = np.flatnonzero(shown)
    if len(at) > 400:
        at = at[np.linspace(0, len(at) - 1, 400).astype(int)]
    axes.plot(coverage[at], risk[at], color=colour, linestyle=line, linewidth=width, label=label)
    return float(risk[at].max()) if len(at) else 0.0


def new_figure(x: str, y: str, size: tuple[float, float] = (3.6, 3.2)) -> tuple[Figure, Axes]:
    """Return a figure of `size` inches with one pair of axes, named `x` and `y`."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.title.set_fontsize(9.5)
    axes.grid(color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def _wilson(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Return Wilson's 95 % interval of shares of `n` rows."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return middle - half, middle + half


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Return `figure` as an SVG element for an HTML page: no addresses, ids that no other plot has.

    Parameters
    ----------
    figure : Figure
    name : str
        Put before every id, so that plots in one page don't take each other's parts.
    description : str
        Read aloud to those who cannot see the plot.
    """
    out = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=metadata)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    if box is None:  # pragma: no cover - matplotlib always writes one
        raise ValueError("the plot has no viewBox")
    opened = f'<svg {box[0]} role="img" aria-label="{description}">'
    return opened + svg[svg.index(">") + 1 :]
