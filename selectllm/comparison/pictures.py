"""Draws a comparison: one picture a question, as SVG that needs nothing from the network."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from selectllm.comparison.cells import REFERENCE
from selectllm.comparison.outcomes import Outcome
from selectllm.comparison.summary import Estimate, Way, overlaps, way_name
from selectllm.errors import MissingDependency

COVERAGE: Final = ("facility_location", "vendi")
"""The measures that the picture of coverage and diversity shows."""

SHOWN: Final = ("facility_location", "novelsum", "vendi", "distinct_2", "length_mean", "worth")
"""The measures whose differences to the reference are drawn."""

WIDTH: Final = 260
"""Pixels of one panel."""

LABEL: Final = 360
"""Pixels of a way's name, beyond which it is cut: two selectors may differ only in their ends."""

COLOURS: Final = {"higher": "#2f7d4f", "lower": "#c2453c", "not different": "#8a8a8a"}
"""Of verdicts; the sides of 0 say the same to who does not see colours."""


def draw(estimates: Sequence[Estimate], outcomes: Sequence[Outcome]) -> dict[str, str]:
    """SVG by the picture's name: `coverage`, `differences`, `overlap`, and `recall` where rows have labels.

    Raises MissingDependency without the packages that draw.
    """
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise MissingDependency("vl-convert-python", extra="report", purpose="drawing pictures") from error
    budget = max(outcome.cell.budget for outcome in outcomes)
    charts = {
        "differences": _differences(altair, estimates, budget),
        "coverage": _coverage(altair, estimates),
        "recall": _recall(altair, estimates),
        "overlap": _overlap(altair, outcomes, budget),
    }
    return {name: vl_convert.vegalite_to_svg(chart.to_dict()) for name, chart in charts.items() if chart is not None}


def _coverage(alt: Any, estimates: Sequence[Estimate]) -> Any:
    """Does a strategy buy diversity with coverage?"""
    x = alt.X("x:Q", title="diversity: Vendi score", scale=alt.Scale(zero=False))
    y = alt.Y("y:Q", title="coverage: facility location", scale=alt.Scale(zero=False))
    return _scatter(alt, _pairs(estimates, *COVERAGE), x, y)


def _recall(alt: Any, estimates: Sequence[Estimate]) -> Any | None:
    """What does finding the rows of known worth cost?"""
    points = _pairs(estimates, "worth", "questions")
    x = alt.X("x:Q", title="questions to a model", scale=alt.Scale(type="symlog"))
    y = alt.Y("y:Q", title="worth, of the most that so many rows can have")
    return _scatter(alt, points, x, y) if points else None


def _scatter(alt: Any, points: Sequence[Mapping[str, Any]], x: Any, y: Any) -> Any:
    """One panel for each budget; each way has a colour and a shape."""
    legend = alt.Legend(labelLimit=LABEL, symbolLimit=0)  # of many ways, none is left out
    colour = alt.Color("way:N", title=None, sort=None, scale=alt.Scale(scheme="tableau20"), legend=legend)
    shape = alt.Shape("way:N", title=None, sort=None, legend=legend)
    chart = alt.Chart({"values": points}).mark_point(filled=True, size=80, opacity=0.9)
    panel = chart.encode(x=x, y=y, color=colour, shape=shape).properties(width=WIDTH, height=WIDTH)
    columns = panel.facet(column=alt.Column("budget:O", title="rows chosen"))
    return columns.resolve_scale(x="independent", y="independent")


def _differences(alt: Any, estimates: Sequence[Estimate], budget: int) -> Any:
    """Which strategies differ from random draws, and by how much?"""
    names = _names([estimate.way for estimate in estimates])
    rows = [
        {
            "measure": estimate.measure.replace("_", " "),
            "way": names[estimate.way],
            "low": estimate.difference.low,
            "high": estimate.difference.high,
            "mean": estimate.difference.mean,
            "verdict": estimate.verdict,
        }
        for estimate in estimates
        if estimate.budget == budget and estimate.measure in SHOWN and estimate.difference
    ]
    base = alt.Chart({"values": rows}).encode(
        y=alt.Y("way:N", title=None, sort=None, axis=alt.Axis(labelLimit=LABEL)),
        color=alt.Color(
            "verdict:N",
            title=f"than {REFERENCE}",
            scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        ),
    )
    zero = alt.Chart({"values": [{"zero": 0}]}).mark_rule(strokeDash=[4, 3]).encode(x="zero:Q")
    interval = base.mark_rule(size=3).encode(x=alt.X("low:Q", title="difference to random"), x2="high:Q")
    panels = []
    for measure in dict.fromkeys(row["measure"] for row in rows):
        of_measure = alt.datum.measure == measure
        marks = interval.transform_filter(of_measure) + base.mark_point(filled=True).encode(
            x="mean:Q"
        ).transform_filter(of_measure)
        panels.append((zero + marks).properties(width=WIDTH, title=measure))
    return alt.concat(*panels, columns=2)


def _overlap(alt: Any, outcomes: Sequence[Outcome], budget: int) -> Any:
    """Do two strategies choose the same rows?"""
    shares = overlaps(outcomes, budget)
    names = _names([one for one, _ in shares])
    rows = [
        {"one": names[one], "other": names[other], "share": round(share, 3)} for (one, other), share in shares.items()
    ]
    base = alt.Chart({"values": rows}).encode(
        x=alt.X("one:N", title=None, sort=None, axis=alt.Axis(labelAngle=-45, labelLimit=LABEL)),
        y=alt.Y("other:N", title=None, sort=None, axis=alt.Axis(labelLimit=LABEL)),
    )
    cells = base.mark_rect().encode(
        color=alt.Color("share:Q", title="rows in both, of rows in either", scale=alt.Scale(domain=[0, 1]))
    )
    texts = base.mark_text(fontSize=9).encode(
        text=alt.Text("share:Q", format=".2f"),
        color=alt.condition(alt.datum.share > 0.5, alt.value("white"), alt.value("black")),
    )
    return (cells + texts).properties(width={"step": 34}, height={"step": 24})


def _pairs(estimates: Sequence[Estimate], y: str, x: str) -> list[Mapping[str, Any]]:
    """The means of two measures, for the ways and budgets that have both."""
    means = {(e.way, e.budget, e.measure): e.mean for e in estimates if e.measure in (x, y)}
    names = _names([estimate.way for estimate in estimates])
    return [
        {"way": names[way], "budget": budget, "y": mean, "x": means[way, budget, x]}
        for (way, budget, measure), mean in means.items()
        if measure == y and (way, budget, x) in means
    ]


def _names(ways: Sequence[Way]) -> dict[Way, str]:
    """What a picture calls each way: its strategy, with the selector only where there are several."""
    several = len({selector for _, selector in ways if selector}) > 1
    return {way: way_name(way) if several else way[0] for way in ways}
