"""The page's figures: a chart, what it shows in words, and the same numbers in a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selectllm.report.page import charts
from selectllm.report.page.groups import Division
from selectllm.report.page.near_cut import RatedRow
from selectllm.report.page.pool_facts import PoolFacts
from selectllm.report.page.positions import Position
from selectllm.report.page.tables import Table
from selectllm.report.page.texts import label


@dataclass(frozen=True)
class Figure:
    """A chart under a key of its own, with its title, what it shows, and its numbers."""

    key: str
    title: str
    text: str
    spec: dict[str, Any] = field(repr=False)
    table: Table
    is_wordless: bool = True  # no name or value of the pool stands in it


def division_figure(division: Division, number: int) -> Figure:
    """Chosen against an even draw: number 0 is by cluster, the others are by carried columns."""
    rows = [
        (group.label, f"{group.rows:,}", f"{group.chosen:,}", f"{group.rows * division.share:,.1f}")
        for group in division.groups
    ]
    text = f"A bar is what was chosen, a tick what an even draw of {division.share:.1%} of the rows would take."
    if division.left:
        text += f" {division.left:,} further clusters are not shown."
    is_ours = number == 0
    title = "By cluster" if is_ours else f"By the column {label(division.by)}"
    return Figure(
        f"groups-{number}",
        title,
        text,
        charts.counts_chart(division.groups, division.share, "group"),
        Table((label(division.by), "rows", "chosen", "even draw"), tuple(rows)),
        is_ours,
    )


def lengths_figure(pool: PoolFacts) -> Figure:
    """The lengths of chosen rows and of rows that were left out."""
    bins = charts.length_bins(pool.lengths, pool.chosen)
    rows = [
        (f"{each['from']:,} to {each['to']:,}", f"{each[charts.CHOSEN]:,}", f"{each[charts.LEFT_OUT]:,}")
        for each in bins
    ]
    medians = [_median(pool, side) for side in (pool.chosen, ~pool.chosen)]
    text = (
        f"Characters of instruction and input together. Half of the chosen rows (line) are longer than {medians[0]}, "
        f"half of those left out (grey) longer than {medians[1]}."
    )
    table = Table(("characters", "chosen", "left out"), tuple(rows))
    return Figure("lengths", "Lengths", text, charts.lengths_chart(bins), table)


def positions_figure(positions: Sequence[Position], p: float | None) -> Figure:
    """First picks by position."""
    rows = [(str(each.number), f"{each.picks:,}", f"{each.even:,.1f}") for each in positions]
    text = (
        "Rows are shown in shuffled orders: a model that takes no notice of positions puts each position first as "
        "often as the ticks say."
    )
    if p is not None:
        text += f" For such a model, picks as uneven as these have a probability of {p:.2g}."
    table = Table(("position", "first picks", "even draw"), tuple(rows))
    return Figure("positions", "Picks by position", text, charts.positions_chart(positions), table)


def ratings_figure(rows: Sequence[RatedRow]) -> Figure:
    """Ratings near the cut."""
    cells = [
        (row.text, f"{row.number:,}", f"{row.rating:+.2f}", f"{row.spread:.2f}", f"{row.answers:,}", _side(row))
        for row in rows
    ]
    text = (
        "The chosen rows of the lowest ratings and the rows left out of the highest, best first. A line is one "
        "standard deviation of what is not known of a rating: where the lines of both sides overlap, the choice is in "
        "doubt."
    )
    table = Table(("row", "number", "rating", "spread", "answers", "side"), tuple(cells))
    return Figure("ratings", "Ratings near the cut", text, charts.ratings_chart(rows), table, is_wordless=False)


def _side(row: RatedRow) -> str:
    return charts.CHOSEN if row.chosen else charts.LEFT_OUT


def _median(pool: PoolFacts, side: Any) -> str:
    lengths = pool.lengths[side]
    return f"{float(np.median(lengths)):,.0f}" if len(lengths) else "-"
