"""What a conversation asks: its turns, however they are written, and the one that is to be answered."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from selectllm.pool.rows import INSTRUCTION_IS_TEXT, PRESENT, InvalidRow, is_missing
from selectllm.text import join_names, json_text, type_name

ROLES: Final = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""What the usual tags of turns mean; capitals and spaces around a tag do not matter."""

_TEXT_PARTS: Final = (None, "text", "input_text", "output_text")
_CONTENTS: Final = ("content", "value", "parts", "text")
_CALLS: Final = ("tool_calls", "function_call")
_WRAPPED: Final = ("messages", "contents", "conversations", "conversation", "input", "prompt")
_SYSTEM: Final = ("systemInstruction", "system_instruction", "instructions", "system")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: its role as ROLES has it, else its own tag; its tag; and its content, None where it has none."""

    role: str
    tag: str
    content: Any

    @property
    def line(self) -> str:
        """The turn in a transcript."""
        text = self.content if isinstance(self.content, str) else json_text(self.content)
        return f"{self.role.capitalize()}: {text.strip()}"


def is_chat(value: object) -> bool:
    """Whether a value is a conversation: turns in a list, a turn, or the JSON text of one."""
    if isinstance(value, str) and value.lstrip()[:1] not in ("[", "{"):
        return False
    value = _loaded(value)
    turns = value if isinstance(value, list) else [value]
    return any(isinstance(turn, dict) and _is_turn(turn) for turn in turns)


def read_turns(value: object, roles: Mapping[str, str] = ROLES) -> list[Turn]:
    """The turns of a conversation.

    They can be a list of {role, content}, {from, value} or {role, parts}; a list of texts or of pairs of texts, in
    which user and assistant take turns; an object of lists; one turn; the body of a request; or JSON text of any of
    these. Raises InvalidRow for anything else.
    """
    value = _loaded(value)
    if is_missing(value):
        raise InvalidRow("no messages", PRESENT)
    if isinstance(value, dict):
        return _turns_of_object(value, roles)
    if not isinstance(value, list):
        raise InvalidRow(f"the messages are not a list but {type_name(value)}", INSTRUCTION_IS_TEXT)
    if all(isinstance(item, list) for item in value):
        value = [text for pair in value for text in (*pair[:2], *[None] * (2 - len(pair)))]
    if all(item is None or isinstance(item, str) for item in value):
        tags = ("user", "assistant") * len(value)
        return [Turn(tag, tag, text) for tag, text in zip(tags, value, strict=False)]
    return [_turn(item, roles) for item in value if isinstance(item, dict)]


def question_of(turns: list[Turn], which: str) -> tuple[Any, str | None]:
    """The content of the first or last user turn that has one, and a transcript of the turns before it.

    Raises InvalidRow where no user asks anything.
    """
    asked = [place for place, turn in enumerate(turns) if turn.role == "user"]
    if not asked:
        tags = list(dict.fromkeys(turn.tag for turn in turns if turn.tag))
        raise InvalidRow(f"no user turn: roles are {join_names(tags)}" if tags else "no user turn", PRESENT)
    with_content = [place for place in asked if not is_blank(turns[place].content)]
    if not with_content:
        raise InvalidRow("the user turn holds no text", PRESENT)
    place = with_content[0 if which == "first" else -1]
    return turns[place].content, transcript(turns[:place])


def transcript(turns: list[Turn]) -> str | None:
    """The turns as text, one behind the other; None where none has content."""
    return "\n".join(turn.line for turn in turns if not is_blank(turn.content)) or None


def _loaded(value: object) -> Any:
    """What JSON text of a list or an object stands for; anything else as it is."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _turns_of_object(value: dict[str, Any], roles: Mapping[str, str]) -> list[Turn]:
    lists = {key: items for key, items in value.items() if isinstance(items, list)}
    tags = lists.get("role", lists.get("from"))
    if tags is not None:  # other lists may be null or shorter, such as one of names that no turn has
        places = range(len(tags))
        items = [{key: items[place] for key, items in lists.items() if place < len(items)} for place in places]
        return [_turn(item, roles) for item in items]
    if value.get("role") or value.get("from"):
        return [_turn(value, roles)]
    name = next((name for name in _WRAPPED if not is_missing(value.get(name))), None)
    if name is None:
        raise InvalidRow("the messages are not a list but an object", INSTRUCTION_IS_TEXT)
    system = next((Turn("system", "system", _text(value[key])) for key in _SYSTEM if value.get(key)), None)
    asked = value[name]
    is_text = isinstance(asked, str) and not is_chat(asked)
    turns = [Turn("user", "user", asked)] if is_text else read_turns(asked, roles)
    return [system, *turns] if system else turns


def _is_turn(value: dict[str, Any]) -> bool:
    """Whether an object has a tag and a content: other objects have a role, or a place that they come from, too."""
    by_role = "role" in value and any(name in value for name in (*_CONTENTS, *_CALLS))
    return by_role or ("from" in value and ("value" in value or "content" in value))


def _turn(turn: Mapping[str, Any], roles: Mapping[str, str]) -> Turn:
    default = "user" if "parts" in turn else ""  # Gemini's API lets it out
    tag = str(turn.get("role") or turn.get("from") or default).strip()
    role = roles.get(tag.casefold(), tag)
    if not turn.get("role") and turn.get("from"):
        content = turn.get("value", turn.get("content"))
    else:
        content = next((turn[name] for name in _CONTENTS if not is_missing(turn.get(name))), None)
    content = _text(content)
    if is_blank(content) and role != "user":
        content = next((turn[name] for name in _CALLS if turn.get(name)), content)
    return Turn(role, tag, content)


def _text(content: Any) -> Any:
    """The text of a content: of parts, the text of each that has one, on lines of their own."""
    if isinstance(content, dict):
        if isinstance(content.get("text"), str) or isinstance(content.get("parts"), list):
            return _text(content.get("parts") or content["text"])
        return content
    if not isinstance(content, list):
        return content
    texts = (_part(part) for part in content)
    return "\n".join(text for text in texts if isinstance(text, str))


def _part(part: Any) -> Any:
    if isinstance(part, dict):
        return part.get("text") if part.get("type") in _TEXT_PARTS else None
    return part


def is_blank(content: object) -> bool:
    """Whether a content is missing, or a text of nothing but space."""
    return is_missing(content) or (isinstance(content, str) and not content.strip())
