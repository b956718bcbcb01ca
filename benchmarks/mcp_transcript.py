"""Print a conversation of a real client with `loopwise mcp`: ``python -m benchmarks.mcp_transcript``.

With ``--write`` it takes the place of the one in `docs/mcp.md`; do that after a change of the shipped model.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).parent / "loopwise"
DOCUMENT = ROOT / "docs" / "mcp.md"
BEGIN, END = "<!-- transcript -->", "<!-- end of transcript -->"
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("route_task", {"text": "Add a --dry-run flag to the import command"}),
    ("route_tasks", {"texts": ["Bump eslint to 9", "Decide which of the two queues we keep"]}),
    ("route_backlog", {"path": "backlog.csv", "output": "backlog.routed.csv"}),
    ("explain_task", {"text": "Cancel all subscriptions we pay for", "limit": 4}),
    ("record_label", {"text": "Cancel all subscriptions we pay for", "mode": "interactive"}),
    ("route_backlog", {"path": "../notes.csv"}),
)


async def transcript(folder: Path, home: Path) -> str:
    """Make the calls in `folder`; return each with its answer, the folders' own names replaced."""
    server = StdioServerParameters(
        command=str(COMMAND), args=["mcp", "--allow-labels"], env={"LOOPWISE_HOME": str(home)}, cwd=folder
    )
    told = []
    async with Client(server) as client:
        for tool, arguments in CALLS:
            result = await client.call_tool(tool, arguments)
            message = " ".join(getattr(block, "text", "") for block in result.content)
            answer = f"error: {message}" if result.is_error else _json(result.structured_content)
            for real, shown in ((folder, "/path/to/my-project"), (home, "/path/to/home")):
                answer = answer.replace(str(real), shown)
            told.append(f"> {tool} {json.dumps(arguments)}\n{answer}\n")
    return "```text\n" + "\n".join(told) + "```\n"


def _json(data: Any) -> str:
    """Return indented JSON with everything of one line's length on one line."""

    def lines(value: Any, indent: str) -> str:
        flat = json.dumps(value, ensure_ascii=False)
        if len(flat) + len(indent) <= 100 or not value or not isinstance(value, dict | list):
            return flat
        inner = indent + "  "
        if isinstance(value, dict):
            parts = [f"{inner}{json.dumps(key)}: {lines(item, inner)}" for key, item in value.items()]
            return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
        return "[\n" + ",\n".join(inner + lines(item, inner) for item in value) + f"\n{indent}]"

    return lines(data, "")


def main() -> None:
    """Make a project folder with the sample backlog, and talk to the server in it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "project"
        folder.mkdir()
        shutil.copy(ROOT / "data" / "examples" / "backlog.csv", folder)
        told = anyio.run(transcript, folder, Path(place).resolve() / "home")
    print(told)
    if "--write" in sys.argv[1:]:
        before, begin, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        DOCUMENT.write_text(f"{before}{begin}\n{told}{end}{after}", "utf-8")


if __name__ == "__main__":
    main()
