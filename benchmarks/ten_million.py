"""Memory and time of ``loopwise classify`` up to ten million rows: ``make ten-million``.

Takes some minutes and about 5 GB of disk for the largest file and its result, both removed at the end.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed import RESULTS, timed, write_backlog

#: What must hold: peak resident memory, and seconds per row against the smallest file from 10^6 rows on.
MAX_PEAK_MB = 400
MAX_GROWTH = 1.15
#: Bytes on disk for each row: the backlog and its result, with room to spare.
_BYTES_PER_ROW = 450


def measure(n_rows: int, jobs: int, folder: Path) -> tuple[int, float, float]:
    """Classify a generated backlog; return its bytes, the seconds taken and the peak memory in MB."""
    needed = n_rows * _BYTES_PER_ROW
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"{folder}: {needed >> 20} MB are needed and {free >> 20} MB are free; name another with --folder"
        )
    source, target = folder / "backlog.csv", folder / "routed.csv"
    write_backlog(source, n_rows)
    arguments = [sys.executable, "-m", "loopwise", "classify", str(source), "-o", str(target)]
    seconds, peak = timed([*arguments, "--jobs", str(jobs)])
    with target.open("rb") as file:
        n_lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 22), b""))
    if n_lines != n_rows + 1:
        raise SystemExit(f"the result has {n_lines - 1} rows instead of {n_rows}")
    return source.stat().st_size, seconds, peak


def report(rows: dict[int, tuple[int, float, float]], jobs: int) -> tuple[str, bool]:
    """Return the figures as Markdown, and whether both limits hold.

    Time is linear if a row of the largest file takes at most `MAX_GROWTH` times what it takes in the
    second largest; the start of the process weighs on small files.
    """
    lines = [
        f"## {max(rows):,} rows through `loopwise classify --jobs {jobs}`",
        "",
        "| rows | MB | seconds | seconds per million rows | peak MB |",
        "|---|---|---|---|---|",
    ]
    for n, (size, seconds, peak) in rows.items():
        lines.append(f"| {n:,} | {size / 1e6:,.0f} | {seconds:.2f} | {seconds / n * 1e6:.2f} | {peak:.0f} |")
    peak = max(p for _, _, p in rows.values())
    lines += [
        "",
        f"- peak resident memory {peak:.0f} MB, at most {MAX_PEAK_MB}: {_word(peak <= MAX_PEAK_MB)}",
    ]
    holds = peak <= MAX_PEAK_MB
    if len(rows) > 1:
        before, last = sorted(rows)[-2:]
        growth = (rows[last][1] / last) / (rows[before][1] / before)
        lines.append(
            f"- time per row at {last:,} rows is {growth:.2f} of that at {before:,}, at most {MAX_GROWTH}: "
            f"{_word(growth <= MAX_GROWTH)}"
        )
        holds = holds and growth <= MAX_GROWTH
    versions = ", ".join(f"{n} {version(n)}" for n in ("numpy", "pyarrow"))
    lines += [
        "",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; {versions}",
    ]
    return "\n".join(lines) + "\n", holds


def _word(holds: bool) -> str:
    return "holds" if holds else "**does not hold**"


def main() -> None:
    """Measure, print, write the full run under ``benchmarks/results``; leave with 1 if a limit fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--up-to", type=int, default=7, help="the largest file has ten to this power of rows")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the files go; the temporary folder unless given")
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="loopwise-") as folder:
        for power in range(min(5, options.up_to), options.up_to + 1):
            rows[10**power] = measure(10**power, options.jobs, Path(folder))
            size, seconds, peak = rows[10**power]
            print(f"{10**power:,} rows: {size / 1e6:.0f} MB, {seconds:.2f} s, {peak:.0f} MB", file=sys.stderr)
    text, holds = report(rows, options.jobs)
    if options.up_to >= 7:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "ten_million.md").write_text(text, encoding="utf-8")
    print(text)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
