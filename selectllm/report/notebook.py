"""How a run and its report show themselves in a notebook."""

import html
from typing import Any, Final

import pyarrow as pa

from selectllm.report.chosen_rows import shown_rows
from selectllm.report.format import counts, notes, of_strata
from selectllm.report.page.texts import visible

ROWS: Final = 10
"""Chosen rows that a cell shows."""

TEXT_WIDTH: Final = 160
"""Columns of an instruction that a cell shows."""

HEIGHT: Final = 800
"""Pixels of a report in a cell."""


class Report(str):
    """The HTML of a report. As the last value of a notebook's cell it shows itself, in a frame of its own.

    The frame has no access to the notebook: the report's scripts run in it as those of a page from elsewhere.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<report of {len(self.encode()) / 1e6:.1f} MB: `result.report(path)` writes it to a file>"

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {HEIGHT}px; border: 1px solid #8884"
        return (
            f'<iframe title="Report of a run" sandbox="allow-scripts" style="{style}" '
            f'srcdoc="{html.escape(self, quote=True)}"></iframe>'
        )


def result_html(summary: dict[str, Any], selection: pa.Table | None, places: dict[str, str]) -> str:
    """A run in a few sentences, its first chosen rows with why they were chosen, and where things lie.

    Parameters: `selection`, None where it is gone; `places`, paths and commands by what they are.
    """
    sentences = [*counts(summary), *of_strata(summary.get("strata")), *notes(summary)]
    parts = [f"<p>{_text(sentence)}</p>" for sentence in sentences]
    if selection is not None:
        shown = shown_rows(selection.slice(0, ROWS), TEXT_WIDTH)
        more = len(selection) - len(shown)
        parts.append(_table([[str(row["order"]), row["why"], row["instruction"]] for row in shown]))
        parts += [f"<p>And {more:,} more: <code>result.chosen()</code></p>"] if more > 0 else []
    parts += [f"<p>{_text(name)}: <code>{_text(place)}</code></p>" for name, place in places.items()]
    return f'<div class="tex2jax_ignore mathjax_ignore">{"".join(parts)}</div>'  # a text of dollars is no formula


def _table(rows: list[list[str]]) -> str:
    style = ' style="text-align: left"'
    head = "".join(f"<th{style}>{name}</th>" for name in ("order", "why", "instruction"))
    body = "".join(
        "<tr>" + "".join(f'<td{style} dir="auto">{_text(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    return html.escape(visible(text))
