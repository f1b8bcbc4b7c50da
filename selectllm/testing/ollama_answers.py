"""What the faulty server answers: rankings and verdicts by merit, odds, words, and what each fault makes of them."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal

from selectllm.testing.http_connection import Response, json_response, streamed_response

Fault = Literal[
    "busy",  # 503, as while a model is being loaded
    "runner died",  # 500, in Ollama's words
    "runner killed",  # the same, after its process was killed
    "reset",  # the connection is reset instead of an answer
    "hang",  # no answer, until the client goes away
    "cut",  # half of an answer, then the end of the connection
    "unfinished",  # 200, but `done` is false
    "empty",  # no content
    "wrong ids",  # numbers of candidates that were not shown
    "repeated ids",  # one number, again and again
    "prose",  # words, no JSON
    "low count",  # far fewer prompt tokens than were sent, as when the server has cut the prompt
]

REFUSALS: Final[Mapping[str, tuple[int, str]]] = {
    "busy": (503, "server busy, please try again.  maximum pending requests exceeded"),
    "runner died": (
        500,
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
        "check ollama server logs for details",
    ),
    "runner killed": (500, "llama runner process no longer running: -1 "),
}
"""The status and the text of faults that refuse a request."""

MISLEADING: Final = ("unfinished", "low count")
"""Look right but for one field; they rank the worst first, so that a client that takes one for an answer is noticed."""

JUDGED: Final = ({"better"}, {"reason", "verdict"}, {"reason", "rating"})
"""The properties of the schemas by which a judge answers."""

LABELS: Final = (" yes", " no")
PROSE: Final = "All of these have their merits, and it is hard to prefer any."


@dataclass(frozen=True)
class Content:
    """The text of an answer, the instructions that it ranks, best first, and the logprobs of its tokens."""

    text: str
    ranked: tuple[str, ...] = ()
    logprobs: tuple[dict[str, Any], ...] = ()
    thinking: str = ""


def merit(instruction: str) -> float:
    """How good the server finds an instruction, between 0 and 1; a good answer names the greatest first."""
    return (hash64(instruction) + 1) / (2**64 + 1)


def question_of(text: str) -> str:
    """A prompt without what a further attempt adds to it: a blank line, and what was wrong with the last answer."""
    before, marked, after = text.rpartition("Candidates:\n")
    return before + marked + after.partition("\n\n")[0]


def shared_beginning(one: str, other: str) -> int:
    """How many characters two prompts begin with alike: a server that has read one does not read these again."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def rank_candidates(text: str, schema: Any, fault: str | None) -> Content:
    """The answer to a listwise prompt: as many candidates as the schema wants, by merit."""
    lines = question_of(text).rpartition("Candidates:\n")[2].split("\n") if "Candidates:\n" in text else []
    candidates = [json.loads(line) for line in lines]
    best = sorted(candidates, key=lambda candidate: (-merit(candidate["instruction"]), candidate.get("input", "")))
    top_k = schema["properties"]["ranking"]["minItems"] if isinstance(schema, dict) and schema else len(best)
    ranked = (best[::-1] if fault in MISLEADING else best)[:top_k]
    numbers = [candidate["number"] for candidate in ranked]
    if fault == "wrong ids":
        numbers = [len(candidates) + place for place in range(1, top_k + 1)]
    elif fault == "repeated ids":
        numbers = numbers[:1] * max(top_k, 2)
    answer = {"empty": "", "prose": PROSE}.get(fault or "", json.dumps({"ranking": numbers}))
    return Content(answer, tuple(candidate["instruction"] for candidate in ranked))


def answer_chat(text: str, schema: Any, fault: str | None) -> Content:
    """The answer to a chat: a verdict, reason or rating where the schema wants one, words without it, or a ranking."""
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    if set(properties) in JUDGED:
        return judge(text, properties, fault)
    if "reason" in properties:
        reason = {"wrong ids": "", "repeated ids": ""}.get(fault or "", "It asks for something definite.")
        return Content({"empty": "", "prose": PROSE}.get(fault or "", json.dumps({"reason": reason})))
    if "rating" in properties:
        return rate_row(text, schema, fault)
    if not schema and '\n{"instruction": ' in text:
        written = " ".join(f"word{number}" for number in range(2 + round(60 * _merit_of_last(text))))
        return Content({"empty": "", "wrong ids": "", "repeated ids": ""}.get(fault or "", written))
    if not schema and "Candidates:\n" not in text:
        return Content({"empty": "", "prose": PROSE}.get(fault or "", f"This is answer {hash64(text):016x}."))
    return rank_candidates(text, schema, fault)


