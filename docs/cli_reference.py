"""Writes docs/cli.md, the reference of both command lines, from what `--help` shows: `python docs/cli_reference.py`."""

from pathlib import Path
from typing import Final

from cyclopts.docs.markdown import generate_markdown_docs

from flows.command_line import build_app as build_flow_app
from flows.selection import select_instructions
from selectllm.cli.main import EXIT_CODES, build_app

PAGE: Final = Path(__file__).with_name("cli.md")

INTRODUCTION: Final = f"""\
<!-- Written by docs/cli_reference.py: change selectllm/settings.py and selectllm/cli instead. -->

# Command line

`selectllm` runs the library; `python -m flows.selection` runs the same selection as a Prefect flow, and has the options
of `selectllm select` and those of its workers.

Options of a run that are left out come from the environment, then from the file `.env` of the working folder:
`SELECTLLM_STORE` for `--store`, and `SELECTLLM_RANKING__DEPTH` for `--depth`, since it belongs to the group Ranking.

{EXIT_CODES}
"""


def reference() -> str:
    """The whole page."""
    library = generate_markdown_docs(build_app(), heading_level=2, generate_toc=False)
    flow = generate_markdown_docs(build_flow_app(select_instructions), heading_level=2, usage_name="python")
    page = "\n".join([INTRODUCTION, library, flow])
    return "\n".join(line.rstrip() for line in page.splitlines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
