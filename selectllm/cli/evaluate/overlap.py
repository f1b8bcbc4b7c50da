"""`selectllm evaluate overlap`: models' answers beside references, and beside each other."""

from collections.abc import Mapping
from typing import Any

from selectllm.cli.config import ConfigFile
from selectllm.cli.evaluate.dry_run import DryRun, print_forecast
from selectllm.cli.evaluate.written import written_lines
from selectllm.cli.printing import Json, output_width, print_either, progress_bars
from selectllm.evaluation.answers.settings import OverlapSettings


def overlap(
    settings: OverlapSettings, *, dry_run: DryRun = False, config: ConfigFile = None, json: Json = False
) -> None:
    """Compare models' answers with references, by Rouge-L and by the cosine of their vectors.

    Each model is asked, or its answers are read from a file. Missing answers are counted, and never scored. Intervals
    are of 95 %, by a paired bootstrap over questions.

    Example: `selectllm evaluate overlap test.jsonl --model ours=ours.jsonl --model random=random.jsonl`
    """
    if dry_run:
        from selectllm.evaluation.answers.forecast import forecast_answers

        print_forecast(forecast_answers(settings), json=json)
        return
    from selectllm.evaluation.answers.compare import compare_overlap

    with progress_bars(settings.run()) as on_progress:
        record = compare_overlap(settings, on_progress)
    print_overlap(record, json=json)


def print_overlap(record: Mapping[str, Any], *, json: bool) -> None:
    """Print what was measured."""
    print_either(record, format_overlap(record, output_width()), json=json)


def format_overlap(record: Mapping[str, Any], width: int) -> str:
    """The scores of all models, and their differences, in lines for people."""
    from rich.console import JustifyMethod

    from selectllm.evaluation.answers.text import difference_rows, estimate_rows, notes
    from selectllm.report.plain_table import plain_table
    from selectllm.text import fit_line

    columns: dict[str, JustifyMethod] = dict.fromkeys(("model", "measure"), "left")
    columns |= dict.fromkeys(("mean", "95 % interval", "scored", "missing", "by seed"), "right")
    rows = ([fit_line(cell, 40) for cell in row] for row in estimate_rows(record))
    lines = plain_table(columns, rows, width)
    if pairs := difference_rows(record):
        of_pairs: dict[str, JustifyMethod] = {"difference": "left", "measure": "left"}
        of_pairs |= dict.fromkeys(("mean", "over questions", "over seeds"), "right")
        lines += ["", *plain_table(of_pairs, ([fit_line(cell, 60) for cell in row] for row in pairs), width)]
    lines += ["", *notes(record)]
    return "\n".join(lines + written_lines(record))
