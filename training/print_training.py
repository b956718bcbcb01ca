"""Print what a training run, a comparison of models and a look at drift found, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopwise.training.print_evaluation import axes_table

if TYPE_CHECKING:
    from loopwise.model.labels import Axis
    from loopwise.model.modelfile import ModelFile
    from loopwise.model.store import StoredModel
    from loopwise.training.candidate import TrainReport
    from loopwise.training.gate import Comparison, Contradictions
    from loopwise.training.monitor import DriftReport

_TITLES = {
    "hands": "cross-validation, whole hands left out",
    "natural": "those of them that wrote without thought of labels",
    "test": "test rows",
}


def _console(*, stderr: bool = False) -> Console:
    return Console(highlight=False, soft_wrap=True, stderr=stderr)


def _line(text: str, width: int = 100) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def print_contradictions(doubtful: Contradictions, shown: int = 10) -> None:
    """Print to stderr which labels a sure model contradicts."""
    if not doubtful.found:
        return
    console = _console(stderr=True)
    console.print(f"loopwise: {doubtful}; please look at them:")
    for c in doubtful.found[:shown]:
        ids = ", ".join(record.id for record in c.records)
        line = f"  {ids}  {c.axis}: {c.said}, the model says {c.model_says} ({c.confidence:.3f}): "
        console.print(Text(line + repr(_line(c.text))))
    if len(doubtful.found) > shown:
        console.print(f"  and {len(doubtful.found) - shown} more")


def print_train_report(report: TrainReport) -> None:
    """Print what a training run measured, and what became of the model."""
    console = _console()
    for kind, axes in report.built.figures.items():
        if axes:
            console.print(f"[bold]{_TITLES[kind]}[/bold]")
            console.print(axes_table(axes))
    labels = report.labels
    console.print(
        f"trained on the corpus, {len(labels.tasks)} labelled tasks and {len(labels.words)} labelled words "
        f"of yours (weight {report.weight:g})"
    )
    console.print(
        f"[bold]compared with {report.parent}, which was active, on rows that neither was shown[/bold]"
    )
    console.print(comparison_table({"test rows": report.on_test, "your labels": report.on_own}))
    print_flips(report.on_own, "on your labels")
    print_flips(report.on_test, "on the test rows")
    console.print(f"written to {report.folder}")
    if report.promoted:
        for objection in report.objections:
            console.print(Text(f"promoted as you asked, although {objection}"))
        console.print(f"[bold]{report.model_id} is active now[/bold]; to go back: loopwise models rollback")
        return
    for objection in report.objections:
        console.print(Text(f"not promoted: {objection}"))
    console.print(
        f"[bold]{report.parent} stays active[/bold]; to change: loopwise models promote {report.model_id}"
    )


def comparison_table(places: Mapping[str, Mapping[Axis, Comparison]]) -> Table:
    """Return accuracies before and after, and their paired difference with its interval."""
    columns = ("on", "axis", "n", "before", "after", "difference", "fixed", "broken")
    table = Table(*columns, box=None, padding=(0, 1))
    for place, by_axis in places.items():
        for axis, c in by_axis.items():
            d = c.difference
            table.add_row(
                place,
                axis,
                str(c.n),
                f"{c.old:.3f}",
                f"{c.new:.3f}",
                Text(f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"),
                str(c.fixed),
                str(c.broken),
            )
    return table


def print_flips(compared: Mapping[Axis, Comparison], where: str, shown: int = 5) -> None:
    """Print some of the answers that two models differ on, the broken ones first."""
    console = _console()
    for axis, c in compared.items():
        if not c.flips:
            continue
        console.print(f"{axis} {where}: {c.fixed} fixed, {c.broken} broken")
        for flip in sorted(c.flips, key=lambda f: f.fixed)[:shown]:
            mark = "fixed " if flip.fixed else "broken"
            console.print(Text(f"  {mark} {flip.old} → {flip.new}: {_line(flip.text, 90)}"))


def print_difference(
    old: ModelFile,
    new: ModelFile,
    compared: Mapping[Axis, Comparison],
    changed: Mapping[Axis, list[tuple[str, str, str]]],
    texts: Sequence[str] | None,
) -> None:
    """Print in what two models differ: what they were made from, and what they answer."""
    console = _console()
    for name, was, now in differing_fields(old.fields, new.fields):
        console.print(Text(f"{name}: {was} → {now}"))
    console.print(comparison_table({"test rows": compared}))
    print_flips(compared, "on the test rows")
    if texts is None:
        return
    for axis, flips in changed.items():
        console.print(f"{axis}: {len(flips)} of {len(texts)} tasks are answered differently")
        for text, before, after in flips[:20]:
            console.print(Text(f"  {before} → {after}: {_line(text, 90)}"))


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return what two models were made from, where it differs: name, old value, new value."""
    found = []
    for part in ("corpus", "labels", "recipe", "prior", "versions"):
        a, b = old.get(part) or {}, new.get(part) or {}
        for name in {**a, **b}:
            if a.get(name) != b.get(name):
                values = [
                    str(v)[:16] if name == "fingerprint" else str(v) for v in (a.get(name), b.get(name))
                ]
                found.append((f"{part}: {name}", *values))
    return found  # type: ignore[return-value]


def print_models(models: Sequence[StoredModel]) -> None:
    """Print the models of a home."""
    table = Table("", "id", "labels", "loop", "mode", "", box=None)
    for model in models:
        used = model.fields.get("labels", {})
        tested = model.fields.get("metrics", {}).get("test", {})
        accuracy = [
            f"{tested[axis]['accuracy'][0]:.3f}" if axis in tested else "" for axis in ("loop", "mode")
        ]
        labels = f"{used.get('n_tasks', 0)} tasks, {used.get('n_words', 0)} words" if used else ""
        table.add_row(
            "→" if model.is_active else "",
            model.id,
            labels,
            *accuracy,
            Text("damaged: " + model.problem if model.problem else "active" if model.is_active else ""),
        )
    _console().print(table)


def print_drift(report: DriftReport) -> None:
    """Print how a batch compares with the reference, and what to do."""
    console = _console()
    table = Table("", "reference", "this batch", "stability index", "", box=None)
    for f in report.figures:
        psi = "" if f.psi is None else f"{f.psi:.3f}"
        table.add_row(f.name, f"{f.reference:.3f}", f"{f.batch:.3f}", psi, f.verdict)
    console.print(f"{report.n_batch} texts, compared with {report.n_reference}")
    console.print(table)
    for axis, accuracy in report.accuracy.items():
        console.print(f"{axis}: right on {accuracy:.0%} of {report.n_labels} labels it was not trained on")
    for advice in report.advice:
        console.print(Text(advice), style="bold")
    if not report.advice:
        console.print("nothing to do")
