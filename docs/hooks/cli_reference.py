"""The page about the command line, written from the live commands: every command, argument and option."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import typer.main

from loopwise.service.cli import app

#: What stands for a value. Taken from the function: every version of Typer keeps it elsewhere.
_VALUES: Final = {int: "N", float: "NUMBER", Path: "PATH", str: "TEXT"}
_INTRO: Final = """# Command line

Every command as `--help` has it. Results go to standard output, messages to standard error. Exit codes:
0 done, 1 failed, 2 wrong usage or input, 130 interrupted, 141 the reader of a pipe went away.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, ``loopwise`` itself first, groups before what they hold."""
    yield from _walk("loopwise", typer.main.get_command(app))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for below, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _walk(f"{name} {below}", child)


def is_argument(param: Any) -> bool:
    """Return whether a parameter is given by its place, not by a name with dashes."""
    return bool(param.param_type_name == "argument")


def reference() -> str:
    """Return the page as Markdown."""
    return "\n".join([_INTRO, *(_section(name, command) for name, command in commands())])


def _section(name: str, command: Any) -> str:
    params = [param for param in command.params if not param.hidden]
    arguments = [param for param in params if is_argument(param)]
    options = [param for param in params if not is_argument(param) and param.name != "help"]
    level = "##" if name.count(" ") < 2 else "###"
    lines = [f"{level} {name}", "", *_help(command), "", "```", _usage(name, command, arguments), "```", ""]
    for title, listed in (("argument", arguments), ("option", options)):
        if listed:
            rows = [f"| {_name(command, param)} | {_description(param)} |" for param in listed]
            lines += [f"| {title} | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _help(command: Any) -> list[str]:
    return [line.strip() for line in (command.help or "").splitlines()]


def _usage(name: str, command: Any, arguments: list[Any]) -> str:
    rest = ["COMMAND …"] if getattr(command, "commands", None) else [_placeholder(a) for a in arguments]
    return " ".join([name, "[OPTIONS]", *rest])


def _placeholder(param: Any) -> str:
    shown = str(param.metavar or param.name.upper())
    if param.nargs == -1 and "…" not in shown:
        shown += "…"
    return shown if param.required else f"[{shown}]"


def _name(command: Any, param: Any) -> str:
    if is_argument(param):
        return f"`{_placeholder(param)}`"
    value = "" if param.is_flag else f" {param.metavar or _value(command, param)}"
    return f"`{', '.join([*param.opts, *param.secondary_opts])}{value}`"


def _value(command: Any, param: Any) -> str:
    kind = get_type_hints(command.callback)[param.name]
    while kind not in _VALUES and get_args(kind):  # Optional[list[str]]
        kind = get_args(kind)[0]
    return _VALUES.get(kind, "TEXT")


def _description(param: Any) -> str:
    text = " ".join((param.help or "").split())
    for sign, escaped in (("|", "\\|"), ("<", "&lt;"), ("*", "\\*")):
        text = text.replace(sign, escaped)
    default = param.default
    shown = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    return f"{text} Default: `{default}`." if shown else text
