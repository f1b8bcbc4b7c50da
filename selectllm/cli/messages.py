"""Says what is wrong with a command line: on one line, and in the names that its user typed."""

from collections.abc import Sequence
from typing import Any, Final, get_args

from cyclopts import Argument, CycloptsError, Parameter, Token
from pydantic import BaseModel, ValidationError

from selectllm.paths import redact_url
from selectllm.settings import RunSettings

FILE: Final = "file"
"""The source of a token that stands for a key of a file of settings."""


def usage_error(error: CycloptsError) -> str:
    """What is wrong with the arguments of a command line."""
    cause, argument = error.__cause__, error.argument
    if isinstance(cause, ValidationError) and argument is not None and argument.children:
        return setting_errors(cause, argument)
    text = str(error).replace(", ...", " and more")  # of many commands, Cyclopts names the first
    return redact_url(text.rstrip(".").replace("parameter --pool", "parameter POOL"))


def setting_errors(error: ValidationError, argument: Argument | None = None) -> str:
    """What is wrong with values of the settings; `argument` is the command line's, where they come from one."""
    return "; ".join(_setting_error(problem, argument) for problem in error.errors())


def flag_of(location: Sequence[int | str], settings: type[BaseModel] = RunSettings) -> str:
    """What the command line calls a field of the settings, such as `--query-size` for ("queries", "size")."""
    name, *rest = location
    field = settings.model_fields.get(str(name))
    if field is None:
        return f"--{'.'.join(map(str, location))}"
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and rest:
        return flag_of(rest, field.annotation)
    if name == "pool":
        return "POOL"
    flags = [flag for mark in field.metadata if isinstance(mark, Parameter) for flag in mark.name or ()]
    return flags[0] if flags else f"--{str(name).replace('_', '-')}"


def _setting_error(problem: Any, argument: Argument | None) -> str:
    message, value = problem["msg"].removeprefix("Value error, "), problem["input"]
    _, _, requirement = message.partition(" ")
    if not requirement.startswith("should "):  # "Input should be", "String should have": pydantic's own rules
        token = _token(problem["loc"], argument)
        return redact_url(f"{token.keyword}: {message}" if token and token.source == FILE else message)
    shown = repr(redact_url(value)) if isinstance(value, str) else redact_url(repr(value))  # it may be a host's URL
    requirement = requirement.partition(", unable to ")[0]
    return f"{_name(problem['loc'], argument)} {requirement}, not {shown}"


def _name(location: Sequence[int | str], argument: Argument | None) -> str:
    """What gave the value: an option, a key of a file, or a variable of the environment."""
    if argument is None:
        return flag_of(location)
    token = _token(location, argument)
    if token:
        return token.keyword or flag_of(location)
    owner = next(kind for kind in (*get_args(argument.hint), argument.hint) if isinstance(kind, type))
    return flag_of(location, owner)


def _token(location: Sequence[int | str], argument: Argument | None) -> Token | None:
    """The first piece of a command line that gave a value, or what stands for it from elsewhere."""
    for child in argument.children_recursive if argument else ():
        if child.keys and child.keys == tuple(location[: len(child.keys)]) and child.tokens:
            return child.tokens[0]
    return None
