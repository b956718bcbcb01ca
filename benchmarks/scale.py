"""A Dask cluster on this machine against plain ``classify --jobs`` on the same rows: ``make scale``.

Figures are ratios within one run: plain and distributed runs take turns. A cluster on one machine
cannot beat its threads; what is measured is what distribution costs, and whether workers add up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import distributed
import pyarrow.csv
import pyarrow.parquet as pq
from dask import dataframe as dd

from benchmarks.speed import RESULTS, command, timed, write_backlog
from loopwise import Predictor
from loopwise.service.classify import Options
from loopwise.service.distributed import classify_backlog, classify_frame, send_model

Times = dict[str, list[float]]


def cluster(n_workers: int) -> Any:
    """Start a cluster of single-threaded worker processes."""
    return distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    )


def timed_backlog(folder: Path, kind: str, address: str, rows_per_part: int) -> float:
    """Return the seconds that a warm cluster takes for the Parquet or CSV backlog."""
    target = folder / f"routed-{time.monotonic_ns()}{'.csv' if kind == 'csv' else ''}"
    start = time.perf_counter()
    classify_backlog(
        str(folder / f"backlog.{kind}"), str(target), Predictor.load(), Options(), address,
        rows_per_part=rows_per_part,
    )  # fmt: skip
    return time.perf_counter() - start


def timed_frame(folder: Path, client: Any) -> float:
    """Return the seconds for `classify_frame` from Parquet to Parquet."""
    frame = dd.read_parquet(folder / "parts")
    start = time.perf_counter()
    classify_frame(frame).to_parquet(folder / f"frame-{time.monotonic_ns()}")
    return time.perf_counter() - start


def race(folder: Path, repeats: int, rows_per_part: int) -> Times:
    """Time plain runs and clusters of one and two workers in turn."""
    times: Times = {}
    with cluster(1) as one, cluster(2) as two:
        clusters = {1: one, 2: two}
        for n_workers, it in clusters.items():
            with distributed.Client(it) as client:
                client.wait_for_workers(n_workers, timeout=120)
                send_model(client)
                timed_frame(folder, client)  # Workers import what they need.
        for _ in range(repeats):
            for jobs in (1, 2):
                name = f"loopwise, {jobs} job{'s' * (jobs > 1)}"
                plain = command(name, folder / "backlog.csv", folder / "plain.csv", folder)
                times.setdefault(f"classify --jobs {jobs}, CSV, whole process", []).append(timed(plain)[0])
            for n_workers, it in clusters.items():
                address = it.scheduler_address
                name = f"{n_workers} worker{'s' * (n_workers > 1)}"
                for kind in ("parquet", "csv"):
                    label = f"--scheduler, {name}, {'CSV' if kind == 'csv' else 'Parquet'}"
                    times.setdefault(label, []).append(timed_backlog(folder, kind, address, rows_per_part))
                with distributed.Client(it) as client:
                    label = f"classify_frame, {name}, Parquet"
                    times.setdefault(label, []).append(timed_frame(folder, client))
            print(".", end="", file=sys.stderr, flush=True)
    return times


def cost_of_a_part(folder: Path, n_rows: int, repeats: int) -> dict[int, float]:
    """Return the median seconds for the Parquet backlog in more and more parts, on two workers."""
    taken: dict[int, list[float]] = {}
    with cluster(2) as it, distributed.Client(it) as client:
        client.wait_for_workers(2, timeout=120)
        timed_backlog(folder, "small.parquet", it.scheduler_address, n_rows)
        for _ in range(repeats):
            for n_parts in (2, 20, 200):
                seconds = timed_backlog(folder, "small.parquet", it.scheduler_address, n_rows // n_parts)
                taken.setdefault(n_parts, []).append(seconds)
    return {n_parts: statistics.median(values) for n_parts, values in taken.items()}


def report(n_rows: int, rows_per_part: int, times: Times, n_small: int, parts: dict[int, float]) -> str:
    """Return the figures as Markdown."""
    yardstick = statistics.median(times["classify --jobs 2, CSV, whole process"])
    lines = [
        f"## Distributed: {n_rows:,} rows, parts of {rows_per_part:,}",
        "",
        "Clusters are warm: starting one on this machine takes some seconds more. Two cores.",
        "",
        "| | seconds (median, spread) | rows/s | against classify --jobs 2 |",
        "|---|---|---|---|",
    ]
    for name, values in sorted(times.items(), key=lambda item: item[0].replace("classify --", "0")):
        median = statistics.median(values)
        spread = f"{median:.2f} ({min(values):.2f}-{max(values):.2f})"
        lines.append(f"| {name} | {spread} | {n_rows / median:,.0f} | {yardstick / median:.2f} |")
    lines.append("")
    for kind in ("Parquet", "CSV"):
        one, two = (
            statistics.median(times[f"--scheduler, {name}, {kind}"]) for name in ("1 worker", "2 workers")
        )
        lines += [f"- two workers are {one / two:.2f} times as fast as one ({kind})"]
    few, many = min(parts), max(parts)
    each = (parts[many] - parts[few]) / (many - few) * 2 * 1000
    lines += [
        "",
        f"| parts of {n_small:,} rows, 2 workers | seconds |",
        "|---|---|",
        *(f"| {n} | {seconds:.2f} |" for n, seconds in parts.items()),
        "",
        f"- a part costs {each:.0f} ms of a worker's time beside its rows "
        f"(a part of {rows_per_part:,} rows takes {rows_per_part / n_rows * 2 * yardstick * 1000:,.0f} ms)",
        "",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, "
        f"load average over five minutes {os.getloadavg()[1]:.1f}; "
        + ", ".join(f"{n} {version(n)}" for n in ("dask", "distributed", "pyarrow", "pandas")),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark, print it as Markdown and write it under ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--rows-per-part", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loopwise-") as name:
        folder = Path(name)
        write_backlog(folder / "backlog.csv", options.rows)
        table = pyarrow.csv.read_csv(folder / "backlog.csv")
        pq.write_table(table, folder / "backlog.parquet", row_group_size=options.rows_per_part)
        n_small = 20_000
        pq.write_table(table.slice(0, n_small), folder / "backlog.small.parquet", row_group_size=100)
        (folder / "parts").mkdir()
        for i, start in enumerate(range(0, options.rows, options.rows_per_part)):
            pq.write_table(table.slice(start, options.rows_per_part), folder / "parts" / f"part.{i}.parquet")
        del table
        times = race(folder, options.repeats, options.rows_per_part)
        parts = cost_of_a_part(folder, n_small, options.repeats)
    text = report(options.rows, options.rows_per_part, times, n_small, parts)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.md").write_text(text, encoding="utf-8")
    (RESULTS / "scale.json").write_text(
        json.dumps({"rows": options.rows, "seconds": times, "parts": parts}, indent=1) + "\n",
        encoding="utf-8",
    )
    print(text)


if __name__ == "__main__":
    main()
