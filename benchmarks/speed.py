"""Speed against peers on the same file, all in one run: ``make bench``.

Every figure that counts is a ratio; the seconds beside it belong to the machine that printed them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SEED = 20261121
CONTENDERS = ("loopwise, 1 job", "loopwise, 2 jobs", "fasttext", "sklearn_words", "sklearn_full", "floor")


@dataclass
class Measured:
    """Wall times and peak memory of one contender."""

    seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def median(self) -> float:
        """The median wall time in seconds."""
        return statistics.median(self.seconds)


def write_backlog(path: Path, n_rows: int, seed: int = SEED) -> None:
    """Write a backlog of `n_rows` rows of about 120 characters, built from the corpus, with ids and names."""
    from loopwise.training.corpus import Corpus

    texts = [" ".join(t.split()) for t in Corpus.shipped().rows["text"]]
    rng = np.random.default_rng(seed)
    names = ("Ana", "Bo", "Chidi", "Devi", "Emre", "Fatou", "Goran", "Hana")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "title", "description", "assignee"])
        for start in range(0, n_rows, 100_000):
            count = min(100_000, n_rows - start)
            chosen = rng.integers(len(texts), size=(count, 2))
            people = rng.integers(len(names), size=count)
            for i in range(count):
                key = f"PROJ-{start + i}"
                title = texts[chosen[i, 0]][:80]
                body = texts[chosen[i, 1]][: max(0, 108 - len(title))]
                writer.writerow([key, title, f"{body} {key}" if i % 3 else body, names[people[i]]])


def command(name: str, source: Path, target: Path, models: Path) -> list[str]:
    """Return the command line of a contender."""
    if name.startswith("loopwise"):
        jobs = name.split()[1]
        return [sys.executable, "-m", "loopwise", "classify", str(source), "-o", str(target), "--jobs", jobs]
    return [sys.executable, "-m", "benchmarks.contenders", name, str(source), str(target), str(models)]


def timed(arguments: list[str]) -> tuple[float, float]:
    """Run a command; return its wall time in seconds and its peak resident memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def race(
    names: tuple[str, ...], source: Path, out: Path, repeats: int, slow_repeats: int
) -> dict[str, Measured]:
    """Time the contenders in turn, again and again, so that a busy moment hits them all alike."""
    measured = {name: Measured() for name in names}
    for turn in range(repeats):
        for name in names:
            if name.startswith("sklearn") and turn >= slow_repeats:
                continue
            seconds, peak = timed(command(name, source, out / "result.csv", out / "models"))
            measured[name].seconds.append(seconds)
            measured[name].peak_mb = max(measured[name].peak_mb, peak)
            print(f"  {name}: {seconds:.2f} s, {peak:.0f} MB", file=sys.stderr)
    return measured


def cold_start(out: Path, repeats: int = 15) -> dict[str, float]:
    """Return the median seconds of whole processes: one prediction, and the yardstick."""
    predict = [sys.executable, "-m", "loopwise", "predict", "Fix the flaky login test"]
    yardstick = command("import_sklearn", out, out, out)
    times: dict[str, list[float]] = {"predict": [], "import scikit-learn": []}
    for _ in range(repeats):
        times["predict"].append(timed(predict)[0])
        times["import scikit-learn"].append(timed(yardstick)[0])
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Run the benchmark, print it as Markdown and write it under ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slow-repeats", type=int, default=1, help="runs of the scikit-learn peers")
    parser.add_argument("--growth", type=int, default=6, help="grow the file up to ten to this power")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-out")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not (options.out / "models" / "fasttext_mode.bin").exists():
        timed(command("fit", options.out, options.out, options.out / "models"))
    source = options.out / f"backlog-{options.rows}.csv"
    write_backlog(source, options.rows)
    measured = race(CONTENDERS, source, options.out, options.repeats, options.slow_repeats)
    single = subprocess.run(
        command("single", source, source, options.out / "models"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ours, peer = map(float, single.stdout.split())
    starts = cold_start(options.out)
    growth = {}
    for power in range(3, options.growth + 1):
        file = options.out / f"backlog-{10**power}.csv"
        write_backlog(file, 10**power)
        growth[10**power] = timed(command("loopwise, 2 jobs", file, options.out / "result.csv", options.out))
    text = report(options.rows, source.stat().st_size, measured, (ours, peer), starts, growth)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.md").write_text(text, encoding="utf-8")
    figures = {
        "rows": options.rows,
        "seconds": {name: m.seconds for name, m in measured.items()},
        "peak_mb": {name: m.peak_mb for name, m in measured.items()},
        "single_us": {"loopwise": ours, "sklearn_full": peer},
        "cold_start_s": starts,
        "growth": {str(n): list(values) for n, values in growth.items()},
    }
    (RESULTS / "speed.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    plot_growth(growth, RESULTS / "growth.png")
    print(text)


def report(
    n_rows: int,
    n_bytes: int,
    measured: dict[str, Measured],
    single: tuple[float, float],
    starts: dict[str, float],
    growth: dict[int, tuple[float, float]],
) -> str:
    """Return the figures as Markdown."""
    best = measured["loopwise, 2 jobs"].median
    lines = [
        f"## Speed: {n_rows:,} rows, {n_bytes / n_rows:.0f} bytes each, end to end",
        "",
        "| | seconds (median, spread) | rows/s | peak MB | time, in times of ours (2 jobs) |",
        "|---|---|---|---|---|",
    ]
    for name, m in measured.items():
        spread = f"{m.median:.2f} ({min(m.seconds):.2f}-{max(m.seconds):.2f})"
        lines.append(
            f"| {name} | {spread} | {n_rows / m.median:,.0f} | {m.peak_mb:.0f} | {m.median / best:.2f} |"
        )
    ratio = starts["predict"] / starts["import scikit-learn"]
    lines += [
        "",
        f"- against scikit-learn with sub-words: {measured['sklearn_full'].median / best:.1f} times as fast",
        f"- against fastText: {measured['fasttext'].median / best:.1f} times as fast",
        f"- the floor (pyarrow reads, writes): we take {best / measured['floor'].median:.1f} times as long",
        f"- one warm call: {single[0]:.0f} µs, scikit-learn {single[1]:.0f} µs: "
        f"{single[1] / single[0]:.0f} times as fast",
        f"- cold start: {starts['predict']:.3f} s, {ratio:.2f} of importing scikit-learn "
        f"({starts['import scikit-learn']:.3f} s)",
        "",
        "| rows | seconds | rows/s | peak MB |",
        "|---|---|---|---|",
    ]
    lines += [f"| {n:,} | {s:.2f} | {n / s:,.0f} | {mb:.0f} |" for n, (s, mb) in growth.items()]
    versions = ", ".join(f"{n} {version(n)}" for n in ("numpy", "pyarrow", "scikit-learn", "pandas"))
    lines += [
        "",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; {versions}",
        "",
    ]
    return "\n".join(lines)


def plot_growth(growth: dict[int, tuple[float, float]], path: Path) -> None:
    """Plot seconds over rows on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    axes.loglog(list(growth), [s for s, _ in growth.values()], marker="o", color="#0072b2")
    axes.set(xlabel="rows", ylabel="seconds", title="loopwise classify, 2 jobs")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
