"""Measures the tokens of a query and of a chosen row: our prompt, a published one, and rating every row by itself.

    python benchmarks/tokens.py [--pool POOL.jsonl] [--size K] [--picks N ...] [--published PROMPT.txt]

Queries are of neighbours in the file, K rows each. Tokens are those of the demo model's tokenizer, of the texts alone:
what a chat template adds is left out. Answers count: as short as they can be, of so many rows as are chosen of a query,
three at least by our prompt, which is the default of `--depth`. `--published` is the text of another prompt, with
{count}, {picks} and {candidates} where these stand; a candidate there is its number and its headed texts.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.prefix import POOL, candidates
from benchmarks.results import Figure, add_json, print_figures
from selectllm.llm.weights import demo_weights
from selectllm.ranking.prompts import Candidate, listwise
from selectllm.ranking.row_ratings import WORTH, RatingQuestion
from selectllm.settings import RankingSettings

Texts = Iterator[tuple[str, str]]
"""Prompts, each with its answer."""

Way = Callable[[Sequence[Candidate], int], Texts]
"""What asking about the rows of a query takes, of which so many are chosen."""

PLACES: Final = ("{count}", "{picks}", "{candidates}")


def ours(rows: Sequence[Candidate], picks: int) -> Texts:
    """The question of a query as a run puts it."""
    depth = min(max(picks, RankingSettings().depth), len(rows))
    numbers = ", ".join(map(str, range(1, depth + 1)))
    yield listwise(rows, depth, seed=0).text, f'{{"ranking": [{numbers}]}}'


def every_row(rows: Sequence[Candidate], _picks: int) -> Texts:
    """A question about each row, as the strategy `alpagasus` puts it."""
    for row in rows:
        yield RatingQuestion(row, WORTH, "listwise", False).request().text, '{"rating": 3}'


def published(template: str) -> Way:
    """The question of a query by another prompt."""

    def texts(rows: Sequence[Candidate], picks: int) -> Texts:
        shown = "\n\n".join(f"[{number}]\n{headed(row)}" for number, row in enumerate(rows, start=1))
        text = template
        for place, value in zip(PLACES, (str(len(rows)), str(picks), shown), strict=True):
            text = text.replace(place, value)
        yield text, ", ".join(f"[{number}]" for number in range(1, picks + 1))

    return texts


def headed(row: Candidate) -> str:
    """The texts of a row under the headings of Alpaca."""
    return f"### Instruction: {row.instruction}" + (f"\n### Input: {row.input}" if row.input else "")


def read_template(file: Path) -> str:
    """The text of a prompt; ends the program where it has no place for candidates."""
    text = file.read_text(encoding="utf-8")
    if missing := [place for place in PLACES if place not in text]:
        raise SystemExit(f"{file} has no {', '.join(missing)}: write them where the prompt has these")
    return text


def tokenizer() -> Any:
    """The demo model's tokenizer."""
    from transformers import AutoTokenizer

    weights = demo_weights()
    return AutoTokenizer.from_pretrained(str(weights.parent), gguf_file=weights.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument("--size", type=int, default=14, help="rows of a query")
    parser.add_argument("--queries", type=int, default=8, help="queries, of the first rows of the pool")
    parser.add_argument("--picks", type=int, nargs="+", default=[1, 2, 3], help="rows chosen of a query")
    parser.add_argument("--published", type=Path, help="the text of another prompt, a file")
    add_json(parser)
    arguments = parser.parse_args()
    ways: dict[str, Way] = {"our prompt": ours, "rating every row": every_row}
    if arguments.published:
        ways["the published prompt"] = published(read_template(arguments.published))
    rows = candidates(arguments.pool, arguments.size * arguments.queries)
    queries = [rows[first : first + arguments.size] for first in range(0, len(rows), arguments.size)]
    count, figures = tokenizer(), list[Figure]()
    print(f"{'way':<21} {'picks':>5} {'read':>8} {'written':>8} {'a chosen row':>13}")
    for picks in arguments.picks:
        taken = {}
        for way, texts in ways.items():
            pairs = [pair for query in queries for pair in texts(query, picks)]
            read, written = (
                sum(map(len, count([pair[side] for pair in pairs])["input_ids"])) / len(queries) for side in (0, 1)
            )
            taken[way] = (read + written) / picks
            print(f"{way:<21} {picks:>5} {read:>8,.0f} {written:>8,.0f} {taken[way]:>13,.0f}")
        own = taken.pop("our prompt")
        what = f"tokens of a chosen row, {picks} of each {arguments.size}"
        figures += [Figure(what, way, own / tokens) for way, tokens in taken.items()]
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
