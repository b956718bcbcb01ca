"""The report page in a real browser: Debian's Chromium, driven by Playwright; skipped without it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from loopwise.service.cli import app
from tests.conftest import ROOT
from tests.test_page import HOSTILE, block, builder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: A phone's viewport.
PHONE = {"width": 360, "height": 740}
#: Rows of each quadrant, by the number of the quadrant.
ANSWERS = (
    ("code", 0.99, "autonomous", 0.98, ""),
    ("code", 0.55, "interactive", 0.97, "low confidence: loop"),
    ("knowledge", 0.96, "autonomous", 0.60, "low confidence: mode"),
    ("knowledge", 0.95, "interactive", 0.94, ""),
)
LONG_WORD = "Donaudampfschifffahrtsgesellschaft" * 5
FEW = (
    ("Fix the login\nIt fails in one run of five", "T-1", "Tom", "bug, ui"),
    ("Ask why the boiler hums", "T-2", "Ana", "boiler"),
    ("Zip the old invoices", "T-10", "Tom", ""),
    ("apologise to the Müllers", "T-9", "Ana", "people"),
    (HOSTILE, "T-5", "Tom", HOSTILE),
    (LONG_WORD, LONG_WORD, LONG_WORD, LONG_WORD),
)

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="no browser test: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no browser test: there is no Chromium here (Debian: apt-get install chromium)")
    quiet = [
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a page; at the end it must have asked for nothing but itself, and complained of nothing."""
    asked: list[str] = []
    complaints: list[str] = []
    contexts = []

    def opened(html: str, **options: Any) -> Page:
        file = tmp_path / "page.html"
        file.write_text(html, "utf-8")
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert set(asked) <= {(tmp_path / "page.html").as_uri()}
    assert complaints == []


@pytest.fixture(scope="module")
def few() -> str:
    header = ("text", "id", "assignee", "labels")
    answers = [ANSWERS[i % 4] for i in range(len(FEW))]
    return builder(block(FEW, header, answers)).render()


@pytest.fixture(scope="module")
def many() -> str:
    rows = [(f"Task {i}", f"P{i % 3}") for i in range(450)]
    return builder(block(rows, ("text", "assignee"), [ANSWERS[i % 4] for i in range(450)])).render()


def titles(page: Page) -> list[str]:
    return page.locator("tbody .title").all_inner_texts()


def status(page: Page) -> str:
    return page.inner_text("#status")


def test_a_heading_sorts_and_says_so(visit: Open, few: str) -> None:
    page = visit(few)
    assert titles(page)[:2] == ["Fix the login", "Ask why the boiler hums"]
    task = page.get_by_role("columnheader", name="Task", exact=True)
    task.get_by_role("button").click()
    assert task.get_attribute("aria-sort") == "ascending"
    ascending = titles(page)
    assert ascending[-4:] == ["Ask why the boiler hums", LONG_WORD, "Fix the login", "Zip the old invoices"]
    task.get_by_role("button").click()
    assert task.get_attribute("aria-sort") == "descending"
    assert titles(page) == ascending[::-1]
    assert page.locator("[aria-sort]").count() == 1


def test_what_to_review_first_can_be_sorted_by(visit: Open, few: str) -> None:
    page = visit(few)
    page.select_option("#sort", label="what to review first")
    assert titles(page)[:3] == ["Zip the old invoices", "Ask why the boiler hums", LONG_WORD]


def test_words_are_searched_in_tasks_and_labels(visit: Open, few: str) -> None:
    page = visit(few)
    page.fill("#search", "BOILER ana")
    page.locator("#status", has_text="1 of 6").wait_for()
    assert titles(page) == ["Ask why the boiler hums"]
    assert status(page) == "1 of 6 tasks, 1 to review"
    page.click("#clear")
    assert len(titles(page)) == 6
    assert page.input_value("#search") == ""


def test_a_quadrant_is_filtered_by_its_box_and_by_the_map(visit: Open, few: str) -> None:
    page = visit(few)
    page.uncheck("input[name=quadrant][value='0']")
    assert titles(page) == [
        "Ask why the boiler hums", "Zip the old invoices", "apologise to the Müllers", LONG_WORD
    ]  # fmt: skip
    page.click(".map a[data-quadrant='3']")
    assert titles(page) == ["apologise to the Müllers"]
    page.check("#only-review")
    assert status(page) == "0 of 6 tasks, 0 to review"


