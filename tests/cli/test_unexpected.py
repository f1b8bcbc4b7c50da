"""An error that nobody foresaw: one line, what is kept, and where the traceback is."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selectllm.cli.main import main
from tests.conftest import write_pool

KEY = "sk-secret-0123456789"


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool whose reading fails as nobody foresaw."""

    def fail(*_: object) -> None:
        raise OverflowError(f"date value\nout of range, {KEY}, http://me:password@host/v1")

    monkeypatch.setattr("selectllm.pipeline.read_pool", fail)
    monkeypatch.setattr("selectllm.plan.usable_rows", fail)
    monkeypatch.setattr("selectllm.ranking.diagnosis.diagnose", fail)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return write_pool(tmp_path / "pool.jsonl", 20)


@pytest.mark.parametrize("command", ["select", "plan"])
def test_a_run_ends_in_one_line_and_keeps_its_traceback_in_the_store(
    command: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [command, str(pool), "--budget", "3", "--selector", "scripted:first", "--store", str(tmp_path / "s")]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    (log,) = (tmp_path / "s" / "v1" / "runs").iterdir()
    assert out == ""
    assert err == (
        "selectllm: an unexpected error, OverflowError: date value out of range, ***, http://host/v1. What was made "
        f"and paid for is kept in the store. Please report it with its traceback, which is in {log}\n"
    )
    assert log.suffix == ".log"
    text = log.read_text()
    assert text.startswith("Traceback (most recent call last):")
    assert "test_unexpected.py" in text
    assert KEY not in text
    assert "password" not in text
    assert main(["artifacts", "--store", str(tmp_path / "s")]) == 0


def test_without_a_store_the_traceback_is_a_temporary_file(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["doctor", "--selector", "scripted:first"]) == 1
    (log,) = tmp_path.glob("selectllm-*.log")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.endswith(f"Please report it with its traceback, which is in {log}\n")
    assert "OverflowError" in log.read_text()


def test_an_os_error_is_no_failure_of_printing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "certificates.pem")

    monkeypatch.setattr("selectllm.pipeline.read_pool", fail)
    pool = write_pool(tmp_path / "pool.jsonl", 20)
    assert main(["select", str(pool), "--budget", "3", "--strategy", "random", "--store", str(tmp_path / "s")]) == 1
    err = capsys.readouterr().err
    assert "printed" not in err
    assert "FileNotFoundError: [Errno 2] No such file or directory: 'certificates.pem'" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_output_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "selectllm", "artifacts", "--store", str(tmp_path / "s")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("selectllm: the result cannot be printed: No space left on device. It is kept")
    assert done.stderr.count("\n") == 1
