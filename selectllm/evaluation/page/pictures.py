"""Draws estimates with their intervals, as SVG that needs nothing from the network."""

from collections.abc import Sequence
from typing import Any, Final

from selectllm.errors import MissingDependency
from selectllm.evaluation.page.sheet import Mark, Picture
from selectllm.text import one_line

SHORT: Final = 28
"""Characters of a name up to which two panels stand side by side."""

SIDE_BY_SIDE: Final = (240, 200)
ALONE: Final = (520, 360)
"""Pixels of a panel, and of a name, beyond which it is cut."""

COLOUR: Final = "#2b5d9b"


def draw(picture: Picture) -> str:
    """A panel for each panel of the marks. Raises MissingDependency without the packages that draw."""
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise MissingDependency("vl-convert-python", extra="report", purpose="drawing pictures") from error
    panels: dict[str, list[Mark]] = {}
    for mark in picture.marks:
        panels.setdefault(mark.panel, []).append(mark)
    is_pair = len(panels) > 1 and all(len(mark.label) <= SHORT for mark in picture.marks)
    shape = SIDE_BY_SIDE if is_pair else ALONE
    drawn = [_panel(altair, picture, marks, shape) for marks in panels.values()]
    chart = altair.concat(*drawn, columns=2 if is_pair else 1, spacing=24).configure_view(stroke=None)
    chart = chart.configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridColor="#e6e6e6")
    svg: str = vl_convert.vegalite_to_svg(chart.to_dict())
    return svg


def _panel(alt: Any, picture: Picture, marks: Sequence[Mark], shape: tuple[int, int]) -> Any:
    """A row for each mark: its interval as a line, its value as a point and in digits."""
    scale = alt.Scale(zero=False, nice=False, domain=_domain(picture, picture.marks if picture.is_shared else marks))
    x = alt.X("value:Q", title=picture.axis, scale=scale, axis=alt.Axis(tickCount=5))
    y = alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=shape[1], ticks=False, domain=False))
    base = alt.Chart({"values": [_values(mark, _digits(picture)) for mark in marks]}).encode(y=y)
    point = base.mark_point(filled=True, size=90, color=COLOUR, opacity=1).encode(x=x)
    text = base.mark_text(dy=-12, fontSize=12, color="#333").encode(x=x, text="shown:N")
    layers = [point, text]
    if any(mark.low is not None for mark in marks):
        layers.insert(0, base.mark_rule(size=3, color=COLOUR, opacity=0.45).encode(x=alt.X("low:Q"), x2="high:Q"))
    if picture.reference is not None:
        line = alt.Chart({"values": [{"at": picture.reference}]}).mark_rule(strokeDash=[4, 3], color="#555")
        layers.insert(0, line.encode(x=alt.X("at:Q")))
    title = one_line(marks[0].panel, 60)
    named = {"title": alt.TitleParams(title, anchor="start", fontSize=13)} if title else {}
    return alt.layer(*layers).properties(width=shape[0], height={"step": 44}, **named)


def _domain(picture: Picture, marks: Sequence[Mark]) -> list[float]:
    """From the lowest to the highest value that is drawn, with some room."""
    drawn = [value for mark in marks for value in (mark.value, mark.low, mark.high)]
    found = [value for value in (*drawn, picture.reference) if value is not None]
    room = (max(found) - min(found)) * 0.06 or abs(found[0]) * 0.1 or 1.0
    return [min(found) - room, max(found) + room]


def _digits(picture: Picture) -> int:
    most = max(abs(mark.value) for mark in picture.marks)
    return 1 if most >= 10 else 2 if most >= 1 else 3


def _values(mark: Mark, digits: int) -> dict[str, Any]:
    shown = {"label": one_line(mark.label, 60), "value": mark.value, "shown": f"{mark.value:.{digits}f}"}
    return shown if mark.low is None else shown | {"low": mark.low, "high": mark.high}
