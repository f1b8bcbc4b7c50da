"""Vectors that the user gives: what is read, what is refused, and what a run makes of them."""

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployments.steps import ROOT
from selectllm import RunSettings, plan_run, select
from selectllm.errors import PoolError, UsageError
from selectllm.report.format import counts
from selectllm.report.format_plan import format_plan
from selectllm.steps.given_vectors import given_vectors
from selectllm.store import Store

MakeRun = Callable[..., RunSettings]

ROWS = 40


def numbers(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32) * 3


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a model is looked for."""

    def refuse(name: str) -> None:
        raise AssertionError(f"the model {name} was opened")

    monkeypatch.setattr("selectllm.embedding.models.open_embedder", refuse)


@pytest.fixture
def pool(tmp_path: Path) -> Callable[..., str]:
    """Writes a pool whose rows have ids of their own, and a column of vectors if any are given."""

    def write(rows: int = ROWS, vectors: np.ndarray | None = None, name: str = "pool.jsonl") -> str:
        lines = [{"id": f"own-{row}", "instruction": f"Task {row}: explain it"} for row in range(rows)]
        for line, vector in zip(lines, [] if vectors is None else vectors.tolist(), strict=False):
            line["vector"] = vector
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
        return str(tmp_path / name)

    return write


def write_file(path: Path, ids: list[Any], vectors: Any, **more: Any) -> str:
    columns = {"id": ids, "made": list(vectors), **more}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("\n".join(json.dumps(row, default=lambda value: value.tolist()) for row in rows))
    return str(path)


def own_ids(rows: int = ROWS) -> list[Any]:
    return [f"own-{row}" for row in range(rows)]


def run_of(make_run: MakeRun, pool: str, given: str, **fields: Any) -> RunSettings:
    return make_run(**{"pool": pool, "strategy": "kcenter", "embedding": {"given": given}} | fields)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_vectors_of_a_file_become_embeddings_of_unit_length(
    suffix: str, make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    given = write_file(tmp_path / f"vectors{suffix}", own_ids()[::-1], numbers()[::-1])
    result = select(run_of(make_run, pool(), given))
    vectors = np.stack(result.table("embeddings")["vector"].to_numpy())
    wanted = numbers() / np.linalg.norm(numbers(), axis=1, keepdims=True)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, wanted, atol=1e-6)
    assert result.summary["embeddings"] == {"dimension": 6, "unknown": 0, "alike": 0, "given": given}
    assert f"Vectors were given: {given}, 6 numbers each." in counts(result.summary)
    assert result.summary["selection"]["selected"] == result.table().num_rows


def test_a_column_a_file_by_our_ids_and_another_path_are_one_artifact(
    make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    location = pool(vectors=numbers())
    by_column = select(run_of(make_run, location, "vector"))
    ours = by_column.table("pool")["id"].to_pylist()
    by_id = write_file(tmp_path / "ours.parquet", ours, numbers())
    by_file = select(run_of(make_run, location, by_id))
    assert by_file.summary["artifacts"]["embeddings"] == by_column.summary["artifacts"]["embeddings"]
    moved = write_file(tmp_path / "moved.jsonl", [*ours, "of another pool"], [*numbers(), numbers()[0]])
    assert "embeddings" in select(run_of(make_run, location, moved)).summary["cached"]
    other = write_file(tmp_path / "other.parquet", ours, numbers(seed=1))
    assert (
        select(run_of(make_run, location, other)).summary["artifacts"]["embeddings"]
        != by_column.summary["artifacts"]["embeddings"]
    )


def test_near_duplicates_targets_tests_and_the_plan_go_by_the_vectors_given(
    make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    vectors = numbers()
    vectors[7] = vectors[3] * 2
    location = pool(vectors=vectors)
    near = select(run_of(make_run, location, "vector", strategy="longest", budget=39, near_duplicate=0.999))
    texts = {row["id"]: row["instruction"] for row in near.table("pool").to_pylist()}
    passed = near.table("near_duplicates").to_pylist()
    assert {texts[passed[0]["id"]], texts[passed[0]["near"]]} == {"Task 3: explain it", "Task 7: explain it"}
    example = tmp_path / "examples.jsonl"
    example.write_text(json.dumps({"instruction": "Unheard of", "vector": (vectors[5] * 9).tolist()}))
    away = select(run_of(make_run, location, "vector", aim={"away_from": (str(example),), "away_above": 0.9999}))
    excluded = away.table("too_near")["id"].to_pylist()
    assert [texts[id] for id in excluded] == ["Task 5: explain it"]
    aim = {"target": str(example), "target_rows": 10}
    shortlisted = select(run_of(make_run, location, "vector", aim=aim))
    first = shortlisted.table("targets").to_pylist()[0]
    assert texts[first["id"]] == "Task 5: explain it"
    plan = plan_run(run_of(make_run, location, "vector"))
    assert plan["embeddings"] == {"given": "vector", "dimension": 6}
    assert "Vectors    given: vector, 6 numbers each" in format_plan(plan)


def test_examples_without_vectors_are_refused_by_name(
    make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    example = tmp_path / "examples.jsonl"
    example.write_text(json.dumps({"instruction": "Unheard of"}))
    given = write_file(tmp_path / "vectors.parquet", own_ids(), numbers())
    location = pool()
    for act in (select, plan_run):
        for aim in ({"away_from": (str(example),)}, {"target": str(example), "target_rows": 10}):
            with pytest.raises(PoolError, match=r"examples of --target .*parquet has a vector for none of the 1 rows"):
                act(run_of(make_run, location, given, aim=aim))
    with_one = [{"id": "own-3", "instruction": "Task 3: explain it"}, {"instruction": "Unknown"}]
    example.write_text("\n".join(map(json.dumps, with_one)))
    for act in (select, plan_run):
        with pytest.raises(PoolError, match=r"examples of --target .*: 1 of 2 rows have no usable .*: row 2: no"):
            act(run_of(make_run, location, given, aim={"away_from": (str(example),)}))


def test_ids_that_match_no_row_are_shown_beside_those_of_the_rows(
    make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    given = write_file(tmp_path / "vectors.parquet", list(range(100, 100 + ROWS)), numbers())
    messages = []
    for act in (select, plan_run):
        with pytest.raises(PoolError, match="has a vector for none of the 40 rows") as raised:
            act(run_of(make_run, pool(), given))
        messages.append(str(raised.value))
    assert "ids look like '100' and '101' there" in messages[0]
    assert "of the rows like 'own-0' and 'own-1' in their column `id`, and '" in messages[0]
    assert messages[0] == messages[1]
    (tmp_path / "plain.jsonl").write_text('{"instruction": "Task: explain it"}\n')
    with pytest.raises(PoolError, match=r"those of the rows like '[0-9a-f]{32}'\. Give each vector the id of its row"):
        select(run_of(make_run, str(tmp_path / "plain.jsonl"), given, budget=1))


def test_a_pool_that_grows_keeps_its_queries_and_another_model_does_not(
    make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    grown = numbers(ROWS + 12)
    ranked = {"strategy": "selectllm", "selector": "scripted:longest", "queries": {"size": 5}}
    results = []
    for rows, vectors in ((ROWS, grown), (ROWS + 12, grown), (ROWS + 12, numbers(ROWS + 12, seed=1))):
        given = write_file(tmp_path / "vectors.parquet", own_ids(rows), vectors[:rows])
        results.append(select(run_of(make_run, pool(rows), given, **ranked)))
    first, second, third = (
        {(row["query_id"], row["id"]) for row in result.table("queries").to_pylist()} for result in results
    )
    assert first < second
    assert not first <= third
    manifests = Store(results[0].store.location).manifests("queries")
    assert [manifest.facts["generation"] for manifest in manifests] == [0, 1, 0]


BAD: dict[str, tuple[Callable[[Path], str], str]] = {
    "a row without": (
        lambda folder: write_file(folder / "v.parquet", own_ids()[1:], numbers()[1:]),
        "1 of 40 rows have no usable vector in .*v.parquet: row 1: no vector. Every row needs",
    ),
    "null": (
        lambda folder: write_file(folder / "v.parquet", own_ids(), [None, *numbers()[1:]]),
        "row 1: no vector",
    ),
    "lengths": (
        lambda folder: write_file(folder / "v.parquet", own_ids(), [*numbers()[:39], [1.0, 2.0]]),
        "row 40: 2 numbers, where the first vector has 6",
    ),
    "zeros": (
        lambda folder: write_file(folder / "v.jsonl", own_ids(), [*numbers()[:39], [0.0] * 6]),
        "row 40: zeros alone",
    ),
    "not finite": (
        lambda folder: write_file(folder / "v.parquet", own_ids(), [*numbers()[:39], [np.nan] * 6]),
        "row 40: numbers that are not finite",
    ),
    "texts": (
        lambda folder: write_file(folder / "v.jsonl", own_ids(), [*numbers()[:39], ["a"] * 6]),
        "no lists of numbers",
    ),
    "two vectors": (
        lambda folder: write_file(folder / "v.parquet", [*own_ids(), "own-3"], [*numbers(), numbers()[4]]),
        "two vectors for one id, in rows 4 and 41",
    ),
    "no id": (
        lambda folder: write_file(folder / "v.parquet", [None, *own_ids()[1:]], numbers()),
        "row 1 of .* has no id",
    ),
    "no ids": (lambda folder: str(folder / "pool.jsonl"), "needs a column of lists of numbers beside `id`, .* none"),
    "two columns": (
        lambda folder: write_file(folder / "v.parquet", own_ids(), numbers(), other=list(numbers())),
        "and has several: 'made', 'other'|several: made, other",
    ),
    "no file": (lambda folder: str(folder / "missing.parquet"), "does not exist"),
    "no column": (lambda _: "vectors", "names neither a column nor a file: no row has a column 'vectors'"),
}


@pytest.mark.parametrize("name", BAD)
def test_vectors_that_cannot_be_used_are_refused(
    name: str, make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    location = pool()
    make, message = BAD[name]
    for act in (select, plan_run):
        with pytest.raises(UsageError, match=message):
            act(run_of(make_run, location, make(tmp_path)))


def test_equal_vectors_of_one_id_and_unusual_types_are_read(tmp_path: Path) -> None:
    rows = pa.table({"id": ["a" * 32, "b" * 32], "row": [1, 2], "source_id": [7, 8]})
    for type_ in (pa.list_(pa.float64()), pa.large_list(pa.int32()), pa.list_(pa.float16(), 2), pa.list_(pa.int8())):
        lists = pa.array([[3, 4], [0, 1], [3, 4]], pa.list_(pa.int64())).cast(type_)
        path = tmp_path / "v.parquet"
        pq.write_table(pa.table({"id": [7, 8, 7], "embedding": lists, "other": [["x"]] * 3}), path)
        assert np.allclose(given_vectors(str(path), rows), [[0.6, 0.8], [0, 1]])
    huge = pa.table({"id": ["a" * 32, "b" * 32], "v": [[3e300, 4e300], [3e-300, 4e-300]]})
    pq.write_table(huge, tmp_path / "huge.parquet")
    assert np.allclose(given_vectors(str(tmp_path / "huge.parquet"), rows), [[0.6, 0.8], [0.6, 0.8]])


def test_lists_of_words_beside_the_vectors_of_a_jsonl_file_do_not_count(tmp_path: Path) -> None:
    rows = pa.table({"id": ["a" * 32, "b" * 32], "row": [1, 2], "source_id": [7, 8]})
    given = write_file(tmp_path / "v.jsonl", [7, 8], np.array([[3, 4], [0, 1]]), tags=[[], ["poem", "short"]])
    assert np.allclose(given_vectors(given, rows), [[0.6, 0.8], [0, 1]])


def test_no_output_is_written_over_the_file(make_run: MakeRun, pool: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    given = write_file(tmp_path / "out" / "selection.parquet", own_ids(), numbers())
    with pytest.raises(UsageError, match=r"--embeddings .* would be written over by --out"):
        select(run_of(make_run, pool(), given, out=str(tmp_path / "out")))


def test_neither_torch_nor_sentence_transformers_is_imported(pool: Callable[..., str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom selectllm.cli.main import main\n"
        f"assert main({['select', pool(vectors=numbers()), '--budget', '5', '--strategy', 'kcenter']!r} + "
        f"['--embeddings', 'vector', '--store', {str(tmp_path / 'store')!r}]) == 0\n"
        "print({'torch', 'sentence_transformers', 'transformers'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_row_without_an_id_of_its_own_does_not_have_the_id_none(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [{"id": "first", "instruction": "Task 1: explain it"}, {"instruction": "Task 2: explain it"}]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = write_file(tmp_path / "vectors.parquet", ["first", "None"], numbers(2))
    with pytest.raises(PoolError, match=r"1 of 2 rows have no usable vector in .*: row 2: no vector"):
        select(run_of(make_run, str(tmp_path / "pool.jsonl"), given, budget=1))


def test_examples_do_not_take_the_vectors_of_the_pool(
    make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    """Both files number their rows, and the vectors are the pool's: by these, the tests would be rows of the pool."""
    example = tmp_path / "examples.jsonl"
    example.write_text("\n".join(json.dumps({"id": f"own-{row}", "instruction": f"Test {row}"}) for row in (2, 0)))
    given = write_file(tmp_path / "vectors.parquet", own_ids(), numbers())
    location = pool()
    for act in (select, plan_run):
        for aim in ({"away_from": (str(example),)}, {"target": str(example), "target_rows": 10}):
            with pytest.raises(PoolError, match=r"row 1 of the examples and row 3 of the pool differ, .*id, 'own-2'"):
                act(run_of(make_run, location, given, aim=aim))
    example.write_text(example.read_text().replace("own-", "test-"))
    write_file(tmp_path / "vectors.parquet", [*own_ids(), "test-2", "test-0"], numbers(ROWS + 2))
    assert select(run_of(make_run, location, given, aim={"away_from": (str(example),)})).summary["selection"]


