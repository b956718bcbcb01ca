"""MkDocs hook: pages that stand elsewhere or are generated, the links between pages, the navigation."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File

# MkDocs loads this file by its path.
sys.path.insert(0, str(Path(__file__).parent))

import api_reference
import cli_reference

ROOT: Final = Path(__file__).resolve().parents[2]
#: Files of the repository that become pages.
BORROWED: Final = {
    "index.md": "README.md",
    "guide.md": "data/GUIDE.md",
    "dataset-card.md": "data/README.md",
    "model-card.md": "model/shipped/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
#: The navigation: page and title; a page that is not there is left out, one that is not named comes last.
NAVIGATION: Final[dict[str, dict[str, str]]] = {
    "Start": {"index.md": "Loopwise", "tutorial.md": "Tutorial", "notebooks.md": "Notebooks"},
    "Use": {
        "backlogs.md": "Backlogs",
        "report.md": "A report on one page",
        "report-page.md": "The report page",
        "mcp.md": "In your assistant (MCP)",
        "scale.md": "Beyond one machine",
    },
    "Teach": {"retrain.md": "Your own words", "guide.md": "The labelling guide"},
    "Trust": {
        "model-card.md": "Model card",
        "dataset-card.md": "Dataset card",
        "peers.md": "Quality against peers",
    },
    "Look up": {
        "cli.md": "Command line",
        **{f"api/{name}.md": name for name in api_reference.PAGES},
    },
    "Carry on": {"contributing.md": "Contributing", "changelog.md": "Changes"},
}
_LINK: Final = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_IMAGE: Final = re.compile(r"!\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_EXECUTED: Final = ROOT / "notebooks" / "run"


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and make the navigation."""
    pages = {page: (ROOT / path).read_text("utf-8") for page, path in BORROWED.items()}
    pages["cli.md"] = cli_reference.reference()
    pages |= {f"api/{name}.md": api_reference.reference(name) for name in api_reference.PAGES}
    pages["notebooks.md"] = _notebooks_page()
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for page in sorted(_EXECUTED.glob("*.html")):
        files.append(File.generated(config, f"notebooks/{page.name}", abs_src_path=str(page)))
    for uri, path in _images(pages).items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    config.nav = navigation([file.src_uri for file in files.documentation_pages()])
    return files


def navigation(uris: list[str]) -> list[dict[str, Any]]:
    """Return the navigation of the pages that are there."""
    named = {uri for section in NAVIGATION.values() for uri in section}
    sections = {
        name: [{title: uri} for uri, title in section.items() if uri in uris]
        for name, section in NAVIGATION.items()
    }
    sections["More"] = sorted(uri for uri in uris if uri not in named)
    return [{name: entries} for name, entries in sections.items() if entries]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make a page's first heading its title, and its links those of the pages."""
    uri = page.file.src_uri
    origin = BORROWED.get(uri, f"docs/{uri}")
    if not re.search(r"^# ", markdown, flags=re.MULTILINE):
        markdown = re.sub(r"^##? ", "# ", markdown, count=1, flags=re.MULTILINE)
    return _LINK.sub(lambda link: _relinked(link, uri, origin), markdown)


def _relinked(link: re.Match[str], uri: str, origin: str) -> str:
    """Return a link between pages; a link to a file that is no page becomes its text."""
    text, (target, sign, anchor) = link["text"], link["target"].partition("#")
    if not target or "://" in target or target.startswith("mailto:") or uri.startswith(("api/", "cli")):
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    if path == "docs":
        return text
    page = next((page for page, borrowed in BORROWED.items() if borrowed == path), None)
    if page is None and path.startswith("docs/"):
        page = path.removeprefix("docs/")
    if page is not None:
        return f"[{text}]({posixpath.relpath(page, posixpath.dirname(uri) or '.')}{sign}{anchor})"
    if (ROOT / path).exists():
        return text if path in text else f"{text} (`{path}`)"
    return link[0]


def _images(pages: dict[str, str]) -> dict[str, Path]:
    """Return the images that borrowed pages show, by where the pages look for them."""
    found = {}
    for uri, origin in BORROWED.items():
        for image in _IMAGE.finditer(pages[uri]):
            path = ROOT / Path(origin).parent / image["target"]
            if "://" not in image["target"] and path.is_file():
                found[posixpath.normpath(image["target"])] = path
    return found


def _notebooks_page() -> str:
    text = (ROOT / "notebooks" / "README.md").read_text("utf-8")
    executed = sorted(page.name for page in _EXECUTED.glob("*.html"))
    links = [f"- [{Path(name).stem}](notebooks/{name})" for name in executed]
    missing = "`make notebooks` runs them; `make docs` then links the results here."
    return "\n".join([text, "## To read", "", *(links or [missing]), ""])
