"""Candidates that attack every step between the file of the pool and the selection.

Whatever they say, and whatever a model makes of it, the machinery does what it promises.
"""

import asyncio
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len

from selectllm import pool, select
from selectllm.errors import TooFewRanked
from selectllm.llm.model import Reply, Request
from selectllm.ranking import answers
from selectllm.ranking.lists import ATTEMPTS, Outcome
from selectllm.ranking.prompts import Candidate, Prompt, listwise, pointwise
from selectllm.ranking.ranker import Ranker, RankingOptions
from selectllm.report import chosen_rows, format
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.text import fit_line
from tests import hostile
from tests.conftest import FakeModel, by_id, make_caller, top_k, write_pool

MakeRun = Callable[..., RunSettings]
Row = dict[str, str]

ROWS = hostile.rows()
UNREADABLE = [row for row in ROWS if row["attack"] == "lone surrogate"]
READABLE = [row for row in ROWS if row["attack"] != "lone surrogate"]
REPEATED = [row for row in ROWS if row["attack"] == "twin in normal form"][1:]
KEPT = len(READABLE) - len(REPEATED)

SIZE = 14
HARMLESS = [Candidate(f"{number:02}", f"Task {number}", "given" if number % 2 else None) for number in range(SIZE)]

each_row = pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row['attack']}-{number}") for number, row in enumerate(READABLE, start=1)]
)
LIMITS = (None, 2000, 100)
"""Limits in characters for clipping a candidate."""


def read_pool(path: Path) -> pool.Pool:
    return pool.partition(pool.parse(pool.fetch(str(path)), pool.Columns()), {})


def instructions(request: Request) -> list[str]:
    """The instructions in a listwise prompt, in shown order."""
    lines = (line for line in request.text.split("\n") if line.startswith('{"number": '))
    return [json.loads(line)["instruction"] for line in lines]


def candidate(row: Row, limit: int | None = None) -> Candidate:
    whole = Candidate("hostile", row["instruction"], row.get("input"))
    return whole if limit is None else whole.clipped(limit)[0]


def among_harmless(row: Row, limit: int | None = None, top_k: int = 3) -> Prompt:
    """A prompt of the usual size with one hostile candidate."""
    return listwise([*HARMLESS[1:], candidate(row, limit)], top_k, seed=0)


def head(prompt: Prompt) -> str:
    """The part of a prompt before its first candidate."""
    return head_of(prompt.text)


def head_of(text: str) -> str:
    heading = "\nCandidates:\n"
    return text[: text.index(heading) + len(heading)]


def written(path: Path) -> Path:
    """Write the corpus as a pool."""
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


# The pool


def test_the_corpus_is_large_and_varied() -> None:
    stored = hostile.CORPUS.read_text(encoding="utf-8").splitlines()
    assert len(stored) >= 70
    assert len({row["attack"] for row in ROWS}) >= 25
    assert all(line.isprintable() for line in stored), "the file shows every character"


def test_every_row_is_kept_unchanged_or_quarantined_with_a_reason(tmp_path: Path) -> None:
    pool = read_pool(written(tmp_path / "pool.jsonl"))
    assert pool.rows_read == len(ROWS) == pool.quarantined + pool.duplicates + pool.table.num_rows
    assert (pool.quarantined, pool.duplicates, pool.table.num_rows) == (len(UNREADABLE), len(REPEATED), KEPT)

    numbers = pool.table["row"].to_pylist() + pool.quarantine["row"].to_pylist()
    assert sorted(numbers) == list(range(1, len(ROWS) + 1))
    for row in pool.table.to_pylist():
        original = ROWS[row["row"] - 1]
        assert (row["instruction"], row["input"]) == (original["instruction"], original.get("input"))
    for row in pool.quarantine.to_pylist():
        original = ROWS[row["row"] - 1]
        assert json.loads(row["text"]) == original
        assert row["reason"].startswith("holds a lone surrogate" if original in UNREADABLE else "duplicate of row")


