"""Run the commands of docs/tutorial.md; `python -m tests.tutorial --update` writes their output into it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
SAMPLES = ("jira.csv", "trello.json")
UPDATE = "python -m tests.tutorial --update"
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def run_commands(markdown: str) -> str:
    """Return the document with the output that its commands have now, run in order in one folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sample in SAMPLES:
            shutil.copy(ROOT / "data" / "examples" / sample, folder / sample)

        def answer(block: re.Match[str]) -> str:
            commands = [line for line in block[1].splitlines() if line.startswith("$ ")]
            return "```console\n" + "".join(f"{c}\n{_output(c[2:], folder)}" for c in commands) + "```"

        return _BLOCK.sub(answer, markdown)


def _output(command: str, folder: Path) -> str:
    loopwise = f'loopwise() {{ {shlex.quote(sys.executable)} -m loopwise "$@"; }}'
    own = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), "LOOPWISE_HOME": "home", "LC_ALL": "C.UTF-8"}
    environment = os.environ | own
    done = subprocess.run(
        ["bash", "-c", f"{loopwise}; {command}"], cwd=folder, env=environment, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    before = TUTORIAL.read_text("utf-8")
    after = run_commands(before)
    if "--update" in sys.argv:
        TUTORIAL.write_text(after, "utf-8")
    print("changed" if after != before else "nothing has changed")
