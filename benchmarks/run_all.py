"""Runs the benchmarks one after the other, and writes docs/benchmarks.md from what they print.

    python benchmarks/run_all.py [--only NAME ...] [--limit SECONDS]

Each is a process of its own, with one thread for numpy and torch. One that fails, tells no figures or takes longer than
the limit is named on the page, the others are on it all the same, and the exit code is 1. The page's part behind the
mark is written anew, as a whole: with `--only`, what is left out is not on the page.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, parse_figures

ROOT: Final = Path(__file__).resolve().parents[1]

PAGE: Final = ROOT / "docs" / "benchmarks.md"

MARK: Final = "<!-- Behind this line: written by benchmarks/run_all.py. -->"

BENCHMARKS: Final = {
    "startup": ("--times", "3"),
    "ranking": ("--delay", "1", "--queries", "1024", "--no-flow"),
    "queries": (),
    "blocks": ("--rows", "200000", "--size", "20"),
    "expectations": (),
    "cold_run": (),
    "embedding": ("--rows", "500", "--static-rows", "100000"),
    "memory": ("--shards", "2", "--times", "10"),
    "scale": ("--rows", "20000"),
    "ledger": ("--rows", "40000"),
    "near_duplicates": ("--rows", "100000", "--budget", "2000"),
    "tokens": (),
    "report": ("--rows", "100000", "--chosen", "5000"),
    "simulation": ("--rows", "2800", "--seeds", "1", "--ways", "tiers", "ratings, +T/5"),
}
"""What is run, and with which options: sizes at which all of it together takes a few minutes."""

LIMIT: Final = 1800.0
"""The most seconds that a benchmark may take by default: several times as many as the longest one takes."""

LEFT_OUT: Final = {
    "coverage": "takes an hour",
    "prefix": "reads prompts with the demo model for minutes",
    "runners": "takes ten minutes, and needs the extras dask and ray",
    "planted": "needs data that does not belong to the project",
    "experiment": "needs data that does not belong to the project, and tunes models for hours",
}
"""What is not run, and why."""

PACKAGES: Final = ("numpy", "pyarrow", "scikit-learn", "scipy", "torch", "sentence-transformers", "prefect", "ollama")


@dataclass(frozen=True)
class Outcome:
    """A benchmark that was run: its command, what it measured, and why it failed, if it did."""

    command: str
    seconds: float
    figures: list[Figure] = field(default_factory=list)
    error: str = ""


def run(name: str, options: tuple[str, ...], limit: float = LIMIT) -> Outcome:
    """Run one benchmark as a process of its own, for at most so many seconds; whatever ends it is its outcome."""
    arguments = [f"benchmarks/{name}.py", *options]
    command = "python " + " ".join(f'"{part}"' if " " in part else part for part in arguments)
    started = time.perf_counter()
    done = _finished([sys.executable, *arguments, "--json"], limit)
    seconds = time.perf_counter() - started
    if done is None:
        return Outcome(command, seconds, error=f"it was stopped after {limit:,.0f} s, the limit of each benchmark")
    if done.returncode:
        return Outcome(command, seconds, error=(done.stderr.strip().splitlines() or ["it says nothing"])[-1])
    try:
        figures = parse_figures(done.stdout)
    except (ValueError, TypeError, IndexError):
        return Outcome(command, seconds, error="its last line holds no figures")
    print(done.stdout.rstrip("\n").rpartition("\n")[0], flush=True)
    return Outcome(command, seconds, figures)


def _finished(arguments: list[str], limit: float) -> subprocess.CompletedProcess[str] | None:
    """The process when it has ended; None where it was killed at the limit, with all processes that it began."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a benchmark's own processes would go on, and hold its pipes
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def machine() -> str:
    """The machine, and the versions of what decides how fast it is."""
    model = platform.processor() or platform.machine()
    memory = ""
    if sys.platform == "linux":
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(": ")[2] for line in facts if line.startswith("model name")), model)
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{date}. {os.cpu_count()} cores ({model}){memory}. {', '.join(versions)}."


def section(name: str, outcome: Outcome) -> str:
    """A benchmark's part of the page."""
    lines = [f"## {name}", "", "```sh", f"OMP_NUM_THREADS=1 {outcome.command}", "```", ""]
    if outcome.error:
        return "\n".join([*lines, f"It failed: `{outcome.error}`"])
    lines += ["| what | against | measured | bar |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(row, outcome.figures)])


def row(figure: Figure) -> str:
    """A figure as a row of a table; a bar is reached or not, and nothing between."""
    measured = f"{figure.value:.3g} {figure.unit}"
    bars = [
        f"{words} {bar:g}"
        for words, bar in (("at most", figure.at_most), ("at least", figure.at_least))
        if bar is not None
    ]
    verdict = {None: "none", True: "reached", False: "**not reached**"}[figure.is_reached]
    bar = f"{' and '.join(bars)}: {verdict}" if bars else verdict
    return f"| {figure.what} | {figure.against or '—'} | {measured} | {bar} |"


def write_page(page: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Write the page's part behind the mark: the machine, each benchmark that was run, and what was not run."""
    seconds = sum(outcome.seconds for outcome in outcomes.values())
    not_run = LEFT_OUT | {name: "was left out this time" for name in BENCHMARKS if name not in outcomes}
    left_out = [f"- `benchmarks/{name}.py`: {why}." for name, why in not_run.items()]
    failed = [name for name, outcome in outcomes.items() if outcome.error]
    parts = [
        f"{machine()} All together took {seconds:,.0f} s.",
        *([f"**Failed:** {', '.join(failed)}."] if failed else []),
        *(section(name, outcome) for name, outcome in outcomes.items()),
        "\n".join(["## Not run", "", *left_out]),
    ]
    by_hand = page.read_text(encoding="utf-8").split(MARK)[0]
    page.write_text("\n\n".join([f"{by_hand}{MARK}", *parts]) + "\n", encoding="utf-8")


def main() -> int:
    """Run the benchmarks, and write the page; returns 1 where one has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--limit", type=float, default=LIMIT, help="the most seconds that each may take")
    arguments = parser.parse_args()
    outcomes = {}
    for name in arguments.only:
        print(f"\n== {name}", flush=True)
        outcomes[name] = run(name, BENCHMARKS[name], arguments.limit)
        print(outcomes[name].error or f"({outcomes[name].seconds:.0f} s)", flush=True)
        write_page(PAGE, outcomes)  # what is measured so far is kept, whatever comes
    return int(any(outcome.error for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
