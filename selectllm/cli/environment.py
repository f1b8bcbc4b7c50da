"""Settings from the environment (`SELECTLLM_STORE`, `SELECTLLM_RANKING__DEPTH`) or from `.env`.

Precedence, highest first: explicit values, the environment, the file `.env` of the working folder, fallbacks, defaults.
"""

from collections.abc import Mapping
from typing import Any

from cyclopts import App, Token
from cyclopts.argument import ArgumentCollection
from pydantic import ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from selectllm.errors import UsageError
from selectllm.paths import redact_url
from selectllm.settings import RunSettings


class _Variables(BaseSettings, RunSettings):
    """How the settings' variables are called."""

    model_config = SettingsConfigDict(
        env_prefix="SELECTLLM_", env_nested_delimiter="__", env_file=".env", env_file_encoding="utf-8", extra="ignore"
    )


def from_environment() -> dict[str, Any]:
    """The settings that the environment and `.env` name, nested as the settings are, not yet checked.

    Raises UsageError for a list that is not written as JSON.
    """
    try:
        return merged(own_fields(DotEnvSettingsSource(_Variables)()), own_fields(EnvSettingsSource(_Variables)()))
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f".env of this folder cannot be read: {error}. Write it as UTF-8, or move it away") from None
    except SettingsError as error:
        raise UsageError(
            f"SELECTLLM_…: {error}. Lists are written as JSON, such as SELECTLLM_RANKING__HOSTS='[\"http://gpu1:11434\"]'"
        ) from None


def fill_from_environment(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give options that the command line leaves open the values of the environment (a `config` of cyclopts)."""
    values = from_environment()
    for argument in arguments:
        value: Any = values
        for key in argument.keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not argument.keys or argument.children or argument.has_tokens or value is None:
            continue
        for index, item in enumerate(value if isinstance(value, (list, tuple)) else [value]):
            argument.append(Token(keyword=argument.name, value=str(item), source="environment", index=index))


def with_environment(settings: RunSettings, fallbacks: Mapping[str, Any] | None = None) -> RunSettings:
    """The settings with their unset fields filled from the environment, and then from the `fallbacks`.

    Raises UsageError when those are not allowed.
    """
    explicit = settings.model_dump(mode="json", exclude_unset=True)
    try:
        return RunSettings.model_validate(merged(fallbacks or {}, from_environment(), explicit))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UsageError(f"the settings that the environment names are not allowed: {redact_url(faults)}") from None


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


def own_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a file of many programs' variables holds for others."""
    return {name: value for name, value in values.items() if name in RunSettings.model_fields}
