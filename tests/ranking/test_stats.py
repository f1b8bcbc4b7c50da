from collections import Counter

import pytest

from selectllm.llm.usage import Usage
from selectllm.ranking.stats import RankingStats, agreement, constant_answer, merge, position_bias


def stats(number: int) -> RankingStats:
    return RankingStats(
        usage=Usage(asked=1, paid_prompt_tokens=10, paid_output_tokens=2, replies=2, errors_by_kind=Counter(busy=1)),
        ranked=number,
        errors_by_kind=Counter(empty=1),
        abstained_questions=Counter({f"query {number}": 1}),
        agreement_by_question={f"query {number}": 0.5},
        first_picks=Counter({"14:0": 1}),
    )


def test_stats_of_batches_add_up() -> None:
    total = RankingStats()
    for number in (1, 2):
        total += stats(number)
    assert (total.usage.asked, total.usage.replies, total.ranked) == (2, 4, 3)
    assert total.paid() == {"asked": 2, "paid_prompt_tokens": 20, "paid_output_tokens": 4}
    assert total.abstained_questions == {"query 1": 1, "query 2": 1}


def test_the_facts_of_a_step_have_fixed_names() -> None:
    facts = stats(1).facts()
    assert list(facts) == [
        "replies", "prompt_tokens", "output_tokens", "queued_seconds", "errors_by_kind", "ranked", "abstained",
        "repaired", "reasked", "reasked_old", "split", "ties", "undecided", "refused_rows",
        "abstained_questions", "agreement_by_question", "first_picks", "answers",
    ]  # fmt: skip
    assert facts["errors_by_kind"] == {"busy": 1, "empty": 1}


def test_facts_of_steps_are_merged_including_facts_of_other_kinds() -> None:
    merged = merge(stats(1).facts() | {"pages": 1}, stats(2).facts() | {"pages": 1, "rounds": 3})
    assert (merged["ranked"], merged["pages"], merged["rounds"]) == (3, 2, 3)
    assert merged["errors_by_kind"] == {"busy": 2, "empty": 2}
    assert agreement(merged) == 0.5
    assert agreement(RankingStats().facts()) is None


def test_a_position_bias_is_reported() -> None:
    one_sided, even = RankingStats(), RankingStats()
    for number in range(140):
        one_sided.first_picks["14:0"] += 1
        even.first_picks[f"14:{number % 14}"] += 1
    assert (position_bias(one_sided.facts()) or 0.0) < 1e-6 < (position_bias(even.facts()) or 0.0)
    assert position_bias(RankingStats().facts()) is None


def answered(*answers: list[int], shown: int = 14) -> RankingStats:
    stats = RankingStats()
    for numbers in answers:
        stats.count_answer(shown, numbers)
    return stats


def test_a_constant_answer_is_reported_with_its_share() -> None:
    same = answered(*[[1, 2, 3]] * 18, [7, 5, 2])
    tournament = answered([1, 2, 3, 4, 5])
    facts = merge(same.facts(), tournament.facts())
    assert constant_answer(facts) == {"numbers": [1, 2, 3], "share": 0.95}


@pytest.mark.parametrize(
    "stats",
    [
        answered(*[[1, 2, 3]] * 8, [3, 2, 1]),
        answered(*[[1, 2, 3]] * 7),  # too few
        answered(*[[1, 2]] * 50, shown=3),  # by chance, too
        answered(*[[1, number % 14 + 1] for number in range(1, 13)]),
        RankingStats(),
    ],
)
def test_different_answers_and_few_answers_are_not_called_constant(stats: RankingStats) -> None:
    assert constant_answer(stats.facts()) is None


def test_an_artifact_keeps_the_most_frequent_answers() -> None:
    stats = answered(*[[1, 2, 3]] * 5, *[[2, number] for number in range(3, 40)])
    assert len(stats.facts()["answers"]) == 10
    assert stats.facts()["answers"]["1,2,3"] == 5


def test_facts_of_older_artifacts_have_no_constant_answer() -> None:
    assert constant_answer({"first_picks": {"14:0": 100}}) is None
