"""An evaluation as one HTML page that needs nothing else: figures, plots, thresholds, words, errors."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from math import isnan
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from loopwise.errors import MissingExtraError
from loopwise.model.labels import AXES, Axis
from loopwise.model.modelfile import COLUMNS, KNOWN, ModelFile
from loopwise.service.settings import thresholds_for
from loopwise.service.templates import render_template

try:
    from loopwise.training.plots import plot_reliability, plot_risk_coverage
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "matplotlib":
        raise
    raise MissingExtraError(
        f"--report needs {error.name}, which is not installed: pip install 'loopwise[report]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from loopwise.service.predictor import Predictor
    from loopwise.training.evaluate import Evaluation, LabelledTexts

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

#: Errors that a report lists.
N_ERRORS: Final = 50
#: Words listed for each class.
N_WORDS: Final = 15
#: Characters of an error's text that are shown.
_SHOWN_TEXT: Final = 600


@dataclass(frozen=True)
class Answers:
    """What was said and what is true on one axis, row by row.

    Attributes
    ----------
    sure : ndarray of bool
        Whether the row counts.
    second, predicted : ndarray of bool
        Whether the label, and the prediction, is the second class.
    confidence : ndarray of float
    """

    sure: Bools
    second: Bools
    predicted: Bools
    confidence: Floats

    @classmethod
    def of(cls, evaluation: Evaluation, data: LabelledTexts, axis: Axis) -> Answers:
        """Return the answers of an evaluation on one axis."""
        predictions = evaluation.predictions
        return cls(
            sure=data.sure[axis],
            second=data.second[axis],
            predicted=(predictions[axis] == AXES[axis][1]).to_numpy(dtype=bool),
            confidence=predictions[f"{axis}_confidence"].astype(float).to_numpy(),
        )

    @property
    def right(self) -> Bools:
        """Whether the prediction is the label."""
        return np.asarray(self.second == self.predicted)

    def low(self, axis: Axis, thresholds: Mapping[str, float]) -> Bools:
        """Return whether the confidence is below the threshold of the predicted class."""
        first, second = (thresholds[name] for name in AXES[axis])
        return np.asarray(self.confidence < np.where(self.predicted, second, first))


@dataclass(frozen=True)
class ThresholdRow:
    """What a target accuracy would mean for these rows.

    Attributes
    ----------
    target : str
        The target, or ``in use``.
    thresholds : dict of label to float
        Above 1 where too few held-out rows support the target.
    match, wrong, review : int
        Rows that pass and are right, pass and are wrong, go to a person.
    """

    target: str
    thresholds: dict[str, float]
    match: int
    wrong: int
    review: int

    @property
    def accuracy(self) -> float:
        """Share that is right among the rows that pass; nan if none does."""
        passed = self.match + self.wrong
        return self.match / passed if passed else float("nan")


@dataclass(frozen=True)
class WrongAnswer:
    """One error, with its explanation.

    Attributes
    ----------
    axis : str
    said, truth : str
    confidence : float
    text : str
        Shortened if it is long.
    review : str
        Why a person would look; empty if nobody would.
    top_features : list of (str, float)
        Signed toward what was said, strongest first.
    """

    axis: Axis
    said: str
    truth: str
    confidence: float
    text: str
    review: str
    top_features: list[tuple[str, float]]


def render_report(evaluation: Evaluation, data: LabelledTexts, predictor: Predictor, name: str) -> str:
    """Return the page.

    Parameters
    ----------
    evaluation : Evaluation
        Of `predictor` on `data`.
    data : LabelledTexts
    predictor : Predictor
    name : str
        What the labelled texts are called in the title.
    """
    answers = {axis: Answers.of(evaluation, data, axis) for axis in AXES}
    return render_template(
        "loopwise.training",
        "report.html",
        {"figure": _figure},
        name=name,
        version=version("loopwise"),
        model=predictor.model.folder.name,
        n_texts=len(data.texts),
        evaluation=evaluation,
        axes=AXES,
        plots={axis: _plots(axis, answers[axis]) for axis in AXES},
        together=threshold_rows(evaluation, answers, predictor),
        by_axis={axis: axis_threshold_rows(axis, answers[axis], predictor) for axis in AXES},
        words={axis: strongest_words(predictor.model, axis) for axis in AXES},
        errors=worst_errors(evaluation, data, predictor),
        n_wrong=sum(int((a.sure & ~a.right).sum()) for a in answers.values()),
    )


def _figure(value: float) -> str:
    return "–" if isnan(value) else f"{value:.3f}"


def _plots(axis: Axis, answers: Answers) -> list[str]:
    """Draw a reliability diagram for each class, and the risk-coverage curve."""
    keep = answers.sure
    right, conf, predicted = answers.right[keep], answers.confidence[keep], answers.predicted[keep]
    reliability = [
        plot_reliability(right[predicted == second], conf[predicted == second], label, second)
        for label, second in zip(AXES[axis], (False, True), strict=True)
    ]
    return [*reliability, plot_risk_coverage(right, conf, predicted, AXES[axis], axis)]


def _targets(predictor: Predictor) -> list[tuple[str, Mapping[Axis, Mapping[str, float]]]]:
    """Return the thresholds in use, and those of every target that the model file has."""
    axes = predictor.model.fields["axes"]
    stored = {e["target"] for axis in AXES for table in axes[axis]["review"].values() for e in table}
    by_target = [(f"{target:g}", thresholds_for(predictor, target)[0]) for target in sorted(stored)]
    return [("in use", predictor.settings.thresholds), *by_target]


def threshold_rows(
    evaluation: Evaluation, answers: Mapping[Axis, Answers], predictor: Predictor
) -> list[ThresholdRow]:
    """Return for each target how many rows pass with both answers right, with one wrong, or go to review.

    Rows whose label counts on both axes. A row goes to review for low confidence on either axis, or
    for any other reason.
    """
    others = evaluation.predictions["review"].map(_other_reasons).to_numpy(dtype=bool)
    keep = np.logical_and.reduce([a.sure for a in answers.values()])
    right = np.logical_and.reduce([a.right for a in answers.values()])
    rows = []
    for target, thresholds in _targets(predictor):
        low = [answers[axis].low(axis, thresholds[axis]) for axis in AXES]
        review = np.logical_or.reduce([others, *low])
        flat = {label: value for axis in AXES for label, value in thresholds[axis].items()}
        rows.append(_threshold_row(target, flat, keep, right, review))
    return rows


def axis_threshold_rows(axis: Axis, answers: Answers, predictor: Predictor) -> list[ThresholdRow]:
    """As `threshold_rows`, for one axis and its confidence alone."""
    return [
        _threshold_row(
            target,
            dict(thresholds[axis]),
            answers.sure,
            answers.right,
            answers.low(axis, thresholds[axis]),
        )
        for target, thresholds in _targets(predictor)
    ]


def _threshold_row(
    target: str, thresholds: dict[str, float], keep: Bools, right: Bools, review: Bools
) -> ThresholdRow:
    passed = keep & ~review
    match, wrong = int((passed & right).sum()), int((passed & ~right).sum())
    return ThresholdRow(target, thresholds, match, wrong, int((keep & review).sum()))


def _other_reasons(review: str) -> bool:
    """Whether there is a reason for review that no threshold changes."""
    return any(reason and not reason.startswith("low confidence") for reason in review.split("; "))


def strongest_words(model: ModelFile, axis: Axis, n: int = N_WORDS) -> dict[str, list[tuple[str, float]]]:
    """Return the words that speak most for each class.

    Parameters
    ----------
    model : ModelFile
    axis : str
    n : int
        Words for each class.

    Returns
    -------
    dict of label to list of (str, float)
        Words of the corpus or lexicon with the log-odds that they would bring if they stood alone,
        toward the label, strongest first.
    """
    offsets, held = model.arrays["word_offsets"], model.arrays["word_bytes"]
    values = np.asarray(model.arrays["word_values"]).reshape(-1, len(COLUMNS))
    known = (np.asarray(model.arrays["word_flags"]) & KNOWN) > 0
    norm = np.sqrt(values[:, COLUMNS.index("squared_norm")].astype(np.float64))
    alone = values[:, COLUMNS.index(axis)] / np.where(norm > 0, norm, 1.0)
    strongest = {}
    for label, sign in zip(AXES[axis], (-1.0, 1.0), strict=True):
        toward = np.where(known & (norm > 0), sign * alone, -np.inf)
        best = [int(i) for i in np.argsort(-toward, kind="stable")[:n] if toward[i] > 0]
        strongest[label] = [
            (held[offsets[i] : offsets[i + 1]].tobytes().decode("utf-8", "replace"), float(toward[i]))
            for i in best
        ]
    return strongest


def worst_errors(
    evaluation: Evaluation, data: LabelledTexts, predictor: Predictor, n: int = N_ERRORS
) -> list[WrongAnswer]:
    """Return the `n` wrong answers that the model was surest of, both axes together."""
    found = []
    for axis in AXES:
        answers = Answers.of(evaluation, data, axis)
        wrong = np.flatnonzero(answers.sure & ~answers.right)
        found += [(-answers.confidence[at], int(at), axis) for at in wrong]
    return [_wrong_answer(axis, at, data, predictor) for _, at, axis in sorted(found)[:n]]


def _wrong_answer(axis: Axis, at: int, data: LabelledTexts, predictor: Predictor) -> WrongAnswer:
    text = data.texts[at]
    prediction = predictor.predict(text)
    answer: Any = getattr(prediction, axis)
    return WrongAnswer(
        axis=axis,
        said=answer.label,
        truth=AXES[axis][int(data.second[axis][at])],
        confidence=answer.confidence,
        text=text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + " …",
        review=prediction.review,
        top_features=answer.top_features,
    )
