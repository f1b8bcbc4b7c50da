"""Validation as a part of a run: quarantine, stops, costs, and the storage of verdicts."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copy
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selectllm import plan_run, quality, select
from selectllm.cli import main as cli
from selectllm.embedding.vector_cache import VectorCache
from selectllm.errors import ContractError, PoolError, QualityError, StoreError
from selectllm.ranking import batches
from selectllm.settings import RunSettings
from selectllm.store import Artifact
from tests.conftest import HashEmbedder
from tests.quality.broken import CRITICAL, FILES, FOLDER, Case

MakeRun = Callable[..., RunSettings]
Bad = Callable[[pytest.MonkeyPatch], tuple[str, str]]
ROOT = Path(__file__).resolve().parents[2]
BY_EVERY_DOOR = (
    "absent_instructions.jsonl", "controls.jsonl", "mostly_repeats.jsonl", "all_near_empty.jsonl", "semicolons.csv",
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("quick_embedding", "validated")


def with_validation(make_run: MakeRun, **fields: Any) -> RunSettings:
    """Settings of a run that validates."""
    return make_run(**{"quality": {}, "budget": 5, **fields})


def check_kept(case: Case, store: Path) -> None:
    """Check that the store contains verdict, quarantine and rows of a case, even after a failed run."""
    (verdict,) = map(json_in, store.glob("v1/verdicts/pool/*.json"))
    failed = [finding for finding in verdict["findings"] if not finding["success"]]
    assert {finding["rule"]: finding["count"] for finding in failed} == case.failed
    assert all((finding["severity"] == "critical") == (finding["rule"] in CRITICAL) for finding in failed)
    assert (verdict["success"], verdict["checked"]) == (not case.critical, case.checked)
    (quarantine,), (pool,) = (store.glob(f"v1/artifacts/{kind}/*.parquet") for kind in ("quarantine", "pool"))
    facts = json_in(pool.with_suffix(".json"))["facts"]
    assert reasons_in(quarantine) == case.reasons
    assert (facts["quarantined"], facts["duplicates"], facts["kept"]) == (
        *(sum(case.reasons.values()), case.duplicates, case.kept),
    )
    assert pq.ParquetFile(pool).metadata.num_rows == case.kept


def check_summed(case: Case, out: Path) -> None:
    """Check that the output folder of a successful run has the same counts."""
    summary = json_in(out / "summary.json")
    assert {entry["rule"]: entry["count"] for entry in summary["validation"]["pool"]["failed"]} == case.failed
    assert {name: summary["pool"][name] for name in ("quarantined", "duplicates", "kept")} == {
        "quarantined": sum(case.reasons.values()), "duplicates": case.duplicates, "kept": case.kept
    }  # fmt: skip
    assert reasons_in(out / "quarantine.parquet") == case.reasons


def json_in(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def reasons_in(quarantine: Path) -> dict[str, int]:
    reasons = Counter(pq.ParquetFile(quarantine).read()["reason"].to_pylist())
    return {reason: count for reason, count in reasons.items() if not reason.startswith("duplicate of")}


def test_verdicts_are_in_the_summary_and_in_the_store(make_run: MakeRun) -> None:
    settings = with_validation(make_run)
    result = select(settings)
    validation = result.summary["validation"]
    assert {name: (entry["success"], entry["failed"]) for name, entry in validation.items()} == {
        name: (True, []) for name in ("pool", "embeddings", "rankings")
    }
    verdicts = [json_in(path) for path in Path(settings.store).rglob("verdicts/*/*.json")]
    assert sorted(verdict["boundary"] for verdict in verdicts) == ["embeddings", "pool", "rankings"]
    assert all(finding["rule"] for verdict in verdicts for finding in verdict["findings"])


def test_a_second_run_reuses_stored_verdicts(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_validation(make_run)
    first = select(settings)
    for name in ("validate_embeddings", "validate_rankings", "validate_pool", "check_pool", "load_suite"):
        monkeypatch.setattr(f"selectllm.quality.{name}", lambda *_, **__: pytest.fail("validated again"))
    again = select(settings)
    assert again.summary["validation"] == first.summary["validation"]
    assert set(again.summary["cached"]) == set(again.summary["seconds"])
    assert select(with_validation(make_run, budget=4)).summary["validation"] == first.summary["validation"]


def test_a_lost_verdict_is_computed_again(make_run: MakeRun) -> None:
    settings = with_validation(make_run)
    first = select(settings)
    for path in Path(settings.store).rglob("verdicts/*/*.json"):
        path.write_text("{half")
    again = select(settings)
    assert again.summary["validation"] == first.summary["validation"]
    assert again.summary["artifacts"] == first.summary["artifacts"]


def test_a_run_without_validation_has_no_verdicts_and_the_same_rankings(make_run: MakeRun) -> None:
    settings = with_validation(make_run)
    first = select(settings)
    without = select(settings.model_copy(update={"quality": settings.quality.model_copy(update={"no_validate": True})}))
    assert without.summary["validation"] == {}
    assert without.summary["ranking"]["asked"] == 0
    assert without.table()["id"].equals(first.table()["id"])


class SlowEmbedder(HashEmbedder):
    """Records when it has been loaded, and embeds nothing before the pool is being validated."""

    events: ClassVar[list[str]] = []
    validating = threading.Event()

    def load(self) -> None:
        time.sleep(0.2)  # for a validation that does not wait
        self.events.append("loaded")

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        assert self.validating.wait(20), "the pool is not validated while its rows are embedded"
        return super().embed(texts)


def test_the_pool_is_validated_while_rows_are_embedded_by_a_loaded_model(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate_pool, events = quality.validate_pool, SlowEmbedder.events

    def recorded(check: quality.PoolCheck) -> quality.Verdict:
        events.append("validating")
        SlowEmbedder.validating.set()
        return validate_pool(check)

    events.clear()
    SlowEmbedder.validating.clear()
    monkeypatch.setattr("selectllm.quality.validate_pool", recorded)
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _name: SlowEmbedder())
    select(with_validation(make_run))
    assert events == ["loaded", "validating"]


def test_a_run_that_ends_before_it_embeds_leaves_no_thread_that_waits(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("selectllm.embedding.models.open_embedder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        select(with_validation(make_run))
    for thread in threading.enumerate():
        if thread.name == "selectllm-background":
            thread.join(60)
            assert not thread.is_alive()


UNUSED = """
import runpy, sys
from tests.conftest import HashEmbedder
from selectllm.cli import main as cli
from selectllm.embedding import models

