"""The user's criteria: a text of the settings, or the file that the text names."""

import os
import re
from typing import Final

from selectllm.errors import UsageError
from selectllm.paths import local_path, redact_url
from selectllm.settings import RunSettings
from selectllm.text import escape_surrogates

MAX_CHARS: Final = 4000
"""Characters of the criteria: every prompt holds all of them."""

FILE_ENDINGS: Final = (".txt", ".md")
"""A text that ends so is the path of a file, whether the file exists or not."""

_MAX_BYTES: Final = 4 * MAX_CHARS + 1024  # of UTF-8, with room for blanks around the text


def criteria_file(settings: RunSettings) -> str | None:
    """The path of the file that holds the criteria; None where the text itself does, or there are none."""
    text = (settings.criteria or "").strip()
    try:
        path = local_path(text) if text else None
    except RuntimeError:  # `~name`, and there is no such user: a text may begin so, too
        return None
    if path is None:
        return None
    # Anything but a folder can be read, a pipe too; `os.path` takes texts that cannot be a path.
    is_file = os.path.exists(path) and not os.path.isdir(path)
    return text if is_file or text.lower().endswith(FILE_ENDINGS) else None


def read_criteria(settings: RunSettings) -> str | None:
    """The text of the criteria, without blanks around it; None where our own are to be used.

    Raises UsageError when the file cannot be read, is not UTF-8, or the text is empty or too long.
    """
    if settings.criteria is None:
        return None
    file = criteria_file(settings)
    text, source = settings.criteria, "--criteria"
    if file is not None:
        text, source = _content(file), f"--criteria {redact_url(file)}"
    elif re.fullmatch(r"\s*\w+://\S+\s*", text):
        raise UsageError(f"--criteria {redact_url(text.strip())} is a URL: save the file here, or give the text itself")
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise UsageError(f"{source} is empty: say what is worth paying for, or leave --criteria out")
    if escape_surrogates(text) != text:
        raise UsageError(f"{source} is not UTF-8 text: give it in UTF-8, or as a file")
    if len(text) > MAX_CHARS:
        raise UsageError(f"{source} has more than {MAX_CHARS:,} characters: every prompt holds it, so shorten it")
    return text


def _content(file: str) -> str:
    path = local_path(file)
    assert path is not None  # as `criteria_file` has found
    try:
        with open(path, "rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        advice = "" if path.exists() else ". If it is no path but the text itself, end it with a full stop"
        raise UsageError(f"--criteria {redact_url(file)} cannot be read: {error.strerror}{advice}") from None
    if len(content) > _MAX_BYTES:
        raise UsageError(f"--criteria {redact_url(file)} has more than {MAX_CHARS:,} characters: shorten it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"--criteria {redact_url(file)} is not UTF-8 text: save it as UTF-8") from None
