"""The last resort: an error that nobody foresaw ends in one line, and its traceback in a file."""

import contextlib
import secrets
import tempfile
import traceback
from pathlib import Path

from cyclopts import App

from selectllm.errors import SelectLLMError
from selectllm.settings import RunSettings
from selectllm.text import short_error


def unexpected_error(error: Exception, store: str | None) -> str:
    """Keep the traceback of an error beside the records of the store's runs; returns what to tell the user.

    Without a store, or where it cannot be written, the traceback goes to the system's folder for temporary files.
    """
    from selectllm.llm.keys import ApiKeys

    keys = ApiKeys.from_environment()
    text = keys.redact("".join(traceback.format_exception(error)))
    kept = "What was made and paid for is kept in the store. " if store else ""
    return (
        f"an unexpected error, {type(error).__name__}: {keys.redact(short_error(error))}. {kept}"
        f"Please report it with its traceback, which is in {_write(text, store)}"
    )


def store_of(app: App, arguments: list[str] | None) -> str | None:
    """The store that a command line names; None for a command that has none."""
    with contextlib.suppress(Exception):  # an error is being reported: there must not be another
        _, bound, *_ = app.parse_args(arguments, print_error=False, exit_on_error=False)
        bound.apply_defaults()
        for value in bound.arguments.values():
            if isinstance(value, RunSettings):
                return value.store
        store = bound.arguments.get("store")
        return store if isinstance(store, str) else None
    return None


def _write(text: str, store: str | None) -> str:
    from selectllm.store import Store
    from selectllm.store.runs import save_traceback

    if store:
        with contextlib.suppress(SelectLLMError):
            return save_traceback(Store(store), text)
    path = Path(tempfile.gettempdir(), f"selectllm-{secrets.token_hex(4)}.log")
    with contextlib.suppress(OSError):
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return str(path)
