"""Files that survive a crash: written beside, synced, renamed; one writer at a time, readers never wait."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from loopwise.errors import LoopwiseError
from loopwise.messages import say

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY: Final = {errno.EROFS, errno.EACCES, errno.EPERM}
#: A lock that is free within this many seconds was not worth a message.
_PATIENCE: Final = 0.5


def utc_now() -> str:
    """Return the time in UTC to the second, such as ``2026-11-21T14:03:22Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about writing `path` into a message that names a way out.

    Raises
    ------
    LoopwiseError
        For any `OSError` raised inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise LoopwiseError(
                f"{path}: no space left ({error.strerror}); what was there before is whole. "
                "Free some space and repeat the command"
            ) from error
        if error.errno in _READ_ONLY:
            raise LoopwiseError(
                f"{path}: may not be written ({error.strerror}). "
                "Choose a folder of your own with --home or LOOPWISE_HOME"
            ) from error
        raise LoopwiseError(f"{path}: cannot be written ({error.strerror or error})") from error


def sync_folder(folder: Path) -> None:
    """Make new, renamed and removed names in `folder` last; a no-op where folders cannot be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make the files in `folder` and their names last."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def replace_file(path: Path, data: bytes) -> None:
    """Give `path` the contents `data` in one step: readers see the old file or the new one.

    Only one process may do so at a time (see `writer_lock`).

    Raises
    ------
    LoopwiseError
        If the disk is full or the folder is read-only; the old file stays.
    """
    partial = path.with_name(f".{path.name}.partial")
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append whole lines to `path` and return when they are on disk, or leave the file as it was.

    A line that an earlier crash cut short is closed first, so that it harms no other.

    Raises
    ------
    LoopwiseError
        If the disk is full or the file is read-only.
    """
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        with path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    data = b"\n" + data
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        if is_new:
            sync_folder(path.parent)


@contextmanager
def writer_lock(
    path: Path, purpose: str, wait: float = 30.0, say: Callable[[str], None] = say
) -> Iterator[None]:
    """Let one process in at a time; the others wait, and say for whom.

    Parameters
    ----------
    path : Path
        The lock file; it stays when the lock is released.
    purpose : str
        What this process wants to do, told to those that wait: ``"train"``.
    wait : float
        Seconds after which waiting is given up.
    say : callable
        Told once who holds the lock, if that takes longer than a moment.

    Raises
    ------
    LoopwiseError
        If the lock is still held after `wait` seconds; the message says by whom.

    Notes
    -----
    The system releases the lock of a process that dies, however it dies.
    """
    from filelock import FileLock, Timeout

    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        holder = path.with_name(path.name + ".holder")
        try:
            lock.acquire(timeout=min(wait, _PATIENCE))
        except Timeout:
            if wait > _PATIENCE:
                say(f"waiting for {_holder(holder)}")
            try:
                lock.acquire(timeout=max(wait - _PATIENCE, 0))
            except Timeout:
                raise LoopwiseError(
                    f"{path.parent}: {_holder(holder)} is writing there; try again when it is done"
                ) from None
    try:
        note = {"purpose": purpose, "pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()}
        with suppress(OSError):  # Who holds it is told for comfort; a full disk must not forbid that.
            holder.write_text(json.dumps(note), "utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    try:
        note = json.loads(path.read_text("utf-8"))
        return f"loopwise {note['purpose']} (process {note['pid']} on {note['host']}, since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another loopwise process"