@pytest.mark.parametrize("names", [("id", "source_id"), ("source_id", "id")])
def test_vectors_go_by_the_column_id_wherever_a_source_id_stands(
    names: tuple[str, str], make_run: MakeRun, tmp_path: Path
) -> None:
    rows = [
        {name: row if name == "id" else 5 - row for name in names} | {"instruction": f"Task {row}"} for row in range(6)
    ]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = write_file(tmp_path / "vectors.parquet", list(range(6)), numbers(6))
    result = select(run_of(make_run, str(tmp_path / "pool.jsonl"), given, budget=1))
    wanted = numbers(6) / np.linalg.norm(numbers(6), axis=1, keepdims=True)
    assert np.allclose(np.stack(result.table("embeddings")["vector"].to_numpy()), wanted, atol=1e-6)


@pytest.mark.parametrize("most", [1000, 1])
def test_one_vector_is_not_given_to_two_rows_that_share_an_id(
    most: int, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectllm.blocks.WHOLE_ROWS", most)
    rows = [{"id": id, "instruction": f"Task {row}: explain it"} for row, id in enumerate(["a", 7, "b", "7"])]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = write_file(tmp_path / "vectors.parquet", ["7", "a", "b"], numbers(3))
    run = run_of(make_run, str(tmp_path / "pool.jsonl"), given, budget=1)
    with pytest.raises(PoolError, match=r"rows 2 and 4 differ, and have one id, '7': .*vectors.parquet does not say"):
        select(run)
    ids = Store(run.store).read(Store(run.store).manifests("pool")[0].artifact)["id"].to_pylist()
    write_file(tmp_path / "vectors.parquet", ids, numbers(4))
    assert select(run).summary["embeddings"]["dimension"] == 6


def test_examples_with_vectors_of_another_length_are_refused(
    make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    example = tmp_path / "examples.jsonl"
    example.write_text(json.dumps({"instruction": "Unheard of", "vector": [1.0, 2.0]}))
    location = pool(vectors=numbers())
    for aim in ({"away_from": (str(example),)}, {"target": str(example), "target_rows": 10}):
        for act in (select, plan_run):
            with pytest.raises(PoolError, match=r"vectors of 2 numbers in vector, and those of the pool have 6"):
                act(run_of(make_run, location, "vector", aim=aim))


DECIMALS = pa.array([[Decimal(row + 1), Decimal(1)] for row in range(ROWS)], pa.list_(pa.decimal128(9, 2)))
BOOLEANS = [[True, row % 2 == 0] for row in range(ROWS)]


@pytest.mark.parametrize(
    ("suffix", "vectors", "kind"),
    [(".parquet", DECIMALS, "decimals"), (".parquet", BOOLEANS, "booleans"), (".jsonl", BOOLEANS, "booleans")],
)
def test_lists_of_decimals_or_booleans_are_refused_as_such(
    suffix: str, vectors: Any, kind: str, make_run: MakeRun, pool: Callable[..., str], tmp_path: Path
) -> None:
    advice = f"holds lists of {kind}, and vectors are of floating-point or whole numbers. Convert them"
    given = write_file(tmp_path / f"vectors{suffix}", own_ids(), vectors)
    texts = [f"Task {row}: explain it" for row in range(ROWS)]
    whole = write_file(tmp_path / f"pool{suffix}", own_ids(), vectors, instruction=texts)
    for location, place in ((pool(name="other.jsonl"), given), (whole, "made")):
        for act in (select, plan_run):
            with pytest.raises(PoolError, match=advice):
                act(run_of(make_run, location, place))


SPOILT: list[tuple[str, Callable[[list[Any], list[Any]], Any]]] = [
    ("missing", lambda ids, vectors: (ids.pop(3), vectors.pop(3))),
    ("none", lambda ids, vectors: vectors.__setitem__(3, None)),
    ("short", lambda ids, vectors: vectors.__setitem__(3, [1.0])),
    ("zeros", lambda ids, vectors: vectors.__setitem__(3, [0.0] * 6)),
    ("infinite", lambda ids, vectors: vectors.__setitem__(3, [float("inf")] * 6)),
    ("twice", lambda ids, vectors: (ids.append(ids[3]), vectors.append([1.0] * 6))),
    (
        "twice, not finite",
        lambda ids, vectors: (
            ids.append(ids[3]),
            vectors.__setitem__(3, [float("nan")] * 6),
            vectors.append([float("nan")] * 6),
        ),
    ),
    ("no id", lambda ids, vectors: ids.__setitem__(3, None)),
    ("other ids", lambda ids, vectors: ids.__setitem__(slice(None), [f"x{id}" for id in ids])),
    ("no rows", lambda ids, vectors: (ids.clear(), vectors.clear())),
]


@pytest.mark.parametrize(("name", "spoil"), SPOILT, ids=[name for name, _ in SPOILT])
def test_a_large_pool_is_refused_vectors_as_a_small_one_is(
    name: str,
    spoil: Callable[[list[Any], list[Any]], Any],
    make_run: MakeRun,
    pool: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids, vectors = own_ids(), numbers().tolist()
    spoil(ids, vectors)
    given = str(tmp_path / "vectors.parquet")
    pq.write_table(
        pa.table({"id": pa.array(ids, pa.string()), "made": pa.array(vectors, pa.list_(pa.float64()))}), given
    )
    errors = []
    for most in (1000, 10):
        monkeypatch.setattr("selectllm.blocks.WHOLE_ROWS", most)
        with pytest.raises(PoolError) as raised:
            select(run_of(make_run, pool(), given))
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("type_", [pa.list_(pa.float32()), pa.list_(pa.float64(), 6), pa.large_list(pa.float32())])
def test_a_large_pool_has_the_embeddings_that_a_small_one_has(
    type_: pa.DataType, make_run: MakeRun, pool: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, vectors = [*own_ids()[::-1], "other", own_ids()[5]], numbers()[::-1].tolist()
    vectors += [[1.0] * 6, vectors[ids.index("own-5")]]
    given = str(tmp_path / "vectors.parquet")
    pq.write_table(pa.table({"id": ids, "made": pa.array(vectors, type_)}), given)
    results = []
    for most in (1000, 10):
        monkeypatch.setattr("selectllm.blocks.WHOLE_ROWS", most)
        run = run_of(make_run, pool(), given, store=str(tmp_path / f"store{most}"))
        results.append(select(run))
    small, large = results
    assert large.table("embeddings").equals(small.table("embeddings"))
    assert large.summary["artifacts"]["embeddings"] == small.summary["artifacts"]["embeddings"]
    assert large.table().equals(small.table())
    again = select(run)
    assert again.summary["artifacts"] == large.summary["artifacts"]


def test_vectors_of_a_large_pool_that_grew_have_the_origin_of_the_earlier_ones(
    make_run: MakeRun, pool: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    for most in (1000, 10):
        monkeypatch.setattr("selectllm.blocks.WHOLE_ROWS", most)
        for rows, changed in ((ROWS, 0), (ROWS + 9, 0), (ROWS + 9, 1)):
            vectors = numbers(ROWS + 9)[:rows]
            vectors[:changed] *= -1
            given = write_file(tmp_path / f"{rows}-{changed}.parquet", own_ids(rows), vectors)
            store = str(tmp_path / f"store{most}")
            result = select(run_of(make_run, pool(rows, name=f"pool{rows}.jsonl"), given, store=store))
            artifact = result._artifact("embeddings")
            assert artifact is not None
            manifest = Store(store).manifest(artifact)
            assert manifest is not None
            models.append(manifest.settings["model"])
    assert models[:3] == models[3:]
    assert models[0] == models[1] != models[2]
