"""The command `loopwise mcp`: a server for agents, over standard input and output."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from loopwise.messages import say
from loopwise.service.cli_options import HomeOption

if TYPE_CHECKING:
    from loopwise.service.mcp_server import Recorder


def mcp(
    allow: Annotated[
        Optional[list[Path]],  # noqa: UP045 - Typer reads it
        typer.Option(
            "--allow",
            metavar="DIR",
            help="A folder in which files may be read and results written; repeatable. "
            "The working folder unless given.",
        ),
    ] = None,
    allow_labels: Annotated[
        bool, typer.Option("--allow-labels", help="Let agents record labels that you tell them.")
    ] = False,
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--model", help="A model folder, instead of the active model."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Serve routing to MCP clients such as Claude Code, over standard input and output.

    Add it to a client with: claude mcp add loopwise -- loopwise mcp
    """
    from loopwise.service.mcp_folders import AllowedFolders
    from loopwise.service.mcp_server import RoutingServer
    from loopwise.service.predictor import Predictor

    folders = AllowedFolders.of(allow or [])
    predictor = Predictor.load(model, home=home)
    record = _recorder(home) if allow_labels else None
    if sys.stdin.isatty():
        say("waiting for an MCP client on standard input; to stop: Ctrl-C")
    # A thread waits in standard input; Python's own handler would wait for it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    RoutingServer(predictor, folders, record).serve()


def _recorder(home: Path | None) -> Recorder:
    """Return what keeps labels in the user's home, told apart from those they gave themselves."""
    from loopwise.model.store import Home
    from loopwise.training.labels import LabelStore, Record, default_who

    store = LabelStore.of(Home.find(home))
    who = f"{default_who()} via mcp"

    def record(text: str, loop: str | None, mode: str | None) -> tuple[str, Path]:
        report = store.add([Record(text, loop=loop, mode=mode, who=who, source="mcp")])
        outcome = "added" if report.added else "changed" if report.changed else "there already"
        return outcome, store.path

    return record
