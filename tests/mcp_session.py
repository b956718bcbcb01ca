"""A real MCP client and the installed command, for the tests: calls are plain functions."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters

COMMAND = Path(sys.executable).parent / "loopwise"

Calls = Sequence[tuple[str, dict[str, Any]]]


@dataclass
class Answer:
    """What came back of a call: whether it failed, the text, and the structured result."""

    failed: bool
    text: str
    data: Any


@dataclass
class Session:
    """A client that is connected to a server of its own."""

    client: Client
    portal: BlockingPortal
    log: Path

    def call(self, tool: str, **arguments: Any) -> Answer:
        answer: Answer = self.portal.call(self._call, tool, arguments)
        return answer

    def result(self, tool: str, **arguments: Any) -> Any:
        answer = self.call(tool, **arguments)
        assert not answer.failed, answer.text
        return answer.data

    def error(self, tool: str, **arguments: Any) -> str:
        answer = self.call(tool, **arguments)
        assert answer.failed, answer.text
        return answer.text

    def call_all(self, calls: Calls, at_a_time: int = 1) -> list[Answer]:
        """Make all calls, `at_a_time` in flight; the answers come in the order of the calls."""
        return self.portal.call(self._call_all, calls, at_a_time)

    def tools(self) -> dict[str, Any]:
        return {tool.name: tool for tool in self.portal.call(self.client.list_tools).tools}

    def stderr(self) -> str:
        return self.log.read_text("utf-8")

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        result = await self.client.call_tool(tool, arguments)
        text = "".join(getattr(block, "text", "") for block in result.content)
        return Answer(bool(result.is_error), text, result.structured_content)

    async def _call_all(self, calls: Calls, at_a_time: int) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(calls)
        waiting = iter(enumerate(calls))

        async def worker() -> None:
            for i, (tool, arguments) in waiting:
                answers[i] = await self._call(tool, arguments)

        async with anyio.create_task_group() as group:
            for _ in range(at_a_time):
                group.start_soon(worker)
        return [answer for answer in answers if answer is not None]


@contextmanager
def session(folder: Path, home: Path, *options: str) -> Iterator[Session]:
    """Start the installed command in `folder` and connect a client to it."""
    log = home.with_name(home.name + ".log")
    with log.open("w") as errlog, start_blocking_portal() as portal:
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(
            command=str(COMMAND), args=["mcp", *options], env={"LOOPWISE_HOME": str(home)}, cwd=folder
        )
        connecting = Client(stdio_client(parameters, errlog=errlog), read_timeout_seconds=120)
        with portal.wrap_async_context_manager(connecting) as client:
            yield Session(client, portal, log)


@dataclass(frozen=True)
class Footprint:
    """What a process holds: kilobytes of memory, open descriptors, threads."""

    kilobytes: int
    descriptors: int
    threads: int


def server_footprint() -> Footprint:
    """Return what the one server that this process started holds; Linux only."""
    own = str(Path("/proc/self").resolve().name)
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            command = (status.parent / "cmdline").read_bytes().split(b"\0")
            if fields["PPid"] == own and b"mcp" in command:
                return Footprint(
                    int(fields["VmRSS"].split()[0]),
                    len(list((status.parent / "fd").iterdir())),
                    int(fields["Threads"]),
                )
        except OSError:
            continue
    raise AssertionError("this process started no server")
