"""Progress on stderr, for terminals only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopwise.service.classify import Summary


@contextmanager
def row_progress(total_bytes: int | None) -> Iterator[Callable[[Summary, int], None]]:
    """Show rows, rows a second and the time left while a backlog is read.

    Parameters
    ----------
    total_bytes : int or None
        Size of the input, where it is known.
    """
    if not sys.stderr.isatty():
        yield lambda total, size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} a second"),
        BarColumn(),
        TimeRemainingColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task("", total=total_bytes, rows=0, rate=0.0)

        def on_block(total: Summary, size: int) -> None:
            elapsed = progress.tasks[0].elapsed or 1e-9
            progress.update(task, completed=size, rows=total.rows, rate=total.rows / elapsed)

        yield on_block


@contextmanager
def step_progress(n_steps: int) -> Iterator[Callable[[str], None]]:
    """Show a bar of `n_steps` steps with what was done last."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task("starting", total=n_steps)
        yield lambda step: progress.update(task, advance=1, description=step)
