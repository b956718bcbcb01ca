"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from loopwise.service.predictor import Predictor

HomeOption = Annotated[
    Optional[Path],  # noqa: UP045 - Typer reads it
    typer.Option("--home", help="Folder of your labels and models (or set LOOPWISE_HOME)."),
]
TextOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--text", help="A column that holds the task; repeatable. Found by name unless given."),
]
WhoOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--who", help="Whose answers these are; your user name unless given."),
]
FromOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--from",
        help="What the file is, where guessing is wrong: csv, json, jsonl, parquet, xlsx, todo, markdown, "
        "jira, azure, linear, asana, github, trello.",
    ),
]
RoutesOption = Annotated[
    Optional[Path],  # noqa: UP045 - Typer reads it
    typer.Option("--routes", help="Your own table of routes, a TOML file."),
]
ModelOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--model", help="A model folder, instead of the active model."),
]
PriorOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--prior", help="Share of a class in your backlog, such as mode=autonomous:0.7; or auto."),
]
TargetOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--target-accuracy", help="How often an answer without review should be right."),
]
ReviewShareOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--review-share", help="Send about this share of the backlog to review, the least certain."),
]


def load_predictor(
    model: Path | None,
    home: Path | None,
    routes: Path | None = None,
    prior: Sequence[str] | None = None,
    target_accuracy: float | None = None,
    review_share: float | None = None,
    texts: Callable[[], Sequence[str]] | None = None,
) -> Predictor:
    """Load the model and apply the options that change how its scores are read.

    `texts` returns those of the backlog, for the options that look at all of it.
    """
    from loopwise.service.predictor import Predictor

    predictor = Predictor.load(model, home=home)
    if routes is not None:
        from loopwise.service.routes import Routes

        predictor = Predictor(predictor.model, Routes.load(routes), predictor.settings)
    if target_accuracy is not None or prior or review_share is not None:
        from loopwise.service.settings import changed_settings

        predictor = changed_settings(predictor, prior or [], target_accuracy, review_share, texts)
    return predictor
