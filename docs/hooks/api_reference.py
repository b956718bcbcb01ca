"""The pages about the Python API: which modules stand on which page."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
#: Pages in the order of the navigation, with a line of introduction.
PAGES: Final = {
    "loopwise": "What `from loopwise import …` gives: predict, the predictor, routes and errors.",
    "loopwise.model": "What a model is: features, the model file, its scorers, the home that keeps models.",
    "loopwise.service": "How a model is used: columns, files, settings.",
    "loopwise.training": "How a model comes to be: corpus, labels, training, measuring. "
    "`train` itself is imported from `loopwise.training`.",
}
#: The first page shows these as wholes, and the others leave them out.
_FACE: Final = ("loopwise.service.predictor", "loopwise.service.routes", "loopwise.errors")
#: Modules that begin so are commands, chores and what only they print.
_COMMANDS: Final = ("cli", "print_", "run_", "make_")


def modules(page: str) -> list[str]:
    """Return the modules that a page shows, such as ``loopwise.model.features``."""
    if page == "loopwise":
        return list(_FACE)
    folder = ROOT / page.rpartition(".")[2]
    names = sorted(path.stem for path in folder.glob("*.py"))
    shown = [f"{page}.{name}" for name in names if name != "__init__" and not name.startswith(_COMMANDS)]
    return [name for name in shown if name not in _FACE]


def reference(page: str) -> str:
    """Return a page as Markdown for mkdocstrings."""
    blocks = [f"::: {name}" for name in modules(page)]
    return "\n\n".join([f"# {page}", PAGES[page], *blocks]) + "\n"
