import json

import pytest

from selectllm.cli.main import main
from selectllm.llm.context_guard import warn_once
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.llm.openai_server import RankingServer, serve


def test_the_text_names_the_figures_and_the_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--selector", "scripted:longest", "--calibrate"]) == 1
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert rows["all"][1] == "140"
    assert {"de", "en", "es", "zh", "maths", "code", "creative"} <= rows.keys()
    assert "40: lists of up to 14, 2 passes; 0% had no usable answer" in " ".join(rows["questions"])
    assert {"position", "agreement", "tokens"} <= rows.keys()
    assert any(line.startswith("     1,000 rows         72 questions, about ") for line in lines)
    assert lines[-1].startswith("NOT  calibration        No better than chance: the interval of its accuracy, ")


def test_json_holds_the_checks_and_the_calibration(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama(parallel=8) as server:
        arguments = ["--selector", "ollama:m", "--host", server.host, "--price-in", "1", "--price-out", "2"]
        code = main(["doctor", *arguments, "--calibrate", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert code == 1
    assert result["checks"][0]["name"] == "server"
    report = result["calibration"]
    assert report["model"]["name"] == "m:latest"
    assert report["calibration"]["verdict"] == "chance", "that server ranks by a digest"
    assert report["calibration"]["overall"]["accuracy"]["pairs"] == report["pairs"] == 140
    assert report["expense"]["prompt_tokens"] > 500
    assert report["expense"]["cost_for_rows"] > 0
    assert report["ok"] is False


def test_pointwise_over_http(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama(parallel=8) as server:
        arguments = ["--selector", "ollama:m", "--host", server.host, "--mode", "pointwise"]
        main(["doctor", *arguments, "--calibrate", "--json"])
    report = json.loads(capsys.readouterr().out)["calibration"]
    assert (report["expense"]["questions"], report["query_size"]) == (280, None)
    assert report["calibration"]["verdict"] == "chance"


def test_a_server_of_openais_api_is_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    warn_once.cache_clear()
    with serve(RankingServer().app) as url:
        main(["doctor", "--selector", "openai:m", "--host", url, "--calibrate", "--json"])
    report = json.loads(capsys.readouterr().out)["calibration"]
    assert report["expense"]["questions"] == 40
    assert report["calibration"]["agreement"] > 0.9, "it ranks by length, and leaves texts of equal length as shown"


def test_a_model_that_fails_its_checks_is_not_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyOllama({"runner died": 1.0}, most_in_a_row=1000) as server:
        assert main(["doctor", "--selector", "ollama:m", "--host", server.host, "--calibrate"]) == 1
        asked = len(server.asked)
    assert "NOT  calibration        not begun: mend what failed above first" in capsys.readouterr().out
    assert asked < 10


def test_without_the_option_nothing_is_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--selector", "scripted:first", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)


def test_prices_come_from_the_environment_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__PRICE_IN", "3")
    main(["doctor", "--selector", "scripted:first", "--calibrate"])
    assert "cost 0 (one pass" in capsys.readouterr().out
