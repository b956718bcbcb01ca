"""Where a user's labels and models live, and which model is active."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final

from loopwise.errors import ModelError
from loopwise.model.modelfile import ModelFile

HOME_VARIABLE: Final = "LOOPWISE_HOME"
SHIPPED_ID: Final = "shipped"


@dataclass(frozen=True)
class Home:
    """A user's home.

    Attributes
    ----------
    folder : Path
        Holds ``labels/``, ``models/<id>/`` and the pointer file ``active``.
    """

    folder: Path

    @classmethod
    def find(cls, folder: Path | str | None = None) -> Home:
        """Return the home in `folder`, else in ``LOOPWISE_HOME``, else in the platform's data folder."""
        chosen = folder or os.environ.get(HOME_VARIABLE)
        if not chosen:
            from platformdirs import user_data_path

            chosen = user_data_path("loopwise")
        return cls(Path(chosen))

    @property
    def pointer(self) -> Path:
        """The file that names the active model."""
        return self.folder / "active"

    def model_folder(self, model_id: str) -> Path:
        """Return the folder of a model of this home.

        Raises
        ------
        ModelError
            If the id is not a plain name, so that it could lead out of the home.
        """
        if not model_id or model_id != Path(model_id).name or model_id.startswith("."):
            raise ModelError(f"{model_id!r} is not the id of a model; see: loopwise models list")
        return self.folder / "models" / model_id

    def new_model_id(self, now: datetime) -> str:
        """Return an id that no model of this home has, from the time in UTC."""
        stem = now.strftime("%Y%m%d-%H%M%S")
        ids = (stem if n == 1 else f"{stem}-{n}" for n in count(1))
        return next(i for i in ids if not self.model_folder(i).exists())

    def activate(self, model_id: str) -> None:
        """Make a model of this home the active one; the pointer is swapped in one step.

        Raises
        ------
        ModelError
            If there is no such model, or it cannot be loaded.
        """
        if model_id != SHIPPED_ID:
            ModelFile.load(self.model_folder(model_id))
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.pointer.with_name(f".active.{os.getpid()}.partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(model_id + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.pointer)

    def active_id(self) -> str:
        """Return the id of the active model; ``"shipped"`` where none was promoted."""
        try:
            return self.pointer.read_text("utf-8").strip() or SHIPPED_ID
        except (FileNotFoundError, NotADirectoryError):
            return SHIPPED_ID
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{self.pointer}: cannot be read ({error})") from error

    def active_model(self) -> ModelFile:
        """Load the active model; where it is of another format, the shipped one, with a warning on stderr."""
        model_id = self.active_id()
        if model_id == SHIPPED_ID:
            return ModelFile.shipped()
        try:
            return ModelFile.load(self.model_folder(model_id))
        except ModelError as error:
            if "format version" not in str(error):
                raise
            print(f"loopwise: {error}; using the shipped model for now", file=sys.stderr)
            return ModelFile.shipped()
