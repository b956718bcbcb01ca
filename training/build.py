"""Build a model from a corpus: cross-validate, calibrate, pick thresholds, fit, fold, measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.pipeline import Pipeline

from loopwise.model.folding import Head, fold, write_model
from loopwise.model.labels import AXES, Axis
from loopwise.training.calibration import (
    TARGETS,
    Calibration,
    ReviewThreshold,
    calibrate,
    confidence,
    half_natural,
    prior_weights,
    review_threshold,
)
from loopwise.training.corpus import Corpus
from loopwise.training.fit import HEADS, ExtraRows, FittedHeads, Recipe, fit, folds_by, out_of_fold
from loopwise.training.language import language_words
from loopwise.training.metrics import AxisFigures, axis_figures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Share of an axis' first class in a real backlog: code, and autonomous. Backlogs hold both loops in
#: any mixture, so the loop is left even; about 85 in 100 backlog items can be delegated.
PRIOR: Final[dict[Axis, float]] = {"loop": 0.5, "mode": 0.85}
TARGET_ACCURACY: Final = 0.95
N_FOLDS: Final = 3
#: At most this share of the truly interactive natural rows held out may be delegated without review (of
#: all hands' rows that is about 8 in 100). With less, more than half of a real backlog goes to review.
UNSAFE_DELEGATION: Final = 0.135
#: Steps of a build, for progress bars: the cross-validation and the final fit.
N_STEPS: Final = N_FOLDS + 1


@dataclass(frozen=True)
class BuiltModel:
    """A model ready to be written, with what was measured on the way.

    Attributes
    ----------
    fitted : FittedHeads
        Fitted on the train and validation rows.
    calibrations : dict of str to Calibration
        By head.
    arrays, fields : dict
        The contents of the model file.
    figures : dict of str to dict of axis to AxisFigures
        By kind of held-out: ``hands`` (cross-validation, whole hands left out), ``natural`` (those of
        them that wrote without thought of labels), ``test`` (the test split, near-duplicates and contrast
        pairs kept together). Equal priors. Without the first two where the cross-validation was known.
    """

    fitted: FittedHeads
    calibrations: dict[str, Calibration]
    arrays: dict[str, NDArray[Any]]
    fields: dict[str, Any]
    figures: dict[str, dict[Axis, AxisFigures]]

    def write(self, folder: Path, card: str, lineage: dict[str, Any] | None = None) -> None:
        """Write the model file, its card and where it comes from into `folder`."""
        write_model(folder, self.arrays, self.fields, card, lineage)

    def log_odds(self, texts: Sequence[str]) -> dict[Axis, Floats]:
        """Return the calibrated log-odds toward the second class under equal priors, by axis."""
        raw = self.fitted.decision_function(texts)
        return {axis: self.calibrations[axis].apply(raw[axis]) for axis in AXES}

    def pipelines(self) -> dict[Axis, Pipeline]:
        """Return the fitted scikit-learn pipelines, one an axis, calibrated, the prior included.

        ``predict_proba(texts)[:, 1]`` is the probability of the second class.
        """
        return {axis: self._pipeline(axis) for axis in AXES}

    def _pipeline(self, axis: Axis) -> Pipeline:
        classifier = self.fitted.classifiers[axis]
        line = self.calibrations[axis]
        calibrated = type(classifier)(**classifier.get_params())
        calibrated.classes_ = np.array(AXES[axis])
        calibrated.coef_ = classifier.coef_ * line.slope
        first = self.fields["prior"][axis]
        calibrated.intercept_ = line.apply(classifier.intercept_) + np.log((1 - first) / first)
        calibrated.n_features_in_ = classifier.n_features_in_
        return Pipeline([("features", self.fitted.vectorizer), ("classifier", calibrated)])


@dataclass(frozen=True)
class CrossValidation:
    """What held-out rows of the corpus say: it depends on corpus and recipe only.

    Attributes
    ----------
    calibrations : dict of axis to Calibration
    review : dict of axis to dict of label to list of dict
        Review thresholds of each predicted class for every target.
    metrics : dict of str to dict of axis to dict
        The figures of ``hands`` and ``natural`` (see `BuiltModel`), as plain data.
    figures : dict of str to dict of axis to AxisFigures
        The same as objects; empty where they were read from a model file.
    """

    calibrations: dict[Axis, Calibration]
    review: dict[Axis, dict[str, list[dict[str, Any]]]]
    metrics: dict[str, dict[Axis, dict[str, Any]]]
    figures: dict[str, dict[Axis, AxisFigures]]

    @classmethod
    def of(cls, fields: dict[str, Any]) -> CrossValidation:
        """Return the one behind a model, from the fields of its file."""
        axes = fields["axes"]
        metrics = {kind: fields["metrics"][kind] for kind in ("hands", "natural")}
        calibrations = {axis: Calibration(**axes[axis]["calibration"]) for axis in AXES}
        return cls(calibrations, {axis: axes[axis]["review"] for axis in AXES}, metrics, {})


def versions() -> dict[str, str]:
    """Return the versions of what a model depends on."""
    return {name: version(name) for name in ("loopwise", "scikit-learn", "scipy", "numpy")}


def cross_validate(
    rows: Corpus,
    recipe: Recipe,
    *,
    n_jobs: int = 2,
    on_step: Callable[[str], None] = lambda step: None,
) -> CrossValidation:
    """Score every row with models that saw no row of its hand, calibrate on that and pick thresholds."""
    folds = folds_by(list(rows.rows["hand"]), N_FOLDS, recipe.seed)
    scores = out_of_fold(
        rows, recipe, folds, n_jobs=n_jobs, on_fold=lambda: on_step("cross-validating hands")
    )
    calibrations: dict[Axis, Calibration] = {}
    figures: dict[str, dict[Axis, AxisFigures]] = {"hands": {}, "natural": {}}
    log_odds: dict[Axis, Floats] = {}
    for axis in AXES:
        sure = rows.is_sure(axis)
        weight = half_natural(rows.is_natural[sure])
        line = calibrations[axis] = calibrate(scores[axis][sure], rows.is_second(axis)[sure], weight)
        log_odds[axis] = line.apply(scores[axis])
        figures["hands"][axis] = _figures(axis, rows, log_odds[axis])
        figures["natural"][axis] = _figures(axis, rows, log_odds[axis], rows.is_natural)
    review = _review_tables(rows, log_odds)
    metrics = {kind: {axis: f.to_dict() for axis, f in by.items()} for kind, by in figures.items()}
    return CrossValidation(calibrations, review, metrics, figures)


def build(
    corpus: Corpus,
    recipe: Recipe,
    *,
    extra: ExtraRows | None = None,
    crossed: CrossValidation | None = None,
    n_jobs: int = 2,
    on_step: Callable[[str], None] = lambda step: None,
) -> BuiltModel:
    """Train, calibrate and measure a model.

    Parameters
    ----------
    corpus : Corpus
        The test split is only measured on; the rest is trained on.
    recipe : Recipe
    extra : ExtraRows, optional
        A user's labels, trained on.
    crossed : CrossValidation, optional
        That of the same corpus and recipe, if it is known: it takes most of the time.
    n_jobs : int
        Processes for the cross-validation; with more than one, the final fit runs beside them.
    on_step : callable
        Called with a few words after each of `N_STEPS` steps, of which all but one are skipped
        if `crossed` is given.
    """
    rows = corpus.part(("train", "validation"))
    if crossed is None and n_jobs > 1:
        # The folds run in processes of their own. Meanwhile a thread of this one fits all rows, from a copy:
        # it keeps what it computes of a corpus there, while the folds' is being sent.
        with ThreadPoolExecutor(1) as beside:
            final = beside.submit(fit, corpus.part(("train", "validation")), recipe, extra=extra)
            crossed = cross_validate(rows, recipe, n_jobs=n_jobs, on_step=on_step)
            fitted = final.result()
    else:
        crossed = crossed or cross_validate(rows, recipe, n_jobs=1, on_step=on_step)
        fitted = fit(rows, recipe, extra=extra)
    on_step("fitting all rows")

    calibrations = {"scope": Calibration(1.0, 0.0)} | {str(k): v for k, v in crossed.calibrations.items()}
    axes: dict[str, Any] = {}
    test = corpus.part(("test",))
    test_scores = fitted.decision_function(test.texts)
    tested: dict[Axis, AxisFigures] = {}
    for axis in AXES:
        line = calibrations[axis]
        tested[axis] = _figures(axis, test, line.apply(test_scores[axis]))
        axes[axis] = {
            "labels": list(AXES[axis]),
            "intercept": float(line.apply(fitted.classifiers[axis].intercept_)[0]),
            "calibration": {"slope": line.slope, "intercept": line.intercept},
            "thresholds": {name: _at(table, TARGET_ACCURACY) for name, table in crossed.review[axis].items()},
            "review": crossed.review[axis],
        }
    heads = [_head(fitted, head, calibrations[head]) for head in HEADS]
    fields = {
        "axes": axes,
        "scope": {"intercept": heads[2].intercept},
        "prior": dict(PRIOR),
        "recipe": recipe.to_dict(),
        "corpus": {
            "fingerprint": corpus.fingerprint,
            "n_rows": len(corpus.rows),
            "n_trained": len(rows.rows),
            "n_words": len(corpus.lexicon),
            "n_extra_rows": len(extra.texts) if extra else 0,
        },
        "versions": versions(),
        "metrics": crossed.metrics | {"test": {axis: f.to_dict() for axis, f in tested.items()}},
    }
    arrays = fold(fitted.vectorizer, heads, language_words())
    return BuiltModel(fitted, calibrations, arrays, fields, crossed.figures | {"test": tested})


def _head(fitted: FittedHeads, head: str, line: Calibration) -> Head:
    classifier = fitted.classifiers[head]
    return Head(classifier.coef_[0] * line.slope, float(line.apply(classifier.intercept_)[0]))


def _figures(
    axis: Axis, corpus: Corpus, log_odds: Floats, among: NDArray[np.bool_] | None = None
) -> AxisFigures:
    counted = corpus.is_sure(axis) if among is None else corpus.is_sure(axis) & among
    second, conf = confidence(log_odds, 0.5)
    return axis_figures(corpus.is_second(axis)[counted], second[counted], conf[counted], AXES[axis])


def _review_tables(
    corpus: Corpus, log_odds: dict[Axis, Floats]
) -> dict[Axis, dict[str, list[dict[str, Any]]]]:
    """Return the review thresholds of each predicted class for every target, as plain data."""
    loop = _thresholds("loop", corpus, log_odds["loop"])
    usual = TARGETS.index(TARGET_ACCURACY)
    floor = delegation_floor(corpus, log_odds, {name: table[usual].threshold for name, table in loop.items()})
    tables: dict[Axis, dict[str, list[ReviewThreshold]]] = {
        "loop": loop,
        "mode": _thresholds("mode", corpus, log_odds["mode"], floor),
    }
    return {
        axis: {name: [t.to_dict() for t in table] for name, table in by_class.items()}
        for axis, by_class in tables.items()
    }


def _thresholds(
    axis: Axis, corpus: Corpus, log_odds: Floats, floor: float = 0.0
) -> dict[str, list[ReviewThreshold]]:
    """Return the thresholds of one axis on held-out rows; those of its first class are at least `floor`."""
    sure = corpus.is_sure(axis)
    truth = corpus.is_second(axis)[sure]
    second, conf = confidence(log_odds[sure], PRIOR[axis])
    weight = prior_weights(truth, PRIOR[axis])
    tables = {}
    for name, is_second, at_least in zip(AXES[axis], (False, True), (floor, 0.0), strict=True):
        said = second == is_second
        tables[name] = [
            review_threshold((truth == second)[said], conf[said], weight[said], target, floor=at_least)
            for target in TARGETS
        ]
    return tables


def delegation_floor(
    corpus: Corpus, log_odds: dict[Axis, Floats], loop_thresholds: dict[str, float]
) -> float:
    """Return from which confidence "autonomous" leaves few enough interactive tasks unseen.

    A missed interactive task costs more than a needless look: at most `UNSAFE_DELEGATION` of them may
    pass. Those whose loop is below its threshold are looked at anyway. Natural rows judge, or all where
    there are none.

    Parameters
    ----------
    corpus : Corpus
    log_odds : dict of axis to ndarray
        Calibrated, held out, one for each row.
    loop_thresholds : dict of str to float
        The confidence from which each loop needs no review.
    """
    judges = corpus.is_sure("mode") & corpus.is_second("mode")
    if (judges & corpus.is_natural).any():
        judges &= corpus.is_natural
    if not judges.any():
        return 0.0
    is_knowledge, conf = confidence(log_odds["loop"], PRIOR["loop"])
    looked_at = conf < np.where(is_knowledge, loop_thresholds["knowledge"], loop_thresholds["code"])
    is_interactive, conf = confidence(log_odds["mode"], PRIOR["mode"])
    unseen = np.where(is_interactive | looked_at, 0.0, conf)[judges]
    return float(np.quantile(unseen, 1 - UNSAFE_DELEGATION))


def _at(table: list[dict[str, Any]], target: float) -> float:
    return float(next(t["threshold"] for t in table if t["target"] == target))
