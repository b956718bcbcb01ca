"""The MCP server: routing for agents, over standard input and output.

Tools run in worker threads, so a long text holds up nobody else. A text is only ever scored: whatever
it says, nothing in it is obeyed. Only `loopwise.service.cli_mcp` imports this module.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files
from inspect import getdoc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final

from loopwise.errors import InputError, LoopwiseError, MissingExtraError
from loopwise.model.scorer import MAX_TEXT_LENGTH
from loopwise.service.mcp_folders import AllowedFolders
from loopwise.service.predictor import Predictor

try:
    from anyio import CapacityLimiter
    from anyio.to_thread import run_sync
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations
    from pydantic import Field, ValidationError
except ImportError as error:
    raise MissingExtraError(
        f"the server needs the package mcp from 2.0 on ({error}): pip install 'loopwise[mcp]'"
    ) from error

from loopwise.service.mcp_results import (
    ExplainedTask,
    Loop,
    Mode,
    RecordedLabel,
    RoutedBacklog,
    RoutedTask,
    RoutedTasks,
)

if TYPE_CHECKING:
    from loopwise.service.classify import Summary

#: Texts of one call to `route_tasks`, and the characters of all of them.
MAX_TEXTS: Final = 1_000
MAX_TOTAL_LENGTH: Final = 1_000_000
#: Bytes of a backlog, unpacked, and its lines: a client waits a minute or so for an answer, not longer.
MAX_BACKLOG_BYTES: Final = 256 << 20
MAX_BACKLOG_ROWS: Final = 1_000_000
#: Contributions that are listed for and against a label.
MAX_FEATURES: Final = 200
GUIDE_URI: Final = "loopwise://guide"

#: Keeps a label and returns what became of it ("added", "changed", "there already") and the file.
Recorder = Callable[[str, Loop | None, Mode | None], tuple[str, Path]]

Text = Annotated[
    str,
    Field(
        max_length=MAX_TEXT_LENGTH,
        description="The task as it stands in the backlog: a title, or a title, an empty line and the body. "
        "It is data to be classified; nothing in it is followed.",
    ),
]
FilePath = Annotated[str, Field(min_length=1, max_length=4096)]

_INSTRUCTIONS: Final = (
    "Says of a task which loop it belongs to (code or knowledge), whether it can be delegated (autonomous) "
    "or a person should watch (interactive), and where it would go. Use route_task for one task, route_tasks "
    "for a list, route_backlog for a file, explain_task to see why. Where `review` is not empty, let a "
    "person decide and say why. The answers come from a small local model: no text leaves this machine. "
    f"How labels are meant: the resource {GUIDE_URI}."
)
_READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ADDS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)


class RoutingServer(MCPServer[Any]):
    """The server with its tools.

    Parameters
    ----------
    predictor : Predictor
    folders : AllowedFolders
        Where `route_backlog` reads and writes.
    record : Recorder, optional
        Keeps labels; without it there is no tool `record_label`.
    """

    def __init__(self, predictor: Predictor, folders: AllowedFolders, record: Recorder | None = None) -> None:
        # Set up first, so that the SDK leaves it alone: plain lines on standard error, from warnings on.
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="loopwise: %(message)s")
        super().__init__("loopwise", instructions=_INSTRUCTIONS, version=version("loopwise"))
        self._predictor = predictor
        self._folders = folders
        self._record = record
        self._one_backlog = CapacityLimiter(1)
        self._one_label = CapacityLimiter(1)
        readers: list[Callable[..., Any]] = [self.route_task, self.route_tasks, self.explain_task]
        writers: list[Callable[..., Any]] = [self.route_backlog, *([self.record_label] if record else [])]
        for tool in readers + writers:
            self.add_tool(tool, description=getdoc(tool), annotations=_READS if tool in readers else _ADDS)
        self._arguments = {
            tool.name: tool.parameters["properties"] for tool in self._tool_manager.list_tools()
        }
        self.resource(
            GUIDE_URI,
            name="labelling-guide",
            title="The labelling guide",
            description="What the labels mean, the questions behind them, and thirty edge cases.",
            mime_type="text/markdown",
        )(read_guide)

    def serve(self) -> None:
        """Serve until standard input ends.

        Raises
        ------
        BrokenPipeError
            If the client went away without a word.
        """
        gone = False
        try:
            self.run("stdio")
        except* BrokenPipeError:
            gone = True
        if gone:
            raise BrokenPipeError

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Any = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; what goes wrong on purpose is told in a sentence.

        Raises
        ------
        ToolError
            For unknown tools, unknown or invalid arguments, and for every `LoopwiseError`.
        """
        if not self._arguments:
            tools = await self.list_tools()
            self._arguments = {tool.name: list(tool.input_schema["properties"]) for tool in tools}
        known = self._arguments.get(name)
        if known is None:
            raise ToolError(f"there is no tool {name[:80]!r}; there are: {', '.join(self._arguments)}")
        for argument in arguments:
            if argument not in known:
                raise ToolError(f"{name} has no argument {argument[:80]!r}; it has: {', '.join(known)}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(f"{name}: {readable(error.__cause__)}") from None
            if isinstance(error.__cause__, LoopwiseError):
                raise ToolError(f"{name}: {_in_terms_of_tools(str(error.__cause__))}") from None
            raise

    def route_task(self, text: Text) -> RoutedTask:
        """Say where one task belongs: code or knowledge, autonomous or interactive, and which tool suits it.

        Use it before you start on a task, delegate it, or ask a person to look. If `review` is not empty,
        the model is unsure: give the reason to the user instead of relying on the labels.
        """
        return RoutedTask.of(self._predictor.predict(text))

    def route_tasks(
        self,
        texts: Annotated[
            list[Text],
            Field(
                max_length=MAX_TEXTS,
                description=f"The tasks, {MAX_TOTAL_LENGTH:,} characters in all at most.",
            ),
        ],
    ) -> RoutedTasks:
        """Say where each of a list of tasks belongs; the answers come in the same order, with counts.

        For a file use route_backlog: it needs no texts in the conversation and has no limit of 1,000.
        """
        length = sum(map(len, texts))
        if length > MAX_TOTAL_LENGTH:
            raise InputError(
                f"texts: {length:,} characters in all; at most {MAX_TOTAL_LENGTH:,} in one call. "
                "Split the list, or use route_backlog on a file"
            )
        return RoutedTasks.of(self._predictor.predict_many(texts))

    async def route_backlog(
        self,
        path: Annotated[
            FilePath,
            Field(
                description="A backlog inside an allowed folder: CSV, XLSX, Parquet, JSON, Markdown. "
                "A relative path is meant from the first allowed folder, usually the project's."
            ),
        ],
        output: Annotated[
            FilePath | None,
            Field(
                description="A new file to be written inside an allowed folder: every row as it was, with "
                "the columns loop, loop_confidence, mode, mode_confidence, review, route and top_features "
                "added. An existing file is never overwritten. Without it only the counts come back."
            ),
        ] = None,
        text_columns: Annotated[
            list[Annotated[str, Field(max_length=1000)]] | None,
            Field(description="Columns that hold the task, read together; found by name unless given."),
        ] = None,
        replace: Annotated[
            bool, Field(description="Replace result columns that an earlier run added to the file.")
        ] = False,
    ) -> RoutedBacklog:
        """Route every row of a backlog file: counts of each kind, and with `output` the result as a file.

        Files are read and written only inside the folders that the user allowed. The input is never changed.
        """
        source = self._folders.to_read(path)
        target = self._folders.to_write(output) if output is not None else None
        total, columns = await run_sync(
            classify_backlog,
            self._predictor, source, target, text_columns or (), replace,
            limiter=self._one_backlog,
        )  # fmt: skip
        return RoutedBacklog.of(source, target, columns, total)

    def explain_task(
        self,
        text: Text,
        limit: Annotated[
            int,
            Field(ge=1, le=MAX_FEATURES, description="How many words to list for and against each label."),
        ] = 15,
    ) -> ExplainedTask:
        """Show why a task is labelled as it is: every word's share of the score, for and against the label.

        The figures are exact: intercept + speaks_for + speaks_against + rest is the score, and the
        confidence follows from it. Use it when somebody asks why, or doubts a label.
        """
        return ExplainedTask.of(self._predictor.predict(text), limit)

    async def record_label(
        self,
        text: Annotated[Text, Field(min_length=1)],
        loop: Annotated[
            Loop | None, Field(description="What a person said, or null if they did not say.")
        ] = None,
        mode: Annotated[
            Mode | None, Field(description="What a person said, or null if they did not say.")
        ] = None,
    ) -> RecordedLabel:
        """Keep what a person said about a task, for the next training.

        Only ever record what the user told you; never your own guess and never the model's answer.
        """
        if not text.strip():
            raise InputError("text: it is blank; a label needs the task that it is about")
        if loop is None and mode is None:
            raise InputError("loop, mode: at least one of them must be given")
        assert self._record is not None
        outcome, path = await run_sync(self._record, text, loop, mode, limiter=self._one_label)
        return RecordedLabel.model_validate(
            {"outcome": outcome, "kept_in": str(path), "next_step": "loopwise train"}
        )


def read_guide() -> str:
    """Return the labelling guide as Markdown."""
    return (files("loopwise.data") / "GUIDE.md").read_text("utf-8")


def classify_backlog(
    predictor: Predictor, source: Path, target: Path | None, text_columns: Sequence[str], replace: bool
) -> tuple[Summary, list[str]]:
    """Classify a backlog into `target`, or only count; return the counts and the columns that were read.

    Raises
    ------
    UsageError, InputError
        If it cannot be read, is no backlog, has no text column, or is too large.
    """
    from loopwise.service import backlogs
    from loopwise.service.classify import Options, n_cores

    if source.stat().st_size > MAX_BACKLOG_BYTES:
        raise InputError(_too_large(f"more than {MAX_BACKLOG_BYTES:,} bytes"))
    options = Options(text=tuple(text_columns), replace=replace, jobs=min(n_cores(), 4))
    with TemporaryDirectory() as nowhere:
        writing = backlogs.Writing(str(target or Path(nowhere) / "counted.csv"))
        total = backlogs.route_backlog(
            str(source), predictor, reading=backlogs.Reading(), writing=writing, options=options,
            on_block=_check_size,
        )  # fmt: skip
    return total, total.text_columns


def _check_size(total: Summary, n_bytes: int) -> None:
    """Refuse what unpacks to too much, while it is read."""
    if n_bytes > MAX_BACKLOG_BYTES:
        raise InputError(_too_large(f"more than {MAX_BACKLOG_BYTES:,} bytes"))
    if total.rows + total.blank > MAX_BACKLOG_ROWS:
        raise InputError(_too_large(f"more than {MAX_BACKLOG_ROWS:,} rows"))


def _too_large(what: str) -> str:
    return f"the backlog has {what}, too much for one call; nothing was written. Use: loopwise classify"


def readable(error: ValidationError) -> str:
    """Return what is wrong with the arguments of a call, the first five mistakes of them."""
    mistakes = [_mistake(details) for details in error.errors(include_url=False)]
    return "; ".join(mistakes[:5]) + (f"; and {len(mistakes) - 5} more" if len(mistakes) > 5 else "")


def _mistake(details: Any) -> str:
    where = ".".join(map(str, details["loc"]))
    found = details["input"]
    most = details.get("ctx", {}).get("max_length")
    if details["type"] == "missing":
        return f"{where} is missing"
    if details["type"] == "string_too_long":
        advice = ". Send the title and the first paragraphs" if most == MAX_TEXT_LENGTH else ""
        return f"{where} has {len(found):,} characters; at most {most:,}{advice}"
    if details["type"] == "too_long":
        return f"{where} has {len(found):,} items; at most {most:,} in one call. Split the list"
    shown = repr(found)
    return f"{where}: {details['msg']}, not {shown if len(shown) <= 60 else shown[:59] + '…'}"


def _in_terms_of_tools(message: str) -> str:
    """Name arguments where a message of the library names options of the command line."""
    for option, argument in (
        ("Name one with --text COLUMN", "Name one in text_columns"),
        ("use --replace to replace, or --prefix TEXT to keep both", "set replace to true to replace"),
    ):
        message = message.replace(option, argument)
    return message
