"""Loads the API keys of a run, from the environment or from Prefect's Secret blocks."""

from dataclasses import replace

from prefect.blocks.system import Secret

from selectllm.llm.keys import PROVIDERS, ApiKeys, Provider, ProviderKey
from selectllm.settings import RunSettings
from tasks.variables import variable_text


def load_keys(settings: RunSettings) -> ApiKeys:
    """The keys of the environment and of the Secret blocks `selectllm-ollama-api-key` and `selectllm-openai-api-key`.

    A key of the environment is for the host that the environment names; that of a Secret block is for the host of the
    Variable `selectllm_<provider>_host`, or, without a Variable, for the usual one. Each process calls this for itself:
    no key is sent from one to another. Raises UsageError for a Variable that is no text.
    """
    keys = ApiKeys.from_environment()
    provider = provider_of(settings.selector)
    if provider is None:
        return keys
    own, host, secret = getattr(keys, provider), _variable_host(provider), _secret(f"selectllm-{provider}-api-key")
    return replace(keys, **{provider: _chosen(own, host, secret, set(settings.ranking.hosts))})


def default_host(selector: str) -> str | None:
    """The host of a selector from the environment, or else from Prefect's Variable."""
    provider = provider_of(selector)
    if provider is None:
        return None
    return ApiKeys.from_environment().host(provider) or _variable_host(provider) or None


def provider_of(selector: str) -> Provider | None:
    """The provider of a selector whose model has a server."""
    name = selector.partition(":")[0]
    return next((provider for provider in PROVIDERS if provider == name), None)


def _chosen(own: ProviderKey, host: str, secret: str, hosts: set[str]) -> ProviderKey:
    """For the host of the Variable, ignore environment values that belong to another host."""
    asked = hosts or {own.host or host}
    if host and asked == {host}:
        return own if own.key and own.host == host else ProviderKey(secret, host)
    if host or own.host or own.key or not secret:
        return own
    return replace(own, key=secret)


def _variable_host(provider: Provider) -> str:
    return variable_text(f"selectllm_{provider}_host")


def _secret(block: str) -> str:
    try:
        return str(Secret.load(block).get())  # type: ignore[union-attr]
    except ValueError:  # the block does not exist
        return ""
