"""Train a candidate, compare it with the active model on the same held-out rows, and promote it or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loopwise.errors import UsageError
from loopwise.model.labels import AXES, Axis
from loopwise.model.modelfile import ModelFile
from loopwise.model.safefiles import utc_now
from loopwise.model.store import Home
from loopwise.training.build import N_STEPS, BuiltModel, CrossValidation, build, versions
from loopwise.training.card import model_card
from loopwise.training.corpus import Corpus
from loopwise.training.fit import Recipe
from loopwise.training.gate import Comparison, Contradictions, compare, contradictions, log_odds, objections
from loopwise.training.labels import LabelStore, text_key
from loopwise.training.metrics import Interval
from loopwise.training.userlabels import (
    DEFAULT_WEIGHT,
    N_PARTS,
    LabelSource,
    UserLabels,
    held_out_scores,
    records_from,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Steps of a training, for progress bars.
N_TRAIN_STEPS = N_STEPS + N_PARTS


@dataclass(frozen=True)
class TrainReport:
    """What a training run made, and what became of it.

    Attributes
    ----------
    model_id : str
    folder : Path
        Where the candidate was written.
    parent : str
        The model that was active.
    built : BuiltModel
        The candidate and its figures.
    labels : UserLabels
        What was trained on besides the corpus.
    weight : float
        Of each of them.
    on_test : dict of axis to Comparison
        Candidate and active model on the corpus's test rows.
    on_own : dict of axis to Comparison
        The same on the user's labels, each held out from the model that answers; empty for too few.
    contradictions : Contradictions
        Labels that the active model was sure are wrong.
    objections : list of str
        What speaks against promoting the candidate.
    promoted : bool
        Whether the candidate is the active model now.
    """

    model_id: str
    folder: Path
    parent: str
    built: BuiltModel
    labels: UserLabels
    weight: float
    on_test: dict[Axis, Comparison]
    on_own: dict[Axis, Comparison]
    contradictions: Contradictions
    objections: list[str]
    promoted: bool

    @property
    def difference(self) -> dict[Axis, Interval]:
        """Accuracy of the candidate minus that of the active model, on the test rows."""
        return {axis: compared.difference for axis, compared in self.on_test.items()}

    @property
    def no_worse(self) -> bool:
        """Whether the gate is open."""
        return not self.objections


def train(
    labels: LabelSource | None = None,
    *,
    home: Path | str | None = None,
    corpus: Corpus | None = None,
    recipe: Recipe | None = None,
    weight: float = DEFAULT_WEIGHT,
    promote: bool | None = None,
    n_jobs: int = 2,
    on_step: Callable[[str], None] = lambda step: None,
) -> TrainReport:
    """Train a candidate on the corpus and the user's labels, and compare it with the active model.

    Parameters
    ----------
    labels : DataFrame, path, sequence of Record or of mappings, optional
        Labels for this run only, besides those of the home: text, and loop, mode or both.
    home : path, optional
        See `Home.find`.
    corpus : Corpus, optional
        The shipped one unless given.
    recipe : Recipe, optional
    weight : float
        Of each label of the user next to a natural row of the corpus; 0 or more.
    promote : bool, optional
        Make the candidate active: always, never, or by default only if the gate is open.
    n_jobs : int
        Processes.
    on_step : callable
        Called with a few words after each of `N_TRAIN_STEPS` steps.

    Raises
    ------
    LoopwiseError
        If another process trains into this home, or it cannot be written.
    """
    if not 0 <= weight <= 1000:
        raise UsageError(f"the weight {weight} is not a number from 0 to 1000")
    place = Home.find(home)
    corpus, recipe = corpus or Corpus.shipped(), recipe or Recipe()
    more = records_from(labels) if labels is not None else []
    own = UserLabels.of(LabelStore.of(place).read(), more)
    with place.training_lock():
        place.sweep_partials()
        return _Training(place, corpus, recipe, own, weight, n_jobs, on_step).run(promote)


@dataclass(frozen=True)
class _Training:
    place: Home
    corpus: Corpus
    recipe: Recipe
    own: UserLabels
    weight: float
    n_jobs: int
    on_step: Callable[[str], None]

    def run(self, promote: bool | None) -> TrainReport:
        """Build, compare, write, promote."""
        parent = self.place.active_id()
        active = self.place.active_model()
        doubtful = contradictions(active, self.own)
        built, held_out = self._build([active, ModelFile.shipped()])
        on_test = self._on_test(active, built)
        on_own = self._on_own(active, held_out)
        against = objections(on_test, on_own, doubtful)
        fields = built.fields | {"labels": self._labels_used()}
        lineage = {
            "parent": parent,
            "trained_at": utc_now(),
            "corpus": self.corpus.fingerprint,
            "labels": self._labels_used(),
            "versions": versions(),
            "compared": {
                "test": {axis: compared.to_dict() for axis, compared in on_test.items()},
                "own": {axis: compared.to_dict() for axis, compared in on_own.items()},
            },
            "objections": against,
            "held_out": _kept_scores(self.own, held_out),
        }
        built = replace(built, fields=fields)
        card = model_card(fields) + lineage_section(lineage)
        model_id = self.place.add_model(lambda folder: built.write(folder, card, lineage))
        promoted = False
        if promote or (promote is None and not against):
            expected = None if promote else parent
            promoted = self.place.activate(model_id, why=_why(on_test, on_own), expected=expected)
            if not promoted:
                against = [f"{self.place.active_id()} was promoted meanwhile; train again"]
        return TrainReport(
            model_id,
            self.place.model_folder(model_id),
            parent,
            built,
            self.own,
            self.weight,
            on_test,
            on_own,
            doubtful,
            against,
            promoted,
        )

    def _labels_used(self) -> dict[str, Any]:
        own = self.own
        counts = {"n_tasks": len(own.tasks), "n_words": len(own.words), "weight": self.weight}
        return counts | {"fingerprint": own.fingerprint}

    def _build(self, relatives: list[ModelFile]) -> tuple[BuiltModel, dict[Axis, Floats]]:
        """Return the candidate, and its calibrated log-odds for the user's labels, each held out."""
        crossed = known_cross_validation(self.corpus, self.recipe, relatives)
        if crossed is not None:
            for _ in range(N_STEPS - 1):
                self.on_step("cross-validation known")
        extra = self.own.extra(self.weight)
        built = build(
            self.corpus,
            self.recipe,
            extra=extra,
            crossed=crossed,
            n_jobs=self.n_jobs,
            on_step=self.on_step,
        )
        raw = held_out_scores(
            self.corpus.part(("train", "validation")),
            self.recipe,
            self.own,
            self.weight,
            n_jobs=self.n_jobs,
            on_part=lambda: self.on_step("holding out your labels"),
        )
        return built, {axis: built.calibrations[axis].apply(raw[axis]) for axis in AXES}

    def _on_test(self, active: ModelFile, built: BuiltModel) -> dict[Axis, Comparison]:
        """Compare on the test rows, without those whose text the user labelled too."""
        test = self.corpus.part(("test",))
        labelled = set(self.own.keys)
        foreign = np.array([text_key(text) not in labelled for text in test.texts], dtype=bool)
        old, new = log_odds(active, test.texts), built.log_odds(test.texts)
        found: dict[Axis, Comparison] = {}
        for axis in AXES:
            at = np.flatnonzero(test.is_sure(axis) & foreign)
            texts, groups = [test.texts[i] for i in at], test.groups[at]
            truth = test.is_second(axis)[at]
            found[axis] = compare(axis, texts, truth, old[axis][at] > 0, new[axis][at] > 0, groups)
        return found

    def _on_own(self, active: ModelFile, new: dict[Axis, Floats]) -> dict[Axis, Comparison]:
        """Compare on the user's labels, each answered by models that were not shown it."""
        old = log_odds(active, self.own.texts)
        held_out = active.lineage().get("held_out", {})
        found: dict[Axis, Comparison] = {}
        for axis, second in self.own.second.items():
            shown = np.array([(held_out.get(key) or {}).get(axis, np.nan) for key in self.own.keys])
            old[axis] = np.where(np.isnan(shown), old[axis], shown)
            at = np.flatnonzero(~np.isnan(second) & ~np.isnan(new[axis]))
            if len(at):
                texts, groups = ([values[i] for i in at] for values in (self.own.texts, self.own.groups))
                answers = (second[at] == 1, old[axis][at] > 0, new[axis][at] > 0)
                found[axis] = compare(axis, texts, *answers, groups)
        return found


