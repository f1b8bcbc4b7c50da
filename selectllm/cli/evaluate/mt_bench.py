"""`selectllm evaluate mt-bench`: two-turn questions, rated or compared by a judge."""

from collections.abc import Mapping
from typing import Any

from selectllm.cli.config import ConfigFile
from selectllm.cli.evaluate.dry_run import DryRun, print_forecast
from selectllm.cli.evaluate.paid_line import paid_line
from selectllm.cli.evaluate.written import written_lines
from selectllm.cli.printing import Json, output_width, print_either, progress_bars
from selectllm.evaluation.mt_bench.settings import MtBenchSettings


def mt_bench(
    settings: MtBenchSettings, *, dry_run: DryRun = False, config: ConfigFile = None, json: Json = False
) -> None:
    """Have models answer MT-Bench's questions of two turns, and a judge rate the answers or compare them.

    Math, reasoning and coding are judged beside references. A judgment counts only in the form that was asked for;
    failed ones, and answers that are missing, are counted and never scored.

    Example: `selectllm evaluate mt-bench q.jsonl --references gpt-4.jsonl --model a=a.jsonl --judge openai:gpt-4`
    """
    if dry_run:
        from selectllm.evaluation.mt_bench.forecast import forecast_mt_bench

        print_forecast(forecast_mt_bench(settings), json=json)
        return
    from selectllm.evaluation.mt_bench.run import run_mt_bench

    with progress_bars(settings.run()) as on_progress:
        record = run_mt_bench(settings, on_progress)
    print_mt_bench(record, json=json)


def print_mt_bench(record: Mapping[str, Any], *, json: bool) -> None:
    """Print the scores."""
    print_either(record, format_mt_bench(record, output_width()), json=json)


def format_mt_bench(record: Mapping[str, Any], width: int) -> str:
    """The scores of all models by category and turn, in lines for people."""
    from rich.console import JustifyMethod

    from selectllm.report.plain_table import plain_table
    from selectllm.text import fit_line

    columns: dict[str, JustifyMethod] = {"model": "left", "category": "left", "turn": "left"}
    columns |= dict.fromkeys(("score", "95 % interval", "judged", "failed", "missing"), "right")
    rows = []
    for row in record["scores"]:
        interval = row["interval"]
        between = "-" if interval is None else f"{interval['low']:.2f} to {interval['high']:.2f}"
        score = "-" if row["mean"] is None else f"{row['mean']:.2f}"
        about = [fit_line(row["model"], 40), fit_line(row["category"], 20), str(row["turn"] or "all")]
        rows.append([*about, score, between, *(f"{row[name]:,}" for name in ("scored", "failed", "missing"))])
    lines = [*plain_table(columns, rows, width), ""] if rows else []
    for row in record["differences"]:
        if interval := row["over_questions"]:
            between = f"{interval['low']:+.2f} to {interval['high']:+.2f}"
            lines.append(fit_line(f"{row['first']} - {row['second']}: {interval['mean']:+.2f} ({between})", width))
    for name, counts in record["answers"].items():
        lines.append(fit_line(f"{name}: {counts['answered']:,} answers, {counts['missing']:,} missing", width))
    if record["asked"]:
        lines.append(paid_line(record))
    if not rows:
        lines.append("Nothing is judged yet: name a --judge, or a file of --judgments.")
    return "\n".join(lines + written_lines(record))
