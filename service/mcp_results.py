"""What the MCP tools return. The descriptions become the output schemas that an agent reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from loopwise.model.labels import AXES
from loopwise.service.predictor import AxisPrediction, Prediction

if TYPE_CHECKING:
    from loopwise.service.classify import Summary

#: Features of a single answer; `Explanation` has all of them.
SHOWN_FEATURES: Final = 5
#: Characters of a text that tell the rows of a list apart.
SHOWN_TEXT: Final = 80

Loop = Literal["code", "knowledge"]
Mode = Literal["autonomous", "interactive"]
LoopLabel = Annotated[
    Loop,
    Field(
        description="code: a diff, a command or a running system is handed over. "
        "knowledge: a document, a message or a decision."
    ),
]
ModeLabel = Annotated[
    Mode,
    Field(description="autonomous: hand it over and come back. interactive: a person watches the steps."),
]
Confidence = Annotated[
    float,
    Field(description="Probability that the label is right in a real backlog; it may be below 0.5."),
]
Review = Annotated[
    str,
    Field(description="Empty, or why a person should decide instead of the model; reasons joined by '; '."),
]


class Feature(BaseModel):
    """A word, a pair of words or a cue, and what it adds."""

    name: str = Field(description="The word or words; ^ and $ are the ends of the text, (…) is a cue.")
    weight: float = Field(description="Log-odds that it adds toward the label; negative speaks against it.")


class LoopAnswer(BaseModel):
    """Which loop the task belongs to."""

    label: LoopLabel
    confidence: Confidence
    top_features: list[Feature] = Field(description="What counted most, strongest first.")


class ModeAnswer(BaseModel):
    """Whether a person should watch."""

    label: ModeLabel
    confidence: Confidence
    top_features: list[Feature] = Field(description="What counted most, strongest first.")


class RouteAnswer(BaseModel):
    """Where the task would go."""

    name: str = Field(description="The tool or surface that suits tasks of this kind.")
    why: str = Field(description="The reason, in a sentence.")


class RoutedTask(BaseModel):
    """The answer to both questions for one task."""

    loop: LoopAnswer
    mode: ModeAnswer
    review: Review
    route: RouteAnswer

    @classmethod
    def of(cls, prediction: Prediction) -> RoutedTask:
        """Return the answer in full."""
        return cls(
            loop=LoopAnswer.model_validate(_answer(prediction.loop)),
            mode=ModeAnswer.model_validate(_answer(prediction.mode)),
            review=prediction.review,
            route=RouteAnswer(name=prediction.route.name, why=prediction.route.why),
        )


class TaskRow(BaseModel):
    """The short answer for one of many tasks."""

    text: str = Field(description="The beginning of the text, to tell the rows apart.")
    loop: LoopLabel
    loop_confidence: Confidence
    mode: ModeLabel
    mode_confidence: Confidence
    review: Review
    route: str = Field(description="Where the task would go.")

    @classmethod
    def of(cls, prediction: Prediction) -> TaskRow:
        """Return the answer in short."""
        line = " ".join(prediction.text[: 4 * SHOWN_TEXT].split())
        return cls.model_validate(
            {
                "text": line if len(line) <= SHOWN_TEXT else line[: SHOWN_TEXT - 1] + "…",
                "loop": prediction.loop.label,
                "loop_confidence": round(prediction.loop.confidence, 6),
                "mode": prediction.mode.label,
                "mode_confidence": round(prediction.mode.confidence, 6),
                "review": prediction.review,
                "route": prediction.route.name,
            }
        )


class Counts(BaseModel):
    """How many tasks are of which kind."""

    code_autonomous: int
    code_interactive: int
    knowledge_autonomous: int
    knowledge_interactive: int
    to_review: int = Field(description="Tasks of any kind that a person should look at.")

    @classmethod
    def of(cls, kinds: Mapping[Any, int], to_review: int) -> Counts:
        """Return the counts by loop and mode under their names."""
        named = {f"{a}_{b}": kinds.get((a, b), 0) for a in AXES["loop"] for b in AXES["mode"]}
        return cls(**named, to_review=to_review)


class RoutedTasks(BaseModel):
    """Many tasks, in the order in which they were given."""

    tasks: list[TaskRow]
    counts: Counts

    @classmethod
    def of(cls, predictions: Iterable[Prediction]) -> RoutedTasks:
        """Return the answers in short, with their counts."""
        tasks = [TaskRow.of(prediction) for prediction in predictions]
        kinds = Counter((task.loop, task.mode) for task in tasks)
        return cls(tasks=tasks, counts=Counts.of(kinds, sum(task.review != "" for task in tasks)))


class RoutedBacklog(BaseModel):
    """What was done with a backlog."""

    read: str = Field(description="The file that was read.")
    written: str | None = Field(description="The file that was written, or null: nothing was written.")
    text_columns: list[str] = Field(description="The columns that were read as the task.")
    rows: int = Field(description="Rows routed.")
    counts: Counts
    review_reasons: dict[str, int] = Field(description="How often each reason for review occurs.")
    remarks: list[str] = Field(description="What else the user should be told, such as ragged rows.")

    @classmethod
    def of(cls, read: Path, written: Path | None, text_columns: list[str], total: Summary) -> RoutedBacklog:
        """Return what a run of the classifier did."""
        return cls(
            read=str(read),
            written=str(written) if written else None,
            text_columns=text_columns,
            rows=total.rows,
            counts=Counts.of(total.quadrants, total.review),
            review_reasons=dict(total.reasons.most_common()),
            remarks=_remarks(total),
        )


class Explanation(BaseModel):
    """A sum: intercept + all of `speaks_for` + all of `speaks_against` + rest = score."""

    label: str = Field(description="The label that is explained.")
    confidence: Confidence
    score: float = Field(description="Log-odds of the confidence.")
    intercept: float = Field(description="The part of the score that no word brings.")
    speaks_for: list[Feature] = Field(description="Words toward the label, strongest first.")
    speaks_against: list[Feature] = Field(description="Words against it, strongest first.")
    rest: float = Field(description="Sum of the contributions on either side that are not listed.")
    rest_count: int = Field(description="How many these are.")

    @classmethod
    def of(cls, answer: AxisPrediction, limit: int) -> Explanation:
        """Return the terms of a score, the `limit` strongest on each side by name."""
        ranked = sorted(answer.contributions, key=lambda c: -abs(c[1]))
        pro = [c for c in ranked if c[1] > 0]
        con = [c for c in ranked if c[1] < 0]
        rest = pro[limit:] + con[limit:]
        return cls(
            label=answer.label,
            confidence=answer.confidence,
            score=answer.score,
            intercept=answer.intercept,
            speaks_for=_features(pro[:limit]),
            speaks_against=_features(con[:limit]),
            rest=sum(weight for _, weight in rest),
            rest_count=len(rest),
        )


class ExplainedTask(BaseModel):
    """Why a task got its labels, exactly: the model is a sum, and these are its terms."""

    loop: Explanation
    mode: Explanation
    review: Review

    @classmethod
    def of(cls, prediction: Prediction, limit: int) -> ExplainedTask:
        """Return the explanation of both labels."""
        loop, mode = (Explanation.of(answer, limit) for answer in (prediction.loop, prediction.mode))
        return cls(loop=loop, mode=mode, review=prediction.review)


class RecordedLabel(BaseModel):
    """What became of a label."""

    outcome: Literal["added", "changed", "there already"]
    kept_in: str = Field(description="The user's file of labels.")
    next_step: str = Field(description="What makes the label count.")


def _answer(answer: AxisPrediction) -> dict[str, Any]:
    strongest = [(name, round(weight, 3)) for name, weight in answer.top_features[:SHOWN_FEATURES]]
    return {
        "label": answer.label,
        "confidence": round(answer.confidence, 6),
        "top_features": _features(strongest),
    }


def _features(contributions: Sequence[tuple[str, float]]) -> list[Feature]:
    return [Feature(name=name, weight=weight) for name, weight in contributions]


def _remarks(total: Summary) -> list[str]:
    remarks = list(total.remarks)
    if total.ragged:
        lines = ", ".join(map(str, total.ragged[:10])) + (" …" if len(total.ragged) > 10 else "")
        remarks.append(f"{len(total.ragged)} rows have more or fewer cells than the header (lines {lines})")
    if total.blank:
        remarks.append(f"{total.blank} blank lines are kept as they are")
    return remarks
