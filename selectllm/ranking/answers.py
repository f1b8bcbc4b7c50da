"""Reads what a model answered: a ranking, strictly, then tolerantly, and never by guessing; or the odds of a yes.

An answer is repaired only where one reading is possible. Anything else is a fault, in words that the model gets
when it is asked again; a fault never quotes the answer, since an answer may quote a candidate.
"""

import json
import math
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Any, Final

from selectllm.llm.model import Reply
from selectllm.ranking.prompts import Prompt

LONGEST_ANSWER: Final = 20_000  # characters that are looked through for a list; an answer that needs more is none
LONGEST_NUMBER: Final = 6  # digits of the largest candidate number that could be meant

REFUSED: Final = "refused"  # the kind of an answer, or a question, that a content filter has ended
PADDED: Final = "it was cut off among blanks: write it on one line, without blank space"
"""The longest of all faults."""

PADDING: Final = 8  # blanks at an answer's end that are no accident: a grammar allows them without end


@dataclass(frozen=True)
class Answer:
    """The candidate numbers that a reply names, best first; or the fault for which it cannot be used, and its kind.

    `begun` is what a faulty answer says all the same: the beginning of the ranking, up to where it repeats or ends.
    """

    numbers: tuple[int, ...] = ()
    repaired: bool = False
    fault: str | None = None
    kind: str = ""
    begun: tuple[int, ...] = ()


def read_ranking(reply: Reply, prompt: Prompt) -> Answer:
    """What a reply says about a prompt's candidates, however it ends: a whole ranking counts, whatever was cut off."""
    is_whole = reply.done_reason == "stop"
    answer = read(reply.text, prompt.top_k, len(prompt.candidates), is_whole=is_whole)
    if is_whole:
        return answer
    if answer.fault is None:
        return replace(answer, repaired=True)
    if reply.done_reason == "content_filter":
        return replace(answer, fault="a content filter ended it", kind=REFUSED)
    is_padded = len(reply.text) - len(reply.text.rstrip()) >= PADDING
    return replace(answer, fault=PADDED if is_padded else "it was cut off before its end", kind="cut off")


def log_odds(reply: Reply) -> float | None:
    """log p(yes) - log p(no) over the spellings of either at the reply's first token; None where one is not likely."""
    # A raw completion continues with ` yes`, a chat answers `Yes`: what counts is the word.
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


def read(text: str, wanted: int, shown: int, *, is_whole: bool = True) -> Answer:
    """Read a ranking of `wanted` different numbers from 1 to `shown` out of a reply's text.

    Of a text that is not whole nothing is read but the ranking that it consists of: any other may have gone on.
    """
    strict = _strict(text)
    unended = _begun(text, shown) if strict is None else None
    found = unended if strict is None else strict
    if found is None and is_whole:
        found = _tolerant(_with_plain_digits(text), wanted)
    if found is None:
        if not text.strip():
            return Answer(fault="it was empty", kind="empty")
        return Answer(fault="it was not one JSON list of candidate numbers", kind="unreadable")
    if any(not 1 <= number <= shown for number in found):
        return Answer(fault=f"it named numbers that are not from 1 to {shown}", kind="wrong ids")
    distinct = tuple(dict.fromkeys(found))
    if len(distinct) < wanted:
        fault = f"it named {len(distinct)} candidates instead of {wanted}"
        if len(distinct) < len(found):
            begun = tuple(number for place, number in enumerate(found) if len(set(found[: place + 1])) > place)
            return Answer(fault=f"after repeats were left out, {fault}", kind="repeated ids", begun=begun)
        begun = distinct if unended else ()  # a list that ends is no beginning
        return Answer(fault=fault, kind="too few", begun=begun)
    # The first mention is the higher rank, and the best `wanted` of a longer ranking are its first: one reading each.
    numbers = distinct[:wanted]
    return Answer(numbers, repaired=strict is None or numbers != tuple(found))


def read_json(text: str) -> Any:
    """The JSON value that an answer is, without thoughts before it or a fence around it; None where it is none."""
    text = _without_thoughts(text[:LONGEST_ANSWER]).strip()
    fenced = _FENCED.fullmatch(text)
    return _json(fenced[1] if fenced else text)


