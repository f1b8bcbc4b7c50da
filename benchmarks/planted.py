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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from selectllm import select
from selectllm.pool import row_id
from selectllm.report.result import Result
from selectllm.settings import RunSettings

BINS: Final = 5


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
    ids = sorted(said, key=lambda id: (lengths[id], id))
    print(f"{selector}: {found} of {sum(planted.values())} planted rows are among the {len(chosen)} chosen")
    print(f"  by chance it would be {len(chosen) * sum(planted.values()) / len(planted):.0f}")
    print(f"  AUC {auc(ids, said, planted)}; by length alone {auc(ids, lengths, planted)}")
    for part in (ids[bin[0] : bin[-1] + 1] for bin in np.array_split(np.arange(len(ids)), BINS)):
        print(f"  {lengths[part[0]]:>6,} to {lengths[part[-1]]:>6,} characters: ", end="")
        print(f"AUC {auc(part, said, planted)}, {sum(planted[id] for id in part)} planted of {len(part)}", flush=True)


def auc(ids: Sequence[str], said: Mapping[str, float], planted: Mapping[str, int]) -> str:
    """The AUC of these rows; a dash where all of them are of one kind."""
    truth = [planted[id] for id in ids]
    return f"{roc_auc_score(truth, [said[id] for id in ids]):.3f}" if 0 < sum(truth) < len(truth) else "-"


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
