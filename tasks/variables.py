"""Reads Prefect's Variables, which may hold any JSON."""

from prefect.variables import Variable

from selectllm.errors import UsageError


def variable_text(name: str) -> str:
    """The text of a Variable; empty where there is none. Raises UsageError for a number, a list or a mapping."""
    value = Variable.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    more = ". Several hosts are for the run to name: hosts in its form" if name.endswith("_host") else ""
    raise UsageError(f"Prefect's Variable {name} must be a text in quotes, and is a {type(value).__name__}{more}")
