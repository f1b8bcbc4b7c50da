"""Measures whether a selector finds demanding instructions among ordinary ones, and goes by more than their length.

    python benchmarks/planted.py FILE [--selectors scripted:longest embedded] [--budget 500] [--rows 0] [--looks 0.2]

FILE has a column `planted`: 1 for rows that are worth annotating, 0 for others. A run of the product chooses from it,
without that column. Recall is the share of the planted rows among the chosen, AUC how often a planted row is rated
above another one: of all pairs of rows, and of pairs of about the same length (five bins of equally many rows).
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from selectllm import select
from selectllm.evaluation.measures.auc import concordance, length_bins, within_bins
from selectllm.pool import row_id
from selectllm.report.result import Result
from selectllm.settings import RunSettings


def worths(result: Result) -> dict[str, float]:
    """What a run says about each row: its rating, or its score."""
    if "ratings" in result.summary["artifacts"]:
        return {row["id"]: row["rating"] for row in result.table("ratings").to_pylist()}
    return {row["id"]: row["score"] for row in result.table("rankings").to_pylist()}


def report(selector: str, result: Result, planted: Mapping[str, int], lengths: Mapping[str, int]) -> None:
    """Print what was found."""
    chosen = result.table()["id"].to_pylist()
    found = sum(planted[id] for id in chosen)
    said = worths(result)
    ids = sorted(said)
    labels, scores = (np.array([values[id] for id in ids], dtype=np.float64) for values in (planted, said))
    characters = np.array([lengths[id] for id in ids])
    print(f"{selector}: {found} of {sum(planted.values())} planted rows are among the {len(chosen)} chosen")
    print(f"  by chance it would be {len(chosen) * sum(planted.values()) / len(planted):.0f}")
    by_length = concordance(labels, characters.astype(np.float64))
    print(f"  AUC {shown(concordance(labels, scores))}; by length alone {shown(by_length)}")
    print(f"  AUC within bins of length {shown(within_bins(labels, scores, characters))}")
    for part in length_bins(characters):
        print(f"  {characters[part].min():>6,} to {characters[part].max():>6,} characters: ", end="")
        auc = shown(concordance(labels[part], scores[part]))
        print(f"AUC {auc}, {labels[part].sum():.0f} planted of {len(part)}", flush=True)


def shown(auc: float | None) -> str:
    """An AUC; a dash where all rows are of one kind."""
    return "-" if auc is None else f"{auc:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--selectors", nargs="+", default=["scripted:longest", "embedded"])
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--rows", type=int, default=0, help="draw so many rows of the file; 0 takes all")
    parser.add_argument("--looks", type=float, default=0.2)
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = [json.loads(line) for line in arguments.file.read_text("utf-8").splitlines()]
    if arguments.rows:
        rows = random.Random(0).sample(rows, arguments.rows)
    planted = {row_id(row["instruction"], row["input"] or None): row["planted"] for row in rows}
    lengths = {row_id(row["instruction"], row["input"] or None): len(row["instruction"] + row["input"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.jsonl"
        lines = [json.dumps({name: row[name] for name in ("instruction", "input")}) for row in rows]
        pool.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for selector in arguments.selectors:
            gather = "ratings" if selector != "embedded" else "auto"
            settings = RunSettings.model_validate(
                {
                    "pool": str(pool),
                    "budget": arguments.budget,
                    "selector": selector,
                    "store": str(Path(folder) / "store"),
                    "ranking": {"gather": gather, "looks": arguments.looks},
                    "quality": {"no_validate": True},
                }
            )
            report(selector, select(settings), planted, lengths)


if __name__ == "__main__":
    main()
