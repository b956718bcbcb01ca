"""The folders in which the MCP server may read and write, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loopwise.errors import UsageError

#: What a result may be called: a table, perhaps packed. So no result can pass for a script, a setting (.json)
#: or instructions to an agent (.md).
_TEXT_TABLES: Final = (".csv", ".tsv", ".jsonl")
TABLE_ENDINGS: Final = (
    *_TEXT_TABLES,
    ".xlsx",
    ".parquet",
    *(name + packed for name in _TEXT_TABLES for packed in (".gz", ".zst")),
)


@dataclass(frozen=True)
class AllowedFolders:
    """Folders without symbolic links in their names.

    Attributes
    ----------
    folders : tuple of Path
        A relative path is meant from the first one. None at all allows nothing.
    """

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, named: Sequence[Path]) -> AllowedFolders:
        """Return the folders that were named, or else the working folder, if that is not the root.

        Raises
        ------
        UsageError
            If one of them is no folder.
        """
        for folder in named:
            if not folder.is_dir():
                raise UsageError(f"--allow {folder}: there is no such folder")
        here = Path.cwd().resolve()
        # Desktop applications start servers in the root; nobody means all of the disk by that.
        default = [] if here == Path(here.anchor) else [here]
        return cls(tuple(folder.resolve() for folder in named) or tuple(default))

    def to_read(self, path: str) -> Path:
        """Return the real place of a file that may be read.

        Raises
        ------
        UsageError
            If it lies outside, does not exist, or is not a regular file.
        """
        real = self._inside(path)
        if real.is_dir():
            raise UsageError(f"{path}: this is a folder; name a file in it")
        if not real.exists():
            raise UsageError(f"{path}: there is no such file in {self._listed()}")
        if not real.is_file():
            raise UsageError(f"{path}: this is a device or a pipe, not a file")
        return real

    def to_write(self, path: str) -> Path:
        """Return the real place of a new file that may be written.

        Raises
        ------
        UsageError
            If it lies outside, exists already, or does not end like a table.
        """
        real = self._inside(path)
        if not real.name.lower().endswith(TABLE_ENDINGS):
            raise UsageError(f"{path}: the name of a result must end in {', '.join(TABLE_ENDINGS)}")
        if os.path.lexists(real):
            raise UsageError(f"{path}: this exists already and is not overwritten; choose another name")
        if not real.parent.is_dir():
            raise UsageError(f"{path}: the folder {str(real.parent)!r} does not exist; create it first")
        return real

    def _inside(self, path: str) -> Path:
        """Follow all links and ``..`` of `path`, and return where it leads if that is allowed."""
        if not self.folders:
            raise UsageError(
                f"{_short(path)}: no folder is allowed; the user can start the server with --allow DIR"
            )
        try:
            real = Path(self.folders[0], path).resolve()
            os.path.lexists(real)
            real.is_file()
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"{_short(path)}: this is not a usable path ({reason})") from error
        if not any(real.is_relative_to(folder) for folder in self.folders):
            raise UsageError(
                f"{path}: outside the allowed folders ({self._listed()}); "
                "the user can start the server with --allow DIR to add one"
            )
        return real

    def _listed(self) -> str:
        return ", ".join(map(str, self.folders))


def _short(path: str) -> str:
    return repr(path if len(path) <= 80 else path[:79] + "…")