def known_cross_validation(corpus: Corpus, recipe: Recipe, models: list[ModelFile]) -> CrossValidation | None:
    """Return the cross-validation of the first of `models` that has the same corpus and recipe.

    A user's labels take no part in it, so that training again need not repeat it.
    """
    plain = json.loads(json.dumps(recipe.to_dict()))
    wanted = (corpus.fingerprint, plain, versions())
    for model in models:
        fields = model.fields
        if (fields["corpus"].get("fingerprint"), fields.get("recipe"), fields.get("versions")) == wanted:
            return CrossValidation.of(fields)
    return None


def _kept_scores(own: UserLabels, held_out: dict[Axis, Floats]) -> dict[str, dict[str, float]]:
    """Return the held-out scores by the key of the text: they stand for the model when it is compared."""
    kept: dict[str, dict[str, float]] = {}
    for i, key in enumerate(own.keys):
        known = {axis: round(float(held_out[axis][i]), 4) for axis in AXES if np.isfinite(held_out[axis][i])}
        if known:
            kept[key] = {str(axis): score for axis, score in known.items()}
    return kept


def _why(on_test: dict[Axis, Comparison], on_own: dict[Axis, Comparison]) -> str:
    parts = []
    for name, compared in (("own labels", on_own), ("test", on_test)):
        figures = ", ".join(f"{axis} {c.difference.value:+.3f}" for axis, c in compared.items())
        if figures:
            parts.append(f"{name}: {figures}")
    return "; ".join(parts)


