"""Settings from a file: `--config run.yaml`, in the names and the groups of `RunSettings`.

A value means what its text means behind the option: `think: off` is "off", and `slot: 2026-10-01` is no date.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, get_origin

from cyclopts import Argument, Group, Parameter, Token
from cyclopts.argument import ArgumentCollection
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from selectllm.cli.config_file import read_config
from selectllm.cli.messages import FILE, flag_of
from selectllm.errors import UsageError
from selectllm.settings import RunSettings

SETTINGS_FILE = Group("Settings file", sort_key=7.5)
"""The options of a command that read or write a file of settings."""

ConfigFile = Annotated[
    str | None,
    Parameter(
        group=SETTINGS_FILE,
        help="YAML or JSON file of settings, in the names and groups of `plan --save`. Options count before the file, "
        "the file before the environment. Paths in it are relative to the working folder.",
    ),
]

Overwrite = Annotated[bool, Parameter(group=SETTINGS_FILE, help="With --save: write over any file.")]

SCHEMA_KEY: Final = "$schema"
"""The key under which a JSON file names its schema, for editors; it is no setting."""

Path = tuple[str, ...]


def fields_of(settings: type[BaseModel], path: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every field of the settings that holds a value, with its path through the groups, in their order."""
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields_of(field.annotation, (*path, name))
        else:
            yield (*path, name), field


def settings_of(file: str, model: type[BaseModel] = RunSettings) -> dict[Path, Any]:
    """The values of a file by the paths of their fields: texts, None, and lists of texts.

    Raises UsageError for a file that cannot be read, a key that names no setting, and a value of the wrong shape.
    """
    fields = dict(fields_of(model))
    groups = {path[:-1] for path in fields}
    values: dict[Path, Any] = {}
    read = read_config(file)
    read.pop(SCHEMA_KEY, None)
    for path, value in _leaves(read, groups):
        name = ".".join(path)
        if path in groups:
            raise UsageError(f"{file}: {name} is a group: write its settings below it, not {_kind(value)}")
        if path not in fields:
            raise UsageError(f"{file}: {name} names no setting of this command{_advice(path, fields, model)}")
        values[path] = _of_shape(value, fields[path], f"{file}: {name} ({flag_of(path, model)})")
    return values


def nested(values: Mapping[Path, Any]) -> dict[str, Any]:
    """Values by their paths, as groups within each other."""
    whole: dict[str, Any] = {}
    for (*groups, name), value in values.items():
        group = whole
        for step in groups:
            group = group.setdefault(step, {})
        group[name] = value
    return whole


def fill(arguments: ArgumentCollection) -> None:
    """Give options that a command line leaves out what the file of `--config` says, before anything is checked.

    Raises UsageError as `settings_of` does.
    """
    file = next(argument for argument in arguments if argument.field_info.name == "config").tokens[0].value
    root = next((argument for argument in arguments if argument.field_info.name == "settings"), None)
    options: dict[Any, Argument]
    if root is not None:
        model: type[BaseModel] = root.hint
        options = {argument.keys: argument for argument in root.children_recursive}
    else:  # a command with some of the settings under the same flags: it takes the others from `settings_of`
        model = RunSettings
        by_flag = {name: argument for argument in arguments for name in argument.names}
        options = {path: by_flag[flag_of(path)] for path, _ in fields_of(model) if flag_of(path) in by_flag}
    values = settings_of(file, model)
    if ("pool",) in values and ("pool",) in options and options[("pool",)].tokens:
        values.pop(("more_files",), None)  # they stand behind a pool that another one has replaced
    for path, value in values.items():
        if path in options and not options[path].tokens:
            name = f"{file}: {'.'.join(path)} ({flag_of(path, model)})"
            token = Token(keyword=name, source=FILE)
            is_text = isinstance(value, str)
            options[path].append(token.evolve(value=value) if is_text else token.evolve(implicit_value=value))


def _leaves(values: Mapping[str, Any], groups: set[Path], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What a file says by paths; a mapping is a group where there is such a group, and a group may be empty."""
    for name, value in values.items():
        here = (*path, name)
        if here in groups and isinstance(value, Mapping):
            yield from _leaves(value, groups, here)
        elif not (here in groups and value is None):
            yield here, value


def _of_shape(value: Any, field: FieldInfo, name: str) -> str | tuple[str, ...] | None:
    """The value, if it is a list where the setting is one, and one value elsewhere."""
    if get_origin(field.annotation) is not tuple:
        if isinstance(value, list | Mapping):
            raise UsageError(f"{name} should be one value, not {_kind(value)}")
        return value  # type: ignore[no-any-return]
    if not isinstance(value, list):
        raise UsageError(f"{name} should be a list, such as [a, b], not {_kind(value)}")
    if wrong := [part for part in value if not isinstance(part, str)]:
        raise UsageError(f"{name} should be a list of single values: {_kind(wrong[0])} is in it")
    return tuple(value)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else "a group" if isinstance(value, Mapping) else "one value"


def _advice(path: Path, fields: Mapping[Path, FieldInfo], model: type[BaseModel]) -> str:
    """What may have been meant: a setting by its flag, one in another group, or one with nearly the same name."""
    name = path[-1].lstrip("-").replace("-", "_")
    by_name = {known[-1]: known for known in reversed(list(fields))}
    by_name |= {flag_of(known, model).lstrip("-").replace("-", "_"): known for known in fields}
    close = get_close_matches(name, by_name, n=1, cutoff=0.7)
    return f": do you mean {'.'.join(by_name[close[0]])}?" if close else ". `plan --save` writes a file of all settings"
