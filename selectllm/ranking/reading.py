"""What a model's reply says: a ranking of the candidates that a prompt showed, or the odds of a yes."""

import math

from selectllm.llm.model import Reply
from selectllm.ranking import answers
from selectllm.ranking.prompts import Prompt


def read_ranking(reply: Reply, prompt: Prompt) -> answers.Answer:
    """What a reply says about a prompt's candidates."""
    if reply.done_reason != "stop":
        return answers.Answer(fault="it was cut off before its end", kind="cut off")
    return answers.read(reply.text, prompt.top_k, len(prompt.candidates))


def log_odds(reply: Reply) -> float | None:
    """log p(yes) - log p(no) over the spellings of either at the reply's first token; None where one is not likely.

    A raw completion continues with ` yes`, a chat answers `Yes`: what counts is the word.
    """
    likely = {"yes": 0.0, "no": 0.0}
    for token, logprob in reply.logprobs.items():
        if (word := token.strip().lower()) in likely:
            likely[word] += math.exp(logprob)
    return math.log(likely["yes"] / likely["no"]) if all(likely.values()) else None


def describe_ranking(prompt: Prompt, reply: Reply) -> str:
    """What reading a ranking gives, in a word or two, as the ledger's note beside it."""
    answer = read_ranking(reply, prompt)
    return answer.kind or ("repaired" if answer.repaired else "used")


def describe_odds(reply: Reply) -> str:
    """What reading a yes or no gives, in a word or two, as the ledger's note beside it."""
    return "neither yes nor no" if log_odds(reply) is None else "used"
