"""Settings from the environment (`SELECTLLM_STORE`, `SELECTLLM_RANKING__DEPTH`) or from `.env`.

Precedence, highest first: explicit values, a file of settings (see `selectllm.cli.config`), the environment, the file
`.env` of the working folder, fallbacks, defaults.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cyclopts import Token
from cyclopts.argument import ArgumentCollection
from pydantic import ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from selectllm.errors import UsageError
from selectllm.paths import redact_url
from selectllm.settings import RunSettings

PREFIX: Final = "SELECTLLM_"
DELIMITER: Final = "__"


class _Variables(BaseSettings, RunSettings):
    """How the settings' variables are called."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, env_file=".env", env_file_encoding="utf-8", extra="ignore"
    )


def from_environment() -> dict[str, Any]:
    """The settings that the environment and `.env` name, unchecked; raises UsageError for a list that is no JSON."""
    try:
        values = merged(DotEnvSettingsSource(_Variables)(), EnvSettingsSource(_Variables)())
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f".env of this folder cannot be read: {error}. Write it as UTF-8, or move it away") from None
    except SettingsError as error:
        raise UsageError(
            f"SELECTLLM_…: {error}. Lists are written as JSON, such as SELECTLLM_RANKING__HOSTS='[\"http://gpu1:11434\"]'"
        ) from None
    # A file may hold many programs' variables: those of others are left out.
    return {name: value for name, value in values.items() if name in RunSettings.model_fields}


def with_environment(
    settings: RunSettings, fallbacks: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None
) -> RunSettings:
    """The settings, and what they leave open: from a file's, then the environment, then the fallbacks.

    Raises UsageError for values that are not allowed.
    """
    explicit = settings.model_dump(mode="json", exclude_unset=True)
    try:
        return RunSettings.model_validate(merged(fallbacks or {}, from_environment(), config or {}, explicit))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        source = "the file and the environment name" if config else "the environment names"
        raise UsageError(f"the settings that {source} are not allowed: {redact_url(problems)}") from None


def fill(arguments: ArgumentCollection) -> None:
    """Give options that a command line leaves out what the environment names for them, before anything is checked.

    Raises UsageError for a variable of a group that has no such setting.
    """
    options = {argument.keys: argument for argument in arguments}
    values = from_environment()
    if "pool" in values and ("pool",) in options and options[("pool",)].tokens:
        values.pop("more_files", None)  # they stand behind a pool that another one has replaced
    for path, value in _leaves(values):
        variable = PREFIX + DELIMITER.join(path).upper()
        if not any(keys[:1] == path[:1] for keys in options):
            continue  # a setting of other commands: a comparison has no budget, and a selection no labels
        if path not in options:
            raise UsageError(f"{variable} names no setting")
        if not options[path].tokens:
            for index, text in enumerate(value if isinstance(value, list) else [value]):
                options[path].append(Token(keyword=variable, value=str(text), source="environment", index=index))


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings laid over each other, the last on top."""
    whole: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            before = whole.get(name)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                value = merged(before, value)
            whole[name] = value
    return whole


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        elif value is not None:
            yield (*path, name), value
