"""The keys of model servers, each for the host that it is meant for, and for no other."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import httpx

Provider = Literal["ollama", "openai"]

PROVIDERS: Final[tuple[Provider, ...]] = ("ollama", "openai")
"""Kinds of selectors that have servers."""

KEY_VARIABLES: Final[dict[Provider, str]] = {"ollama": "OLLAMA_API_KEY", "openai": "OPENAI_API_KEY"}
HOST_VARIABLES: Final[dict[Provider, str]] = {"ollama": "OLLAMA_HOST", "openai": "OPENAI_BASE_URL"}

OLLAMA_CLOUD: Final = "https://ollama.com"


@dataclass(frozen=True)
class ProviderKey:
    """A provider's key, the host that it is meant for, and what else goes with it, such as an organization.

    No host means the provider's usual one.
    """

    key: str = field(default="", repr=False)
    host: str = ""
    organization: str | None = field(default=None, repr=False)
    project: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ApiKeys:
    """The keys of a run's servers. They are an argument: no key is ever written to the environment or to a file."""

    ollama: ProviderKey = ProviderKey()
    openai: ProviderKey = ProviderKey()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "ApiKeys":
        """The keys that the environment holds, each for the host that the environment names."""
        values = os.environ if environment is None else environment

        def of(provider: Provider, **more: str | None) -> ProviderKey:
            key, host = (values.get(names[provider], "").strip() for names in (KEY_VARIABLES, HOST_VARIABLES))
            return ProviderKey(key, host, **more)

        return cls(
            of("ollama"),
            of("openai", organization=values.get("OPENAI_ORG_ID"), project=values.get("OPENAI_PROJECT_ID")),
        )

    def host(self, provider: Provider) -> str:
        """The host that is asked where the settings name none; empty for the provider's usual one."""
        return self._of(provider).host

    def for_host(self, provider: Provider, host: str | None) -> ProviderKey:
        """What may be sent to a host (None: the default one); an empty key where none may."""
        own = self._of(provider)
        may_see = _may_see_ollama(own, host) if provider == "ollama" else _may_see_openai(own, host)
        return own if may_see else ProviderKey()

    def _of(self, provider: Provider) -> ProviderKey:
        return self.ollama if provider == "ollama" else self.openai


def _may_see_ollama(own: ProviderKey, host: str | None) -> bool:
    """A key is meant for the host that is named with it, or for Ollama's cloud; without one it is sent nowhere else."""
    named, asked = own.host.rstrip("/"), (host or "").rstrip("/")
    return (bool(named) and asked in ("", named)) or asked == OLLAMA_CLOUD


def _may_see_openai(own: ProviderKey, host: str | None) -> bool:
    """A key is meant for the URL that is named with it, or for OpenAI's own; a host alone could be anyone's."""
    if not host:
        return True
    url = httpx.URL(host)
    is_openai = url.scheme == "https" and (url.host == "api.openai.com" or url.host.endswith(".api.openai.com"))
    return is_openai or host.rstrip("/") == own.host.rstrip("/")
