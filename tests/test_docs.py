"""The pages of `make docs`: nothing is missing from them, and no link leads nowhere."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import griffe
import pytest

from docs.hooks import api_reference, cli_reference

from .conftest import ROOT

COMMANDS = dict(cli_reference.commands())
PARAMS = [(name, param) for name, command in COMMANDS.items() for param in command.params if not param.hidden]
WRITTEN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*WRITTEN, ROOT / "CONTRIBUTING.md", *(ROOT / name / "README.md" for name in ("data", "notebooks"))]


def param_id(value: Any) -> str:
    return value if isinstance(value, str) else str(value.name)


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """What the command-line reference says of each command."""
    parts = re.split(r"^#{2,3} (.*)$", cli_reference.reference(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    assert (COMMANDS[name].help or "").strip()


@pytest.mark.parametrize(("name", "param"), PARAMS, ids=param_id)
def test_every_argument_and_option_has_help(name: str, param: Any) -> None:
    assert (param.help or "").strip()


def test_every_command_has_its_section_in_the_reference(sections: dict[str, str]) -> None:
    assert list(sections) == list(COMMANDS)


@pytest.mark.parametrize(("name", "param"), PARAMS, ids=param_id)
def test_every_argument_and_option_is_in_the_reference(
    name: str, param: Any, sections: dict[str, str]
) -> None:
    names = [param.metavar or param.name.upper()] if cli_reference.is_argument(param) else param.opts
    rows = [line for line in sections[name].splitlines() if line.startswith("| `")]
    assert any(all(option in row.split(" | ")[0] for option in names) for row in rows), names


def test_every_command_is_mentioned_where_people_read() -> None:
    text = "\n".join(path.read_text("utf-8") for path in WRITTEN)
    missing = []
    for name, command in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if getattr(command, "commands", None):
            continue
        # `loopwise models list | show [ID] | diff …` mentions all of them.
        listed = rf"\b{group.rpartition(' ')[2]} (?:[^\n`]*\| )?{last}\b"
        if not re.search(listed, text):
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize("page", api_reference.PAGES)
def test_every_public_name_of_the_api_reference_has_a_docstring(page: str) -> None:
    missing = []
    for name in api_reference.modules(page):
        place = name.removeprefix("loopwise.").replace(".", "/")
        path = ROOT / f"{place}.py" if "/" in place else ROOT / "loopwise" / f"{place}.py"
        module = griffe.visit(name, filepath=path, code=path.read_text("utf-8"))
        missing += [found.path for found in _public(module) if not found.has_docstring]
    assert missing == []


def _public(found: griffe.Object) -> list[griffe.Object]:
    names = [found]
    for member in found.members.values():
        if isinstance(member, griffe.Class | griffe.Function) and not member.name.startswith("_"):
            names += _public(member) if isinstance(member, griffe.Class) else [member]
    return names


def test_the_api_reference_shows_what_users_import() -> None:
    shown = {name for page in api_reference.PAGES for name in api_reference.modules(page)}
    wanted = {"predictor", "routes"}
    assert {f"loopwise.service.{name}" for name in wanted} <= shown
    assert {"loopwise.errors", "loopwise.model.store", "loopwise.training.candidate"} <= shown


def test_no_module_stands_on_two_pages() -> None:
    shown = [name for page in api_reference.PAGES for name in api_reference.modules(page)]
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.fixture
def pages() -> Any:
    """The hook that MkDocs loads."""
    return importlib.import_module("docs.hooks.pages")


def test_the_navigation_leaves_out_a_page_that_is_not_there(pages: Any) -> None:
    assert pages.navigation(["index.md", "guide.md"]) == [
        {"Start": [{"Loopwise": "index.md"}]},
        {"Teach": [{"The labelling guide": "guide.md"}]},
    ]


def test_the_navigation_puts_a_page_that_it_does_not_know_last(pages: Any) -> None:
    assert pages.navigation(["unheard-of.md", "index.md"])[-1] == {"More": ["unheard-of.md"]}


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[guide](data/GUIDE.md)", "[guide](guide.md)"),
        ("[card](model/shipped/README.md#figures)", "[card](model-card.md#figures)"),
        ("[words](docs/retrain.md)", "[words](retrain.md)"),
        ("[ours](service/routes.toml)", "ours (`service/routes.toml`)"),
        ("[docs](docs/)", "docs"),
        ("[elsewhere](https://example.org/x)", "[elsewhere](https://example.org/x)"),
        ("[nothing](no/such/file.md)", "[nothing](no/such/file.md)"),
    ],
)
def test_a_link_of_the_readme_leads_to_a_page(pages: Any, link: str, becomes: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert pages.on_page_markdown(f"# Title\n{link}", page) == f"# Title\n{becomes}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Not with --quiet: what is not shown is not counted either.
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.mark.slow
def test_the_pages_build_without_a_warning(site: Path) -> None:
    pages = {str(page.relative_to(site)) for page in site.rglob("*.html")}
    assert {"index.html", "guide.html", "model-card.html", "cli.html", "api/loopwise.html"} <= pages


@pytest.mark.slow
def test_the_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|iframe|link)[^>]+(?:src|href)="(https?:)?//', page.read_text())
        assert fetched == [], page.name


@pytest.mark.slow
def test_every_written_page_is_in_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text("utf-8")
    written = [path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")]
    assert [name for name in written if f'href="{name}"' not in home] == []


@pytest.mark.slow
def test_a_link_between_files_becomes_a_link_between_pages(site: Path) -> None:
    home = (site / "index.html").read_text("utf-8")
    assert 'href="guide.html"' in home and "data/GUIDE.md" not in home
