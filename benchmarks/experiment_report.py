"""The tables and the picture of an experiment: what each arm's rows changed, against rows drawn at random."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np

from selectllm.evaluation.bootstrap import Interval, Verdict, band, paired_difference, verdict
from selectllm.store import versions
from selectllm.tuning.score import RowLosses, from_record, measures
from selectllm.tuning.text import cell
from selectllm.tuning.tune import LOSSES, RESULT

RANDOM: Final = "random"
"""The arm that all others are compared with."""

PICTURE: Final = "differences.svg"

LIBRARIES: Final = ("torch", "transformers")

HOW_TO_READ: Final = """\
Loss in nats: lower is better, and so is a difference to random below 0. Intervals are of 95 %. Those *over seeds* are
by pairs of the same seed; of five pairs they are too narrow. Those *over rows* are over held-out rows, of losses that
are means over seeds: they say what other held-out rows would have given. An arm is called *lower* or *higher* only
where its interval over seeds leaves out 0 and its mean lies outside of the band of the random draws."""


@dataclass(frozen=True)
class Cell:
    """An arm with a seed, as it was trained: the losses after it, and the tokens of the answers trained on."""

    arm: str
    seed: int
    losses: RowLosses
    answer_tokens: int


@dataclass(frozen=True)
class Contrast:
    """An arm's loss by a measure, and its differences to random draws, where there are two seeds or more."""

    arm: str
    measure: str
    loss: float
    over_seeds: Interval | None
    over_rows: dict[str, Any]
    verdict: Verdict | None


def read_cell(folder: Path, arm: str, seed: int) -> Cell:
    """What a cell's folder holds."""
    record = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return Cell(arm, seed, read_losses(folder, "tuned"), record["train"]["answer_tokens"])


def read_losses(folder: Path, model: str) -> RowLosses:
    """The losses in a cell's folder of the model `untuned` or `tuned`."""
    rows = [json.loads(line) for line in (folder / LOSSES).read_text(encoding="utf-8").splitlines()]
    return from_record([row for row in rows if row["model"] == model])


def contrasts(cells: Sequence[Cell]) -> list[Contrast]:
    """All arms but the random one, by all measures, in the order of the arms."""
    reference = [one for one in cells if one.arm == RANDOM]
    found = []
    for arm in dict.fromkeys(one.arm for one in cells if one.arm != RANDOM):
        own = [one for one in cells if one.arm == arm]
        over_rows = measures(_mean_losses(own), _mean_losses(reference))
        for measure, between in over_rows.items():
            values, others = ([measures(one.losses)[measure]["mean"] for one in of] for of in (own, reference))
            seeds = paired_difference(values, others) if len(values) > 1 else None
            said = verdict(seeds, mean(values), band(others)) if seeds else None
            found.append(Contrast(arm, measure, mean(values), seeds, between, said))
    return found


def _mean_losses(cells: Sequence[Cell]) -> RowLosses:
    """Each row's loss as its mean over seeds."""
    first = cells[0].losses
    return RowLosses(first.ids, np.mean([one.losses.sums for one in cells], axis=0), first.tokens, first.characters)


def report(facts: Sequence[str], cells: Sequence[Cell], untuned: RowLosses) -> str:
    """The experiment as Markdown: what was run, all verdicts on one table, then a table for each measure."""
    found = contrasts(cells)
    lines = ["# Experiment", "", *(f"- {fact}" for fact in facts)]
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items() if name in LIBRARIES)
    lines += [f"- {date.today():%Y-%m-%d}, Python {platform.python_version()}, {made_with}."]
    lines += ["", HOW_TO_READ, "", f"![Differences to random draws over seeds]({PICTURE})", "", *_overview(found)]
    for measure, before in measures(untuned).items():
        random = [measures(one.losses)[measure]["mean"] for one in cells if one.arm == RANDOM]
        lines += ["", f"## {measure[0].upper()}{measure[1:]}", "", f"{before['rows']:,} rows; untuned {cell(before)}."]
        lines += ["", "| arm | tokens of answers trained on | loss | to random, over seeds | over rows | |"]
        lines += [
            "|---|---|---|---|---|---|",
            f"| {RANDOM} | {_tokens(cells, RANDOM)} | {mean(random):.3f} | | | |",
        ]
        lines += [_line(one, cells) for one in found if one.measure == measure]
    return "\n".join([*lines, ""])


def _overview(found: Sequence[Contrast]) -> list[str]:
    """A line for each measure, with each arm's verdict."""
    arms = list(dict.fromkeys(one.arm for one in found))
    lines = [f"| loss, against {RANDOM} | {' | '.join(arms)} |", "|---" * (len(arms) + 1) + "|"]
    for measure in dict.fromkeys(one.measure for one in found):
        said = (one.verdict or "one seed" for one in found if one.measure == measure)
        lines.append(f"| {measure} | {' | '.join(said)} |")
    return lines


def _line(one: Contrast, cells: Sequence[Cell]) -> str:
    seeds = cell(asdict(one.over_seeds)) if one.over_seeds else "one seed"
    start = f"| {one.arm} | {_tokens(cells, one.arm)} | {one.loss:.3f}"
    return f"{start} | {seeds} | {cell(one.over_rows)} | {one.verdict or ''} |"


def _tokens(cells: Sequence[Cell], arm: str) -> str:
    return f"{mean(one.answer_tokens for one in cells if one.arm == arm):,.0f}"


def draw_differences(cells: Sequence[Cell]) -> str:
    """Which arms differ from random draws, by each measure: intervals over seeds as SVG. Needs the extra `report`."""
    import altair as alt
    import vl_convert

    rows = [
        {"arm": one.arm, "measure": one.measure, **asdict(one.over_seeds)} for one in contrasts(cells) if one.over_seeds
    ]
    measured = list(dict.fromkeys(row["measure"] for row in rows))
    base = alt.Chart({"values": rows}).encode(y=alt.Y("arm:N", title=None, sort=None))
    interval = base.mark_rule(size=2, color="#8a8a8a").encode(
        x=alt.X("low:Q", title="nats, to random: left of 0 is better"), x2="high:Q"
    )
    zero = base.transform_calculate(zero="0").mark_rule(strokeDash=[4, 3]).encode(x="zero:Q", y=alt.Y())
    panel = alt.layer(
        zero, interval, base.mark_point(filled=True, size=70, opacity=1, color="#1f4e79").encode(x="mean:Q")
    ).properties(width=280)
    chart = panel.facet(facet=alt.Facet("measure:N", title=None, sort=measured), columns=2)
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))
