"""Where a user's labels and models live, which model is active, and which ones were before.

``history.jsonl`` is the pointer: its last line names the active model. It is replaced as a whole, so
that a reader sees the state before a promotion or the state after it, and never waits.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loopwise.errors import LoopwiseError, ModelError, UsageError
from loopwise.messages import say
from loopwise.model.modelfile import ModelFile

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME_VARIABLE: Final = "LOOPWISE_HOME"
SHIPPED_ID: Final = "shipped"
HISTORY_NAME: Final = "history.jsonl"
#: How many models `Home.prune` keeps besides the active one and the one before it.
KEPT_MODELS: Final = 5


@dataclass(frozen=True)
class HistoryEntry:
    """One change of the active model.

    Attributes
    ----------
    model : str
        The id that became active.
    action : str
        ``"promote"``, ``"rollback"``, or ``"ship"`` for entry 0.
    when : str
        In UTC.
    why : str
        What spoke for it.
    """

    model: str
    action: str
    when: str = ""
    why: str = ""


@dataclass(frozen=True)
class StoredModel:
    """A model of a home.

    Attributes
    ----------
    id : str
    folder : Path
    fields : dict
        The contents of its ``model.json``; empty if it cannot be loaded.
    problem : str
        Why it cannot be loaded; empty if it can.
    is_active : bool
    """

    id: str
    folder: Path
    fields: dict[str, Any] = field(repr=False)
    problem: str
    is_active: bool


@dataclass(frozen=True)
class Home:
    """A user's home.

    Attributes
    ----------
    folder : Path
        Holds ``labels/``, ``models/<id>/`` and the file ``history.jsonl``.
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
    def labels_path(self) -> Path:
        """The file of the user's labels."""
        return self.folder / "labels" / "labels.jsonl"

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

    # Reading: never locks.

    def history(self) -> list[HistoryEntry]:
        """Return all changes of the active model, oldest first; entry 0 is the shipped model.

        Raises
        ------
        ModelError
            If the history cannot be read.
        """
        path = self.folder / HISTORY_NAME
        entries = [HistoryEntry(SHIPPED_ID, "ship")]
        try:
            lines = path.read_text("utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return entries
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read ({error})") from error
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                told = (str(entry.get(key, "")) for key in ("when", "why"))
                entries.append(HistoryEntry(str(entry["model"]), str(entry["action"]), *told))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise ModelError(
                    f"{path}: line {number} is not an entry of the history; "
                    "remove the file to go back to the shipped model"
                ) from None
        return entries

    def active_id(self) -> str:
        """Return the id of the active model; ``"shipped"`` where none was promoted."""
        return self.history()[-1].model

    def previous_id(self) -> str | None:
        """Return the id of the model that `rollback` would go to; None at the beginning."""
        return next(iter(self._before()), None)

    def _before(self) -> list[str]:
        """Return the models that were active before, latest first; those rolled back from are forgotten."""
        stack: list[str] = []
        for entry in self.history():
            if entry.action == "rollback" and entry.model in stack:
                while stack[-1] != entry.model:
                    stack.pop()
            elif not stack or stack[-1] != entry.model:
                stack.append(entry.model)
        return stack[-2::-1]

    def load(self, model_id: str) -> ModelFile:
        """Load a model of this home, or ``"shipped"``.

        Raises
        ------
        UsageError
            If there is no such model.
        ModelError
            If it cannot be loaded.
        """
        if model_id == SHIPPED_ID:
            return ModelFile.shipped()
        folder = self.model_folder(model_id)
        if not folder.is_dir():
            known = ", ".join([SHIPPED_ID, *sorted(path.name for path in self._folders())])
            raise UsageError(f"there is no model {model_id!r} in {self.folder}; there are: {known}")
        return ModelFile.load(folder)

    def active_model(self) -> ModelFile:
        """Load the active model; where it is of another format, the shipped one, with a warning on stderr."""
        model_id = self.active_id()
        while True:
            try:
                return self.load(model_id)
            except LoopwiseError as error:
                # Another process may have promoted a newer model and pruned this one meanwhile.
                changed, model_id = model_id, self.active_id()
                if changed != model_id:
                    continue
                if "format version" in str(error):
                    say(f"{error}; using the shipped model for now")
                    return ModelFile.shipped()
                if isinstance(error, UsageError):
                    raise ModelError(
                        f"the active model is gone: {error}. Go back with: loopwise models rollback"
                    ) from error
                raise

    def models(self) -> list[StoredModel]:
        """Return the shipped model and all models of this home, oldest first.

        A model that is being written, or whose writing was cut short, is not among them.
        """
        active = self.active_id()
        shipped = _stored(SHIPPED_ID, ModelFile.shipped, Path(), active)
        own = [_stored(f.name, partial(ModelFile.load, f), f, active) for f in sorted(self._folders())]
        return [shipped, *own]

    def _folders(self) -> Iterator[Path]:
        try:
            yield from (p for p in (self.folder / "models").iterdir() if p.is_dir() and p.name[0] != ".")
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise ModelError(f"{self.folder}: cannot be read ({error.strerror})") from error

    # Writing: under a lock, beside, synced, renamed.

    def training_lock(self, wait: float = 0.0) -> AbstractContextManager[None]:
        """Return a context in which no other process trains into this home."""
        from loopwise.model.safefiles import writer_lock

        return writer_lock(self.folder / "train.lock", "train", wait)

    def models_lock(self, purpose: str) -> AbstractContextManager[None]:
        """Return a context in which no other process changes the models of this home."""
        from loopwise.model.safefiles import writer_lock

        return writer_lock(self.folder / "models.lock", purpose)

    def new_model_id(self, now: datetime) -> str:
        """Return an id that no model of this home has or had, from the time in UTC."""
        stem = now.strftime("%Y%m%d-%H%M%S")
        had = {entry.model for entry in self.history()}
        ids = (stem if n == 1 else f"{stem}-{n}" for n in count(1))
        return next(i for i in ids if i not in had and not self.model_folder(i).exists())

    def add_model(self, write: Callable[[Path], None]) -> str:
        """Add a model in one step: it is there whole or not at all.

        Parameters
        ----------
        write : callable
            Writes the model into the folder it is given. Hold `training_lock` meanwhile.

        Returns
        -------
        str
            Its id.

        Raises
        ------
        LoopwiseError
            If the disk is full or the home is read-only.
        """
        from loopwise.model.safefiles import clear_errors, sync_folder, sync_tree

        models = self.folder / "models"
        unfinished = models / f".{os.getpid()}.partial"
        with clear_errors(models):
            models.mkdir(parents=True, exist_ok=True)
            try:
                write(unfinished)
                sync_tree(unfinished)
                with self.models_lock("train"):
                    model_id = self.new_model_id(datetime.now(UTC))
                    unfinished.rename(self.model_folder(model_id))
                    sync_folder(models)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        return model_id

    def activate(self, model_id: str, *, why: str = "", expected: str | None = None) -> bool:
        """Make a model the active one.

        Parameters
        ----------
        model_id : str
            Of this home, or ``"shipped"``.
        why : str
            For the history.
        expected : str, optional
            Do so only if this is the active model still.

        Returns
        -------
        bool
            Whether it was done.

        Raises
        ------
        UsageError, ModelError
            If there is no such model, or it cannot be loaded.
        """
        with self.models_lock("models promote"):
            self.load(model_id)
            if expected is not None and self.active_id() != expected:
                return False
            self._enter(model_id, "promote", why)
        return True

    def rollback(self) -> str:
        """Make the model active that was so before, and return its id; one that cannot be loaded is passed.

        Raises
        ------
        UsageError
            If there was none before.
        """
        with self.models_lock("models rollback"):
            active = self.active_id()
            for model_id in self._before():
                try:
                    self.load(model_id)
                except LoopwiseError as error:
                    say(f"{model_id} is passed over: {error}")
                    continue
                self._enter(model_id, "rollback", f"from {active}")
                return model_id
        raise UsageError(f"no model was active before {active}; see: loopwise models list")

    def _enter(self, model_id: str, action: str, why: str) -> None:
        from loopwise.model.safefiles import replace_file, utc_now

        entries = [*self.history()[1:], HistoryEntry(model_id, action, utc_now(), why)]
        lines = [json.dumps(asdict(entry)) + "\n" for entry in entries]
        replace_file(self.folder / HISTORY_NAME, "".join(lines).encode())

    def prune(self, keep: int = KEPT_MODELS) -> list[str]:
        """Delete old models, but never the active one nor the one before it.

        Parameters
        ----------
        keep : int
            How many of the newest others stay.

        Returns
        -------
        list of str
            The ids of those deleted.
        """
        from loopwise.model.safefiles import clear_errors

        deleted = []
        with self.models_lock("models prune"), clear_errors(self.folder):
            kept = {self.active_id(), self.previous_id()}
            others = [folder for folder in sorted(self._folders()) if folder.name not in kept]
            for folder in others[: max(len(others) - keep, 0)]:
                # Out of the list first, in one step; what a crash leaves behind goes next time.
                gone = folder.with_name(f".{folder.name}.removed")
                folder.rename(gone)
                deleted.append(folder.name)
            self._sweep("removed")
        return deleted

    def sweep_partials(self) -> None:
        """Remove what trainings that died left behind; `training_lock` must be held."""
        self._sweep("partial")

    def _sweep(self, kind: str) -> None:
        for path in (self.folder / "models").glob(f".*.{kind}"):
            shutil.rmtree(path, ignore_errors=True)


def _stored(model_id: str, load: Callable[[], ModelFile], folder: Path, active: str) -> StoredModel:
    try:
        model = load()
    except ModelError as error:
        return StoredModel(model_id, folder, {}, str(error), model_id == active)
    return StoredModel(model_id, model.folder, model.fields, "", model_id == active)
