"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

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
