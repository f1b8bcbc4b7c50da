"""For the strategy open-endedness: the model answers each instruction several times, and what differs is counted."""

from typing import Final

from selectllm.llm.model import ModelInfo
from selectllm.ranking import open_endedness
from selectllm.ranking.open_endedness import SAMPLES, SampleQuestion, distinct_bigrams
from selectllm.steps.ask_rows import ask_about_rows
from selectllm.steps.cache import StepResult
from selectllm.steps.context import Context
from selectllm.steps.rate_rows import asked_candidates, longest_of, row_settings, rows_entry, save_rows

DIMENSION: Final = "distinct bigrams"


def sample_answers(context: Context, model: ModelInfo, pool: StepResult, excluded: StepResult | None) -> StepResult:
    """Have the model answer every row that may be chosen, and count the distinct bigrams; ROW_RATINGS.

    A row is scored where all its answers came. Raises ModelError, CostExceeded, Stopped, and TooManyAbstained when more
    questions than `--max-abstained` allows have no usable answer.
    """
    settings = context.settings
    decisive = row_settings(settings, model) | {"prompts": open_endedness.CODE_VERSION}
    decisive |= {"seed": settings.seed, "dimensions": [DIMENSION]}
    entry = rows_entry(context, pool, excluded, decisive)
    if result := entry.load():
        return result
    candidates, clipped = asked_candidates(context, pool, excluded)
    by_row = [
        [SampleQuestion(row, number, settings.seed, model.think) for number in range(1, SAMPLES + 1)]
        for row in candidates
    ]
    questions = [question for of_row in by_row for question in of_row]
    asking = ask_about_rows(context, model, "answers", questions, longest_of(candidates, questions))
    rows = []
    for candidate, of_row in zip(candidates, by_row, strict=True):
        answers = [asking.answers[question.name] for question in of_row if question.name in asking.answers]
        if len(answers) == SAMPLES:
            score = float(distinct_bigrams(answer.value for answer in answers))
            reply = ",".join(answer.reply for answer in answers)
            rows.append({"id": candidate.id, "dimension": DIMENSION, "score": score, "reply": reply})
    return save_rows(context, entry, asking, rows, {"rows": len(candidates), "clipped": clipped})
