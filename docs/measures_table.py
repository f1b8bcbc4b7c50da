"""Writes the table of docs/measures.md from the registry of measures: `python docs/measures_table.py`."""

from pathlib import Path
from typing import Final

from selectllm.evaluation.measures import MEASURES, OTHERS
from selectllm.evaluation.measures.measure import About

PAGE: Final = Path(__file__).with_name("measures.md")

BEGIN: Final = "<!-- Written by docs/measures_table.py: change selectllm/evaluation/measures instead. -->"
END: Final = "<!-- The end of what is written. -->"

HEAD: Final = "| measure | values | better | what it rewards | how it can be gamed |\n|---|---|---|---|---|"


def written(page: str) -> str:
    """The page with the table as the code has it."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    rows = [_row(about) for about in (MEASURES | OTHERS).values()]
    return "\n".join([f"{before}{BEGIN}", "", HEAD, *rows, "", f"{END}{after}"])


def _row(about: About) -> str:
    return f"| `{about.name}` | {_names(about.values)} | {about.better} | {about.rewards}. | {about.gamed_by}. |"


def _names(values: tuple[str, ...]) -> str:
    """The names of values, of which a numbered series is named by its first and last."""
    series = [f"`{name}`" for name in values if name[-1].isdigit() and "bin" in name]
    others = [f"`{name}`" for name in values if f"`{name}`" not in series]
    return ", ".join([*others, f"{series[0]} to {series[-1]}"] if series else others)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
