"""Reads a YAML or JSON file as mappings, lists and the texts of its values, whatever type YAML would give them."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from selectllm.errors import UsageError

if TYPE_CHECKING:
    from yaml.nodes import Node

MOST_BYTES: Final = 1_000_000
MOST_LEVELS: Final = 4  # of mappings and lists in each other: settings have two, and an alias may name what it is in
NULL: Final = "tag:yaml.org,2002:null"
INFINITE: Final = frozenset({".inf", "+.inf", "-.inf", ".nan"})


def read_config(file: str) -> dict[str, Any]:
    """The mapping that a file holds: its values are texts, None, lists and mappings.

    A name that ends in .json is read as JSON, any other as YAML. Raises UsageError for a file that cannot be read, is
    not UTF-8, is no mapping, or has a key twice.
    """
    text = _text(file)
    values = _json(file, text) if file.lower().endswith(".json") else _yaml(file, text)
    if values is None:
        raise UsageError(f"{file} holds no settings: write them as `name: value`, one a line")
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no settings by name: write them as `name: value`, one a line")
    return values


def _text(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{file} cannot be read: {reason}. --config names a file of settings") from None
    if len(data) > MOST_BYTES:
        raise UsageError(f"{file} has more than {MOST_BYTES:,} bytes: it is no file of settings")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{file}, line {line}: the file is not UTF-8. Write it as UTF-8") from None


def _yaml(file: str, text: str) -> Any:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f"{file}, line {mark.line + 1}" if mark else file
        advice = ": indent by spaces, not by tabs" if "'\\t'" in str(problem) else ""
        raise UsageError(f"{place}: this is no YAML: {problem or str(error).splitlines()[0]}{advice}") from None
    except RecursionError:
        raise UsageError(f"{file}: groups are nested too deeply") from None
    return None if node is None else _value(file, node, 0)


def _value(file: str, node: "Node", level: int) -> Any:
    """What a node holds; a scalar as its text, whatever type YAML takes it for."""
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if level > MOST_LEVELS:
        raise UsageError(f"{file}, line {node.start_mark.line + 1}: groups are nested too deeply")
    if isinstance(node, ScalarNode):
        if node.tag == NULL:
            return None
        return node.value.lower().replace(".", "") if node.value.lower() in INFINITE else str(node.value)
    if isinstance(node, SequenceNode):
        return [_value(file, part, level + 1) for part in node.value]
    assert isinstance(node, MappingNode)
    pairs = []
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            raise UsageError(f"{file}, line {key.start_mark.line + 1}: a key is a name, not a list or a group")
        pairs.append((key.value, _value(file, value, level + 1)))
    return _mapping(file, pairs)


def _json(file: str, text: str) -> Any:
    try:
        values = json.loads(
            text,
            parse_int=str,
            parse_float=str,
            parse_constant=str,
            object_pairs_hook=lambda pairs: _mapping(file, pairs),
        )
    except json.JSONDecodeError as error:
        if not text.strip():
            return None
        raise UsageError(f"{file}, line {error.lineno}: this is no JSON: {error.msg}") from None
    except RecursionError:
        raise UsageError(f"{file}: groups are nested too deeply") from None
    return _as_texts(values)


def _as_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_texts(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_as_texts(part) for part in value]
    return str(value).lower() if isinstance(value, bool) else value


def _mapping(file: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise UsageError(f"{file}: {name} stands there twice: leave one of them out")
        values[name] = value
    return values
