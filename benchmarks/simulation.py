"""Measures how many of the truly best rows each way to choose finds, with a judge whose errors are known.

    python benchmarks/simulation.py [--seeds 3] [--rows 14000] [--noise 0.5] [--out docs/images/simulation.svg]

Every row has a worth that is drawn by a seed. The judge is a model of the product's own kind: it ranks candidates by
worth and noise, as Plackett and Luce have it, and every run is a run of the product, from the pool to the selection.
`noise` is the scale of the judge's Gumbel noise against worths whose spread is 1. Recall is the share of the true best
N among the chosen; quality is the chosen rows' mean worth against that of the true best N. Questions are given in T,
the number of queries; tokens, read and written, against `tiers`.

Worths are drawn anew for each row, or are half those of its cluster (`correlated`). `every row` has each row scored by
itself, with the same noise, as Alpagasus does.
"""

import argparse
import hashlib
import json
import math
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, add_json, print_figures
from selectllm import select
from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.pool import row_id
from selectllm.report.result import Result
from selectllm.settings import RunSettings

SIZE: Final = 14
CLUSTERS: Final = 40
BUDGETS: Final = (300, 1000)
WAYS: Final[dict[str, dict[str, Any]]] = {
    "tiers": {"gather": "tiers"},
    "tiers, 2 passes": {"gather": "tiers", "passes": 2},
    "ratings": {"gather": "ratings", "looks": 0},
    "ratings, +T/10": {"gather": "ratings", "looks": 0.1},
    "ratings, +T/5": {"gather": "ratings", "looks": 0.2},
    "ratings, +T/2": {"gather": "ratings", "looks": 0.5},
    "ratings, +T": {"gather": "ratings", "looks": 1.0},
    "every row": {"mode": "pointwise"},
}


class Pool:
    """Rows with known worths, and vectors around the center of each row's cluster."""

    def __init__(self, rows: int, seed: int, correlated: bool) -> None:
        rng = np.random.default_rng(seed)
        self.texts = [
            f"Task {row} of pool {seed}: weigh {row % 97} reasons, and say which counts." for row in range(rows)
        ]
        clusters = rng.integers(CLUSTERS, size=rows)
        worths = rng.normal(size=rows)
        if correlated:
            worths = math.sqrt(0.5) * rng.normal(size=CLUSTERS)[clusters] + math.sqrt(0.5) * worths
            worths = (worths - worths.mean()) / worths.std()
        vectors = rng.normal(size=(CLUSTERS, 32))[clusters] + 0.7 * rng.normal(size=(rows, 32))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.row_of = {text: row for row, text in enumerate(self.texts)}
        self.worth = {row_id(text, None): worth for text, worth in zip(self.texts, worths.tolist(), strict=True)}

    def write(self, path: Path) -> str:
        """Write the pool's file; returns its path."""
        path.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in self.texts), encoding="utf-8")
        return str(path)

    def found(self, ids: Sequence[str]) -> tuple[float, float]:
        """Recall and quality of a selection."""
        best = sorted(self.worth, key=self.worth.__getitem__, reverse=True)[: len(ids)]
        ideal, ours = (sum(self.worth[id] for id in chosen) / len(ids) for chosen in (best, ids))
        return len(set(best) & set(ids)) / len(ids), ours / ideal


class Embedder:
    """Gives the pool's vectors."""

    def __init__(self, pool: Pool) -> None:
        self.digest, self._pool = f"simulated: {pool.texts[0]}", pool

    def load(self) -> None:
        """Nothing has to be loaded."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors of these texts."""
        vectors: np.ndarray = self._pool.vectors[[self._pool.row_of[text] for text in texts]]
        return vectors


