"""MT-Bench from the settings to the scores: answers, judgments, and FastChat's files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from selectllm import cancellation
from selectllm.errors import UsageError
from selectllm.evaluation.mt_bench.answer import converse, turns_of
from selectllm.evaluation.mt_bench.files import file_name, model_answer, model_judgment, read_judgments
from selectllm.evaluation.mt_bench.judge import Bench, judge
from selectllm.evaluation.mt_bench.prompts import read_prompts
from selectllm.evaluation.mt_bench.questions import Turns, read_answers, read_dialogues
from selectllm.evaluation.mt_bench.scores import summarise
from selectllm.evaluation.mt_bench.settings import MtBenchSettings
from selectllm.execution import Progress, no_progress
from selectllm.steps.context import Context, RunLog
from selectllm.steps.model import check_model
from selectllm.store import Store
from selectllm.store.new_files import write_new


class _Runs:
    """The contexts of a benchmark's models and judge, whose one log says what all have cost."""

    def __init__(self, settings: MtBenchSettings, on_progress: Progress) -> None:
        self._settings, self._on_progress = settings, on_progress
        self.log = RunLog()

    def open(self, selector: str, *, judges: bool = False) -> Context:
        run = self._settings.run(selector, judges=judges)
        return Context(run, Store(run.store), self._on_progress, log=self.log)


def run_mt_bench(settings: MtBenchSettings, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Collect all answers, have them judged, and sum the judgments up; what was kept is not made again.

    Raises UsageError before anything is asked, RunError when it cannot be finished.
    """
    with cancellation.propagate_interrupt():
        dialogues, runs = read_dialogues(settings.questions), _Runs(settings, on_progress)
        references = read_answers(settings.references) if settings.references else {}
        prompts = read_prompts(settings.prompts) if settings.prompts else None
        taken = {source.name: read_answers(source.files[0]) for source in settings.sources if source.files}
        answers: dict[str, Mapping[str, Turns]] = {}
        for source in settings.sources:
            if source.selector is None:
                answers[source.name] = taken[source.name]
                continue
            context = runs.open(source.selector)
            result = context.run(converse, context.run(check_model), dialogues, settings.max_tokens)
            answers[source.name] = turns_of(result.table(context.store))
        bench = Bench(dialogues, answers, references, prompts)
        judgments = _judgments(settings, bench, runs)
        record: dict[str, Any] = {
            "questions": len(dialogues),
            "judging": settings.mode,
            "judge": settings.judge,
            "answers": {name: _counts(bench, name) for name in answers},
            **(summarise(judgments, bench, settings.mode) if judgments else {"scores": [], "differences": []}),
        }
        if settings.out is not None:
            write_new(Path(settings.out).expanduser(), _files(settings, bench, judgments, record), settings.store)
        paid = runs.log.paid()
        tokens = paid.paid_prompt_tokens, paid.paid_output_tokens
        record |= {"asked": paid.asked, "paid_prompt_tokens": tokens[0], "paid_output_tokens": tokens[1]}
        return record | {"cost": settings.ranking.cost(*tokens), "out": settings.out}


def _judgments(settings: MtBenchSettings, bench: Bench, runs: _Runs) -> pa.Table | None:
    if settings.judgments is not None:
        return read_judgments(settings.judgments, bench, settings.mode)
    if settings.judge is None:
        return None
    context = runs.open(settings.judge, judges=True)
    return context.run(judge, context.run(check_model), bench, settings.mode).table(context.store)


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