def test_texts_that_only_look_alike_are_separate_rows(tmp_path: Path) -> None:
    table = read_pool(written(tmp_path / "pool.jsonl")).table
    assert len(set(table["id"].to_pylist())) == KEPT
    for attack in ("twin by zero-width", "twin by homoglyphs"):
        assert table["attack"].to_pylist().count(attack) == sum(row["attack"] == attack for row in ROWS)


# The prompt and its schema


@each_row
def test_a_candidate_is_one_line_of_json_under_its_own_number(row: Row) -> None:
    harmless = listwise(HARMLESS, 3, seed=0)
    for limit in LIMITS:
        prompt = among_harmless(row, limit)
        assert head(prompt) == head(harmless)
        lines = prompt.text.removeprefix(head(prompt)).split("\n")
        assert [json.loads(line, object_pairs_hook=list) for line in lines] == [
            [("number", number), ("instruction", shown.instruction), *([("input", shown.input)] if shown.input else [])]
            for number, shown in enumerate(prompt.candidates, start=1)
        ]
        assert prompt.schema == harmless.schema, "the schema depends on the number of candidates and on no text"


@each_row
def test_a_pointwise_prompt_has_examples_candidate_and_place_of_the_answer(row: Row) -> None:
    examples = pointwise(HARMLESS[0]).text.rpartition("Instruction: ")[0]
    for limit in LIMITS:
        shown = candidate(row, limit)
        prompt = pointwise(shown)
        assert prompt.schema is None
        assert prompt.text.startswith(examples)
        *texts, end = prompt.text.removeprefix(examples).split("\n")
        assert end == "Worth it:"
        names = ["Instruction: ", "Input: "][: len(texts)]
        shown_texts = [text for text in (shown.instruction, shown.input) if text]
        assert [json.loads(text.removeprefix(name)) for name, text in zip(names, texts, strict=True)] == shown_texts


@each_row
def test_a_candidate_has_no_unicode_line_breaks(row: Row) -> None:
    """Unicode has more line breaks than JSON escapes. A model may treat them as line breaks."""
    prompt = among_harmless(row)
    assert len(prompt.text.removeprefix(head(prompt)).splitlines()) == SIZE


CONTROL_TOKEN = re.compile(
    r"<[|｜]|</?s>|<[be]os>|<(unk|pad)>|<(start|end)_of_turn>|</?think(ing)?>|<</?SYS>>|\[/?[A-Z_]{4,}\]"
)
"""How chat templates of Qwen, Llama, Mistral, Gemma, Phi, DeepSeek and others spell their control tokens.

Servers look for them in the whole rendered prompt: a candidate that spells one would end the turn it stands in.
"""


@each_row
def test_no_candidate_contains_a_control_token_of_a_chat_template(row: Row) -> None:
    assert not CONTROL_TOKEN.search(among_harmless(row).text)
    assert not CONTROL_TOKEN.search(pointwise(candidate(row)).text)


# The answer


def obedient_answers(row: Row) -> list[str]:
    """Answers of a model that obeys a candidate: the texts of the candidate, and the JSON in them."""
    texts = [row["instruction"], row.get("input") or ""]
    matches = [match for text in texts for match in re.findall(r"\{[^{}]*\}|\[[^\[\]]*\]", text)]
    return list(dict.fromkeys([*texts, *matches, "\n".join(matches)]))


def without_digits(text: str) -> str:
    return re.sub(r"[0-9]+", "0", text)


FAULTS = {
    without_digits(answers.read(nonsense, 3, SIZE).fault or "")
    for nonsense in ("", "none", "[99, 1, 2]", "[1]", "[1, 1, 2]")
}
"""Every error text that a model gets after an unusable answer, with digits replaced."""


def ask(prompt: Prompt, answer: str, store: Path) -> tuple[Outcome, Ranker, FakeModel]:
    """Ask a model that always gives the same answer."""
    model = FakeModel(lambda _: answer)

    async def run() -> tuple[Outcome, Ranker, FakeModel]:
        ranker = Ranker(make_caller(model, store, retries=0), RankingOptions())
        return await ranker.rank(prompt.candidates, prompt.top_k, "query 0"), ranker, model

    return asyncio.run(run())


