"""Writes docs/cli.md, the reference of both command lines, from their `--help`: `python docs/cli_reference.py`."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cyclopts import App
from rich.console import Console

from flows.assessment import assess_alpaca_eval, assess_answers, assess_mt_bench
from flows.commands import assessment_app, comparison_app, selection_app, tuning_app
from flows.comparison import compare_selections
from flows.selection import select_instructions
from flows.tuning import tune_model
from selectllm.cli.main import build_app

PAGE: Final = Path(__file__).with_name("cli.md")

WIDTH: Final = 100

COMMANDS: Final = (
    ["select"],
    ["plan"],
    ["compare"],
    ["doctor"],
    ["explain"],
    ["report"],
    ["export"],
    ["annotations"],
    ["evaluate"],
    ["evaluate", "answers"],
    ["evaluate", "overlap"],
    ["evaluate", "alpaca-eval"],
    ["evaluate", "mt-bench"],
    ["evaluate", "judge-agreement"],
    ["tune"],
    ["artifacts"],
    ["artifacts", "prune"],
)

INTRODUCTION: Final = """\
<!-- Written by docs/cli_reference.py: change selectllm/settings and selectllm/cli instead. -->

# Command line

`selectllm` runs the library. `python -m flows.selection`, `python -m flows.comparison` and
`python -m flows.assessment` do the same as Prefect flows: they have the options of `selectllm select`,
`selectllm compare` and `selectllm evaluate`, and those of the flow's workers.
`python -m flows.tuning` is `selectllm tune` as a flow.

Options of a run that are left out come from the file of `--config`, then from the environment, then from the file
`.env` of the working folder. The variable of `--store` is `SELECTLLM_STORE`. That of `--depth` is
`SELECTLLM_RANKING__DEPTH`, since it belongs to the settings of ranking. Lists are written as JSON there.
"""


def reference() -> str:
    """The whole page."""
    library = build_app()
    sections = [_section(build_app(is_list=True), "selectllm", [])]
    sections += [_section(library, " ".join(["selectllm", *command]), command) for command in COMMANDS]
    sections.append(_section(selection_app(select_instructions), "python -m flows.selection", []))
    sections.append(_section(comparison_app(compare_selections), "python -m flows.comparison", []))
    assessment = assessment_app(assess_answers, assess_mt_bench, assess_alpaca_eval)
    commands = ("overlap", "mt-bench", "alpaca-eval")
    sections += [_section(assessment, f"python -m flows.assessment {name}", [name]) for name in commands]
    sections.append(_section(tuning_app(tune_model), "python -m flows.tuning", []))
    return "\n".join([INTRODUCTION, *sections])


def _section(app: App, title: str, command: Sequence[str]) -> str:
    text = io.StringIO()
    app.help_print(command, console=Console(file=text, width=WIDTH, color_system=None, force_terminal=False))
    help = "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())
    return f"## {title}\n\n```text\n{help}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
