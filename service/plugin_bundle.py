"""Pack the plugin into one file: ``make plugin``."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from json import loads
from pathlib import Path
from typing import Final

from loopwise.errors import LoopwiseError

MANIFEST: Final = ".claude-plugin/plugin.json"


def plugin_files() -> dict[str, bytes]:
    """Return the files of the plugin by their path in it, sorted."""
    return dict(sorted(_walk(files("loopwise.service") / "plugin", "")))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_bytes()


def build_plugin(target: Path) -> Path:
    """Write the plugin to `target`, a zip archive; the same files always give the same bytes.

    Raises
    ------
    LoopwiseError
        If the manifest names another version than that of the package.
    """
    held = plugin_files()
    named, ours = loads(held[MANIFEST])["version"], version("loopwise")
    if named != ours:
        raise LoopwiseError(
            f"service/plugin/{MANIFEST}: version {named}, but the package is {ours}; make them equal"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in held.items():
            # Stored, with a fixed date and mode: nothing in it depends on the machine.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return target


if __name__ == "__main__":
    print(build_plugin(Path(sys.argv[1])))
