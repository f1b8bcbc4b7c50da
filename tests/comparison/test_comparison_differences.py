"""What a comparison says of differences, in numbers and in pictures."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from selectllm.comparison.cells import Cell
from selectllm.comparison.compare import compare
from selectllm.comparison.outcomes import Outcome
from selectllm.comparison.pictures import draw
from selectllm.comparison.summary import estimates, overlaps
from tests.comparison.conftest import Make

pytestmark = pytest.mark.usefixtures("quick_embedding")


def outcome(strategy: str, seed: int, value: float, ids: str = "ab") -> Outcome:
    return Outcome(Cell(strategy, None, 2, seed), tuple(ids), {"novelsum": value})


def test_differences_are_paired_by_seed() -> None:
    values = [0.0, 10.0, 20.0, 30.0]
    outcomes = [outcome("random", seed, value) for seed, value in enumerate(values)]
    outcomes += [outcome("other", seed, value + 1) for seed, value in enumerate(values[:3])]
    _, other = estimates(outcomes)
    assert other.difference is not None
    assert (other.difference.mean, other.difference.low, other.difference.high) == (1, 1, 1)
    assert other.verdict == "not different", "its mean is what random draws reach"


def test_a_difference_beyond_the_band_is_called_one() -> None:
    outcomes = [outcome("random", seed, float(seed % 5)) for seed in range(20)]
    outcomes += [outcome("above", 0, 9.0), outcome("below", 0, -9.0), outcome("within", 0, 2.0)]
    verdicts = {estimate.way[0]: estimate.verdict for estimate in estimates(outcomes)}
    assert verdicts == {"random": None, "above": "higher", "below": "lower", "within": "not different"}


def test_overlap_is_a_mean_over_seeds() -> None:
    outcomes = [outcome("random", 0, 0, "ab"), outcome("random", 1, 0, "cd"), outcome("fixed", 0, 0, "ac")]
    shares = overlaps(outcomes, 2)
    random, fixed = ("random", None), ("fixed", None)
    assert shares[random, random] == 0
    assert shares[random, fixed] == shares[fixed, random] == pytest.approx(1 / 3)
    assert shares[fixed, fixed] == 1


def test_selectors_of_one_strategy_are_compared_with_each_other(make: Make, tmp_path: Path) -> None:
    settings = make(
        strategies=("selectllm",), selectors=("scripted:first", "scripted:longest"), out=str(tmp_path / "o")
    )
    (agreement,) = compare(settings).agreements
    assert (agreement.strategy, agreement.budget) == ("selectllm", 8)
    assert agreement.selectors == ("scripted:first", "scripted:longest")
    assert agreement.kendalls_tau is not None
    assert -1 <= agreement.kendalls_tau < 1
    assert agreement.top_overlap is not None
    assert 0 <= agreement.top_overlap < 1
    text = (tmp_path / "o" / "comparison.md").read_text("utf-8")
    assert f"| selectllm | 8 | scripted:first | scripted:longest | {agreement.kendalls_tau:.2f} |" in text
    assert "Two independent draws would have 0.12." in text


def test_pictures_show_odd_and_long_names_of_selectors_as_text() -> None:
    names = ("ollama:</text><script>alert(1)</script>&\"'", "openai:" + "organisation/" * 2 + "model-a")
    outcomes = [
        Outcome(
            Cell(strategy, selector, 2, seed), ("a", str(seed)), {"facility_location": seed / 4, "vendi": seed + 1.0}
        )
        for strategy, selector in (("random", None), *(("selectllm", name) for name in names))
        for seed in range(3)
    ]
    for picture in draw(estimates(outcomes), outcomes).values():
        texts = [
            "".join(node.itertext()) for node in ElementTree.fromstring(picture).iter() if node.tag.endswith("text")
        ]
        assert "<script" not in picture
        assert {f"selectllm by {name}" for name in names} <= set(texts)


def test_a_legend_names_all_of_many_ways() -> None:
    outcomes = [
        Outcome(Cell(name, None, 2, seed), ("a", str(seed)), {"facility_location": seed / 4, "vendi": seed + 1.0})
        for name in ("random", *(f"way-{number}" for number in range(40)))
        for seed in range(2)
    ]
    assert ">way-39<" in draw(estimates(outcomes), outcomes)["coverage"]
