"""HTML, Markdown and wiki markup as plain text, for scoring only: the user's cells are never changed.

What the model reads as a cue survives: code stays between backticks, paragraphs keep their breaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

Markup = Literal["html", "markdown", "wiki"]

#: So many characters of a cell with markup are read.
MAX_MARKUP_LENGTH: Final = 20_000
# fmt: off
_BLOCKS: Final = frozenset((
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figure", "footer", "h1",
    "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table",
    "tr", "ul",
))
# fmt: on
_SILENT: Final = frozenset(("script", "style", "head"))
_TAGS: Final = "p|div|span|ul|ol|li|br|b|i|u|em|strong|h[1-6]|table|pre|code|a|blockquote|font|html|body"
# Obvious HTML begins with a tag of running text, ends with a tag, and closes or breaks something.
_HTML: Final = re.compile(rf"\s*<(?:{_TAGS})(?:\s[^<>]*)?/?>.*>\s*", re.IGNORECASE | re.DOTALL)
_CLOSING: Final = re.compile(rf"</(?:{_TAGS})\s*>|<br\s*/?>", re.IGNORECASE)
_BLANKS: Final = re.compile(r"[ \t\xa0]+")
_BREAKS: Final = re.compile(r" *\n *")
_MANY_BREAKS: Final = re.compile(r"\n{3,}")
# Without any of these, Markdown is plain text.
_MARKDOWN_MARKS: Final = re.compile(
    r"[*_`~\[\]<>#|\\&!]|^\s*(?:[-+]|\d+[.)])\s|^\s*[-=]{2,}\s*$", re.MULTILINE
)


def to_text(cell: str, markup: Markup | None) -> str:
    """Return a cell as plain text; without any markup named, only what is obviously HTML is changed."""
    if not cell:
        return cell
    # The beginning says what a task is; a huge cell costs no more than that.
    shown = cell[:MAX_MARKUP_LENGTH]
    if markup is None:
        return html_to_text(shown) if looks_like_html(cell) else cell
    return _CONVERTERS[markup](shown)


def looks_like_html(text: str) -> bool:
    """Whether a text is obviously HTML, and not a sentence that speaks of a tag."""
    if "<" not in text or ">" not in text:
        return False
    return bool(_HTML.fullmatch(text) and _CLOSING.search(text))


class _TextOfHtml(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag == "code":
            self.parts.append("`")
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(self._silent - 1, 0)
        elif tag == "code":
            self.parts.append("`")
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def html_to_text(html: str) -> str:
    """Return the text of a piece of HTML; a block is a line, code stays between backticks."""
    parser = _TextOfHtml()
    parser.feed(html)
    parser.close()
    return _tidy("".join(parser.parts))


def markdown_to_text(markdown: str) -> str:
    """Return the text of Markdown as GitHub, Linear and Trello write it."""
    if not _MARKDOWN_MARKS.search(markdown):
        return markdown
    lines: list[str] = []
    for token in _markdown().parse(markdown):
        if token.type == "inline":
            lines.append(_inline(token.children or []))
        elif token.type in ("fence", "code_block"):
            lines.append(f"`{token.content.rstrip()}`")
        elif token.type == "html_block":
            lines.append(html_to_text(token.content))
    return _tidy(re.sub(r"(?m)^\[[ xX]\]\s+", "", "\n".join(lines)))


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _inline(tokens: list[Token]) -> str:
    parts = []
    for token in tokens:
        if token.type == "code_inline":
            parts.append(f"`{token.content}`")
        elif token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif token.type in ("text", "text_special", "image"):
            parts.append(token.content)
    return "".join(parts)


# Jira's wiki notation, in the order in which it is taken off.
_WIKI: Final[tuple[tuple[re.Pattern[str], Any], ...]] = tuple(
    (re.compile(pattern, re.MULTILINE), put)
    for pattern, put in (
        (
            r"\{(?:code|noformat)(?::[^}\n]{0,100})?\}([\s\S]{0,9999}?)\{(?:code|noformat)\}",
            lambda m: f"`{m[1].strip()}`",
        ),
        (r"\{\{(.{1,300}?)\}\}", r"`\1`"),
        (r"\{(?:color|panel|quote|expand)(?::[^}\n]{0,100})?\}", ""),
        (r"^h[1-6]\.[ \t]+", ""),
        (r"^bq\.[ \t]+", ""),
        (r"^[ \t]*(?:[*#]+|-)[ \t]+", ""),
        (r"^-{4,}[ \t]*$", ""),
        (r"!([^\s!|]{1,200}\.\w{2,5})(?:\|[^!\n]{0,200})?!", r"\1"),
        (r"\[([^\]|\n]{1,300})\|[^\]\n]{1,300}\]", r"\1"),
        (r"\[~(?:accountid:)?([^\]\n]{1,100})\]", r"\1"),
        (r"\[((?:https?://|mailto:|\^)[^\]\n]{1,300})\]", r"\1"),
        (r"^\|\|(.+?)\|\|[ \t]*$", lambda m: m[1].replace("||", " ")),
        (r"^\|(.+?)\|[ \t]*$", lambda m: m[1].replace("|", " ")),
        (r"(?<![\w*])\*(\S(?:[^*\n]{0,300}\S)?)\*(?![\w*])", r"\1"),
        (r"(?<![\w_])_(\S(?:[^_\n]{0,300}\S)?)_(?![\w_])", r"\1"),
        (r"(?<![\w+])\+(\S(?:[^+\n]{0,300}\S)?)\+(?![\w+])", r"\1"),
        (r"\\\\", "\n"),
    )
)


def wiki_to_text(wiki: str) -> str:
    """Return the text of Jira's wiki notation: headings, lists, links, macros, code, tables, emphasis."""
    text = wiki
    for pattern, put in _WIKI:
        text = pattern.sub(put, text)
    return text if text == wiki else _tidy(text)


def _tidy(text: str) -> str:
    text = _BREAKS.sub("\n", _BLANKS.sub(" ", text.replace("\r\n", "\n")))
    return _MANY_BREAKS.sub("\n\n", text).strip()


_CONVERTERS: Final[dict[Markup, Callable[[str], str]]] = {
    "html": html_to_text,
    "markdown": markdown_to_text,
    "wiki": wiki_to_text,
}
