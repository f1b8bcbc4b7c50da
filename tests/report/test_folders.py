"""No run writes over a file that it reads, nor over files that SelectLLM has not written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from selectllm import RunSettings, select
from selectllm.errors import UsageError
from selectllm.paths import local_path
from selectllm.report.folders import check_folders
from tests.conftest import write_pool

MakeRun = Callable[..., RunSettings]
ROW = '{"instruction": "Explain why the sky is blue."}\n'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["selection.jsonl", "selection.parquet"])
def test_a_pool_in_the_output_folder_is_not_written_over(name: str, make_run: MakeRun, out: Path) -> None:
    pool = write_pool(out / name, 20)
    before = pool.read_bytes()
    with pytest.raises(UsageError, match=f"^POOL .*{name} would be written over by --out: name another folder"):
        select(make_run(pool=str(pool), out=str(out)))
    assert (pool.read_bytes(), os.listdir(out)) == (before, [name])
    assert not (out.parent / "store").exists()


@pytest.mark.parametrize("pool", ["out", "out/*.jsonl"])
def test_a_file_of_a_pool_of_many_files_is_not_written_over(
    pool: str, make_run: MakeRun, out: Path, tmp_path: Path
) -> None:
    write_pool(out / "part.jsonl", 20)
    write_pool(out / "selection.jsonl", 20)
    with pytest.raises(UsageError, match=r"^POOL .*selection\.jsonl would be written over by --out"):
        select(make_run(pool=str(tmp_path / pool), out=str(out)))
    check_folders(make_run(pool=str(tmp_path / pool), out=str(tmp_path / "other")))


def test_every_spelling_of_a_path_is_the_same_file(
    make_run: MakeRun, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = write_pool(out / "selection.jsonl", 20)
    (tmp_path / "link.jsonl").symlink_to(pool)
    (tmp_path / "hard.jsonl").hardlink_to(pool)
    (tmp_path / "folder").symlink_to(out)
    monkeypatch.chdir(tmp_path)
    spellings = ["link.jsonl", "hard.jsonl", "folder/selection.jsonl", "out/../out/selection.jsonl", f"file://{pool}"]
    for spelling in [*spellings, f"simplecache::file://{pool}"]:
        for folder in (out, Path("folder"), Path("out")):
            with pytest.raises(UsageError, match="would be written over by --out"):
                check_folders(make_run(pool=spelling, out=str(folder)))


def test_names_that_a_disk_takes_for_one_are_one_file(
    make_run: MakeRun, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = write_pool(out / "Selection.JSONL", 20)
    check_folders(make_run(pool=str(pool), out=str(out)))  # on this disk they are two files

    def is_same(path: Path, other: Path) -> bool:  # as on a disk that takes no notice of case
        return os.path.realpath(path).lower() == os.path.realpath(other).lower()

    monkeypatch.setattr(os.path, "samefile", is_same)
    with pytest.raises(UsageError, match="would be written over by --out"):
        check_folders(make_run(pool=str(pool), out=str(out)))


def test_a_file_of_criteria_is_not_written_over(make_run: MakeRun, out: Path) -> None:
    file = out / "summary.json"
    file.write_text("Medicine")
    with pytest.raises(UsageError, match=r"^--criteria .*summary\.json would be written over by --out"):
        select(make_run(criteria=str(file), out=str(out)))
    assert file.read_text() == "Medicine"
    check_folders(make_run(criteria="Medicine", out=str(out.parent / "other")))


def test_an_earlier_selection_can_be_excluded_only_from_another_folder(make_run: MakeRun, tmp_path: Path) -> None:
    select(make_run(out=str(tmp_path / "first")))
    earlier = tmp_path / "first" / "selection.jsonl"
    chosen = earlier.read_bytes()
    with pytest.raises(UsageError, match=r"^--exclude .*selection\.jsonl would be written over by --out"):
        select(make_run(exclude=[str(earlier)], out=str(tmp_path / "first")))
    assert earlier.read_bytes() == chosen
    select(make_run(exclude=[str(earlier)], out=str(tmp_path / "second")))
    assert earlier.read_bytes() == chosen


def test_expectations_are_not_written_over(make_run: MakeRun, out: Path) -> None:
    (out / "summary.json").write_text("[]")
    quality = {"expectations": str(out / "summary.json")}
    with pytest.raises(UsageError, match=r"^--expectations .*summary\.json would be written over by --out"):
        check_folders(make_run(quality=quality, out=str(out)))


def test_the_store_is_no_place_for_inputs_but_its_artifacts_are(make_run: MakeRun, tmp_path: Path) -> None:
    first = select(make_run())
    check_folders(make_run(exclude=[first.path()]))
    latest = tmp_path / "store" / "v1" / "latest" / "selection.json"
    with pytest.raises(UsageError, match="would be written over by --store"):
        check_folders(make_run(exclude=[str(latest)]))


@pytest.mark.parametrize("name", ["selection.jsonl", "selection.parquet", "quarantine.parquet", "summary.json"])
def test_a_file_of_anothers_in_the_output_folder_is_kept(name: str, make_run: MakeRun, out: Path) -> None:
    (out / name).write_text(ROW)
    with pytest.raises(UsageError, match=f"^--out would write over .*{name}, which is not its own"):
        select(make_run(out=str(out)))
    assert (out / name).read_text() == ROW


def test_other_files_of_the_output_folder_stay(make_run: MakeRun, out: Path) -> None:
    others = ["notes.md", ".draft.tmp", ".selection.jsonl.swp", ".pool.jsonl.0123abcd.tmp"]
    for name in others:
        (out / name).write_text("mine")
        os.utime(out / name, (0, 0))
    for budget in (5, 6):  # the second run writes over the files of the first
        select(make_run(out=str(out), budget=budget))
    assert [(out / name).read_text() for name in others] == ["mine"] * 4
    assert len((out / "selection.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("name", ["index.html", "static", "expectations", "validations"])
def test_a_site_of_anothers_in_the_folder_of_data_docs_is_kept(name: str, make_run: MakeRun, out: Path) -> None:
    (out / name).mkdir() if name != "index.html" else (out / name).write_text("<h1>My site</h1>")
    with pytest.raises(UsageError, match=f"^--data-docs would write over .*{name}, which is not its own"):
        check_folders(make_run(quality={"data_docs": str(out)}))
    (out / name).rename(out / "other")
    (out / "index.html").write_text("<title>Data Docs created by Great Expectations</title>")
    check_folders(make_run(quality={"data_docs": str(out)}))


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("a::b.jsonl", "a::b.jsonl"),
        ("file:///data/pool.jsonl", "/data/pool.jsonl"),
        ("zip://a.jsonl::file:///data/pool.zip", "/data/pool.zip"),
        ("s3://bucket/pool.jsonl", None),
        ("simplecache::https://host/pool.jsonl", None),
    ],
)
def test_the_local_file_of_a_url_is_known(location: str, path: str | None) -> None:
    assert local_path(location) == (path and Path(path))
