"""A comparison as one HTML page that needs nothing from the network."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from selectllm.comparison.summary import Comparison
from selectllm.errors import MissingDependency


def to_html(comparison: Comparison, pictures: Mapping[str, str]) -> str:
    """The page: facts, pictures, then a table for each measure. Raises MissingDependency without jinja2."""
    from selectllm.comparison.text import HOW_TO_READ, PICTURES, facts, failures, tables

    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependency("jinja2", extra="report", purpose="a page") from error
    template = files("selectllm.comparison").joinpath("page.html.jinja").read_text("utf-8")
    values: dict[str, Any] = {
        "facts": facts(comparison),
        "how_to_read": HOW_TO_READ,
        "tables": tables(comparison),
        "failures": failures(comparison),
        # What vl-convert draws of our own numbers and of names that are escaped there.
        "pictures": [(title, Markup(pictures[name])) for name, title in PICTURES.items() if name in pictures],
    }
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(values)
