"""A routed backlog as one HTML page that needs nothing else: for a team to look at, sort and print.

The rows pass by in blocks; what is kept of them is bounded, so the page of a large backlog holds
all counts and a selection of its tasks.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loopwise.errors import UsageError
from loopwise.model.labels import AXES
from loopwise.model.review import REASONS
from loopwise.service.facets import OTHERS, Facet, find_facets, shown
from loopwise.service.templates import render_template

if TYPE_CHECKING:
    from loopwise.service.predictor import Predictor
    from loopwise.service.results import OnResults, ResultRows
    from loopwise.service.routes import Routes

#: Tasks in the table of a page.
MAX_ROWS: Final = 5000
#: Tasks listed as the first to review, and values listed of a facet.
N_FIRST: Final = 10
N_VALUES: Final = 10
#: Characters shown of a task's first line, and of what follows.
_TITLE: Final = 200
_MORE: Final = 300
#: The four quadrants, in the order of their numbers.
QUADRANTS: Final = tuple((loop, mode) for loop in AXES["loop"] for mode in AXES["mode"])
#: What a row is called by; any case, best first.
_ID_NAMES: Final = ("issue key", "key", "id", "number", "task id", "issue id", "identifier", "card id", "ref")
#: What the reasons for review mean, for those who never read the documentation.
EXPLAINED: Final = dict(
    zip(
        REASONS,
        (
            "None of its words is known, so the answer is a guess.",
            "It seems not to be in English, the only language that the model was taught.",
            "It does not read as a task: a heading, a greeting, a note?",
            "One word says too little. Write down what is to be done.",
            "It is unclear whether the work belongs with code or with knowledge.",
            "It is unclear whether a person should stay at the wheel.",
        ),
        strict=True,
    )
)


class Row(NamedTuple):
    """What a page keeps of a task.

    Attributes
    ----------
    urgency : float
        The lower, the sooner it is looked at (see `urgency`).
    number : int
        Its place in the backlog, from 1.
    id, title, more : str
    quadrant : int
        Index into `QUADRANTS`.
    loop, mode : float
        Confidences.
    review, words : str
        The columns ``review`` and ``top_features``.
    values : tuple of list of str
        For each facet.
    """

    urgency: float
    number: int
    id: str
    title: str
    more: str
    quadrant: int
    loop: float
    mode: float
    review: str
    words: str
    values: tuple[list[str], ...]


@dataclass(frozen=True)
class _Results:
    """The result columns of a block as arrays."""

    quadrants: np.ndarray[Any, np.dtype[np.int64]]
    loop: np.ndarray[Any, np.dtype[np.float64]]
    mode: np.ndarray[Any, np.dtype[np.float64]]
    review: list[str]
    words: list[str]

    @classmethod
    def of(cls, table: pa.Table) -> _Results:
        second = {axis: pc.equal(table[axis], AXES[axis][1]).to_numpy().astype(np.int64) for axis in AXES}
        conf = {a: table[f"{a}_confidence"].cast(pa.float64()).to_numpy() for a in AXES}
        review, words = (table[name].to_pylist() for name in ("review", "top_features"))
        return cls(2 * second["loop"] + second["mode"], conf["loop"], conf["mode"], review, words)


def urgency(to_review: Any, autonomous: Any, loop_confidence: Any, mode_confidence: Any) -> Any:
    """Return in which order tasks are looked at, lowest first.

    Those to review come before the others. Among them, what would run on its own comes before what a
    person sits with anyway: a mistake there goes unseen. Then the less certain comes first, by the lower of
    its two confidences.
    """
    return (
        2.0 * np.logical_not(to_review)
        + np.logical_not(autonomous)
        + np.minimum(loop_confidence, mode_confidence)
    )


def reasons_of(review: str) -> list[str]:
    """Return the single reasons that a cell of the review column names, as in `REASONS`."""
    both = "low confidence: loop, mode"
    return [reason for reason in review.replace(both, "; ".join(REASONS[-2:])).split("; ") if reason]


class PageBuilder:
    """Takes in a routed backlog block by block, and renders its page.

    Parameters
    ----------
    name : str
        What the backlog is called on the page: a file's name.
    routes : Routes
    model : str
        What the model is called.
    max_rows : int
        Tasks in the table.
    """

    def __init__(self, name: str, routes: Routes, model: str = "", max_rows: int = MAX_ROWS) -> None:
        self.name, self.routes, self.model, self.max_rows = name, routes, model, max_rows
        self.n_rows = 0
        self.quadrants = [0] * len(QUADRANTS)
        self.review = [0] * len(QUADRANTS)
        self.reasons: Counter[str] = Counter()
        self.text_columns: list[str] = []
        self.facets: list[Facet] = []
        self._id_at: int | None = None
        self._kept: list[Row] = []
        self._enough = np.inf

    def add(self, block: ResultRows) -> None:
        """Count the rows of a block, and keep those that the table may hold."""
        if not self.n_rows:
            self._begin(block.header, block.text_columns)
        results = _Results.of(block.results)
        to_review = np.array([bool(cell) for cell in results.review], dtype=bool)
        self._count(results, to_review)
        cells = [facet.cells(block.rows) for facet in self.facets]
        quadrants = results.quadrants.tolist()
        for facet, own in zip(self.facets, cells, strict=True):
            facet.add(own, quadrants, to_review.tolist())
        order = urgency(to_review, results.quadrants % 2 == 0, results.loop, results.mode)
        for at in self._candidates(order):
            values = tuple(f.values(own[at]) for f, own in zip(self.facets, cells, strict=True))
            self._kept.append(self._row(block, results, at, float(order[at]), values))
        self.n_rows += len(block.rows)
        self._drop_surplus()

    def _candidates(self, order: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:
        """Return which rows of a block may still come into the table; no more than it holds."""
        at = np.flatnonzero(order < self._enough)
        foremost = np.argsort(order[at], kind="stable")[: self.max_rows]
        return np.sort(at[foremost]).tolist()  # type: ignore[no-any-return]

    def _begin(self, header: Sequence[str], text_columns: Sequence[str]) -> None:
        self.text_columns = list(text_columns)
        self.facets = find_facets(header, text_columns)
        by_lower = {name.strip().lower(): at for at, name in reversed(list(enumerate(header)))}
        self._id_at = next((by_lower[name] for name in _ID_NAMES if name in by_lower), None)

    def _count(self, results: _Results, to_review: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        for counts, chosen in (
            (self.quadrants, results.quadrants),
            (self.review, results.quadrants[to_review]),
        ):
            for quadrant, n in enumerate(np.bincount(chosen, minlength=len(QUADRANTS)).tolist()):
                counts[quadrant] += n
        for review, n in Counter(results.review).items():
            for reason in reasons_of(review):
                self.reasons[reason] += n

    def _row(
        self, block: ResultRows, results: _Results, at: int, order: float, values: tuple[list[str], ...]
    ) -> Row:
        first, _, rest = block.texts[at].lstrip().partition("\n")
        return Row(
            urgency=order,
            number=self.n_rows + at + 1,
            id="" if self._id_at is None else shown(block.rows[at][self._id_at], 40),
            title=shown(first, _TITLE),
            more=shown(rest, _MORE),
            quadrant=int(results.quadrants[at]),
            loop=float(results.loop[at]),
            mode=float(results.mode[at]),
            review=results.review[at],
            words=shown(results.words[at], _MORE),
            values=values,
        )

    def _drop_surplus(self) -> None:
        self._kept.sort(key=lambda row: (row.urgency, row.number))
        del self._kept[self.max_rows :]
        if len(self._kept) == self.max_rows:
            self._enough = self._kept[-1].urgency

    def rows(self) -> list[Row]:
        """Return the tasks of the table, the most urgent first."""
        return list(self._kept)

    def render(self) -> str:
        """Return the page; the same rows give the same characters."""
        style, script = (_part(name) for name in ("page.css", "page.js"))
        facets = [facet for facet in self.facets if facet.tells_something]
        return render_template(
            "loopwise.service",
            "page.html",
            {
                "n": "{:,}".format,
                "share": _share,
                "figure": confidence,
                "sum_of_quadrants": _sum_of_quadrants,
            },
            name=self.name,
            version=version("loopwise"),
            model=self.model,
            text_columns=self.text_columns,
            policy=_policy(style, script),
            style=style,
            script=script,
            axes=AXES,
            quadrants=QUADRANTS,
            counts=self.quadrants,
            review=self.review,
            n_rows=self.n_rows,
            routes=[self.routes.table[quadrant] for quadrant in QUADRANTS],
            reasons=[(reason, self.reasons[reason], EXPLAINED[reason]) for reason in REASONS],
            first=[row for row in self.rows()[:N_FIRST] if row.review],
            facets=facets,
            n_values=N_VALUES,
            n_kept=len(self._kept),
            n_kept_review=sum(bool(row.review) for row in self._kept),
            data=self._data(facets),
        )

    def _data(self, facets: list[Facet]) -> dict[str, Any]:
        """Return what the table is made of, as plain data."""
        ranked = [[value for value, _ in facet.ranked()] for facet in facets]
        numbers = [{value: i for i, value in enumerate(values)} for values in ranked]
        at = [self.facets.index(facet) for facet in facets]
        rows = []
        for row in sorted(self._kept, key=lambda row: row.number):
            values = tuple(
                sorted({of[value if value in of else OTHERS] for value in row.values[i]})
                for i, of in zip(at, numbers, strict=True)
            )
            rows.append((round(row.urgency, 6), *row[1:-1], values))
        return {
            "fields": Row._fields,
            "quadrants": QUADRANTS,
            "routes": [self.routes.table[quadrant].name for quadrant in QUADRANTS],
            "facets": [{"name": f.name, "values": v} for f, v in zip(facets, ranked, strict=True)],
            "rows": rows,
        }


@contextmanager
def report_page(
    path: str, name: str, predictor: Predictor, others: Sequence[str | None] = ()
) -> Iterator[OnResults]:
    """Yield what has to see the results of a run for its page to be written to `path` at the end.

    If the run fails, no page is written.

    Parameters
    ----------
    path : str
    name : str
        Of the backlog; its folder is not shown.
    predictor : Predictor
    others : sequence of str or None
        Files that the page must not replace: what is read, what else is written.

    Raises
    ------
    UsageError
        If there can be no page at `path`.
    """
    from loopwise.service.classify import open_output

    if path == "-":
        raise UsageError("--report -: the page needs a file; standard output is for the routed backlog")
    for other in others:
        if other not in (None, "-") and Path(other).resolve() == Path(path).resolve():
            raise UsageError(f"--report {path}: this would replace {other}; name another file")
    builder = PageBuilder(Path(name).name, predictor.routes, predictor.model.folder.name)
    with open_output(path) as out:
        yield builder.add
        out.write(builder.render().encode("utf-8", "replace"))


def confidence(value: float) -> str:
    """Return a probability with two decimals, never more than it is: 0.999 reads 0.99."""
    return f"{min(int(value * 100 + 1e-9), 99) / 100:.2f}"


def _share(part: int, whole: int) -> str:
    if not whole:
        return "–"
    percent = 100 * part / whole
    return "<1\u202f%" if 0 < percent < 1 else f"{percent:.0f}\u202f%"


def _part(name: str) -> str:
    """Return the style or the script, as it will stand in the page."""
    return "\n" + files("loopwise.service").joinpath(name).read_text("utf-8").strip() + "\n"


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy that lets the page run its own style and script and fetch nothing."""
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _sum_of_quadrants(counts: Sequence[int]) -> int:
    return sum(counts[: len(QUADRANTS)])