@each_row
def test_a_model_that_obeys_a_candidate_ranks_only_candidates_or_abstains(row: Row, tmp_path: Path) -> None:
    for number, answer in enumerate(obedient_answers(row)):
        prompt = among_harmless(row, top_k=1 + number % 3)
        outcome, ranker, model = ask(prompt, answer, tmp_path / str(number))

        assert len(set(outcome.ids)) == len(outcome.ids) == (0 if outcome.abstained else prompt.top_k)
        assert set(outcome.ids) <= {shown.id for shown in prompt.candidates}
        assert set(answers.read(answer, prompt.top_k, SIZE).numbers) <= set(range(1, SIZE + 1))
        assert (ranker.stats.ranked, ranker.stats.abstained) == ((0, 1) if outcome.abstained else (1, 0))
        assert len(model.asked) == (ATTEMPTS if outcome.abstained else 1)
        error_texts = {without_digits(prompt.again(fault, 0).text.removeprefix(prompt.text)) for fault in FAULTS}
        for request in model.asked[1:]:
            assert request.text.startswith(prompt.text)
            assert without_digits(request.text.removeprefix(prompt.text)) in error_texts
            assert request.schema == prompt.schema
            assert request.shown == tuple(shown.id for shown in prompt.candidates)


# Runs over the whole corpus


@dataclass(frozen=True)
class Corpus:
    """A pool of all hostile rows, and how to run on it."""

    path: Path
    make_run: MakeRun

    def run(self, budget: int = KEPT, **fields: Any) -> RunSettings:
        return self.make_run(pool=str(self.path), budget=budget, **fields)


@pytest.fixture
def corpus(tmp_path: Path, make_run: MakeRun, quick_embedding: Any) -> Corpus:
    return Corpus(written(tmp_path / "hostile.jsonl"), make_run)


def check_selection(result: Result, budget: int) -> None:
    """Check that the selection has exactly the budget, no duplicates, and unchanged texts."""
    chosen = result.table()
    assert result.summary["selection"] == {"budget": budget, "selected": budget, "excluded": 0}
    assert chosen["order"].to_pylist() == list(range(1, budget + 1))
    assert len(set(chosen["id"].to_pylist())) == budget
    rows = dict(zip(*(result.table("pool")[name].to_pylist() for name in ("id", "row")), strict=True))
    for row in chosen.to_pylist():
        original = ROWS[rows[row["id"]] - 1]
        assert (row["instruction"], row["input"], row["attack"]) == (
            original["instruction"], original.get("input"), original["attack"],
        )  # fmt: skip


@pytest.mark.parametrize(("budget", "limit"), [(1, 100), (30, 2000), (KEPT, 100_000)])
def test_a_run_over_the_corpus_selects_the_budget_with_unchanged_texts(
    budget: int, limit: int, corpus: Corpus, fake_model: Any
) -> None:
    model = fake_model(by_id)
    result = select(corpus.run(budget, ranking={"candidate_chars": limit}))
    check_selection(result, budget)
    assert result.summary["pool"] == {
        "rows_read": len(ROWS), "quarantined": len(UNREADABLE), "duplicates": len(REPEATED), "kept": KEPT,
    }  # fmt: skip
    assert (result.summary["ranking"]["abstained"], result.summary["ranking"]["reasked"]) == (0, 0)
    for request in model.asked:
        candidates = [Candidate(id, "x") for id in request.shown]
        expected = listwise(candidates, top_k(request), seed=0)
        assert head_of(request.text) == head(expected)


def first_shown(request: Request) -> str:
    return instructions(request)[0]


def all_shown(request: Request) -> str:
    return "\n".join(instructions(request))


def json_shown(request: Request) -> str:
    return next((match[0] for text in instructions(request) if (match := re.findall(r"\{.*\}", text))), "")


def first_list_for_all(_: Request) -> str:
    return '{"ranking": [1, 2, 3]}'


@pytest.mark.parametrize("obey", [first_shown, all_shown, json_shown, first_list_for_all])
@pytest.mark.parametrize("budget", [1, 20, KEPT])
def test_a_run_with_an_obedient_model_selects_the_budget_or_fails_clearly(
    obey: Callable[[Request], str], budget: int, corpus: Corpus, fake_model: Any
) -> None:
    fake_model(obey)
    try:
        result = select(corpus.run(budget, ranking={"max_abstained": 1}))
    except TooFewRanked:
        return
    check_selection(result, budget)


