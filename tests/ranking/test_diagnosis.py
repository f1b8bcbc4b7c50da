import json

import pytest

from selectllm.cli.main import main
from selectllm.testing.faulty_ollama import FaultyOllama


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, object]]]:
    code = main(["doctor", *arguments, "--json"])
    return code, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_every_check_passes_for_a_healthy_server(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama(delay=0.05, parallel=2) as server:
        code, checks = findings(capsys, "--selector", "ollama:m", "--host", server.host)
    assert code == 0
    assert list(checks) == ["server", "model", "context", "query", "speed", "log-probabilities", "parallelism"]
    assert all(finding["ok"] for finding in checks.values())
    assert server.digest[:12] in str(checks["model"]["seen"])
    at_once = float(str(checks["parallelism"]["seen"]).split("about ")[1].split()[0])
    assert 1.3 < at_once < 3, "the server answers two requests at a time"


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
    with FaultyOllama(delay=0.1, parallel=4) as server:
        code, checks = findings(capsys, "--selector", "ollama:m", "--host", server.host, "--timeout", "0.5")
    assert code == 1
    assert [name for name, finding in checks.items() if not finding["ok"]] == ["speed"]
    assert "tokens read a second: 14 of the longest candidates, about 7,000 tokens, take about" in str(checks["speed"])
    assert checks["speed"]["advice"] == (
        "it will not be answered within --timeout 0.5 at the first try: set --timeout 60"
    )


def test_each_host_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama() as server:
        code, checks = findings(capsys, "--selector", "ollama:m", "--host", server.host, "--host", "http://127.0.0.1:9")
    assert code == 1
    assert checks[f"{server.host} query"]["ok"]
    assert "ollama serve" in str(checks["http://127.0.0.1:9 server"]["seen"])


def test_a_missing_model_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama() as server:
        assert main(["doctor", "--selector", "ollama:gemma2:27b", "--host", server.host]) == 1
    assert "ollama pull gemma2:27b" in capsys.readouterr().out


def test_an_unknown_selector_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--selector", "gpt"]) == 2
    assert "unknown selector" in capsys.readouterr().err
