"""A sheet as one HTML page that needs nothing from the network."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from selectllm.errors import MissingDependency
from selectllm.evaluation.page.pictures import draw
from selectllm.evaluation.page.sheet import Sheet
from selectllm.store.new_files import write_new


def check_page(path: str | None) -> None:
    """Raise MissingDependency where a page is named, and the packages of the extra `report` are not there."""
    missing = next((name for name in ("jinja2", "altair", "vl_convert") if find_spec(name) is None), None)
    if path is not None and missing is not None:
        raise MissingDependency(missing, extra="report", purpose="a page")


def write_page(path: str | None, sheet: Sheet, store: str) -> None:
    """Write the page to a new file, if one is named.

    Raises MissingDependency without the packages of the extra `report`, UsageError where a file is in the way.
    """
    if path is not None:
        write_new(Path(path).expanduser(), {"": to_html(sheet).encode()}, store)


def to_html(sheet: Sheet) -> str:
    """The page: facts, pictures, tables, notes. Equal sheets give equal pages. Raises MissingDependency."""
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependency("jinja2", extra="report", purpose="a page") from error
    template = files("selectllm.evaluation.page").joinpath("page.html.jinja").read_text("utf-8")
    # What vl-convert draws of our own numbers and of names that are escaped there.
    pictures = [(picture.title, Markup(draw(picture))) for picture in sheet.pictures if picture.marks]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(sheet=sheet, pictures=pictures)
