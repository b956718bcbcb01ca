"""Predict from Python: `predict` for one text, `Predictor` for a model that stays loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import islice
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loopwise.errors import UsageError
from loopwise.model.labels import AXES, Axis
from loopwise.model.modelfile import FIELDS_NAME, ModelFile
from loopwise.model.review import REASON_TEXTS, reason_code
from loopwise.model.scorer import MAX_TEXT_LENGTH, Score, Scorer, strongest
from loopwise.service.routes import Route, Routes

if TYPE_CHECKING:
    from loopwise.service.columns import ColumnMaker

#: How many features a prediction names on each axis; a column in a file holds the first three.
TOP_FEATURES: Final = 8
_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class AxisPrediction:
    """The answer to one of the two questions.

    Attributes
    ----------
    label : str
        The likelier class under equal priors.
    confidence : float
        Probability in (0, 1) that `label` is right in a real backlog; below 0.5 where the prior
        speaks against it.
    score : float
        The log-odds of `confidence`: `intercept` plus the sum of `contributions`.
    intercept : float
        The part of the score that no feature of the text brings; it holds the prior.
    """

    label: str
    confidence: float
    score: float
    intercept: float
    _evidence: Score = field(repr=False, compare=False)
    _axis: Axis = field(repr=False, compare=False)

    @property
    def contributions(self) -> list[tuple[str, float]]:
        """All contributions to the score, signed toward the label, in the order of the text."""
        sign = 1.0 if self.label == AXES[self._axis][1] else -1.0
        is_loop = self._axis == "loop"
        return [(name, sign * (a if is_loop else b)) for name, a, b in self._evidence.contributions]

    @property
    def top_features(self) -> list[tuple[str, float]]:
        """The strongest of `contributions`, strongest first."""
        return strongest(self.contributions, TOP_FEATURES)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that ``predict --json`` prints."""
        return {
            "label": self.label,
            "confidence": self.confidence,
            "score": self.score,
            "intercept": self.intercept,
            "top_features": [list(feature) for feature in self.top_features],
        }


