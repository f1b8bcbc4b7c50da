"""Validation as a part of a run: what it quarantines, what it stops, what it costs, and where its verdicts stand."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from selectllm import cli, select
from selectllm.errors import QualityError
from selectllm.planning import plan
from selectllm.settings import RunSettings
from selectllm.vectors import KeptVectors
from tests.broken import FILES, FOLDER, Case

MakeRun = Callable[..., RunSettings]
ROOT = Path(__file__).resolve().parents[1]
BY_EVERY_DOOR = (
    "absent_instructions.jsonl", "controls.jsonl", "mostly_repeats.jsonl", "all_near_empty.jsonl", "ragged.csv",
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("quick_embedding", "validated")


def judged(make_run: MakeRun, **fields: Any) -> RunSettings:
    return make_run(**{"quality": {}, "budget": 5, **fields})


def summed(case: Case) -> dict[str, Any]:
    severity = {rule: "critical" if rule == case.critical else "warning" for rule in case.failed}
    failed = [{"rule": rule, "count": count, "severity": severity[rule]} for rule, count in case.failed.items()]
    return {"success": not case.critical, "checked": 15, "failed": failed}


def by_rule(verdict: dict[str, Any]) -> dict[str, Any]:
    return verdict | {"failed": sorted(verdict["failed"], key=lambda one: one["rule"])}


def test_the_verdicts_stand_in_the_summary_and_in_the_store(make_run: MakeRun) -> None:
    run = judged(make_run)
    result = select(run)
    assert {name: (one["success"], one["failed"]) for name, one in result.summary["validation"].items()} == {
        name: (True, []) for name in ("pool", "embeddings", "rankings")
    }
    kept = [json.loads(path.read_text()) for path in Path(run.store).rglob("verdicts/*/*.json")]
    assert sorted(one["boundary"] for one in kept) == ["embeddings", "pool", "rankings"]
    assert all(finding["rule"] for one in kept for finding in one["findings"])


def test_what_was_judged_once_is_not_judged_again(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = judged(make_run)
    first = select(run)
    for judge in ("judge_embeddings", "judge_rankings", "judge_pool", "load_suite"):
        monkeypatch.setattr(f"selectllm.expectations.{judge}", lambda *_, **__: pytest.fail("judged again"))
    again = select(run)
    assert again.summary["validation"] == first.summary["validation"]
    assert set(again.summary["cached"]) == set(again.summary["seconds"])
    assert select(judged(make_run, budget=4)).summary["validation"] == first.summary["validation"]


def test_a_verdict_that_was_lost_is_given_again(make_run: MakeRun) -> None:
    run = judged(make_run)
    first = select(run)
    for path in Path(run.store).rglob("verdicts/*/*.json"):
        path.write_text("{half")
    again = select(run)
    assert again.summary["validation"] == first.summary["validation"]
    assert again.summary["artifacts"] == first.summary["artifacts"]


def test_no_validation_judges_nothing_and_ranks_nothing_anew(make_run: MakeRun) -> None:
    run = judged(make_run)
    first = select(run)
    without = select(run.model_copy(update={"quality": run.quality.model_copy(update={"no_validate": True})}))
    assert without.summary["validation"] == {}
    assert without.summary["ranking"]["asked"] == 0
    assert without.table()["id"].equals(first.table()["id"])


@pytest.mark.parametrize(
    ("option", "runs"), [("--no-validate", 1), (None, 2)], ids=["not at all", "not when all is in the store"]
)
def test_great_expectations_is_imported_only_when_it_is_used(option: str | None, runs: int, tmp_path: Path) -> None:
    program = (
        "import sys; from tests.conftest import HashEmbedder, write_pool; from selectllm import cli, embedding\n"
        "from pathlib import Path; embedding.open_embedder = lambda _: HashEmbedder()\n"
        "write_pool(Path(sys.argv[1]) / 'pool.jsonl', 40)\n"
        "code = cli.main(['select', sys.argv[1] + '/pool.jsonl', '--budget', '3', '--selector', 'scripted:first',\n"
        "                 '--store', sys.argv[1] + '/store', *sys.argv[2:]])\n"
        "print('great_expectations' in sys.modules, file=sys.stderr); sys.exit(code)\n"
    )
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), *([option] if option else [])],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
    assert done.stderr.splitlines()[-1] == "False"


@pytest.mark.parametrize("name", BY_EVERY_DOOR)
def test_a_broken_pool_by_the_command_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = FILES[name]
    out = tmp_path / "out"
    command = ["select", str(FOLDER / name), "--budget", "1", "--selector", "scripted:first", "--out", str(out)]
    code = cli.main([*command, "--store", str(tmp_path / "store")])
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if isinstance(case, str):
        assert (code, case in told, out.exists()) == (2, True, False)
    elif case.critical:
        assert (code, case.critical in told, out.exists()) == (1, True, False)
    else:
        assert code == 0
        summary = json.loads((out / "summary.json").read_text())
        assert by_rule(summary["validation"]["pool"]) == by_rule(summed(case))
        assert summary["pool"]["kept"] == case.kept
        reasons = Counter(pq.ParquetFile(out / "quarantine.parquet").read()["reason"].to_pylist())
        faults = {one: count for one, count in reasons.items() if not one.startswith("duplicate of")}
        assert faults == case.reasons


def test_a_pool_that_failed_fails_again_without_being_read_again(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = judged(make_run, pool=str(FOLDER / "mostly_repeats.jsonl"), budget=1)
    with pytest.raises(QualityError, match="repeats_share") as first:
        select(run)
    monkeypatch.setattr("selectllm.pool.read", lambda *_: pytest.fail("read again"))
    with pytest.raises(QualityError) as second:
        select(run)
    assert str(second.value) == str(first.value)


def test_vectors_that_break_an_expectation_stop_the_run_before_anything_is_asked(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, told_model: Callable[..., Any]
) -> None:
    model = told_model()
    gather = KeptVectors.gather
    monkeypatch.setattr("selectllm.contracts.check_embeddings", lambda *_: None)  # or the cheap check would be first
    monkeypatch.setattr(KeptVectors, "gather", lambda kept, ids: (1.5 * gather(kept, ids)[0], gather(kept, ids)[1]))
    with pytest.raises(QualityError, match="embeddings table"):
        select(judged(make_run))
    assert not model.asked


def test_expectations_of_ones_own_quarantine_or_stop(make_run: MakeRun, tmp_path: Path) -> None:
    suite = tmp_path / "own.yaml"
    rule = "expectations:\n- type: expect_column_values_to_be_between\n  kwargs: {column: tag, max_value: 49}\n"
    suite.write_text(rule + "  severity: warning\n  description: made before the flood\n")
    run = judged(make_run, quality={"expectations": str(suite)})
    result = select(run)
    assert result.summary["pool"]["quarantined"] == 10
    assert set(result.table("quarantine")["reason"].to_pylist()) == {
        "fails expect_column_values_to_be_between(tag): made before the flood"
    }
    assert plan(run)["pool"]["quarantined"] == 10
    suite.write_text(rule)  # critical
    with pytest.raises(QualityError, match=r"expect_column_values_to_be_between\(tag\)"):
        select(run)


def test_data_docs_are_written_where_they_are_wanted(make_run: MakeRun, tmp_path: Path) -> None:
    select(judged(make_run, quality={"data_docs": str(tmp_path / "docs")}))
    assert (tmp_path / "docs" / "index.html").is_file()


def test_validation_cannot_be_off_and_on(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="--no-validate leaves nothing for --expectations"):
        make_run(quality={"no_validate": True, "expectations": "own.yaml"})
