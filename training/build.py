"""Build a model from a corpus: cross-validate, calibrate, pick thresholds, fit, fold, measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.pipeline import Pipeline

from loopwise.model.folding import Head, fold, write_model
from loopwise.model.labels import AXES, Axis
from loopwise.model.vectors import WordVectors
from loopwise.training.calibration import (
    TARGETS,
    Calibration,
    ReviewThreshold,
    calibrate,
    confidence,
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
N_FOLDS: Final = 5
#: Share of the words of held-out texts that are hidden when calibrating. Strangers use other words and
#: other turns than our hands; at this share the held-out rows are about as hard as strangers' texts.
HIDDEN_WORDS: Final = 0.3
#: At most this share of the truly interactive held-out rows may pass as autonomous without review.
UNSAFE_DELEGATION: Final = 0.1
#: Steps of a build, for progress bars: two cross-validations and the final fit.
N_STEPS: Final = 2 * N_FOLDS + 1


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
        By kind of held-out: ``groups`` (cross-validation, contrast pairs kept together), ``hands``
        (whole hands and trades left out, words hidden), ``test`` (the test split). Equal priors.
    """

    fitted: FittedHeads
    calibrations: dict[str, Calibration]
    arrays: dict[str, NDArray[Any]]
    fields: dict[str, Any]
    figures: dict[str, dict[Axis, AxisFigures]]

    def write(self, folder: Path, card: str) -> None:
        """Write the model file and its card into `folder`."""
        write_model(folder, self.arrays, self.fields, card)

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


def build(
    corpus: Corpus,
    recipe: Recipe,
    vectors: WordVectors | None,
    *,
    extra: ExtraRows | None = None,
    n_jobs: int = 2,
    on_step: Callable[[str], None] = lambda step: None,
) -> BuiltModel:
    """Train, calibrate and measure a model.

    Parameters
    ----------
    corpus : Corpus
        The test split is only measured on; the rest is trained on.
    recipe : Recipe
    vectors : WordVectors or None
    extra : ExtraRows, optional
        A user's labels, trained on.
    n_jobs : int
        Processes for the cross-validation.
    on_step : callable
        Called with a few words after each of `N_STEPS` steps.
    """
    rows = corpus.part(("train", "validation"))
    group_folds = folds_by(rows.groups.tolist(), N_FOLDS, recipe.seed)
    scores = out_of_fold(
        rows, recipe, vectors, group_folds, n_jobs=n_jobs, on_fold=lambda: on_step("cross-validating groups")
    )
    hand_folds = folds_by(list(rows.rows["hand"]), N_FOLDS, recipe.seed)
    hard = out_of_fold(
        rows,
        recipe,
        vectors,
        hand_folds,
        heads=HEADS,
        drop=HIDDEN_WORDS,
        n_jobs=n_jobs,
        on_fold=lambda: on_step("cross-validating hands"),
    )
    fitted = fit(rows, recipe, vectors, extra=extra)
    on_step("fitting all rows")

    calibrations = {"scope": Calibration(1.0, 0.0)}
    figures: dict[str, dict[Axis, AxisFigures]] = {"groups": {}, "hands": {}, "test": {}}
    axes: dict[str, Any] = {}
    test = corpus.part(("test",))
    test_scores = fitted.decision_function(test.texts)
    for axis in AXES:
        line = calibrations[axis] = calibrate(
            hard[axis][rows.is_sure(axis)], rows.is_second(axis)[rows.is_sure(axis)]
        )
        for kind, part, raw in (("groups", rows, scores), ("hands", rows, hard), ("test", test, test_scores)):
            figures[kind][axis] = _figures(axis, part, line.apply(raw[axis]))
        thresholds = _thresholds(axis, rows, line.apply(hard[axis]))
        intercept = float(line.apply(fitted.classifiers[axis].intercept_)[0])
        axes[axis] = {
            "labels": list(AXES[axis]),
            "intercept": intercept,
            "calibration": {"slope": line.slope, "intercept": line.intercept},
            "thresholds": {name: _at(table, TARGET_ACCURACY) for name, table in thresholds.items()},
            "review": {name: [t.to_dict() for t in table] for name, table in thresholds.items()},
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
        "versions": {name: version(name) for name in ("loopwise", "scikit-learn", "numpy")},
        "metrics": {
            kind: {axis: f.to_dict() for axis, f in by_axis.items()} for kind, by_axis in figures.items()
        },
    }
    arrays = fold(fitted.vectorizer, heads, language_words())
    return BuiltModel(fitted, calibrations, arrays, fields, figures)


def _head(fitted: FittedHeads, head: str, line: Calibration) -> Head:
    classifier = fitted.classifiers[head]
    return Head(classifier.coef_[0] * line.slope, float(line.apply(classifier.intercept_)[0]))


def _figures(axis: Axis, corpus: Corpus, log_odds: Floats) -> AxisFigures:
    sure = corpus.is_sure(axis)
    second, conf = confidence(log_odds, 0.5)
    return axis_figures(corpus.is_second(axis)[sure], second[sure], conf[sure], AXES[axis])


def _thresholds(axis: Axis, corpus: Corpus, log_odds: Floats) -> dict[str, list[ReviewThreshold]]:
    """Return the review thresholds of each predicted class for every target, on held-out rows."""
    sure = corpus.is_sure(axis)
    truth = corpus.is_second(axis)[sure]
    second, conf = confidence(log_odds[sure], PRIOR[axis])
    weight = prior_weights(truth, PRIOR[axis])
    # A missed interactive task costs more than a needless look.
    missed = np.where(second, 0.0, conf)[truth] if axis == "mode" else np.zeros(1)
    floors = (float(np.quantile(missed, 1 - UNSAFE_DELEGATION)), 0.0)
    tables = {}
    for name, is_second, floor in zip(AXES[axis], (False, True), floors, strict=True):
        said = second == is_second
        tables[name] = [
            review_threshold((truth == second)[said], conf[said], weight[said], target, floor=floor)
            for target in TARGETS
        ]
    return tables


def _at(table: list[ReviewThreshold], target: float) -> float:
    return round(next(t.threshold for t in table if t.target == target), 6)
