"""Quotas: exactly so many rows of each value of a column, by every strategy."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from selectllm import plan_run, select
from selectllm.errors import TooFewRanked, UsageError
from selectllm.explain.explain import explain
from selectllm.explain.render import render_explanation
from selectllm.quota import Quota, parse_quota
from selectllm.ranking.strata import proportional
from selectllm.report.format import format_selection, markdown
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store.pruning import prune
from selectllm.strategies import OWN
from tests.conftest import FakeModel, by_rating

MakeRun = Callable[..., RunSettings]
MakeModel = Callable[..., FakeModel]

KINDS = ["math"] * 24 + ["code"] * 12 + ["law"] * 3 + [None]
RATINGS = {"selector": "ollama:m", "ranking": {"gather": "ratings"}}
LONGEST = {"strategy": "longest"}

ANSWERED = [name for name in OWN if not name.startswith("perplexity")]
"""The strategies that a fake model serves: those by perplexity read weights."""


@pytest.fixture
def of_kinds(make_run: MakeRun, tmp_path: Path, quick_embedding: object) -> MakeRun:
    """Settings of a run on 40 rows of the column `kind`; the first are the longest."""

    def make(kinds: list[Any] = KINDS, column: str = "kind", **fields: Any) -> RunSettings:
        rows = [
            {"instruction": f"Explain {'it ' * (len(kinds) - n)}number {n}", column: kind}
            for n, kind in enumerate(kinds)
        ]
        pool = tmp_path / "kinds.jsonl"
        pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return make_run(**{"pool": str(pool), "budget": 10, **fields})

    return make


def kinds_of(result: Result, column: str = "kind") -> Counter[Any]:
    return Counter(result.table()[column].to_pylist())


def quotas(*texts: str) -> dict[str, Any]:
    return {"aim": {"quota": texts}}


SPREADS: list[dict[str, Any]] = [{}, {"near_duplicate": 0.99}, {"diversity": 0.5}]
SPREADS += [{"diversity": 0.5, "near_duplicate": 0.99}]
STRATIFY: dict[str, Any] = {"aim": {"stratify": "kind"}}


@pytest.mark.parametrize(
    ("text", "column", "value", "wanted"),
    [
        ("kind:math=3", "kind", "math", 3),
        ("kind:=0", "kind", "", 0),
        ("kind: a b = 7 ", "kind", " a b ", 7),
        ("kind:a=b:c=d=2", "kind", "a=b:c=d", 2),
        ('"a:b":c=1', "a:b", "c", 1),
        ('"\\"":x=1', '"', "x", 1),
        ('kind:"null"=1', "kind", '"null"', 1),
        ("k\n:v\nw=1", "k", "v\nw", 1),
        ("größe:\U0001f44d\u202e=12", "größe", "\U0001f44d\u202e", 12),
    ],
)
def test_a_quota_is_read(text: str, column: str, value: str, wanted: int) -> None:
    if text.startswith("k\n"):
        column = "k\n"
    assert parse_quota(text) == Quota(column, value, wanted)


@pytest.mark.parametrize("text", ["=", "kind", "kind:math", "kind=3", ":x=1", '"a":1', '"a=1', "k:v=-1", "k:v=x"])
def test_a_quota_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"--quota cannot be .*: write COLUMN:VALUE=N"):
        RunSettings(pool="p", budget=9, aim={"quota": (text,)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("aim", "message"),
    [
        ({"quota": ("a:x=1", "b:x=1")}, "all --quota are of one column, not of 'a', 'b'"),
        ({"quota": ("a:x=5", "a:y=5")}, "the quotas sum to 10, and the budget is 9: lower one of them"),
        ({"quota": ("a:x=5",), "stratify": "a"}, "--stratify and --quota both say"),
        ({"stratify": "\ud800"}, "valid string"),
        ({"quota": ("k:\ud800=1",)}, "valid string"),
    ],
)
def test_settings_that_do_not_agree_are_refused(aim: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RunSettings(pool="p", budget=9, aim=aim)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 50), min_size=1).filter(any), st.data())
def test_shares_are_exact_and_fair(rows: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(rows)))
    shares = proportional(rows, total)
    assert sum(shares) == total
    for size, share in zip(rows, shares, strict=True):
        assert 0 <= share <= size
        assert abs(share - total * size / sum(rows)) < 1


def test_shares_go_by_largest_remainder_and_ties_to_the_first() -> None:
    assert proportional([24, 12, 3, 1], 10) == [6, 3, 1, 0]
    assert proportional([1, 1, 1], 2) == [1, 1, 0]
    assert proportional([5, 3, 2], 0) == [0, 0, 0]


def test_each_value_has_its_share_and_the_first_rows_of_it(of_kinds: MakeRun) -> None:
    result = select(of_kinds(**LONGEST, **STRATIFY))
    rows = result.table("pool")["row"].to_pylist()
    chosen = [rows[result.table("pool")["id"].to_pylist().index(id)] for id in result.table()["id"].to_pylist()]
    assert chosen == [1, 2, 3, 4, 5, 6, 25, 26, 27, 37]
    assert result.table()["order"].to_pylist() == list(range(1, 11))
    assert result.summary["strata"] == {
        "column": "kind",
        "values": [
            {"value": '"code"', "rows": 12, "wanted": 3},
            {"value": '"law"', "rows": 3, "wanted": 1},
            {"value": '"math"', "rows": 24, "wanted": 6},
            {"value": "null", "rows": 1, "wanted": 0},
        ],
    }
    assert 'By kind: 3 of 12 with "code", 1 of 3 with "law"' in format_selection(result, None, 100)
    assert "By kind&#58; 3 of 12 with &quot;code&quot;" in markdown(result)


@pytest.mark.parametrize("name", ANSWERED)
@pytest.mark.parametrize("aim", [{"stratify": "kind"}, {"quota": ("kind:law=3", "kind:null=1", "kind:code=2")}])
@pytest.mark.parametrize(
    "spread", [{}, {"near_duplicate": 0.99}, {"diversity": 0.5}, {"diversity": 0.5, "near_duplicate": 0.99}]
)
def test_every_strategy_fills_the_quotas(
    name: str, aim: dict[str, Any], spread: dict[str, Any], of_kinds: MakeRun, fake_model: MakeModel
) -> None:
    fake_model(by_rating)
    result = select(of_kinds(**RATINGS, strategy=name, aim=aim, **spread))
    stratified = {"math": 6, "code": 3, "law": 1}
    assert kinds_of(result) == (stratified if "stratify" in aim else {"law": 3, None: 1, "code": 2, "math": 4})
    preferred = result.table("preferences")["id"].to_pylist()
    chosen = result.table()["id"].to_pylist()
    assert chosen == sorted(chosen, key=preferred.index)
    for row in result.table("strata").to_pylist():
        explanation = explain(result.store, row["id"])
        share = explanation.decision.share
        assert explanation.decision.chosen == (row["id"] in chosen)
        assert share is not None
        assert (share.column, share.value) == ("kind", row["value"])
        if not spread and share.place:
            assert explanation.decision.chosen == (share.place <= share.wanted)
        if share.place:
            assert f"at place {share.place} of the rows with kind" in render_explanation(explanation)


def test_quotas_leave_the_rest_to_other_values(of_kinds: MakeRun) -> None:
    result = select(of_kinds(**LONGEST, **quotas("kind:math=1", "kind:law=0")))
    assert kinds_of(result) == {"math": 1, "code": 9}
    assert result.summary["strata"]["values"][-1] == {"value": None, "rows": 13, "wanted": 9}
    assert "9 of 13 with any other value" in format_selection(result, None, 200)
    (row,) = result.table().slice(9).to_pylist()
    assert "place 9 of the rows with kind that no quota names, of which 9" in render_explanation(
        explain(result.store, row["id"])
    )
    full = select(of_kinds(**LONGEST, **quotas("kind:law=3", "kind:math=7")))
    assert kinds_of(full) == {"law": 3, "math": 7}


@pytest.mark.parametrize(
    ("aim", "message"),
    [
        ({"stratify": "sort"}, "the pool has no column 'sort': it has instruction, kind"),
        ({"stratify": "id"}, "the pool has no column 'id'"),
        ({"stratify": "output"}, "the pool has no column 'output': it has instruction, kind"),
        ({"quota": ("input:null=1",)}, "the pool has no column 'input': it has instruction, kind"),
        (
            {"quota": ("kind:maths=1",)},
            "no row has the value 'maths' in the column 'kind': there are \"math\",",
        ),
        ({"quota": ("kind:law=4",)}, 'the quotas want 4 rows with kind = "law", and only 3 of these may be chosen'),
        (
            {"quota": ("kind:law=1", "kind:math=1", "kind:null=1")},
            None,
        ),
        (
            {"quota": ("kind:code=1", "kind:math=1", "kind:null=1")},
            "the quotas leave 7 rows with kind = any other value, and only 3 of these may be chosen: raise a quota",
        ),
        ({"quota": ("kind:law=1", 'kind:"law"=1')}, 'two quotas name the value "law" of the column kind: give one'),
    ],
)
@pytest.mark.parametrize("function", [select, plan_run])
def test_what_cannot_be_filled_is_refused_before_a_model_is_asked(
    function: Callable[[RunSettings], object],
    aim: dict[str, Any],
    message: str | None,
    of_kinds: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    fake_model: MakeModel,
) -> None:
    if message is None:
        fake_model()
        function(of_kinds(**RATINGS, aim=aim))
        return
    monkeypatch.setattr("selectllm.llm._connect", lambda *_: pytest.fail("asks"))
    with pytest.raises(UsageError, match=message):
        function(of_kinds(**RATINGS, aim=aim))


def test_only_rows_that_may_be_chosen_count(of_kinds: MakeRun, tmp_path: Path) -> None:
    first = select(of_kinds(**LONGEST, **quotas("kind:law=2"), budget=2))
    (tmp_path / "ids.txt").write_text("\n".join(first.table()["id"].to_pylist()))
    exclude = {"exclude": (str(tmp_path / "ids.txt"),)}
    assert kinds_of(select(of_kinds(**LONGEST, **quotas("kind:law=1"), **exclude)))["law"] == 1
    with pytest.raises(UsageError, match='want 2 rows with kind = "law", and only 1 of these'):
        select(of_kinds(**LONGEST, **quotas("kind:law=2"), **exclude))
    result = select(of_kinds(**LONGEST, **STRATIFY, **exclude))
    assert {"value": '"law"', "rows": 1, "wanted": 0} in result.summary["strata"]["values"]
    assert len(result.table("strata")) == 38


def test_slots_of_a_history_fill_their_quotas_and_a_filled_one_stands(of_kinds: MakeRun) -> None:
    seen: set[str] = set()
    for slot in ("one", "two"):
        settings = of_kinds(**LONGEST, **quotas("kind:law=1", "kind:code=3"), history="h", slot=slot)
        result = select(settings)
        assert kinds_of(result) == {"law": 1, "code": 3, "math": 6}
        assert seen.isdisjoint(result.table()["id"].to_pylist())
        seen.update(result.table()["id"].to_pylist())
        prune(result.store, 0)
        again = select(settings)
        assert (again.table(), again.summary["strata"]) == (result.table(), result.summary["strata"])
        assert again.summary["artifacts"] == result.summary["artifacts"]


def test_a_second_run_makes_nothing_and_another_quota_asks_nothing(of_kinds: MakeRun, fake_model: MakeModel) -> None:
    model = fake_model()
    select(of_kinds(**RATINGS, **STRATIFY))
    asked = len(model.asked)
    again = select(of_kinds(**RATINGS, **STRATIFY))
    assert set(again.summary["cached"]) == set(again.summary["seconds"])
    other = select(of_kinds(**RATINGS, **quotas("kind:law=3")))
    assert len(model.asked) == asked
    assert kinds_of(other)["law"] == 3
    assert "of the 10 best rated rows are expected" in format_selection(other, None, 200)


def test_tiers_that_rank_too_few_rows_of_a_value_say_what_to_do(of_kinds: MakeRun) -> None:
    tiers = {"ranking": {"depth": 4}, "queries": {"size": 20}}  # the rows of `law` are short
    message = (
        r'\d of the 3 rows with kind = "law" are missing \(and of 1 other values\): the strategy selectllm '
        r"names too few of the 3 .* rank more rows by a larger --depth"
    )
    with pytest.raises(TooFewRanked, match=message):
        select(of_kinds(budget=8, **tiers, **quotas("kind:law=3", "kind:null=1")))
    deeper = select(of_kinds(budget=8, **tiers | {"ranking": {"depth": 20}}, **quotas("kind:law=3", "kind:null=1")))
    assert kinds_of(deeper)["law"] == 3


def test_near_duplicates_that_empty_a_value_are_an_error(of_kinds: MakeRun) -> None:
    with pytest.raises(TooFewRanked, match=r"rows with kind = .* are missing"):
        select(of_kinds(**LONGEST, **STRATIFY, near_duplicate=0.0001))
    with pytest.raises(TooFewRanked, match=r"rows with kind = .* are missing"):
        select(of_kinds(**LONGEST, **STRATIFY, near_duplicate=0.0001, diversity=0.5))


ODD = ["null", None, '"', "a:b=c", "", " ", "\u202eabc\n", "\U0001f600", "e\u0301", "\u00e9", float("nan"), "x" * 500]


@pytest.mark.parametrize("column", ["kind", "a:b=c", '"', "\u202e\n", "score", "x" * 300])
def test_odd_values_and_columns_can_be_named(column: str, of_kinds: MakeRun) -> None:
    kinds = ODD * 2
    name = "source_score" if column == "score" else column
    texts = ["null", '"null"', *(value for value in ODD[2:] if isinstance(value, str))]
    result = select(
        of_kinds(kinds, column, **LONGEST, budget=11, **quotas(*(f"{json.dumps(name)}:{text}=1" for text in texts)))
    )
    assert kinds_of(result, name) == Counter([None, *(value for value in ODD if isinstance(value, str))])
    assert format_selection(result, None, 100)
    stratified = select(of_kinds(kinds, column, **LONGEST, budget=11, aim={"stratify": name}))
    assert sum(value["wanted"] for value in stratified.summary["strata"]["values"]) == 11
    for id in result.table("pool")["id"].to_pylist()[:12]:
        assert "\u202e" not in render_explanation(explain(result.store, id))


def test_a_column_whose_name_is_taken_keeps_its_name_for_quotas(of_kinds: MakeRun) -> None:
    result = select(of_kinds(["a"] * 6 + ["b"] * 4, "score", **LONGEST, budget=5, aim={"quota": ("score:b=4",)}))
    assert kinds_of(result, "source_score") == {"a": 1, "b": 4}


def test_values_of_several_types_are_named_as_json_shows_them(of_kinds: MakeRun, tmp_path: Path) -> None:
    kinds: list[Any] = [1, "1", True, "true", 1.5, ["a", 1], {"b": None}, None] * 2
    texts = ["1", '"1"', "true", '"true"', "1.5", '["a", 1]', '{"b": null}', "null"]
    out = str(tmp_path / "out")
    result = select(of_kinds(kinds, budget=8, **LONGEST, out=out, **quotas(*(f"kind:{text}=1" for text in texts))))
    lines = (tmp_path / "out" / "selection.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.dumps(json.loads(line)["kind"]) for line in lines) == sorted(texts)
    assert len(pq.read_table(tmp_path / "out" / "selection.parquet")) == 8
    numbers = select(of_kinds([1, 2, 2.5] * 5, budget=3, **LONGEST, **quotas("kind:1.0=2")))
    assert kinds_of(numbers)[1.0] == 2
    assert result.summary["strata"]["column"] == "kind"


@hypothesis.settings(deadline=None, max_examples=25)
@given(data=st.data(), count=st.integers(1, 30))
def test_sums_are_exact_whatever_the_values(
    data: st.DataObject, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = data.draw(st.lists(st.sampled_from(["a", "b", None, 3, "3"]), min_size=count, max_size=count))
    budget = data.draw(st.integers(1, count))
    folder = tmp_path_factory.mktemp("sums")
    lines = [json.dumps({"instruction": f"Name number {n}", "v": value}) for n, value in enumerate(values)]
    (folder / "pool.jsonl").write_text("\n".join(lines))
    settings = {"pool": str(folder / "pool.jsonl"), "budget": budget, "store": str(folder), "strategy": "random"}
    settings |= {"quality": {"no_validate": True}, "aim": {"stratify": "v"}}
    result = select(RunSettings.model_validate(settings))
    wanted = {one["value"]: one["wanted"] for one in result.summary["strata"]["values"]}
    table = dict(
        zip(result.table("strata")["id"].to_pylist(), result.table("strata")["value"].to_pylist(), strict=True)
    )
    chosen = Counter(table[id] for id in result.table()["id"].to_pylist())
    assert chosen == Counter({value: number for value, number in wanted.items() if number})
    assert len(result.table()) == budget


@pytest.mark.parametrize("column", ["input", "output"])
def test_a_column_of_texts_divides_a_pool_that_has_values_of_it(of_kinds: MakeRun, column: str) -> None:
    settings = of_kinds(column=column, **LONGEST, aim={"stratify": column})
    assert kinds_of(select(settings), column) == {"math": 6, "code": 3, "law": 1}


def test_a_column_that_is_carried_under_another_name_divides(of_kinds: MakeRun) -> None:
    settings = of_kinds(column="output", columns={"output": "answer"}, **LONGEST, aim={"stratify": "output"})
    pool = Path(settings.pool)
    rows = [json.loads(line) | {"answer": None} for line in pool.read_text(encoding="utf-8").splitlines()]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert kinds_of(select(settings), "source_output") == {"math": 6, "code": 3, "law": 1}