def test_abstentions_of_an_obedient_model_are_counted(corpus: Corpus, fake_model: Any) -> None:
    def obeys(request: Request) -> bool:
        return request.shown[0][0] in "01234567"

    model = fake_model(lambda request: ROWS[0]["instruction"] if obeys(request) else by_id(request))
    result = select(corpus.run(8, ranking={"max_abstained": 1}))
    check_selection(result, 8)
    first = [request for request in model.asked if request.attempt == 1]
    lost = sum(map(obeys, first))
    assert 0 < lost < len(first)
    ranking = result.summary["ranking"]
    parts = [request for request in first if "," in request.question]  # of tournament queries without an answer
    assert ranking["reasked"] == lost
    assert ranking["abstained"] + ranking["ranked"] == len(first) - len(parts)
    assert 0 < ranking["abstained"] <= lost
    assert ranking["asked"] == len(first) + lost * (ATTEMPTS - 1)


def test_no_prompt_is_longer_than_the_prepared_length(
    make_run: MakeRun, fake_model: Any, quick_embedding: Any, tmp_path: Path
) -> None:
    """Characters that JSON writes as six bytes must count as six. Otherwise their prompt would be truncated."""
    texts = ["x" * 2000, "y" * 2000, *(control * 1900 for control in "\x01\x02\x03\x04")]
    path = tmp_path / "growing.jsonl"
    path.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in texts), encoding="utf-8")
    model = fake_model(lambda request: "[1, 1]" if request.attempt < ATTEMPTS else by_id(request))
    select(make_run(pool=str(path), budget=4, queries={"size": 2}))
    assert max(len(request.text.encode()) for request in model.asked) <= model.longest


def test_a_reply_with_lone_surrogates_is_stored(corpus: Corpus, fake_model: Any) -> None:
    fake_model(lambda request: Reply("\ud800" if request.attempt == 1 else by_id(request), "stop"))
    first = select(corpus.run(5))
    again = select(corpus.run(5))
    assert first.summary["ranking"]["reasked"] == first.summary["ranking"]["ranked"]
    assert again.summary["ranking"]["asked"] == 0
    assert again.table().equals(first.table())


# Output for people and other programs


