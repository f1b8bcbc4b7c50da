import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from selectllm.cli.main import main
from selectllm.errors import ModelError
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import write_pool

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, quick_embedding: object) -> Cli:
    """Run a command line in this process with a separate store; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--store", str(tmp_path / "store")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_pool(tmp_path / "pool.jsonl", 60)


def test_select_prints_chosen_rows_reasons_and_output_folder(cli: Cli, pool: Path, tmp_path: Path) -> None:
    code, out, err = cli("select", pool, "--budget", 7, "--selector", "scripted:longest", "--out", tmp_path / "out")
    assert code == 0
    assert "Chose 7 of 60 rows (60 read, 0 quarantined, 0 repeated)" in out
    assert "ranked 1 in query 0" in out
    assert "tournament round 1" in out
    assert str(tmp_path / "store" / "v1" / "artifacts" / "selection") in out
    assert "fixed rule" in err
    assert (tmp_path / "out" / "selection.parquet").is_file()


def test_json_prints_the_summary_and_nothing_else(cli: Cli, pool: Path, tmp_path: Path) -> None:
    code, out, _ = cli(
        "select", pool, "--budget", 7, "--selector", "scripted:first", "--json", "--out", tmp_path / "out"
    )
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "summary.json").read_text())


def test_plan_counts_exactly_the_requests_of_the_run(cli: Cli, pool: Path) -> None:
    for budget in (3, 5, 7, 15, 30, 44, 60):
        arguments = (pool, "--budget", budget, "--json", "--seed", budget)
        code, out, _ = cli("plan", *arguments, "--selector", "scripted:longest")
        planned = json.loads(out)
        assert code == 0
        _, out, _ = cli("select", *arguments, "--selector", "scripted:longest")
        ranking = json.loads(out)["ranking"]
        assert planned["ranking"]["calls"] == ranking["asked"]
        assert planned["ranking"]["pages"] == ranking["pages"]
        assert planned["ranking"]["rounds"] == ranking["rounds"]
        assert planned["queries"] == json.loads(out)["queries"]
        assert planned["pool"] == json.loads(out)["pool"]


@pytest.mark.parametrize("composition", ["matched", "paper", "random", "similar"])
def test_plan_is_correct_for_every_composition(composition: str, cli: Cli, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "odd.jsonl", 59)
    arguments = (pool, "--budget", 58, "--selector", "scripted:first", "--composition", composition, "--json")
    planned, done = (json.loads(cli(command, *arguments)[1]) for command in ("plan", "select"))
    assert planned["ranking"]["calls"] == done["ranking"]["asked"]


def test_plan_writes_no_file_and_calls_no_model(cli: Cli, pool: Path, tmp_path: Path) -> None:
    code, out, err = cli("plan", pool, "--budget", 7, "--selector", "ollama:not-there", "--host", "http://127.0.0.1:9")
    assert (code, err) == (0, "")
    assert "No model was called" in out
    assert not (tmp_path / "store").exists()


def test_plan_of_the_demo_counts_one_call_per_row(cli: Cli, pool: Path) -> None:
    code, out, _ = cli("plan", pool, "--budget", 7)
    assert code == 0
    assert "60 calls, one for each row" in out


def test_a_pool_can_come_from_standard_input(cli: Cli, pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pool.read_bytes())))
    code, out, _ = cli("select", "-", "--budget", 2, "--strategy", "longest")
    assert (code, out.splitlines()[0][:18]) == (0, "Chose 2 of 60 rows")


def test_plan_reports_a_grown_depth(cli: Cli, pool: Path) -> None:
    assert (
        "2 page(s) of depth 3: the budget needs more"
        in cli("plan", pool, "--budget", 16, "--selector", "scripted:first")[1]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}/missing.jsonl", "--budget", "5"], "missing.jsonl"),
        (["{tmp}", "--budget", "5"], "pool.jsonl"),
        (["{tmp}/empty.jsonl", "--budget", "5"], "empty"),
        (["{tmp}/rubbish.jsonl", "--budget", "5"], "no usable row"),
        (["{tmp}/column.csv", "--budget", "1"], "--instruction-column"),
        (["{tmp}/pool.jsonl", "--budget", "1", "--instruction-column", "nosuch"], "tag"),
        (["{tmp}/pool.xyz", "--budget", "1"], ".parquet"),
        (["{tmp}/pool.jsonl", "--budget", "0"], "--budget should be greater than or equal to 1"),
        (["{tmp}/pool.jsonl", "--budget", "-3"], "--budget"),
        (["{tmp}/pool.jsonl", "--budget", "many"], "--budget"),
        (["{tmp}/pool.jsonl"], "--budget"),
        (["{tmp}/pool.jsonl", "--budget", "61"], "the pool holds 60"),
        (["{tmp}/pool.jsonl", "--budget", "5", "--selector", "gpt-9"], "unknown selector 'gpt-9'"),
        (
            ["{tmp}/pool.jsonl", "--budget", "5", "--selector", "openai:m", "--host", "http://127.0.0.1:9/v1"],
            "127.0.0.1:9",
        ),
        (["{tmp}/pool.jsonl", "--budget", "5", "--selector", "embedded:/no/such.gguf"], "/no/such.gguf"),
        (
            ["{tmp}/pool.jsonl", "--budget", "5", "--selector", "ollama:m", "--host", "http://127.0.0.1:9"],
            "ollama serve",
        ),
        (["{tmp}/pool.jsonl", "--budget", "5", "--selector", "ollama:m", "--host", "http://x:abc"], "--host"),
        (["{tmp}/pool.jsonl", "--budget", "5", "--selector", "ollama:m", "--host", "http://[::1"], "--host"),
        (["{tmp}/pool.jsonl", "--budget", "5", "--max-cost", "1"], "--price-in"),
        (["{tmp}/pool.jsonl", "--budget", "5", "--query-size", "1"], "--query-size"),
        (["{tmp}/pool.jsonl", "--budget", "5", "--nosuch", "1"], "--nosuch"),
        (["{tmp}/pool.jsonl", "--budget", "5", "--composition", "best"], "--composition"),
    ],
)
def test_bad_input_prints_one_line_and_exits_with_2(
    arguments: list[str], words: str, cli: Cli, pool: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "rubbish.jsonl").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "column.csv").write_text("text,label\nhello,1\n")
    (tmp_path / "pool.xyz").write_text("x")
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    selector = [] if "--selector" in filled else ["--selector", "scripted:first"]
    code, out, err = cli("select", *filled, *selector, "--out", tmp_path / "out")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("selectllm: ")
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_model_without_usable_answers_exits_with_1(cli: Cli, pool: Path, tmp_path: Path) -> None:
    with FaultyOllama({"prose": 1.0}, most_in_a_row=100) as server:
        arguments = ["--budget", "3", "--selector", "ollama:m", "--host", server.host, "--out", str(tmp_path / "out")]
        code, out, err = cli("select", str(pool), *arguments)
    assert (code, out) == (1, "")
    assert "gave no usable answer to query" in err  # which one is first is the threads' affair
    assert not (tmp_path / "out" / "selection.jsonl").exists()


def test_an_unknown_command_is_told_of_the_others(cli: Cli) -> None:
    code, _, err = cli("nosuch")
    assert code == 2
    assert "Available commands: select, plan, " in err
    assert err.endswith(" and more. See --help\n")


def test_server_text_cannot_control_the_terminal(cli: Cli, pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("status 400: \x1b[2J\u202eevil")

    monkeypatch.setattr("selectllm.pipeline.read_pool", refuse)
    code, _, err = cli("select", str(pool), "--budget", "3", "--selector", "scripted:first")
    assert (code, err) == (1, "selectllm: status 400: \ufffd[2J\ufffdevil\n")


def test_output_without_a_terminal_has_no_escape_codes(cli: Cli, pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, _, err = cli("select", str(pool), "--budget", "3", "--selector", "scripted:first")
    assert "\x1b" not in err


def test_bad_rows_are_quarantined_and_good_rows_are_selected(cli: Cli, tmp_path: Path) -> None:
    rows = [
        '{"instruction": "Good one"}',
        "{broken",
        '{"instruction": ""}',
        '{"instruction": 5}',
        '{"instruction": "Good one"}',
    ]
    (tmp_path / "mixed.jsonl").write_text("\n".join([*rows, '{"instruction": "Another"}']))
    code, out, _ = cli("select", tmp_path / "mixed.jsonl", "--budget", 2, "--selector", "scripted:first", "--json")
    assert code == 0
    assert json.loads(out)["pool"] == {"rows_read": 6, "quarantined": 3, "duplicates": 1, "kept": 2}


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "--help"]) == 0
    help = capsys.readouterr().out
    for word in ("--budget", "scripted:longest", "matched", "Exit codes", "OLLAMA_HOST"):
        assert word in help


def test_a_run_stopped_by_sigterm_says_how_to_continue(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from selectllm import pipeline\nfrom selectllm.cli import main as cli\n"
        f"pipeline.select = lambda *_: os.kill(os.getpid(), signal.{signal.SIGTERM.name})\n"
        "sys.exit(cli.main(['select', 'x.jsonl', '--budget', '1']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "selectllm: stopped. What was made and paid for is kept: run the same again to go on from here\n"
    )


def test_a_piped_process_ends_without_error_output(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool.jsonl", 60)
    program = (
        "import sys; from tests.conftest import HashEmbedder\n"
        "from selectllm.cli import main as cli\nfrom selectllm.embedding import models\n"
        "models.open_embedder = lambda _: HashEmbedder()\n"
        "pool, store = sys.argv[1:]\n"
        "sys.exit(cli.main(['select', pool, '--budget', '7', '--selector', 'scripted:first', '--store', store]))\n"
    )
    for _ in range(2):  # an earlier version aborted at the end of one run in four
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "pool.jsonl"), str(tmp_path / "store")],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert done.returncode == 0
        assert done.stderr.count("\n") == 1
        assert "\x1b" not in done.stdout + done.stderr


def test_near_duplicates_and_diversity_are_told_and_explained(cli: Cli, pool: Path) -> None:
    arguments = ("select", pool, "--budget", 5, "--strategy", "longest")
    code, out, _ = cli(*arguments, "--near-duplicate", 0.3, "--diversity", 0.5)
    assert code == 0
    assert "Chosen by rating and diversity together (diversity 0.5)." in out
    assert "rows were passed over: they are nearly the same as a chosen row (cosine of at least 0.3)." in out
    code, _, err = cli(*arguments, "--near-duplicate", 0.0001)
    assert (code, err.count("\n")) == (1, 1)
    assert "rows are left, and the budget is 5" in err
    assert "All replies are kept. Raise --near-duplicate" in err
    code, out, _ = cli(*arguments, "--near-duplicate", 0.3)
    assert code == 0
    explained = [cli("explain", f"row:{row}")[1] for row in range(1, 61)]
    assert any("Not chosen: passed over: it is nearly the same (cosine 0." in text for text in explained)
