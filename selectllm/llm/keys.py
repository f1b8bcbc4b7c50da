"""The keys of model servers, each for the host that it is meant for, and for no other."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from selectllm.errors import SelectorUnavailable
from selectllm.paths import redact_users

Provider = Literal["ollama", "openai"]

PROVIDERS: Final[tuple[Provider, ...]] = ("ollama", "openai")  # the kinds of selectors that have servers
SECRET_LENGTH: Final = 6  # shorter keys are words such as "none", for servers that want any
OLLAMA_CLOUD: Final = "https://ollama.com"


def without_key(text: str, key: str) -> str:
    """A text with a mark for the key, which some servers repeat."""
    return text.replace(key, "***") if len(key) >= SECRET_LENGTH else text


@dataclass(frozen=True)
class ProviderKey:
    """A provider's key, the host that it is meant for, and what else goes with it, such as an organization.

    No host means the provider's usual one.
    """

    key: str = field(default="", repr=False)
    host: str = field(default="", repr=False)  # which may hold a password
    organization: str | None = field(default=None, repr=False)
    project: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class ApiKeys:
    """The keys of a run's servers. They are an argument: no key is ever written to the environment or to a file."""

    ollama: ProviderKey = ProviderKey()
    openai: ProviderKey = ProviderKey()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "ApiKeys":
        """The keys that the environment holds, each for the host that the environment names."""
        values = os.environ if environment is None else environment
        # Further headers, as OpenAI's client reads them: a name, a colon and a value a line.
        lines = values.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
        headers = (line.partition(":") for line in lines if ":" in line)
        openai = ProviderKey(
            values.get("OPENAI_API_KEY", ""),
            values.get("OPENAI_BASE_URL", "").strip(),
            values.get("OPENAI_ORG_ID"),
            values.get("OPENAI_PROJECT_ID"),
            tuple((name.strip(), value.strip()) for name, _, value in headers),
        )
        return cls(ProviderKey(values.get("OLLAMA_API_KEY", ""), values.get("OLLAMA_HOST", "").strip()), openai)

    def host(self, provider: Provider) -> str:
        """The host that is asked where the settings name none; empty for the provider's usual one."""
        return self._of(provider).host

    def for_host(self, provider: Provider, host: str | None) -> ProviderKey:
        """What may be sent to a host (None: the default one); an empty key where none may.

        Raises SelectorUnavailable for a key that cannot be sent.
        """
        if not self.may_see(provider, host):
            return ProviderKey()
        own = self._of(provider)
        key = own.key.strip()
        if not (key.isascii() and key.isprintable()):
            raise SelectorUnavailable(f"{provider.upper()}_API_KEY holds characters that no key has: set it anew")
        return replace(own, key=key)

    def may_see(self, provider: Provider, host: str | None) -> bool:
        """Whether a host (None: the default one) may get the provider's key.

        A key is meant for the host that is named with it, and for the provider's own: another could be anyone's.
        """
        named, asked = self._of(provider).host.rstrip("/"), (host or "").rstrip("/")
        if provider == "ollama":  # whose default host is this machine, not its cloud
            return asked == OLLAMA_CLOUD or (named != "" and asked in ("", named))
        if not host:
            return True
        import httpx  # a run that asks nobody gets by without

        url = httpx.URL(host)
        is_openai = url.scheme == "https" and (url.host == "api.openai.com" or url.host.endswith(".api.openai.com"))
        return is_openai or asked == named

    def redact(self, text: str) -> str:
        """The text without any of the keys, and without the users and passwords of URLs: fit for a log or an error."""
        for own in (self.ollama, self.openai):
            for secret in (own.key.strip(), *(value for _, value in own.headers)):
                text = without_key(text, secret)
        return redact_users(text)

    def _of(self, provider: Provider) -> ProviderKey:
        return self.ollama if provider == "ollama" else self.openai