@dataclass(frozen=True, slots=True)
class Prediction:
    """What Loopwise says of one text.

    Attributes
    ----------
    text : str
    loop, mode : AxisPrediction
    review : str
        Empty, or why a person should look, reasons joined by ``"; "``.
    route : Route
        Where the task would go.
    """

    text: str
    loop: AxisPrediction
    mode: AxisPrediction
    review: str
    route: Route

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as plain data; nothing in it differs between runs."""
        return {
            "text": self.text,
            "loop": self.loop.to_dict(),
            "mode": self.mode.to_dict(),
            "review": self.review,
            "route": {"name": self.route.name, "why": self.route.why},
        }


@dataclass(frozen=True)
class Settings:
    """How scores become labels, confidences and reasons for review.

    Attributes
    ----------
    prior : mapping of axis to float
        Probability in (0, 1) of the axis' first class (code, autonomous) in a real backlog.
    thresholds : mapping of axis to mapping of label to float
        The confidence from which a prediction needs no review, by predicted class.
    """

    prior: Mapping[Axis, float]
    thresholds: Mapping[Axis, Mapping[str, float]]

    @classmethod
    def of(cls, model: ModelFile) -> Settings:
        """Return the settings stored in a model file."""
        thresholds = {axis: dict(model.fields["axes"][axis]["thresholds"]) for axis in AXES}
        return cls({axis: float(model.fields["prior"][axis]) for axis in AXES}, thresholds)

    def offset(self, axis: Axis) -> float:
        """Return the log-odds that the prior adds toward the second class of `axis`."""
        first = self.prior[axis]
        return log((1 - first) / first)


class Predictor:
    """A loaded model. It may be shared by threads, forked and pickled.

    Parameters
    ----------
    model : ModelFile
    routes : Routes, optional
        Where tasks go; the shipped table unless given.
    settings : Settings, optional
        Prior and thresholds; those of the model unless given.

    Examples
    --------
    >>> clf = Predictor.load()
    >>> clf.predict("Fix the flaky login test").loop.label
    'code'
    """

    def __init__(
        self, model: ModelFile, routes: Routes | None = None, settings: Settings | None = None
    ) -> None:
        self.model = model
        self.routes = routes or Routes.shipped()
        self.settings = settings or Settings.of(model)
        self._scorer = Scorer(model)
        self._offsets = (self.settings.offset("loop"), self.settings.offset("mode"))

    @classmethod
    def load(cls, folder: Path | str | None = None, *, home: Path | str | None = None) -> Predictor:
        """Load the active model, or the one in `folder`.

        Parameters
        ----------
        folder : path, optional
            A model folder.
        home : path, optional
            The user's home for labels and models; see `loopwise.model.store.Home`.

        Raises
        ------
        ModelError
            If the model is damaged, changed or of another format version.
        """
        if folder is not None:
            return cls(ModelFile.load(folder))
        from loopwise.model.store import Home

        return cls(Home.find(home).active_model())

    def with_settings(
        self,
        *,
        prior: Mapping[Axis, float] | None = None,
        thresholds: Mapping[Axis, Mapping[str, float]] | None = None,
    ) -> Predictor:
        """Return a predictor on the same model with another prior or other thresholds."""
        settings = replace(
            self.settings,
            prior={**self.settings.prior, **(prior or {})},
            thresholds={**self.settings.thresholds, **(thresholds or {})},
        )
        return Predictor(self.model, self.routes, settings)

    def predict(self, text: str) -> Prediction:
        """Classify one text; any string will do, the empty one included."""
        if not isinstance(text, str):
            raise UsageError(
                f"predict takes one text (str), not {type(text).__name__}; for several use predict_many"
            )
        score = self._scorer.score(text[:MAX_TEXT_LENGTH])
        intercepts = self._scorer.intercepts
        loop = self._answer("loop", score.loop, intercepts[0], self._offsets[0], score)
        mode = self._answer("mode", score.mode, intercepts[1], self._offsets[1], score)
        thresholds = self.settings.thresholds
        code = reason_code(
            score.n_words,
            score.n_known,
            score.n_english,
            score.n_foreign,
            score.scope > 0,
            loop.confidence < thresholds["loop"][loop.label],
            mode.confidence < thresholds["mode"][mode.label],
        )
        return Prediction(text, loop, mode, REASON_TEXTS[code], self.routes.table[loop.label, mode.label])

    @staticmethod
    def _answer(axis: Axis, log_odds: float, intercept: float, offset: float, score: Score) -> AxisPrediction:
        first, second = AXES[axis]
        sign, label = (1.0, second) if log_odds > 0 else (-1.0, first)
        toward = sign * (log_odds + offset)
        return AxisPrediction(label, sigmoid(toward), toward, sign * (intercept + offset), score, axis)

    def predict_many(self, texts: Iterable[str]) -> Iterator[Prediction]:
        """Classify any iterable of texts, lazily and in order."""
        iterator = iter(texts)
        while block := list(islice(iterator, _BLOCK)):
            yield from map(self.predict, block)

    @cached_property
    def columns(self) -> ColumnMaker:
        """What makes the seven columns for whole blocks of texts; loads NumPy and Arrow."""
        from loopwise.service.columns import ColumnMaker

        return ColumnMaker(self)

    def predict_frame(self, frame: Any, text: str | Sequence[str] | None = None) -> Any:
        """Return a copy of `frame` with the seven result columns added.

        Parameters
        ----------
        frame : pandas.DataFrame or any table with the Arrow PyCapsule interface (polars, pyarrow)
            A pandas frame comes back as a pandas frame with its index, a polars frame as a polars
            frame, anything else as a pyarrow table.
        text : str or sequence of str, optional
            The columns that hold the task, read together; found by name unless given.

        Raises
        ------
        UsageError
            If there is no such column, no text column, or a result column is there already.
        """
        return self.columns.predict_frame(frame, text)

    def map_batch(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the seven columns for a batch: ``dataset.map(predictor.map_batch, batched=True)``."""
        return self.columns.map_batch(batch)

    def __getstate__(self) -> dict[str, Any]:
        # The digest is not read again; caches keyed by the pickle (datasets' map) tell models apart by it.
        digest = self.model.fields["sha256"][FIELDS_NAME]
        return {
            "folder": self.model.folder,
            "digest": digest,
            "routes": self.routes,
            "settings": self.settings,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(ModelFile.load(state["folder"]), state["routes"], state["settings"])  # type: ignore[misc]


def predict(text: str) -> Prediction:
    """Classify one text with the active model, loaded at the first call.

    >>> predict("Fix the flaky login test").loop.label
    'code'
    """
    return _active().predict(text)


@lru_cache(maxsize=1)
def _active() -> Predictor:
    return Predictor.load()


def sigmoid(x: float) -> float:
    """Return the probability that belongs to the log-odds `x`."""
    if x >= 0:
        return 1.0 / (1.0 + exp(-x))
    e = exp(x)
    return e / (1.0 + e)
