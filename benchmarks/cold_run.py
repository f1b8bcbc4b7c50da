"""Measures what validation adds to the wall time of a cold run: a new process, an empty store, real embeddings.

    python benchmarks/cold_run.py [--rows 1500] [--turns 2]

Runs with and without `--no-validate` take turns, so that other load slows both equally; of each the fastest counts.
The selector is a fixed rule, so that the time of a model does not hide what is measured.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.expectations import write_pool
from benchmarks.results import Figure, add_json, print_figures


def seconds(pool: Path, *options: str) -> float:
    """The wall time of a command line that selects from the pool, with an empty store."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "selectllm", "select", str(pool), "--budget", "100"]
        command += ["--selector", "scripted:longest", "--store", store, *options]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--turns", type=int, default=2)
    add_json(parser)
    arguments = parser.parse_args()

    validated, unvalidated = [], []
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.jsonl"
        write_pool(pool, arguments.rows)
        for _ in range(arguments.turns):
            validated.append(seconds(pool))
            unvalidated.append(seconds(pool, "--no-validate"))
    print(f"{arguments.rows:,} rows, the fastest of {arguments.turns} cold runs each")
    print(f"without validation  {min(unvalidated):7.1f} s")
    print(f"with validation     {min(validated):7.1f} s, {min(validated) / min(unvalidated):.2f} times as long")
    times = min(validated) / min(unvalidated)
    what = f"time of a cold run of {arguments.rows:,} rows"
    print_figures([Figure(what, "the same without validation", times)], as_json=arguments.json)


if __name__ == "__main__":
    main()
