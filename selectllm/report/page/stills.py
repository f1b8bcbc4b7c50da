"""Pictures of a page's charts, for places that show no scripts."""

import json
from typing import Any, Final

from selectllm.report.page.charts import Spec

WIDTH: Final = 520

COLOURS: Final = {"var(--chosen)": "#c2410c", "var(--left)": "#64748b", "var(--ink)": "#1f2937"}
"""The page's light colours."""


def svg(spec: Spec) -> str:
    """A chart as SVG on white, which stands for itself; needs the extra `report`, without which there is no chart."""
    import vl_convert

    text = json.dumps(spec)
    for name, colour in COLOURS.items():
        text = text.replace(f'"{name}"', f'"{colour}"')
    still: dict[str, Any] = json.loads(text) | {"width": WIDTH, "background": "#ffffff", "padding": 10}
    picture: str = vl_convert.vegalite_to_svg(still)
    return picture
