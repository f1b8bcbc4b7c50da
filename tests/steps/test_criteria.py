"""`--criteria`: a text or a file, in the prompts, the keys, the record and the summary."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm import pipeline, plan_run, select
from selectllm.cli.main import main
from selectllm.errors import UsageError
from selectllm.report.format import format_selection, markdown
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.steps.criteria import MAX_CHARS, read_criteria
from selectllm.store import Store
from selectllm.store.runs import load_run
from tests.conftest import FakeModel
from tests.steps.test_remote_ranking import Workers

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")


def criteria_of(text: str) -> str | None:
    return read_criteria(RunSettings(pool="p", budget=1, criteria=text))


@pytest.mark.parametrize(
    "text",
    [
        "Medicine",
        "  Medicine, for nurses.\n",
        "Medicine: see README.md first.",
        "see https://example.org, and choose such rows",
        "~nobody knows this",
        "a\0b",
        "x" * MAX_CHARS,
        "médecine, 医学",
        "/",
    ],
)
def test_a_text_is_taken_as_it_is_without_blanks_around_it(text: str) -> None:
    assert criteria_of(text) == text.strip()


def test_without_criteria_there_is_no_text() -> None:
    assert read_criteria(RunSettings(pool="p", budget=1)) is None


@pytest.mark.parametrize("name", ["wishes.txt", "wishes.md", "wishes"])
@pytest.mark.parametrize("content", ["Medicine.\nIn French.", "\ufeffMedicine.\r\nIn French.\r\n\r\n"])
def test_a_file_is_read(name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / name).write_bytes(content.encode())
    for path in (name, str(tmp_path / name), f"~/{name}", f"file://{tmp_path / name}", f" {name}\n"):
        assert criteria_of(path) == "Medicine.\nIn French."


def test_a_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("Medicine",))
    writer.start()
    assert criteria_of(str(pipe)) == "Medicine"
    writer.join()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "{tmp}/missing.txt",
            r"missing\.txt cannot be read: No such file or directory\. If it is no path",
        ),
        ("{tmp}/missing.MD", r"missing\.MD cannot be read"),
        ("{tmp}/folder.txt", "cannot be read: Is a directory"),
        ("{tmp}/latin1.txt", "is not UTF-8 text"),
        ("{tmp}/blank.txt", r"blank\.txt is empty"),
        ("{tmp}/long.txt", r"long\.txt has more than 4,000 characters"),
        ("{tmp}/huge.txt", r"huge\.txt has more than 4,000 characters"),
        ("", "--criteria is empty"),
        (" \n", "--criteria is empty"),
        ("m\udce9decine", "--criteria is not UTF-8 text"),
        ("x" * (MAX_CHARS + 1), "--criteria has more than 4,000 characters"),
        ("https://user:planted@example.org/wishes.txt?token=planted", "--criteria https://example.org/wishes.txt is a"),
    ],
)
def test_what_cannot_be_used_is_an_error_before_anything_is_computed(
    text: str, words: str, make_run: MakeRun, tmp_path: Path
) -> None:
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "latin1.txt").write_bytes("médecine".encode("latin-1"))
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "long.txt").write_text("x" * (MAX_CHARS + 1))
    (tmp_path / "huge.txt").write_text("x" * 1_000_000)
    settings = make_run(criteria=text.format(tmp=tmp_path))
    for function in (select, plan_run):
        with pytest.raises(UsageError, match=words) as error:
            function(settings)
        assert "planted" not in str(error.value)
    assert not (tmp_path / "store").exists()


def test_every_question_shows_them_also_in_other_processes(
    make_run: MakeRun, fake_model: Callable[..., FakeModel]
) -> None:
    model, settings = fake_model(), make_run(rows=60, budget=7, criteria="Medicine\nfor nurses")
    select(settings)
    assert len(model.asked) == 5 + 1
    assert all('\n"Medicine\\nfor nurses"\n' in request.text for request in model.asked)
    other = settings.model_copy(update={"store": f"{settings.store}-of-workers"})
    pipeline.run(Context(other, Store(other.store), executor=Workers()))
    assert sorted(request.key(model.info) for request in model.asked[6:]) == sorted(
        request.key(model.info) for request in model.asked[:6]
    )


def test_the_longest_question_counts_them(make_run: MakeRun, fake_model: Callable[..., FakeModel]) -> None:
    model = fake_model()
    select(make_run())
    without = model.longest
    select(make_run(criteria="語" * MAX_CHARS))
    assert model.longest >= without + 3 * MAX_CHARS - 1000


def test_keys_depend_on_the_text_and_not_on_where_it_stands(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Medicine\n")
    (tmp_path / "b").write_text("\r\nMedicine")

    def keys(**fields: Any) -> dict[str, str]:
        artifacts: dict[str, str] = select(make_run(budget=7, **fields)).summary["artifacts"]
        return artifacts

    plain = keys()
    by_text = keys(criteria="Medicine")
    assert by_text == keys(criteria=str(tmp_path / "a.txt")) == keys(criteria=str(tmp_path / "b"))
    changed = {kind for kind, key in plain.items() if by_text[kind] != key}
    assert changed == {"rankings", "tournament", "preferences", "selection"}
    assert keys(criteria="Law")["rankings"] not in (plain["rankings"], by_text["rankings"])
    assert keys() == plain


def test_keys_without_criteria_are_those_of_earlier_versions(make_run: MakeRun) -> None:
    result = select(make_run(budget=7))
    for kind in ("rankings", "tournament"):
        manifest = result.store.manifest(result._artifact(kind))
        assert manifest is not None
        assert set(manifest.settings) - {"depth", "level", "size"} == {
            "candidate_chars", "passes", "model", "name", "mode", "think", "prompts", "seed",
        }  # fmt: skip


def test_record_and_summary_hold_the_text(make_run: MakeRun, tmp_path: Path) -> None:
    file = tmp_path / "wishes.txt"
    file.write_text("Medicine.\n**In** <b>French</b>\x1b[2J\u202e.")
    text = file.read_text()
    result = select(make_run(criteria=str(file), out=str(tmp_path / "out")))
    file.unlink()
    record = load_run(result.store)
    assert record.settings["criteria"] == record.summary["criteria"] == result.summary["criteria"] == text
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["criteria"] == text
    printed, page = format_selection(result, None, 100), markdown(result)
    assert "Criteria:  Medicine. **In**" in printed
    assert "\x1b" not in printed + page
    assert "<b>" not in page
    assert "**In**" not in page
    plain = select(make_run())
    assert (plain.summary["criteria"], load_run(plain.store).settings["criteria"]) == (None, None)


def test_a_filled_slot_keeps_the_criteria_that_it_was_chosen_by(make_run: MakeRun) -> None:
    first = select(make_run(history="h", slot="one", criteria="Medicine"))
    again = select(make_run(history="h", slot="one", criteria="Law"))
    assert again.table().equals(first.table())
    assert again.summary["criteria"] == "Medicine"


def test_plan_shows_a_whole_question_without_asking(
    make_run: MakeRun, fake_model: Callable[..., FakeModel], capsys: pytest.CaptureFixture[str]
) -> None:
    model = fake_model()
    settings = make_run(rows=60, criteria="Medicine\u202e", queries={"size": 4}, ranking={"think": "low"})
    prompt = plan_run(settings, show_prompt=True)["prompt"]
    (message,) = prompt["messages"]
    assert message["role"] == "user"
    assert '"Medicine\u202e"' in message["content"]
    assert [f"Task {number}:" in message["content"] for number in range(5)] == [True] * 4 + [False]
    assert prompt["schema"]["properties"]["ranking"]["minItems"] == 3
    assert (prompt["rows"], prompt["max_tokens"], prompt["think"]) == (4, 32 + 24 + 4096, "low")
    assert plan_run(settings)["prompt"] is None
    arguments = ["plan", settings.pool, "--budget", "5", "--query-size", "4", "--criteria", "Medicine\u202e"]
    assert main([*arguments, "--selector", "scripted:first", "--store", settings.store, "--show-prompt"]) == 0
    printed = capsys.readouterr().out
    assert "about the first 4 rows of the pool: only embeddings tell which rows share a query" in printed
    assert '"Medicine\\u202e"' in printed
    assert '{"type": "object"' in printed
    assert main([*arguments, "--selector", "scripted:first", "--store", settings.store, "--show-prompt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"]["messages"][0]["content"].startswith("You help to decide")
    assert not model.asked
    assert not Path(settings.store).exists()


def test_plan_shows_the_prompt_that_the_run_sends(make_run: MakeRun, fake_model: Callable[..., FakeModel]) -> None:
    model, settings = fake_model(), make_run(rows=5, budget=2, criteria="Medicine")  # one query: all rows
    prompt = plan_run(settings, show_prompt=True)["prompt"]
    select(settings)
    sent = model.asked[0]
    assert (sent.text, sent.schema, sent.max_tokens, sent.seed) == (
        prompt["messages"][0]["content"], prompt["schema"], prompt["max_tokens"], prompt["seed"],
    )  # fmt: skip


def test_plan_shows_a_pointwise_prompt(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_run(selector="embedded", criteria="Medicine")
    prompt = plan_run(settings, show_prompt=True)["prompt"]
    assert (prompt["messages"], prompt["schema"], prompt["rows"], prompt["max_tokens"]) == (None, None, 1, 1)
    assert prompt["continued"].endswith("Worth it:")
    assert main(["plan", settings.pool, "--budget", "5", "--store", settings.store, "--show-prompt"]) == 0
    assert "about the first row of the pool" in capsys.readouterr().out


def test_a_strategy_without_a_model_has_no_prompt(make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="the strategy random asks no model: there is no prompt"):
        plan_run(make_run(strategy="random"), show_prompt=True)
