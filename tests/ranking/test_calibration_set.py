from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from selectllm.ranking.calibration_set import FILE, Pair, deal, load_pairs
from selectllm.ranking.near_repeats import count_near_repeats

ROOT = Path(__file__).resolve().parents[2]
PAIRS = load_pairs()
TEXTS = [text for pair in PAIRS for text in (pair.better, pair.worse)]

TRAITS: dict[str, Callable[[str], float]] = {
    "characters": len,
    "bytes": lambda text: len(text.encode()),
    "words": lambda text: len(text.split()),
    "length of words": lambda text: len(text) / len(text.split()),
    "commas": lambda text: sum(mark in ",，、" for mark in text),
    "full stops": lambda text: sum(mark in ".。" for mark in text),
    "colons": lambda text: sum(mark in ":;：；" for mark in text),
    "question marks": lambda text: sum(mark in "?？" for mark in text),
    "quotation marks": lambda text: sum(mark in "'‘“" for mark in text),
    "digits": lambda text: sum(map(str.isdigit, text)),
    "capitals": lambda text: sum(map(str.isupper, text)),
}


def test_there_are_enough_pairs_of_each_kind_in_each_language() -> None:
    counts = Counter((pair.kind, pair.language) for pair in PAIRS)
    kinds, languages = {kind for kind, _ in counts}, {language for _, language in counts}
    assert len(PAIRS) == 140
    assert (len(kinds), languages) == (10, {"de", "en", "es", "zh"})
    assert all(counts[kind, language] >= 3 for kind in kinds for language in languages)
    assert {sum(counts[kind, language] for kind in kinds) for language in languages} == {35}
    assert {sum(counts[kind, language] for language in languages) for kind in kinds} == {14}


def test_both_texts_of_a_pair_are_of_equal_length() -> None:
    for pair in PAIRS:
        shorter, longer = sorted((len(pair.better), len(pair.worse)))
        assert longer - shorter <= 0.05 * longer, pair.id
        assert 60 <= shorter <= longer <= 400, pair.id


def test_nothing_repeats() -> None:
    assert len({pair.id for pair in PAIRS}) == len(PAIRS)
    assert len({text.casefold() for text in TEXTS}) == len(TEXTS)
    assert count_near_repeats(TEXTS) == 0
    assert all(text == text.strip() and "\n" not in text for text in TEXTS)


@pytest.mark.parametrize("trait", TRAITS)
def test_no_trait_of_the_surface_tells_better_from_worse(trait: str) -> None:
    measure = TRAITS[trait]
    values = [(measure(pair.better), measure(pair.worse)) for pair in PAIRS]
    wins = [(better > worse) + (better >= worse) for better, worse in values]
    assert 0.3 < sum(wins) / 2 / len(PAIRS) < 0.7, "1 or 0 would be a rule that needs no judgement"


def test_the_set_is_part_of_the_package_and_the_examples_point_to_it() -> None:
    pointer = ROOT / "examples" / FILE
    assert pointer.is_symlink()
    assert pointer.resolve() == ROOT / "selectllm" / "ranking" / FILE


@pytest.mark.parametrize(("size", "queries"), [(14, 20), (2, 140), (3, 140), (13, 24), (200, 2)])
def test_whole_pairs_are_dealt_into_queries_of_the_size(size: int, queries: int) -> None:
    dealt = deal(PAIRS, size, 0)
    assert len(dealt) == queries
    assert max(2 * len(query) for query in dealt) <= size
    assert sorted(pair.id for query in dealt for pair in query) == sorted(pair.id for pair in PAIRS)


def test_a_query_holds_all_languages_and_another_seed_other_pairs() -> None:
    first, second = deal(PAIRS, 14, 0), deal(PAIRS, 14, 1)
    assert all(len({pair.language for pair in query}) == 4 for query in first)
    together = [
        {frozenset((one.id, other.id)) for query in dealt for one, other in combinations(query, 2)}
        for dealt in (first, second)
    ]
    assert len(together[0] & together[1]) < 0.15 * len(together[0])
    assert deal(PAIRS, 14, 0) == first


def test_the_candidates_show_nothing_but_the_texts() -> None:
    better, worse = Pair("a", "maths", "en", "good", "bad").candidates
    assert (better.instruction, better.input, worse.instruction, worse.input) == ("good", None, "bad", None)