def _strict(text: str) -> list[int] | None:
    value = _json(text)
    ranking = value["ranking"] if isinstance(value, dict) and list(value) == ["ranking"] else None
    return ranking if isinstance(ranking, list) and all(type(number) is int for number in ranking) else None


_BEGUN = re.compile(r'(?:```[a-z]*\s)?\s*\{\s*"ranking"\s*:\s*\[([0-9,\s]*)(\]\s*\}?[\s`]*)?')


def _begun(text: str, shown: int) -> list[int] | None:
    """The numbers of a ranking that is the whole text, and whose end may be missing; a number may be cut off, too."""
    match = _BEGUN.fullmatch(_without_thoughts(text[:LONGEST_ANSWER]).lstrip())
    if match is None:
        return None
    members = match[1].split(",")
    numbers = [int(member) for member in members if re.fullmatch(rf"\s*[0-9]{{1,{LONGEST_NUMBER}}}\s*", member)]
    if any(member.strip() for member in members[len(numbers) :]) or len(members) > len(numbers) + 1:
        return None
    may_be_cut = match[2] is None and match[1][-1:].isdigit()
    if may_be_cut and numbers[-1] * 10 <= shown:
        numbers.pop()
    return numbers or None


_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_THOUGHT_TAG = re.compile(r"</?think(?:ing)?>")
_FENCED = re.compile(r"```[a-z]*\s(.*)```", re.DOTALL)
_LIST = re.compile(r"\[[^\[\]]*\]")
_RANKING = re.compile(r'\{\s*"ranking"\s*:\s*(\[[^\[\]]*\])\s*\}[\s.`]*\Z')
_NUMBER = re.compile(r"(?:candidate|number)?\s{0,3}#?\s{0,3}([0-9]{1,6})", re.IGNORECASE)
_BARE_LIST = re.compile(r"[0-9\s,;>#]+")


def _tolerant(text: str, wanted: int) -> list[int] | None:
    """The one list of numbers that is the text, or that the text calls the ranking at its end.

    Any other list in the midst of words may be what is ruled out, or half a thought: "not [1, 2, 3]". A list without
    brackets must have exactly `wanted` members: "1 7 2 4" may be two picks, each after its place.
    """
    text = _without_thoughts(text[:LONGEST_ANSWER]).strip()
    fenced = _FENCED.fullmatch(text)
    text = fenced[1].strip() if fenced else text
    lists = _LIST.findall(text)
    if len(lists) == 1:
        named = _RANKING.findall(text)
        value = _json(text)
        if isinstance(value, dict) and len(value) == 1:
            (value,) = value.values()
        return _numbers(_json(named[0]) if named else value)
    if not lists and _BARE_LIST.fullmatch(text):
        numbers = re.findall(r"[0-9]+", text)
        is_list = len(numbers) == wanted and all(len(number) <= LONGEST_NUMBER for number in numbers)
        return [int(number) for number in numbers] if is_list else None
    return None


def _without_thoughts(text: str) -> str:
    """The text without what a model thought first, whose beginning may not be marked; empty where it has no end."""
    if "</think" not in text:  # and where nothing ends, the pattern would look for it from every beginning on
        return "" if "<think" in text else text
    text = _THOUGHT.sub("", text)
    marks = list(_THOUGHT_TAG.finditer(text))
    if not all(mark[0].startswith("</") for mark in marks):
        return ""
    return text[marks[-1].end() :] if marks else text


def _with_plain_digits(text: str) -> str:
    """The text with the decimal digits of all scripts written as 0 to 9: a digit has one value in any of them."""
    return "".join(str(unicodedata.decimal(mark)) if mark.isdecimal() else mark for mark in text)


def _numbers(members: Any) -> list[int] | None:
    """The numbers of a list whose members are whole numbers, or texts like "3" and "candidate 3"."""
    numbers = []
    for member in members if isinstance(members, list) else ():
        if isinstance(member, str) and (match := _NUMBER.fullmatch(member.strip())):
            numbers.append(int(match[1]))
        elif type(member) is int:  # and no boolean, which isinstance would let pass
            numbers.append(member)
        else:
            return None
    return numbers or None


def _json(text: str) -> Any:
    """The value that a text is in JSON, or None; an object that says the same name twice says nothing."""
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        return None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return found
