"""`selectllm evaluate answers`: a served model's answers to a set of questions."""

from collections.abc import Mapping
from typing import Any

from selectllm.cli.config import ConfigFile
from selectllm.cli.evaluate.dry_run import DryRun, print_forecast
from selectllm.cli.evaluate.paid_line import paid_line
from selectllm.cli.printing import Json, print_either, progress_bars
from selectllm.evaluation.answers.settings import AnswerSettings


def answers(
    settings: AnswerSettings, *, dry_run: DryRun = False, config: ConfigFile = None, json: Json = False
) -> None:
    """Have a served model answer a set of questions at temperature 0, and keep its answers.

    Each question is asked with its own text and nothing else: the server adds the model's chat template. Every answer
    is kept before it counts, and is never paid for twice: a run that was stopped goes on where it was.

    Example: `selectllm evaluate answers test.jsonl --selector openai:tuned-7b --host http://gpu1:8000/v1 --out a.jsonl`
    """
    if dry_run:
        from selectllm.evaluation.answers.forecast import forecast_answers

        print_forecast(forecast_answers(settings), json=json)
        return
    from selectllm.evaluation.answers.collect import collect_answers

    with progress_bars(settings.run(settings.selector)) as on_progress:
        record = collect_answers(settings, on_progress)
    print_either(record, format_answers(record), json=json)


def format_answers(record: Mapping[str, Any]) -> str:
    """What was counted, in lines for people."""
    from selectllm.text import fit_line

    seeds = f", {record['seeds']} seeds" if record["seeds"] > 1 else ""
    lines = [
        f"{fit_line(record['name'], 60)}: {record['answered']:,} answers to {record['questions']:,} questions{seeds}"
    ]
    notes = {
        "missing": "missing: they are never scored",
        "cut": "cut off at the most tokens: raise --max-tokens",
        "left_out": "rows of the questions cannot be read",
        "repeats": "questions stand in the file more than once",
        "foreign": "answers are to other questions",
        "unusable": "rows of the predictions cannot be read",
    }
    lines += [f"  {record[name]:,} {note}" for name, note in notes.items() if record.get(name)]
    if record["errors_by_kind"]:
        lines.append("  " + ", ".join(f"{kind}: {count:,}" for kind, count in record["errors_by_kind"].items()))
    if record["asked"]:
        lines.append(f"  {paid_line(record)}")
    lines.append(f"  kept: {record['artifact']}")
    return "\n".join(lines + ([f"  written: {record['out']}"] if record["out"] else []))
