"""Routes: from (loop, mode) to the surface that suits, with a one-line why."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from loopwise.errors import UsageError
from loopwise.model.labels import AXES


class Route(NamedTuple):
    """Where a task goes, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Routes:
    """A table of routes.

    Attributes
    ----------
    table : mapping of (loop label, mode label) to Route
        All four are there.
    """

    table: Mapping[tuple[str, str], Route]

    @classmethod
    def shipped(cls) -> Routes:
        """Return the table that ships with the package, ``service/routes.toml``."""
        return cls.parse((files("loopwise.service") / "routes.toml").read_text("utf-8"), "routes.toml")

    @classmethod
    def load(cls, path: Path | str) -> Routes:
        """Read a user's own table.

        Raises
        ------
        UsageError
            If the file is missing, not TOML, or has an unknown or a missing key.
        """
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: the routes cannot be read ({error})") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> Routes:
        """Read a table from TOML `text`; `name` is how errors call it."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{name}: not valid TOML: {error}") from error
        loops, modes = AXES["loop"], AXES["mode"]
        _check_keys(data, loops, name, "")
        table = {}
        for loop in loops:
            _check_keys(data[loop], modes, name, f"{loop}.")
            for mode in modes:
                entry = data[loop][mode]
                _check_keys(entry, Route._fields, name, f"{loop}.{mode}.")
                if not all(isinstance(entry[key], str) for key in Route._fields):
                    raise UsageError(f"{name}: name and why of [{loop}.{mode}] must be text in quotes")
                table[loop, mode] = Route(entry["name"], entry["why"])
        return cls(table)


def _check_keys(data: Any, valid: tuple[str, ...], name: str, prefix: str) -> None:
    if not isinstance(data, dict):
        raise UsageError(f"{name}: {prefix.rstrip('.')} must be a table with the keys {', '.join(valid)}")
    for key in data:
        if key not in valid:
            raise UsageError(f"{name}: unknown key '{prefix}{key}'; valid here: {', '.join(valid)}")
    for key in valid:
        if key not in data:
            raise UsageError(f"{name}: '{prefix}{key}' is missing; needed here: {', '.join(valid)}")
