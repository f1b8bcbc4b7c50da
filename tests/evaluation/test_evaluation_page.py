"""The pages of evaluations: what stands on them, that names stay text, and that equal results give one file."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from selectllm.cli.main import main
from selectllm.evaluation.page.alpaca_eval import alpaca_eval_sheet
from selectllm.evaluation.page.build import to_html
from selectllm.evaluation.page.mt_bench import mt_bench_sheet
from selectllm.evaluation.page.pictures import draw
from selectllm.evaluation.page.sheet import Mark, Picture, Sheet, Table, to_markdown
from selectllm.llm.model import Reply, Request
from tests.conftest import FakeModel

pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
pytestmark = pytest.mark.usefixtures("quick_embedding")
MakeModel = Callable[..., FakeModel]
HOSTILE = "</script><img src=x onerror='window.__pwned = true'>\u202e|[a](b)"


def hostile_sheet() -> Sheet:
    marks = [Mark(HOSTILE, HOSTILE, 0.5, 0.4, 0.6), Mark(HOSTILE, "other", 0.2)]
    return Sheet(
        HOSTILE,
        {HOSTILE: HOSTILE},
        [Picture(HOSTILE, HOSTILE, marks, reference=0.0)],
        [Table(HOSTILE, [HOSTILE, "value"], [[HOSTILE, "0.5"]], HOSTILE)],
        [HOSTILE],
    )


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_names_stay_text_on_the_page_and_in_markdown() -> None:
    page, text = to_html(hostile_sheet()), to_markdown(hostile_sheet())
    assert "<img" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=[\"']?http", page)
    assert "&lt;/script&gt;" in page
    assert not any(mark in text for mark in ("<img", "](b)", "</script>"))


def test_a_picture_is_drawn_alike_each_time_and_says_its_values() -> None:
    marks = [Mark("", "a", 6.25, 5.0, 7.5), Mark("", "b", 4.0)]
    drawn = draw(Picture("How good?", "rating", marks))
    assert drawn == draw(Picture("How good?", "rating", marks))
    texts = [
        "".join(each.itertext()) for each in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"a", "b", "6.25", "4.00", "rating"} <= set(texts)
    alone = draw(Picture("One", "share", [Mark("", "a", 0.0)], reference=0.0))  # no spread at all
    assert "0.000" in alone


def test_overlap_has_a_page_beside_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"instruction": f"Ask {n}", "output": f"river {n} and hill"} for n in range(6)]
    questions = lines(tmp_path / "q.jsonl", rows)
    taken = lines(tmp_path / "a.jsonl", [row | {"output": "zebra"} for row in rows[1:]])
    arguments = ["evaluate", "overlap", questions, "--store", str(tmp_path / "store")]
    arguments += [
        "--model",
        f"{HOSTILE.replace('=', '')}={taken}",
        "--model",
        f"same={questions}",
        "--page",
        str(tmp_path / "p.html"),
    ]
    assert main(arguments) == 0
    page = (tmp_path / "p.html").read_text("utf-8")
    assert "Answers beside references" in page
    assert "<img" not in page
    assert page.count("<svg") == 2
    assert ">1.0000<" in page
    assert "1 answers are missing" in page
    assert f"Page: {tmp_path}" in capsys.readouterr().out
    assert main(arguments) == 0, "the same result gives the same file"
    (tmp_path / "p.html").write_text("mine")
    assert main(arguments) == 2
    assert "nothing is written over" in capsys.readouterr().err


def test_a_judge_and_its_scores_have_pages(fake_model: MakeModel, tmp_path: Path) -> None:
    def prefer_good(request: Request) -> Reply:
        first = request.text.find("good") < request.text.find("bad")  # neither is in the trial
        return Reply("1", "stop", 10, 1, logprobs={"1": -0.1 if first else -2.4, "2": -2.4 if first else -0.1})

    fake_model(prefer_good)
    for name in ("good", "bad"):
        own = [{"instruction": f"Ask {n}", "output": f"{name} {'x' * n}", "generator": name} for n in range(12)]
        (tmp_path / f"{name}.json").write_text(json.dumps(own))
    given = [
        {"instruction": f"Ask {n}", "output_1": "bad", "output_2": f"good {n}", "preference": 2 - n % 2}
        for n in range(6)
    ]
    (tmp_path / "given.json").write_text(json.dumps(given))
    judge = ["--selector", "ollama:judge", "--both-orders", "--store", str(tmp_path / "store")]
    contest = ["--outputs", str(tmp_path / "good.json"), "--baseline", str(tmp_path / "bad.json")]
    assert main(["evaluate", "alpaca-eval", *contest, *judge, "--page", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "How often does the model win?" in page
    assert "questions that failed" in page
    given_file = ["--given", str(tmp_path / "given.json")]
    assert main(["evaluate", "judge-agreement", *given_file, *judge, "--page", str(tmp_path / "j.html")]) == 0
    assert "position bias" in (tmp_path / "j.html").read_text("utf-8")


def test_scores_without_values_have_a_page() -> None:
    nothing = {"questions": 2, "judging": "single", "judge": None, "answers": {"m": {"answered": 1, "missing": 3}}}
    page = to_html(mt_bench_sheet(nothing | {"scores": [], "differences": []}))
    assert "<svg" not in page
    assert "Nothing is judged yet" in page
    unknown = dict.fromkeys(("lc_win_rate", "lc_low", "lc_high")) | {"notes": ["there is no fit: 2 are too few"]}
    scores = {"model": "m", "baseline": "b", "annotator": "j", "n": 2, "unjudged": 0, "avg_length": 5.0}
    sheet = alpaca_eval_sheet(scores | unknown | {"win_rate": 50.0, "standard_error": 50.0})
    assert sheet.tables[0].rows == [["win rate", "50.00 %", "0.00 to 100.00"]]
    assert "There is no fit: 2 are too few." in unescape(to_markdown(sheet))


def test_a_page_that_cannot_be_drawn_is_noticed_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("selectllm.evaluation.page.build.find_spec", lambda _: None)
    nowhere = str(tmp_path / "none.json")
    for command in (
        ["overlap", nowhere, "--model", f"m={nowhere}"],
        ["mt-bench", nowhere, "--model", f"m={nowhere}"],
        ["alpaca-eval", "--annotations", nowhere],
        ["judge-agreement", "--given", nowhere],
    ):
        assert main(["evaluate", *command, "--page", str(tmp_path / "p.html")]) != 0
        assert "selectllm[report]" in capsys.readouterr().err


def test_a_judge_that_takes_no_batches_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "judge-agreement", "--given", str(tmp_path / "none.json"), "--batch"]
    assert main([*arguments, "--selector", "ollama:m"]) == 2
    assert "takes no batches" in capsys.readouterr().err
    assert main(arguments) == 2
    assert "does not exist" in capsys.readouterr().err
