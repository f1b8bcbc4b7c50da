"""Measures how many tokens of a prompt the embedded model reads anew, where the prompts before it begin alike.

    python benchmarks/prefix.py [--pool POOL.jsonl] [--lists 12] [--rows 40]

Prompts are those of a run: lists of 15 rows to rank, and single rows to score. llama.cpp says how many tokens of each
prompt it has read; what it has read before, and the prompt begins with, it takes from its cache. The same prompts with
their candidates first show what the order of the parts is worth. The demo model reads them; tokens of other models
differ a little, and their share hardly.
"""

import argparse
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, add_json, print_figures
from selectllm.llm import embedded
from selectllm.llm.model import Request
from selectllm.llm.weights import demo_weights
from selectllm.ranking.prompts import Candidate, listwise, pointwise

SIZE: Final = 15

POOL: Final = Path(__file__).resolve().parents[1] / "examples" / "pool.jsonl"


def candidates(pool: Path, count: int) -> list[Candidate]:
    """The first rows of a pool that have an instruction, in at most 2,000 characters each."""
    rows = [json.loads(line) for line in pool.read_text(encoding="utf-8").splitlines()]
    found = [
        Candidate(f"{number:032x}", row["instruction"], row.get("input") or None).clipped(2000)[0]
        for number, row in enumerate(rows)
        if row.get("instruction")
    ]
    if len(found) < count:
        raise SystemExit(f"{pool} has {len(found):,} instructions, and {count:,} are needed: name fewer --lists")
    return found[:count]


def read(server: Any, requests: Sequence[Request]) -> tuple[int, int]:
    """How many tokens of these prompts, one after the other, are read anew, and how many they have."""
    anew = total = 0
    for request in requests:
        generation = embedded._Generation(threading.Event())
        handle = server.handle_completions if request.logprobs else server.handle_chat_completions
        handle(embedded._body(replace(request, max_tokens=1, schema=None)), generation.on_chunk)
        if generation.error is not None:
            raise SystemExit(f"the model refused a prompt: {generation.error}")
        anew += int(generation.last["timings"]["prompt_n"])
        total += int(generation.last["usage"]["prompt_tokens"])
    return anew, total


def candidates_first(request: Request) -> Request:
    """The same prompt with its candidates before what is to be done with them."""
    head, mark, lines = request.text.partition("\nCandidates:\n")
    return replace(request, text=f"Candidates:\n{lines}\n\n{head}" if mark else request.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument("--lists", type=int, default=12, help=f"of {SIZE} rows each")
    parser.add_argument("--rows", type=int, default=40, help="rows that are scored one by one")
    add_json(parser)
    arguments = parser.parse_args()
    rows = candidates(arguments.pool, max(SIZE * arguments.lists, arguments.rows))
    lists = [
        listwise(rows[first : first + SIZE], 5, seed=0).request() for first in range(0, SIZE * arguments.lists, SIZE)
    ]
    single = [pointwise(row).request() for row in rows[: arguments.rows]]
    with patch.object(embedded, "THREADS", 1):  # what is read does not depend on it, and waiting threads take time
        server = embedded._load(demo_weights(), embedded.CONTEXT_TOKENS)
    figures = list[Figure]()
    kinds = (
        (f"lists of {SIZE}", lists),
        (f"lists of {SIZE}, candidates first", [candidates_first(request) for request in lists]),
        ("single rows", single),
    )
    for title, requests in kinds:
        read(server, [Request("Hello", max_tokens=1)])  # nothing of these prompts is in the cache
        anew, total = read(server, requests)
        prompts = len(requests)
        print(
            f"{title}: {prompts} prompts, {total / prompts:,.0f} tokens each, {anew / prompts:,.0f} read anew",
            flush=True,
        )
        figures.append(Figure(f"{title}: tokens read anew", "all tokens of the prompts", anew / total))
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