def test_a_person_is_chosen_in_the_list_and_by_a_click_on_the_name(visit: Open, few: str) -> None:
    page = visit(few)
    page.get_by_label("assignee").select_option("Ana")
    assert titles(page) == ["Ask why the boiler hums", "apologise to the Müllers"]
    page.get_by_role("link", name="Tom", exact=True).click()
    assert titles(page) == ["Fix the login", "Zip the old invoices", HOSTILE]


def test_those_to_review_are_one_click_away(visit: Open, few: str) -> None:
    page = visit(few)
    page.get_by_role("link", name="All are in the table.").click()
    assert titles(page) == ["Zip the old invoices", "Ask why the boiler hums", LONG_WORD]
    assert status(page) == "3 of 6 tasks, 3 to review"


def test_why_opens_by_keyboard(visit: Open, few: str) -> None:
    page = visit(few)
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open] .words").all_inner_texts() == ["loop: a", "mode: b"]


def test_the_first_stop_of_the_keyboard_leads_to_the_table(visit: Open, few: str) -> None:
    page = visit(few)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Go to the table"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "tasks"


def test_markup_in_a_task_is_shown_as_it_was_written(visit: Open, few: str) -> None:
    page = visit(few)
    assert titles(page)[4] == HOSTILE
    assert page.locator("img").count() == 0


def test_the_policy_stops_what_would_be_slipped_in(browser: Browser, few: str) -> None:
    page = browser.new_page()
    stopped: list[str | None] = []
    page.on("requestfailed", lambda request: stopped.append(request.failure))
    page.on("requestfinished", lambda request: stopped.append("finished"))
    page.set_content(
        few.replace("<main>", "<main><script>window.slipped = 1</script><img src='http://localhost:9/x'>")
    )
    assert page.evaluate("window.slipped") is None
    assert page.locator(".rows tbody tr").count() == 6
    assert stopped == ["csp"]
    page.close()


def test_a_long_table_grows_on_demand(visit: Open, many: str) -> None:
    page = visit(many)
    assert len(titles(page)) == 100
    assert status(page) == "450 of 450 tasks, 225 to review; the first 100 are shown"
    page.click("#show-more")
    assert len(titles(page)) == 200
    page.click("#show-all")
    assert len(titles(page)) == 450
    assert not page.is_visible("#more")


@pytest.mark.parametrize("html", ["few", "sample"])
def test_a_phone_scrolls_in_one_direction_only(visit: Open, html: str, few: str, tmp_path: Path) -> None:
    if html == "sample":
        report = tmp_path / "report.html"
        backlog = ROOT / "data" / "examples" / "backlog.csv"
        app(
            ["classify", str(backlog), "-o", str(tmp_path / "o.csv"), "--report", str(report)],
            standalone_mode=False,
        )
        few = report.read_text("utf-8")
    page = visit(few, viewport=PHONE, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # Cards of a phone are still a table to a screen reader.
    assert page.get_by_role("table", name="Tasks", exact=True).get_by_role("row").count() > 6
    heights = [box["height"] for s in page.locator("#controls select").all() if (box := s.bounding_box())]
    assert min(heights) >= 40


def test_it_prints(visit: Open, few: str) -> None:
    page = visit(few)
    paper = page.pdf(format="A4", prefer_css_page_size=True)
    assert paper.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 6
    page.emulate_media(media="print")
    assert not page.is_visible("#controls")
    assert page.is_visible(".rows tbody tr >> nth=5")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit: Open, few: str, scheme: str) -> None:
    page = visit(few, color_scheme=scheme)
    contrast = """(selector) => {
      const light = (color) => color.match(/[0-9.]+/g).slice(0, 3).map(Number).map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      const ink = light(getComputedStyle(document.querySelector(selector)).color);
      const ground = light(getComputedStyle(document.body).backgroundColor);
      return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    }"""
    assert page.evaluate(contrast, "body") > 12
    assert page.evaluate(contrast, ".quiet") > 4.5
    assert page.evaluate(contrast, ".rows th button") > 4.5


def test_without_scripts_the_figures_are_there_and_the_page_says_what_is_missing(
    visit: Open, few: str
) -> None:
    page = visit(few, java_script_enabled=False)
    assert page.is_visible(".map")
    assert page.is_visible(".first li")
    assert "need JavaScript" in page.inner_text(".notice")
    assert not page.is_visible("#controls")