def judge(text: str, properties: Mapping[str, Any], fault: str | None) -> Content:
    """What a judge says of the answers that a prompt shows, by the merit of its whole text: the same each time."""
    (name,) = properties.keys() - {"reason"}
    allowed = properties[name]["enum"]
    said = allowed[int((1 - merit(text) if fault in MISLEADING else merit(text)) * len(allowed))]
    said = {"wrong ids": "none of them", "repeated ids": [said, said]}.get(fault or "", said)
    reason = {"reason": "It does what was asked."} if "reason" in properties else {}
    return Content({"empty": "", "prose": PROSE}.get(fault or "", json.dumps(reason | {name: said})))


def rate_row(text: str, schema: Mapping[str, Any], fault: str | None) -> Content:
    """The answer to a question about one row: a rating of those that the schema allows, by merit."""
    allowed = schema["properties"]["rating"]["enum"]
    good = _merit_of_last(text)
    rating = allowed[min(int((1 - good if fault in MISLEADING else good) * len(allowed)), len(allowed) - 1)]
    rating = {"wrong ids": allowed[-1] + 1, "repeated ids": [rating, rating]}.get(fault or "", rating)
    return Content({"empty": "", "prose": PROSE}.get(fault or "", json.dumps({"rating": rating})))


def _merit_of_last(text: str) -> float:
    """The merit of the one instruction that a prompt shows, on the last line of its first attempt."""
    line = next(line for line in reversed(text.split("\n")) if line.startswith('{"instruction": '))
    return merit(json.loads(line)["instruction"])


def rate_candidate(text: str, fault: str | None) -> Content:
    """The answer to a pointwise prompt: the likelier label, with the odds of both by merit."""
    instruction = json.JSONDecoder().raw_decode(text.rpartition("\nInstruction: ")[2])[0]
    is_pair = text.endswith("\nBetter=")
    good = merit(text if is_pair else instruction)
    yes = 1 - good if fault in MISLEADING else good
    labels = ("1", "2") if is_pair else ("4", "1") if text.endswith("\nRating=") else LABELS
    odds = sorted(zip((math.log(yes), math.log(1 - yes)), labels, strict=True), reverse=True)
    if fault in ("empty", "prose", "wrong ids", "repeated ids"):  # neither label is among the likeliest tokens
        odds = [(-0.5, " It"), (-1.5, " The")]
    tokens = [{"token": token, "logprob": odd, "bytes": list(token.encode())} for odd, token in odds]
    return Content(str(tokens[0]["token"]), (instruction,), (tokens[0] | {"top_logprobs": tokens},))


def answer_response(path: str, body: Mapping[str, Any], content: Content, last: Mapping[str, Any]) -> Response:
    """An answer as a request wants it, in one piece or streamed; `last` are the fields that end it."""

    def event(piece: str, **fields: Any) -> dict[str, Any]:
        thinking = {"thinking": content.thinking} if content.thinking else {}
        message = {"message": {"role": "assistant", "content": piece} | thinking}
        text = message if path == "/api/chat" else {"response": piece}
        return {"model": body["model"], "created_at": now(), **text, **fields}

    logprobs = {"logprobs": list(content.logprobs)} if content.logprobs and body.get("logprobs") else {}
    if not body.get("stream", True):
        return json_response(200, event(content.text, **logprobs, **last))
    middle = len(content.text) // 2
    halves = filter(None, (content.text[:middle], content.text[middle:]))
    events = [event(half, **logprobs, done=False) for half in halves]
    return streamed_response([*events, event("", **last)] if last["done"] else events)


def now() -> str:
    """The time, as Ollama writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def hash64(text: str) -> int:
    """A number of 64 bits that depends on the text alone."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
