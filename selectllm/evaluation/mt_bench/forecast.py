"""What `evaluate mt-bench` has still to ask its models and its judge."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from selectllm.evaluation.forecast import KnownModel, counts, forecast, look_up, together
from selectllm.evaluation.mt_bench.answer import conversations_entry, turn_question, turns_of
from selectllm.evaluation.mt_bench.judge import Bench, judgments_entry, questions_of
from selectllm.evaluation.mt_bench.questions import Dialogue, Turns
from selectllm.evaluation.mt_bench.run import given_judgments, read_files
from selectllm.evaluation.mt_bench.settings import MtBenchSettings
from selectllm.llm.model import Request, Turn
from selectllm.steps.context import Context
from selectllm.store import Store

TOKEN: Final = "text"
"""Stands for a token of an answer that is not known yet."""


def forecast_mt_bench(settings: MtBenchSettings) -> dict[str, Any]:
    """Count what the models have not answered, and the judge not judged; an answer to come is taken as long as can be.

    Raises UsageError and PoolError, as the run itself would before it asks.
    """
    files, models = read_files(settings), list[dict[str, Any]]()
    given_judgments(settings, files)
    dialogues, answers = files.dialogues, dict[str, Mapping[str, Turns]]()
    for source in settings.sources:
        if source.selector is None:
            answers[source.name] = files.answers[source.name]
            continue
        run = settings.run(source.selector)
        context = Context(run, Store(run.store))
        known, still_open = look_up(context), list[Request]()
        made = known.ledger and conversations_entry(context, known.info, dialogues, settings.max_tokens).load()
        if made:
            answers[source.name] = turns_of(made.table(context.store))
        else:
            answers[source.name], still_open = _converse(known, dialogues, settings.max_tokens)
        models.append(counts(run, source.name, known, sum(len(one.turns) for one in dialogues), still_open))
    bench = Bench(dialogues, answers, files.references, files.prompts)
    if settings.judge is not None:
        models.append(_of_judge(settings, settings.judge, bench))
    return together(models)


def _of_judge(settings: MtBenchSettings, judge: str, bench: Bench) -> dict[str, Any]:
    run = settings.run(judge, judges=True)
    context = Context(run, Store(run.store))
    known = look_up(context)
    asked = list(questions_of(bench, settings.mode, known.info))
    is_made = known.ledger is not None and judgments_entry(context, known.info, asked, settings.mode).load() is not None
    return forecast(run, "judge", known, asked, is_made=is_made)


def _converse(
    known: KnownModel, dialogues: Sequence[Dialogue], max_tokens: int
) -> tuple[dict[str, Turns], list[Request]]:
    """The turns that are kept, with as much text as can be where they are not, and the requests that are open."""
    found, still_open = dict[str, Turns](), list[Request]()
    for one in dialogues:
        before, texts = tuple[Turn, ...](), list[str | None]()
        for turn, text in enumerate(one.turns, 1):
            said = known.look(turn_question(one, turn, max_tokens, known.info).after(before))
            if isinstance(said, Request):
                still_open.append(said)
            answer = TOKEN * max_tokens if isinstance(said, Request) else said.value and said.value.text
            texts.append(answer)
            if answer is None:
                break
            before += (("user", text), ("assistant", answer))
        found[one.id] = tuple(texts)
    return found, still_open