@pytest.fixture
def everything(corpus: Corpus, fake_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A run that chose and shows every row."""
    for module in (chosen_rows, format):
        monkeypatch.setattr(module, "SHOWN", KEPT)
    fake_model(by_id)
    return select(corpus.run(out=str(tmp_path / "out")))


def test_the_output_folder_can_be_read_back_completely(everything: Result, tmp_path: Path) -> None:
    table = everything.table()
    assert pq.read_table(tmp_path / "out" / "selection.parquet").equals(table.drop_columns("output"))
    assert pq.read_table(tmp_path / "out" / "quarantine.parquet").equals(everything.table("quarantine"))
    *lines, end = (tmp_path / "out" / "selection.jsonl").read_bytes().split(b"\n")
    assert end == b""
    read = [json.loads(line) for line in lines]
    assert [(row["order"], row["id"], row["instruction"], row.get("input")) for row in read] == list(
        zip(*(table[name].to_pylist() for name in ("order", "id", "instruction", "input")), strict=True)
    )


def test_the_output_has_one_line_per_row_for_any_line_reader(everything: Result, tmp_path: Path) -> None:
    lines = (tmp_path / "out" / "selection.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["order"] for line in lines] == list(range(1, KEPT + 1))


def categories(text: str) -> str:
    return "".join(unicodedata.category(character)[0] for character in text)


@each_row
def test_a_row_is_shown_on_one_printable_line(row: Row) -> None:
    for width in (20, 69, 120):
        shown = fit_line(row["instruction"], width)
        assert shown.isprintable()
        assert "C" not in categories(shown)
        assert "Z" not in categories(shown.replace(" ", ""))
        assert len(shown) <= width
        assert shown.strip(), "a row with a text shows part of it"


@each_row
def test_a_row_fits_its_terminal_columns(row: Row) -> None:
    """A wide character takes two columns. A too long line would push the rows below it down."""
    assert cell_len(fit_line(row["instruction"], 69)) <= 69


@each_row
def test_combining_marks_do_not_cover_other_lines(row: Row) -> None:
    heaps = (len(list(marks)) for kind, marks in groupby(categories(fit_line(row["instruction"], 120))) if kind == "M")
    assert max(heaps, default=0) <= 8


@pytest.mark.parametrize("width", [80, 120, 300])
def test_a_terminal_shows_one_line_per_row(width: int, everything: Result) -> None:
    lines = format.format_selection(everything, None, width).split("\n")
    assert "C" not in categories("".join(lines))
    heading = next(number for number, line in enumerate(lines) if line.split() == ["order", "why", "instruction"])
    assert [line.split()[0] for line in lines[heading + 1 : heading + 1 + KEPT]] == [str(n + 1) for n in range(KEPT)]
    assert lines[heading + 1 + KEPT :] == ["", f"Selection: {everything.path()}", f"Run:       {everything.run}"]


def tables(tokens: list[Token]) -> list[list[list[Token]]]:
    """The inline contents of the cells, row by row, of every table of a page."""
    rows: list[list[list[Token]]] = []
    for token in tokens:
        if token.type == "table_open":
            rows.append([])
        elif token.type == "tr_open":
            rows[-1].append([])
        elif token.type == "inline" and token.level >= 4:
            rows[-1][-1].append(token)
    return rows


def parts(token: Token) -> Iterator[str]:
    return (child.type for child in token.children or [])


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def test_a_page_of_hostile_rows_has_the_structure_of_a_harmless_page(
    everything: Result, make_run: MakeRun, tmp_path: Path
) -> None:
    harmless = str(write_pool(tmp_path / "harmless.jsonl", KEPT))
    expected = format.markdown(select(make_run(pool=harmless, budget=KEPT, store=str(tmp_path / "harmless"))))
    page = format.markdown(everything)

    def blocks(text: str) -> list[tuple[str, str, int]]:
        """The page from its first table on, without the numbers of the run."""
        tokens = [(token.type, token.tag, token.level) for token in MARKDOWN.parse(text)]
        return tokens[tokens.index(("table_open", "table", 0)) :]

    assert blocks(page) == blocks(expected)
    selection, steps = tables(MARKDOWN.parse(page))
    assert (len(selection), {len(cells) for cells in selection}) == (1 + KEPT, {3})
    assert {len(cells) for cells in steps} == {4}


def test_a_page_shows_each_text_literally(everything: Result) -> None:
    page = format.markdown(everything)
    (_, *rows), _ = tables(MARKDOWN.parse(page))
    texts: list[str] = everything.table()["instruction"].to_pylist()
    for (_, _, cell), text in zip(rows, texts, strict=True):
        assert set(parts(cell)) <= {"text"}
        assert "".join(child.content for child in cell.children or []) == fit_line(text, 120).strip()

    rendered = MARKDOWN.render(page)
    assert set(re.findall(r"<\s*/?([a-zA-Z!][^\s>/]*)", rendered)) <= {
        "ul", "li", "p", "strong", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "blockquote",
    }  # fmt: skip
    assert rendered.count("<pre") == 1, "the path of the selection"
    assert not re.search(r"<[^>]*\s(on\w+|href|src|style)\s*=", rendered)


def test_a_page_has_no_address_that_a_viewer_turns_into_a_link(everything: Result) -> None:
    """GitHub's Markdown, which the viewers of such pages read, makes links of bare addresses."""
    source = [line for line in format.markdown(everything).split("\n") if line.startswith("|")]
    assert not [line for line in source if re.search(r"https?://|ftp://|\bwww\.|[\w.+-]@[\w-]", line)]


def test_the_table_of_the_page_uses_the_same_lines(everything: Result) -> None:
    rows = format.shown_rows(everything.table())
    assert len(rows) == KEPT
    assert all(row["instruction"].isprintable() for row in rows)
    assert pa.Table.from_pylist(rows).num_rows == KEPT
