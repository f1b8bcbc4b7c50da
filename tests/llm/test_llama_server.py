"""The selector `openai:` against the real server of llama.cpp, which xllamacpp starts."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest

from selectllm import select
from selectllm.cli.main import main
from selectllm.errors import SelectorUnavailable
from selectllm.llm.embedded import open_embedded
from selectllm.llm.keys import ApiKeys
from selectllm.llm.openai import open_openai
from selectllm.llm.weights import demo_weights
from selectllm.ranking.answers import log_odds
from selectllm.ranking.prompts import Candidate, pointwise
from selectllm.settings import RunSettings

KEY = "the-server's-own-key"
NAME = "demo"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The base URL of a llama.cpp server with the demo weights."""
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    import xllamacpp

    params = xllamacpp.CommonParams()
    try:
        params.model.path = str(demo_weights())
    except SelectorUnavailable as error:
        pytest.skip(str(error))
    params.model_alias = {NAME}
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 8192, 1, False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port, params.api_keys, params.ui = ["127.0.0.1"], 0, [KEY], False
    running = xllamacpp.Server(params)
    running.handle_completions({"prompt": " ", "n_predict": 1})
    yield f"{running.listening_address}/v1"
    del running


@pytest.fixture(autouse=True)
def key(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server)


@pytest.mark.parametrize(
    ("mode", "rows", "questions"), [("listwise", 3, 1), pytest.param("pointwise", 6, 6, marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("quick_embedding")
def test_a_run_works_with_a_llama_cpp_server(
    mode: str, rows: int, questions: int, make_run: Callable[..., RunSettings]
) -> None:
    settings = make_run(
        rows=rows,
        budget=1,
        selector=f"openai:{NAME}",
        queries={"size": 3},
        # Rank one row per query: a model of this size cannot follow the schema of longer lists.
        ranking={"mode": mode, "concurrency": 1, "candidate_chars": 100, "depth": 1, "max_abstained": 0.5},
    )
    result = select(settings)
    summary = result.summary["ranking"]
    assert len(result.table()) == 1
    assert summary["ranked"] >= 1
    assert summary["asked"] >= questions
    assert summary["prompt_tokens"] > 100 * questions
    assert select(settings).summary["ranking"]["asked"] == 0


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_score_over_the_api_is_that_of_the_embedded_model(server: str) -> None:
    """The server continues the same text with the same weights. In a chat, it is another judge."""
    request = pointwise(Candidate("1", "Plan a week of packed lunches for a child who cannot eat nuts.")).request()
    model = await open_openai(NAME, keys=ApiKeys.from_environment(), mode="pointwise")
    embedded = await open_embedded(mode="pointwise")
    try:
        replies = [await judge.answer(request) for judge in (model, embedded)]
    finally:
        await model.close()
        await embedded.close()
    assert replies[0].prompt_tokens == replies[1].prompt_tokens, "no chat template"
    # The server computes short batches otherwise than long ones: see `flash_attn_type` in selectllm/llm/embedded.py.
    assert log_odds(replies[0]) == pytest.approx(log_odds(replies[1]), abs=0.5)


@pytest.mark.slow
def test_doctor_reports_a_healthy_llama_cpp_server(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--selector", f"openai:{NAME}", "--mode", "pointwise", "--timeout", "600")  # of a busy machine, too
    assert main(["doctor", *arguments]) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "8,192 tokens" in out
    assert "log-odds" in out


def test_a_wrong_key_is_refused_with_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    assert main(["doctor", "--selector", f"openai:{NAME}"]) == 1
    assert "Set OPENAI_API_KEY to a key that is good there" in capsys.readouterr().out
