"""The page's charts in Vega-Lite. A value of the pool stands in them as data alone, never as an expression."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selectllm.errors import MissingDependency
from selectllm.report.page.groups import Group
from selectllm.report.page.near_cut import RatedRow
from selectllm.report.page.positions import Position

CHOSEN, LEFT_OUT, EVEN = "chosen", "left out", "even draw"
COLOURS: Final = {CHOSEN: "var(--chosen)", LEFT_OUT: "var(--left)", EVEN: "var(--ink)"}
"""The page's own colours, so that the charts follow its light and dark ones."""

BINS: Final = 24  # of lengths

FEW_POINTS: Final = 2000
"""Points of a map up to which they are drawn larger."""

Spec = dict[str, Any]


def altair() -> Any:
    """The package; raises MissingDependency without it."""
    try:
        import altair
    except ImportError as error:
        raise MissingDependency("altair", extra="report", purpose="the report of a run") from error
    return altair


def counts_chart(groups: Sequence[Group], share: float, by: str) -> Spec:
    """A bar for what was chosen of each group, and a tick for what an even draw would take of it."""
    alt = altair()
    rows = [
        {"name": group.label, "rows": group.rows, "chosen": group.chosen, "even": round(group.rows * share, 1)}
        for group in groups
    ]
    y = alt.Y("name:N", title=None, sort=None)
    tips = [("name:N", by), ("rows:Q", "rows"), ("chosen:Q", CHOSEN), ("even:Q", EVEN)]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=y, tooltip=[alt.Tooltip(field, title=title) for field, title in tips]
    )
    bars = base.mark_bar(color=COLOURS[CHOSEN], height={"band": 0.7}).encode(
        x=alt.X("chosen:Q", title="rows chosen", axis=alt.Axis(tickMinStep=1))
    )
    ticks = base.mark_tick(color=COLOURS[EVEN], thickness=2, height={"band": 0.9}).encode(x="even:Q")
    return _spec(alt.layer(bars, ticks).properties(width="container", height={"step": 22}))


def positions_chart(positions: Sequence[Position]) -> Spec:
    """A bar for the first picks at each position, and a tick for those of a selector that ignores positions."""
    alt = altair()
    rows = [{"position": each.number, "picks": each.picks, "even": round(each.even, 1)} for each in positions]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("position:O", title="position in the prompt", axis=alt.Axis(labelAngle=0)),
        tooltip=[alt.Tooltip("position:O"), alt.Tooltip("picks:Q"), alt.Tooltip("even:Q")],
    )
    bars = base.mark_bar(color=COLOURS[CHOSEN]).encode(
        y=alt.Y("picks:Q", title="first picks", axis=alt.Axis(tickMinStep=1))
    )
    ticks = base.mark_tick(color=COLOURS[EVEN], thickness=2).encode(y="even:Q")
    return _spec(alt.layer(bars, ticks).properties(width="container", height=220))


