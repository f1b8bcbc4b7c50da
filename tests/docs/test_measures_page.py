"""docs/measures.md says what the code says."""

import re
import runpy

from selectllm.evaluation import bootstrap
from selectllm.evaluation.measures import MEASURES, OTHERS
from tests.docs.pages import DOCS, TEXTS, blocks
from tests.evaluation.pools import drawn, pool_of


def test_the_table_is_that_of_the_registry() -> None:
    text = TEXTS[DOCS / "measures.md"]
    written = runpy.run_path(str(DOCS / "measures_table.py"))["written"]
    assert text == written(text), "run `python docs/measures_table.py`"


def test_every_measure_is_told_of_in_the_text() -> None:
    before, _ = TEXTS[DOCS / "measures.md"].split("<!-- Written")
    assert {name for name in MEASURES | OTHERS if f"`{name}`" not in before} == set()


def test_the_example_is_valid() -> None:
    (example,) = blocks(TEXTS[DOCS / "measures.md"], "python")
    printed: list[str] = []
    pool = pool_of(["Write a poem", "Add 2 and 2", "Name a river"])
    names = {
        "pool": pool,
        "selection": pool.slice(1),
        "vectors": drawn(3),
        "print": lambda *parts: printed.append(parts[0]),
    }
    exec(compile(example, "measures.md", "exec"), names)
    assert printed == [name for measure in MEASURES.values() for name in measure.values]


def test_the_shares_are_those_of_the_docstring() -> None:
    text = " ".join(TEXTS[DOCS / "measures.md"].split())
    normal, exponential = (
        re.findall(rf"(?m)^ +{row} +(\d+) +(\d+) +(\d+)$", bootstrap.__doc__ or "")[0]
        for row in ("normal", "exponential")
    )
    assert f"holds the true difference in {normal[1]} % of cases" in text
    assert f"in {exponential[1]} %, where they are exponential" in text
    assert f"does so in {normal[0]} % and {exponential[0]} %, with 10 in {normal[2]} % and {exponential[2]} %" in text
