"""Measures the embedding step against plain sentence-transformers: one call of `encode`, by its best batch size.

    OMP_NUM_THREADS=1 python benchmarks/embedding.py [--rows 3000] [--static-rows 100000] [--turns 2]

One process, with each model loaded before. Plain calls and the whole step take turns, so that other load slows both;
of each the least processor time counts. The step reads nothing from the store at first: it embeds, checks and keeps
every vector. Then the pool grows by 1 %. Writing all vectors of the grown pool as one file is measured alone, too:
without parts that are taken over, growth would take that at least. The static model is that of the transformer's own
token vectors. With `--pool POOL.jsonl` the transformer embeds the first rows of a file of your own.

Plain calls take every batch size, and the best one counts. More than 5,000 rows take a transformer very long: it tries
the batch sizes on a part of them, and embeds all rows by the best one alone.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.expectations import write_pool
from benchmarks.results import Figure, add_json, print_figures
from selectllm.embedding import models
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.steps.embed import embed
from selectllm.steps.read_pool import read_pool
from selectllm.store import Store
from selectllm.store.tables import write_parquet

TRANSFORMER: Final = "all-MiniLM-L6-v2"
BATCH_SIZES: Final = {"transformer": (8, 16, 32), "static": (16, 1024, 8192)}
ROWS_BY_EVERY_SIZE: Final = 5_000
RUNS: Final = 50


def write_static_model(folder: Path) -> None:
    """Write a model that looks up the transformer's vector of each token, and takes their mean."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    transformer = loaded(TRANSFORMER)
    weights = transformer[0].auto_model.embeddings.word_embeddings.weight.detach().clone()
    SentenceTransformer(modules=[StaticEmbedding(transformer.tokenizer, embedding_weights=weights)]).save(str(folder))


def loaded(model: str) -> Any:
    """The model as sentence-transformers has it: the same object that the step embeds with."""
    embedder = models.open_embedder(model)
    return models._load(embedder.folder, embedder.digest)


def context_of(pool: Path, model: str, store: str) -> Context:
    """A run on a pool that asks no model, with a store of its own."""
    values = {"pool": str(pool), "budget": 1, "store": store, "embedding": {"model": model}}
    return Context(RunSettings.model_validate(values | {"quality": {"no_validate": True}}), Store(store))


def processor_seconds(function: Callable[[], object]) -> float:
    """The processor time, of all threads, that a function takes."""
    started = time.process_time()
    function()
    return time.process_time() - started


def step_seconds(pool: Path, grown: Path, model: str) -> tuple[float, float, float]:
    """What the step takes for a pool, what it takes once the pool has grown, and writing the grown table alone."""
    with tempfile.TemporaryDirectory() as store:
        taken = []
        for file in (pool, grown):
            context = context_of(file, model, store)
            rows = read_pool(context)
            rows.table(context.store)
            taken.append(processor_seconds(partial(embed, context, rows)))
        table = embed(context, rows).table(context.store)
        with tempfile.TemporaryFile(dir=store) as written:
            taken.append(processor_seconds(partial(write_parquet, written, table.schema, [table])))
    return taken[0], taken[1], taken[2]


def plain_seconds(encoder: Any, texts: list[str], batch_size: int) -> float:
    """The processor time that one plain call takes for all texts."""
    options = {"batch_size": batch_size, "normalize_embeddings": True, "show_progress_bar": False}
    return processor_seconds(partial(encoder.encode, texts, **options))


def runs_by_length(texts: list[str], length: int) -> list[str]:
    """Fifty runs of texts that follow each other by length, spread evenly over all lengths.

    `encode` sorts by length. A batch of such a run is padded as little as a batch of all texts, so that the batch size
    that is the best for the runs is the best for all. Texts drawn by chance would favour small batches.
    """
    ordered = sorted(texts, key=len)
    starts = (place * (len(ordered) - length) // (RUNS - 1) for place in range(RUNS))
    return [text for start in starts for text in ordered[start : start + length]]


def best_of(encoder: Any, texts: list[str], sizes: tuple[int, ...]) -> int:
    """The batch size that takes a part of the texts the least processor time; prints what each takes."""
    part = runs_by_length(texts, max(sizes))
    taken = {size: plain_seconds(encoder, part, size) for size in sizes}
    each = ", ".join(f"{size}: {seconds:.2f} s" for size, seconds in taken.items())
    print(f"{len(part):,} of {len(texts):,} rows by batches of {each}", flush=True)
    return min(taken, key=lambda size: taken[size])


def report(kind: str, pool: Path, grown: Path, model: str, turns: int) -> list[Figure]:
    """Print the ratios for one model, and return them."""
    encoder = loaded(model)
    sizes: tuple[int, ...] = BATCH_SIZES[kind]
    with tempfile.TemporaryDirectory() as store:
        context = context_of(pool, model, store)
        table = read_pool(context).table(context.store)
    texts = list(map(models.text, table["instruction"].to_pylist(), table["input"].to_pylist()))
    encoder.encode(texts[:100])
    if kind == "transformer" and len(texts) > ROWS_BY_EVERY_SIZE:
        sizes = (best_of(encoder, texts, sizes),)
    best, steps = dict.fromkeys(sizes, float("inf")), []
    for _ in range(turns):
        for size in best:
            best[size] = min(best[size], plain_seconds(encoder, texts, size))
        steps.append(step_seconds(pool, grown, model))
    whole, more, least = (min(step[part] for step in steps) for part in range(3))
    size, plain = min(best.items(), key=lambda item: item[1])
    print(f"{kind}, {len(texts):,} rows: plain {plain:.2f} s (batches of {size}), the step {whole:.2f} s", end=", ")
    print(f"{whole / plain:.2f} times; grown by 1 %: {more:.2f} s, {more / whole:.1%} of the whole", end=", ")
    print(f"writing the table alone {least:.2f} s, {least / whole:.1%}", flush=True)
    return [
        Figure(
            f"processor time of embedding {len(texts):,} rows, {kind}", "plain `encode`", whole / plain, at_most=1.1
        ),
        Figure("that of a pool that has grown by 1 %", "the whole pool", more / whole, at_most=0.03),
        Figure("that of writing its vectors alone", "the whole pool", least / whole),
    ]


def cut(source: Path, path: Path, rows: int) -> Path:
    """Write the first rows of a file of lines."""
    with source.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        file.writelines(line for _, line in zip(range(rows), lines, strict=False))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--static-rows", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--pool", type=Path)
    add_json(parser)
    arguments = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_static_model(folder / "static")
        for kind, model, rows in (
            ("static", str(folder / "static"), arguments.static_rows),
            ("transformer", TRANSFORMER, arguments.rows),
        ):
            source = arguments.pool if kind == "transformer" else None
            if rows and source is None:
                source = folder / "all.jsonl"
                write_pool(source, rows * 101 // 100)
            if rows and source:
                pool = cut(source, folder / "pool.jsonl", rows)
                figures += report(
                    kind, pool, cut(source, folder / "grown.jsonl", rows * 101 // 100), model, arguments.turns
                )
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