def length_bins(lengths: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Rows by the length of their text, in bins that grow by the same factor: of each side the count and the share."""
    if not len(lengths):
        return []
    low, high = max(int(lengths.min()), 1), max(int(lengths.max()), 2)
    edges = np.unique(np.geomspace(low, high + 1, BINS + 1).round().astype(np.int64))
    edges[0] = min(edges[0], int(lengths.min()))
    counts = [np.histogram(lengths[side], edges)[0] for side in (chosen, ~chosen)]
    totals = [max(int(count.sum()), 1) for count in counts]
    return [
        {"from": int(edges[place]), "to": int(edges[place + 1]) - 1, CHOSEN: int(taken), LEFT_OUT: int(left)}
        | {"share chosen": round(int(taken) / totals[0], 5), "share left out": round(int(left) / totals[1], 5)}
        for place, (taken, left) in enumerate(zip(*counts, strict=True))
    ]


def lengths_chart(bins: Sequence[dict[str, Any]]) -> Spec:
    """The share of the chosen rows, and of those left out, in each bin of lengths."""
    alt = altair()
    rows = [
        {
            "from": max(each["from"], 1),
            "to": each["to"],
            "end": each["to"] + 1,
            "side": side,
            "share": each[f"share {side}"],
            "rows": each[side],
        }
        for each in bins
        for side in (LEFT_OUT, CHOSEN)
    ]
    if rows:  # where the line of the last bin ends
        rows.append(rows[-1] | {"from": rows[-1]["end"], "rows": 0})
    tips = [("side:N", "side", ""), ("from:Q", "from", ",d"), ("to:Q", "to", ",d"), ("rows:Q", "rows", ",d")]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("from:Q", title="characters", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format=",d")),
        y=alt.Y("share:Q", title="share of the rows", stack=None, axis=alt.Axis(format="%")),
        tooltip=[
            alt.Tooltip(field, title=title, format=form) if form else alt.Tooltip(field, title=title)
            for field, title, form in tips
        ],
    )
    is_side = [alt.FieldEqualPredicate(field="side", equal=side) for side in (LEFT_OUT, CHOSEN)]
    left = (
        base.transform_filter(is_side[0])
        .mark_bar(color=COLOURS[LEFT_OUT], opacity=0.45, orient="vertical")
        .encode(x2="end:Q")
    )
    line = {"color": COLOURS[CHOSEN], "strokeWidth": 2.5, "interpolate": "step-after"}
    chosen = base.transform_filter(is_side[1]).mark_line(**line, point=False)
    return _spec(alt.layer(left, chosen).properties(width="container", height=240))


def ratings_chart(rows: Sequence[RatedRow]) -> Spec:
    """Each row near the cut by its rating, with the standard deviation of what is not known of it."""
    alt = altair()
    values = [
        {"place": place, "row": row.number, "text": row.text, "rating": row.rating, "answers": row.answers}
        | {"low": row.rating - row.spread, "high": row.rating + row.spread, "side": CHOSEN if row.chosen else LEFT_OUT}
        for place, row in enumerate(rows, start=1)
    ]
    colour = alt.Color(
        "side:N", title=None, scale=alt.Scale(domain=[CHOSEN, LEFT_OUT], range=[COLOURS[CHOSEN], COLOURS[LEFT_OUT]])
    )
    tips = [alt.Tooltip(name) for name in ("row:Q", "text:N", "rating:Q", "answers:Q", "side:N")]
    y = alt.Y("place:O", axis=None)
    base = alt.Chart(alt.Data(values=values)).encode(y=y, color=colour, tooltip=tips)
    x = alt.X("low:Q", title="rating, give or take its spread", scale=alt.Scale(zero=False))
    bars = base.mark_rule(strokeWidth=2, opacity=0.6).encode(x=x, x2="high:Q")
    shape = alt.Shape("side:N", title=None, scale=alt.Scale(domain=[CHOSEN, LEFT_OUT], range=["circle", "square"]))
    points = base.mark_point(filled=True, size=55, opacity=1).encode(x="rating:Q", shape=shape)
    return _spec(alt.layer(bars, points).properties(width="container", height={"step": 9}))


def map_chart(points: int) -> Spec:
    """Points that the page's script puts in, under the name `map`: `x`, `y`, `row`, `text`, and `order` if chosen."""
    scale = 1 if points > FEW_POINTS else 2
    alt = altair()
    span = alt.Scale(domain=[-20, 1020], nice=False, zero=False)
    base = alt.Chart(alt.NamedData("map")).encode(
        x=alt.X("x:Q", axis=None, scale=span), y=alt.Y("y:Q", axis=None, scale=span)
    )
    tips = [alt.Tooltip(field, title=field.partition(":")[0]) for field in ("row:Q", "order:Q", "text:N")]
    left = base.transform_filter(alt.FieldEqualPredicate(field="order", equal=0)).mark_circle(
        color="#8792a5", opacity=0.5, size=16 * scale
    )
    chosen = base.transform_filter(alt.FieldGTPredicate(field="order", gt=0)).mark_point(
        filled=True,
        shape="diamond",
        color="#e8590c",
        opacity=0.85,
        size=20 * scale**2,
        stroke="#ffffff",
        strokeWidth=0.4,
    )
    both = alt.layer(left, chosen.encode(tooltip=tips)).properties(width="container", height=460)
    return _spec(both)


def _spec(chart: Any) -> Spec:
    """A chart as a spec, in the page's colours and letters."""
    ink = COLOURS[EVEN]
    axis = {"labelColor": ink, "titleColor": ink, "domainColor": ink, "tickColor": ink, "gridColor": ink}
    config = {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": axis | {"gridOpacity": 0.12, "labelFontSize": 12, "titleFontSize": 12, "labelLimit": 220},
        "legend": {"labelColor": ink, "labelFontSize": 12, "orient": "top"},
        "aria": False,  # the figure names itself, and has its numbers in a table
    }
    spec: Spec = chart.to_dict(context={"pre_transform": False})
    return spec | {"config": config}
