"""What a benchmark comes to: the record, and FastChat's files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from selectllm.errors import UsageError
from selectllm.evaluation.mt_bench.files import file_name, model_answer, model_judgment
from selectllm.evaluation.mt_bench.judge import Bench
from selectllm.evaluation.mt_bench.scores import summarise
from selectllm.evaluation.mt_bench.settings import MtBenchSettings
from selectllm.evaluation.page.build import write_page
from selectllm.evaluation.page.mt_bench import mt_bench_sheet
from selectllm.store.new_files import write_new


def publish_mt_bench(settings: MtBenchSettings, bench: Bench, judgments: pa.Table | None) -> dict[str, Any]:
    """Sum judgments up, and write the output folder and the page, where they are named.

    Raises UsageError where files are in the way.
    """
    record: dict[str, Any] = {
        "questions": len(bench.dialogues),
        "judging": settings.mode,
        "judge": settings.judge,
        "answers": {name: _counts(bench, name) for name in bench.answers},
        **(summarise(judgments, bench, settings.mode) if judgments else {"scores": [], "differences": []}),
    }
    if settings.out is not None:
        write_new(Path(settings.out).expanduser(), _files(settings, bench, judgments, record), settings.store)
    write_page(settings.page, mt_bench_sheet(record), settings.store)
    return record | {"out": settings.out, "page": settings.page}


def _counts(bench: Bench, name: str) -> dict[str, int]:
    wanted = sum(len(one.turns) for one in bench.dialogues)
    found = sum(
        text is not None for one in bench.dialogues for text in bench.answers[name].get(one.id, ())[: len(one.turns)]
    )
    return {"answered": found, "missing": wanted - found}


def _files(
    settings: MtBenchSettings, bench: Bench, judgments: pa.Table | None, record: Mapping[str, Any]
) -> dict[str, bytes]:
    files = {f"model_answer/{file_name(name)}.jsonl": model_answer(name, own) for name, own in bench.answers.items()}
    if len(files) < len(bench.answers):
        raise UsageError("two models have names that give one file's name: name them by letters and digits")
    if judgments is not None and settings.judge is not None:
        kind = "single" if settings.mode == "single" else "pair"
        name = f"model_judgment/{file_name(settings.judge)}_{kind}.jsonl"
        files[name] = model_judgment(judgments, settings.judge, settings.mode)
    return files | {"scores.json": (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()}