def lineage_section(lineage: dict[str, Any]) -> str:
    """Return where a model comes from as a section of its card."""
    labels = lineage["labels"]
    lines = [
        "",
        "## Where it comes from",
        "",
        f"- trained at {lineage['trained_at']}, while {lineage['parent']} was active",
        f"- corpus {lineage['corpus']}",
        f"- {labels['n_tasks']} labelled tasks and {labels['n_words']} labelled words of the user, "
        f"weight {labels['weight']:g}, fingerprint {labels['fingerprint']}",
        "- " + ", ".join(f"{name} {number}" for name, number in lineage["versions"].items()),
        "",
        "| compared on | axis | n | before | after | difference | fixed | broken |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, by_axis in lineage["compared"].items():
        for axis, c in by_axis.items():
            difference = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*c["difference"])
            lines.append(
                f"| {place} | {axis} | {c['n']} | {c['old']:.3f} | {c['new']:.3f} | {difference} "
                f"| {c['fixed']} | {c['broken']} |"
            )
    lines += ["", *(f"- against it: {objection}" for objection in lineage["objections"])]
    return "\n".join(lines).rstrip() + "\n"


def diff_models(
    old: ModelFile, new: ModelFile, corpus: Corpus, texts: list[str] | None = None
) -> tuple[dict[Axis, Comparison], dict[Axis, list[tuple[str, str, str]]]]:
    """Compare two models of a home.

    Parameters
    ----------
    old, new : ModelFile
    corpus : Corpus
        On whose test rows they are compared.
    texts : list of str, optional
        Texts without labels.

    Returns
    -------
    compared : dict of axis to Comparison
        On the test rows.
    changed : dict of axis to list of (text, old label, new label)
        The `texts` that they answer differently.
    """
    test = corpus.part(("test",))
    before, after = log_odds(old, test.texts), log_odds(new, test.texts)
    compared: dict[Axis, Comparison] = {}
    for axis in AXES:
        at = np.flatnonzero(test.is_sure(axis))
        answers = (test.is_second(axis)[at], before[axis][at] > 0, after[axis][at] > 0)
        compared[axis] = compare(axis, [test.texts[i] for i in at], *answers, test.groups[at])
    changed: dict[Axis, list[tuple[str, str, str]]] = {axis: [] for axis in AXES}
    if texts:
        before, after = log_odds(old, texts), log_odds(new, texts)
        for axis, names in AXES.items():
            flipped = np.flatnonzero((before[axis] > 0) != (after[axis] > 0))
            changed[axis] = [
                (texts[i], names[int(before[axis][i] > 0)], names[int(after[axis][i] > 0)]) for i in flipped
            ]
    return compared, changed