models.open_embedder = lambda _: HashEmbedder()
entry, arguments = sys.argv[1], sys.argv[2:]
for options in (["--no-validate"], ["--expectations", arguments.pop()], []):
    if entry == "library":
        assert cli.main(["select", *arguments, *options]) == 0
    else:
        sys.argv = [entry, *arguments, *options]
        try:
            runpy.run_module(entry, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code
    assert "great_expectations" not in sys.modules, options
"""


def check_unused(entry: str, settings: RunSettings, suite: Path, env: dict[str, str] | None = None) -> None:
    """Check that a run does not import Great Expectations if validation is off or all verdicts are stored."""
    suite.write_text("- {type: expect_column_values_to_not_be_null, kwargs: {column: tag}}\n")
    for options in ({}, {"expectations": str(suite)}):
        select(RunSettings.model_validate(settings.model_dump() | {"quality": options}))
    arguments = ["--budget", str(settings.budget), "--selector", settings.selector, "--store", settings.store]
    command = [sys.executable, "-c", UNUSED, entry, settings.pool, *arguments, str(suite)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr


def test_great_expectations_is_imported_only_when_it_is_used(make_run: MakeRun, tmp_path: Path) -> None:
    check_unused("library", with_validation(make_run), tmp_path / "own.yaml")


@pytest.mark.parametrize("name", BY_EVERY_DOOR)
def test_the_command_line_reports_a_broken_pool(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = FILES[name]
    assert isinstance(case, Case)
    out = tmp_path / "out"
    command = ["select", str(FOLDER / name), "--budget", "1", "--selector", "scripted:first", "--out", str(out)]
    code = cli.main([*command, "--store", str(tmp_path / "store")])
    message = capsys.readouterr().err
    assert "Traceback" not in message
    if case.refused:
        assert (code, case.refused in message, out.exists()) == (2, True, False)
    elif case.critical:
        assert (code, case.critical[0] in message, out.exists()) == (1, True, False)
    else:
        assert code == 0
        check_summed(case, out)
    check_kept(case, tmp_path / "store")


@pytest.mark.parametrize("name", ["mostly_repeats.jsonl", "all_near_empty.jsonl"])
def test_a_pool_that_failed_fails_again_without_being_parsed_again(
    name: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_validation(make_run, pool=str(FOLDER / name), budget=1)
    with pytest.raises((QualityError, PoolError), match=r"repeats_share|has no usable row: row 1") as first:
        select(settings)
    monkeypatch.setattr("selectllm.pool.parse", lambda *_: pytest.fail("parsed again"))
    with pytest.raises(type(first.value)) as second:
        select(settings.model_copy(update={"pool": str(copy(settings.pool, tmp_path / "copy.jsonl"))}))
    assert str(second.value) == str(first.value).replace(settings.pool, str(tmp_path / "copy.jsonl"))


def test_a_pool_without_a_usable_row_names_the_first_ten_reasons(make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text('{"instruction": "\\u0007 bell"}\n{"instruction": ""}\n' * 6)
    for work in (select, plan_run):
        with pytest.raises(PoolError, match=r"none.jsonl has no usable row: row 1: .* row 10: .* empty; and 2 more$"):
            work(with_validation(make_run, pool=str(path)))


def broken_in(store: str, boundary: str) -> list[dict[str, str]]:
    """For each stored verdict that fails: the broken rules and the first row of each."""
    verdicts = map(json_in, Path(store).glob(f"v1/verdicts/{boundary}/*.json"))
    broken = (
        {finding["rule"]: finding["first"][0] for finding in verdict["findings"] if not finding["success"]}
        for verdict in verdicts
    )
    return [rules for rules in broken if rules]


def pages_in(docs: Path) -> set[str]:
    assert (docs / "index.html").is_file()
    return {page.stem for page in docs.glob("validations/**/*.html")}


def too_long(vectors: np.ndarray) -> np.ndarray:
    """All vectors but the first."""
    return np.vstack([vectors[:1], 1.5 * vectors[1:]]).astype(np.float32)


def long_vectors(table: pa.Table) -> pa.Table:
    vectors = too_long(np.stack(table["vector"].to_numpy()))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return table.set_column(1, table.schema.field("vector"), flat)


def no_replies(table: pa.Table) -> pa.Table:
    place = table.column_names.index("reply")
    return table.set_column(place, table.schema.field("reply"), pa.array([""] * len(table), pa.string()))


@pytest.mark.parametrize(
    ("kind", "change", "rule", "place"),
    [
        ("embeddings", long_vectors, "unit_norm", 1),
        ("rankings", no_replies, "reply_recorded", 0),
    ],
)
def test_an_artifact_that_fails_an_expectation_stops_the_run_and_names_rows(
    kind: str,
    change: Callable[[pa.Table], pa.Table],
    rule: str,
    place: int,
    make_run: MakeRun,
    tmp_path: Path,
) -> None:
    result = select(with_validation(make_run))
    artifact, table = Artifact(kind=kind, key=result.summary["artifacts"][kind]), result.table(kind)
    manifest = result.store.manifest(artifact)
    assert manifest is not None
    result.store.write(artifact, change(table), manifest, manifest.facts)
    first = table["id"][place].as_py()
    settings = with_validation(make_run, quality={"data_docs": str(tmp_path / "docs")})
    with pytest.raises(QualityError, match=rf"{kind} table .* {rule} \(\d+ of \d+, ids {first}, "):
        select(settings)
    assert broken_in(settings.store, kind) == [{rule: first}]
    assert pages_in(tmp_path / "docs") == {"pool", "embeddings", kind}


def bad_vectors(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Make the cache return too long vectors; returns the boundary and the broken rule."""
    gather = VectorCache.gather

    def lengthened(cache: VectorCache, ids: Sequence[str], **options: bool) -> tuple[Any, Any]:
        vectors, known = gather(cache, ids, **options)
        return too_long(vectors), known

    monkeypatch.setattr(VectorCache, "gather", lengthened)
    return "embeddings", "unit_norm"


def bad_ranks(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Change the second rank of every query to the fourth."""
    rank_queries = batches.rank_queries

    async def with_gaps(*arguments: Any) -> batches.Ranks:
        ranks = await rank_queries(*arguments)
        with_gap = [replace(rank, rank=4) if rank.rank == 2 else rank for rank in ranks.ranks]
        return replace(ranks, ranks=with_gap)

    monkeypatch.setattr("selectllm.steps.rank.rank_queries", with_gaps)
    return "rankings", "gapless_ranks"


@pytest.mark.parametrize("bad", [bad_vectors, bad_ranks])
def test_findings_of_a_cheap_check_are_reported_and_stored_as_a_verdict(
    bad: Bad, make_run: MakeRun, tmp_path: Path, fake_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fake_model()
    boundary, rule = bad(monkeypatch)
    settings = with_validation(make_run, quality={"data_docs": str(tmp_path / "docs")})
    with pytest.raises(ContractError, match=rf"the {boundary} cannot be .* \(\d+ of \d+, ids \w{{32}}, ") as raised:
        select(settings)
    (broken,) = broken_in(settings.store, boundary)
    assert f"ids {broken[rule]}, " in str(raised.value)
    assert {"pool", boundary} <= pages_in(tmp_path / "docs")
    assert bool(model.asked) == (boundary == "rankings")

    without = make_run(store=str(tmp_path / "other"))
    with pytest.raises(ContractError, match="ids "):
        select(without)
    assert not broken_in(without.store, boundary)


def test_user_expectations_quarantine_rows_or_stop_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    suite = tmp_path / "own.yaml"
    rule = "expectations:\n- type: expect_column_values_to_be_between\n  kwargs: {column: tag, max_value: 49}\n"
    suite.write_text(rule + "  severity: warning\n  description: made before the flood\n")
    settings = with_validation(make_run, quality={"expectations": str(suite)})
    result = select(settings)
    assert result.summary["pool"]["quarantined"] == 10
    assert set(result.table("quarantine")["reason"].to_pylist()) == {
        "fails expect_column_values_to_be_between(tag): made before the flood"
    }
    assert plan_run(settings)["pool"]["quarantined"] == 10
    suite.write_text(rule)  # critical
    with pytest.raises(QualityError, match=r"expect_column_values_to_be_between\(tag\)"):
        select(settings)


def test_data_docs_are_written_into_the_named_folder(make_run: MakeRun, tmp_path: Path) -> None:
    select(with_validation(make_run, quality={"data_docs": str(tmp_path / "docs")}))
    assert pages_in(tmp_path / "docs") == {"pool", "embeddings", "rankings"}


def test_an_error_writing_data_docs_does_not_hide_the_error_of_the_run(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise StoreError("no space for pages")

    monkeypatch.setattr("selectllm.quality.write_data_docs", full)
    pool = str(FOLDER / "mostly_repeats.jsonl")
    with pytest.raises(QualityError, match="repeats_share"):
        select(with_validation(make_run, pool=pool, budget=1, quality={"data_docs": str(tmp_path / "docs")}))
    assert "no space for pages" in caplog.text


def test_validation_settings_that_contradict_are_refused(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="--no-validate leaves nothing for --expectations"):
        make_run(quality={"no_validate": True, "expectations": "own.yaml"})