class Judge:
    """Ranks by worth and noise. The same question gets the same answer, as at temperature 0."""

    host, context = "this process", None

    def __init__(self, pool: Pool, noise: float, mode: str) -> None:
        self.info = ModelInfo("ollama:judge", "judge", f"judge-{noise}", "1", "model", mode)  # type: ignore[arg-type]
        self._pool, self._noise = pool, noise

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """It is always ready."""

    async def answer(self, request: Request) -> Reply:
        """Rank or score by worth and noise."""
        rng = np.random.default_rng(int(hashlib.blake2b(request.text.encode(), digest_size=8).hexdigest(), 16))
        worths = np.array([self._pool.worth[id] for id in request.shown])
        felt = worths + self._noise * rng.gumbel(size=len(worths))
        read = len(request.text) // 4
        if request.schema is None:
            odds = {"yes": -math.log1p(math.exp(-felt[0])), "no": -math.log1p(math.exp(felt[0]))}
            return Reply("yes", "stop", read, 1, logprobs=odds)
        count = int(request.schema["properties"]["ranking"]["minItems"])
        text = json.dumps({"ranking": [int(place) + 1 for place in np.argsort(-felt, kind="stable")[:count]]})
        return Reply(text, "stop", read, len(text) // 2)

    async def probe(self) -> None:
        """It is always there."""

    async def verify(self) -> None:
        """It is always the same."""

    async def close(self) -> None:
        """Nothing is open."""


@contextmanager
def judged_by(pool: Pool, noise: float, mode: str) -> Iterator[None]:
    """Let runs of this process embed by the pool's vectors and ask the judge."""

    async def connect(*_: object) -> Judge:
        return Judge(pool, noise, mode)

    with (
        patch("selectllm.llm._connect", connect),
        patch("selectllm.embedding.models.open_embedder", lambda _: Embedder(pool)),
    ):
        yield


def runs_of(pool: Pool, noise: float, folder: Path, ways: Sequence[str]) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Of each way and budget what it found and took.

    All have the same queries and the same first answers, from a store of which each gets a copy: what one has learned
    by further questions does not help another.
    """
    path = pool.write(folder / "pool.jsonl")
    run(pool, noise, path, folder / "first", max(BUDGETS), {"gather": "ratings", "looks": 0})
    for way in ways:
        for budget in BUDGETS:
            store = folder / "copy"
            shutil.copytree(folder / "first", store)
            result = run(pool, noise, path, store, budget, WAYS[way])
            recall, quality = pool.found(result.table()["id"].to_pylist())
            taken, ratings = result.summary["ranking"], result.summary["ratings"]
            yield (
                way,
                budget,
                {
                    "recall": recall,
                    "quality": quality,
                    "replies": taken["asked"] + taken["from_ledger"],
                    "tokens": taken["prompt_tokens"] + taken["output_tokens"],
                    "expected": ratings["expected_wrong"] / budget if ratings else math.nan,
                },
            )
            shutil.rmtree(store)


def run(pool: Pool, noise: float, path: str, store: Path, budget: int, ranking: Mapping[str, Any]) -> Result:
    """A run of the product with the judge."""
    settings = RunSettings.model_validate(
        {
            "pool": path,
            "budget": budget,
            "selector": "ollama:judge",
            "store": str(store),
            "queries": {"size": SIZE},
            "ranking": {"think": "off", "concurrency": 16, "mode": "listwise"} | dict(ranking),
            "quality": {"no_validate": True},
        }
    )
    with judged_by(pool, noise, settings.ranking.mode):
        return select(settings)


def picture(points: list[dict[str, Any]], out: Path) -> None:
    """Draw recall against questions."""
    import altair as alt
    import vl_convert

    base = alt.Chart({"values": points}).encode(
        x=alt.X("T:Q", title="questions, in T"),
        y=alt.Y("recall:Q", title="share of the true best rows found"),
        color=alt.Color("kind:N", title=None),
    )
    panel = (base.mark_line() + base.mark_point(filled=True)).properties(width=300, height=240)
    chart = panel.facet(column=alt.Column("panel:N", title=None))
    out.write_text(vl_convert.vegalite_to_svg(chart.to_dict()), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=14_000)
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--out", type=Path, help="an SVG of recall against questions")
    add_json(parser)
    arguments = parser.parse_args()

    queries, points = math.ceil(arguments.rows / SIZE), []
    figures = []
    print(f"{arguments.rows:,} rows, queries of {SIZE}, noise {arguments.noise}, mean of {arguments.seeds} seeds")
    for correlated in (False, True):
        found: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            pool = Pool(arguments.rows, seed, correlated)
            with tempfile.TemporaryDirectory() as folder:
                for way, budget, values in runs_of(pool, arguments.noise, Path(folder), arguments.ways):
                    found[way, budget].append(values)
        print(f"\nworths {'correlated with clusters' if correlated else 'independent of clusters'}")
        print(f"{'way':<16} {'N':>5} {'recall':>7} {'quality':>8} {'wrong, expected':>16} {'T':>6} {'tokens':>7}")
        for (way, budget), runs in found.items():
            means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
            tiers = found.get(("tiers", budget), runs)
            against = means["tokens"] / float(np.mean([run["tokens"] for run in tiers]))
            asked = means["replies"] / queries
            wrong = "" if math.isnan(means["expected"]) else f"{means['expected']:.2f}"
            print(
                f"{way:<16} {budget:>5} {means['recall']:>7.3f} {means['quality']:>8.3f} {wrong:>16} {asked:>6.2f} "
                f"{against:>7.2f}",
                flush=True,
            )
            if way != "tiers" and ("tiers", budget) in found and not correlated:
                recall = means["recall"] / float(np.mean([run["recall"] for run in tiers]))
                figures.append(Figure(f"recall of the best {budget:,}, {way}", "tiers", recall))
                figures.append(Figure("its tokens", "tiers", against))
            kind = way.partition(",")[0]
            if kind != "every row":
                panel = f"N = {budget}, worths {'correlated' if correlated else 'independent'}"
                points.append({"kind": kind, "T": asked, "recall": means["recall"], "panel": panel})
    if arguments.out:
        picture(points, arguments.out)
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
