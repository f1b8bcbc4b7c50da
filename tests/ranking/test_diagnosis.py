import json
import re
from collections.abc import Callable

import pytest

from selectllm.cli.main import main
from selectllm.errors import ContextLengthExceeded, ModelError, TransientError
from selectllm.llm.context_guard import warn_once
from selectllm.llm.model import Reply
from selectllm.testing.faulty_ollama import FaultyOllama
from selectllm.testing.ollama_answers import question_of
from tests.llm.openai_server import LISTED, RankingServer, serve


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, object]]]:
    code = main(["doctor", *arguments, "--json"])
    return code, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_every_check_passes_for_a_healthy_server(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama(parallel=2) as server:
        code, checks = findings(capsys, "--selector", "ollama:m", "--host", server.host)
    assert code == 0
    assert list(checks) == [
        "server",
        "model",
        "context",
        "query",
        "limit",
        "speed",
        "log-probabilities",
        "parallelism",
        "judgement",
    ]
    assert all(finding["ok"] for finding in checks.values())
    assert server.digest[:12] in str(checks["model"]["seen"])
    assert re.match(
        r"[\d.]+ s for one question, [\d.]+ s for (4|16) at once: about [\d.]+ at a time; --concurrency \d+ suits it",
        str(checks["parallelism"]["seen"]),
    )


def test_the_questions_of_the_measurement_share_no_candidate() -> None:
    with FaultyOllama() as server:
        main(["doctor", "--selector", "ollama:m", "--host", server.host])
        texts = [body["messages"][-1]["content"] for body in server.asked if "messages" in body][1:]
    texts = [text for text in texts if "of a series on" in text]
    candidates = [line for text in texts for line in question_of(text).split("Candidates:\n")[1].split("\n")]
    instructions = [json.loads(line)["instruction"] for line in candidates]
    assert len(instructions) == len(set(instructions)) >= 4 * 11
    assert max(map(len, texts)) - min(map(len, texts)) < 0.05 * len(texts[0])


@pytest.mark.parametrize("think", ["auto", "on"])
def test_a_pointwise_selector_is_asked_as_a_pointwise_run_asks(think: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No run thinks about a yes or no, whatever the settings say."""
    with FaultyOllama() as server:
        arguments = ("--selector", "ollama:m", "--mode", "pointwise", "--think", think, "--host", server.host)
        code, checks = findings(capsys, *arguments)
        assert server.requests["/api/chat"] == 3, "one loads the model, and two measure its limit and its speed"
    names = ["server", "model", "context", "limit", "speed", "log-probabilities", "parallelism"]
    assert (code, list(checks)) == (0, names)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [("length", "set --think"), ("content_filter", "lift the filter")],
)
def test_an_answer_that_did_not_end_is_no_answer(
    reason: str, advice: str, fake_model: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_model(lambda _: Reply('{"ranking": [1, 2]}', reason))
    code, checks = findings(capsys, "--selector", "scripted:first")
    assert code == 1
    assert not checks["query"]["ok"]
    assert reason in str(checks["query"]["seen"])
    assert advice in str(checks["query"]["advice"])


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ContextLengthExceeded("it does not fit"), "--candidate-chars"),
        (TransientError("slow", "timeout"), "--timeout"),
        (TransientError("busy", "busy"), "try again when"),
        (TransientError("full", "out of memory"), "smaller model"),
        (TransientError("cut", "low count"), "OLLAMA_CONTEXT_LENGTH"),
        (ModelError("refused. To go on: set the key"), "server's log"),
    ],
)
def test_the_advice_is_what_helps_against_the_error(
    error: ModelError, advice: str, fake_model: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> Reply:
        raise error

    fake_model(fail)
    code, checks = findings(capsys, "--selector", "scripted:first")
    assert (code, checks["query"]["ok"]) == (1, False)
    assert advice in str(checks["query"]["advice"])


@pytest.mark.parametrize(
    ("faults", "context", "name", "advice"),
    [
        ({"prose": 1.0}, 131_072, "query", "--mode pointwise"),
        ({"runner died": 1.0}, 131_072, "query", "ollama ps"),
        ({}, 2048, "context", "--query-size"),
    ],
)
def test_a_failed_check_is_named_with_what_to_do(
    faults: dict[str, float], context: int, name: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyOllama(faults, context_length=context, most_in_a_row=1000) as server:
        code, checks = findings(capsys, "--selector", "ollama:m", "--host", server.host)
    assert code == 1
    assert not checks[name]["ok"]
    assert advice in str(checks[name]["advice"])


def test_a_model_that_is_too_slow_for_the_longest_query_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama(delay=0.3, parallel=16) as server:
        code, checks = findings(capsys, "--selector", "ollama:m", "--host", server.host, "--timeout", "2")
    assert code == 1
    assert [name for name, finding in checks.items() if not finding["ok"]] == ["speed"]
    assert "tokens read a second: 14 of the longest candidates, about 7,000 tokens, take about" in str(checks["speed"])
    assert checks["speed"]["advice"] == (
        "it will not be answered within --timeout 2 at the first try: set --timeout 60"
    )


def test_the_query_size_of_the_environment_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELECTLLM_QUERIES__SIZE", "5")
    with FaultyOllama(context_length=6144) as server:
        _, checks = findings(capsys, "--selector", "ollama:m", "--host", server.host)
    assert "5 of the longest candidates take about 2,500" in str(checks["context"]["seen"])
    assert checks["context"]["ok"], "14 of them would not fit"
    assert "5 of the longest candidates, about 2,500 tokens, take about" in str(checks["speed"]["seen"])
    _, checks = openai_findings(RankingServer(), capsys)
    assert "of 5 of the longest candidates were read whole" in str(checks["context"]["seen"])


def test_each_host_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama() as server:
        code, checks = findings(capsys, "--selector", "ollama:m", "--host", server.host, "--host", "http://127.0.0.1:9")
    assert code == 1
    assert checks[f"{server.host} query"]["ok"]
    assert "ollama serve" in str(checks["http://127.0.0.1:9 server"]["seen"])


def test_a_password_of_a_host_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [f"http://user:secret-password@127.0.0.1:{port}" for port in (9, 19)]
    arguments = [argument for host in hosts for argument in ("--host", host)]
    for form in ([], ["--json"]):
        assert main(["doctor", "--selector", "ollama:m", *arguments, *form]) == 1
        out, err = capsys.readouterr()
        assert "127.0.0.1:19 server" in out
        assert "secret-password" not in out + err


def test_a_missing_model_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama() as server:
        assert main(["doctor", "--selector", "ollama:gemma2:27b", "--host", server.host]) == 1
    assert "ollama pull gemma2:27b" in capsys.readouterr().out


def test_an_unknown_selector_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--selector", "gpt"]) == 2
    assert "unknown selector" in capsys.readouterr().err


def openai_findings(
    server: RankingServer, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict[str, dict[str, object]]]:
    warn_once.cache_clear()
    with serve(server.app) as url:
        return findings(capsys, "--selector", "openai:m", "--host", url, *arguments)


def test_every_check_passes_for_a_healthy_server_of_openais_api(capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = openai_findings(RankingServer(), capsys)
    assert code == 0, checks
    assert "were read whole" in str(checks["context"]["seen"])


@pytest.mark.parametrize("cut_at", [2050, 4096])
def test_a_server_that_cuts_long_prompts_is_found_out(cut_at: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = openai_findings(RankingServer(cut_at=cut_at), capsys)
    assert code == 1
    assert not checks["context"]["ok"]
    assert f"counted {cut_at:,} tokens" in str(checks["context"]["seen"])
    assert "--query-size" in str(checks["context"]["advice"])
    assert checks["query"]["ok"]


@pytest.mark.parametrize(
    ("limits", "ok", "seen"),
    [
        (("max_completion_tokens",), True, "at most 8 tokens had no more"),
        (("max_tokens",), True, "max_completion_tokens is ignored: max_tokens is sent"),
        ((), False, "at most 8 tokens had 100"),
    ],
)
def test_a_limit_that_is_ignored_is_found_out(
    limits: tuple[str, ...], ok: bool, seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, checks = openai_findings(RankingServer(limits=limits), capsys)
    assert checks["limit"]["ok"] is ok
    assert seen in str(checks["limit"]["seen"])


def test_ollama_is_better_asked_by_its_own_api(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    models = {"data": [LISTED["data"][0] | {"owned_by": "library"}]}
    server = RankingServer(models=models, limits=("max_tokens",))
    code, checks = openai_findings(server, capsys)
    assert code == 1
    assert "--selector ollama:m" in str(checks["server"]["advice"])
    assert all("max_tokens" in sent for sent in server.seen), "Ollama ignores max_completion_tokens"
    assert "is Ollama, which cuts long prompts" in caplog.text
    assert "Use --selector ollama:m --host http://127.0.0.1:" in caplog.text


def test_a_model_that_does_not_look_at_the_candidates_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = openai_findings(RankingServer(is_constant=True), capsys)
    assert code == 1
    assert "answered 1, 2 to all of 6 orders of a query" in str(checks["judgement"]["seen"])
    assert "--mode pointwise" in str(checks["judgement"]["advice"])
    _, checks = openai_findings(RankingServer(is_constant=True), capsys, "--mode", "pointwise")
    assert "judgement" not in checks, "it is not asked to rank a list"
