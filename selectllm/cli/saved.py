"""Writes all settings of a run or a comparison to a YAML file, each with its description: `--save`."""

import hashlib
import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

from pydantic import BaseModel

from selectllm.cli.schema import COMPARISON_SCHEMA, SCHEMA
from selectllm.errors import UsageError
from selectllm.paths import redact_users

WIDTH: Final = 100

UNICODE_LINE_ENDS: Final = "\x85\u2028\u2029"

MARK: Final = re.compile(
    r"# Written by `selectllm (?:plan|compare) --save`, unchanged while its digest is ([0-9a-f]{32})\.\n"
)


@dataclass(frozen=True)
class Form:
    """A file of one kind of settings: the command that `writes` it, the one that `reads` it, and its schema."""

    writes: str
    reads: str
    schema: Path


RUN: Final = Form("plan", "select", SCHEMA)
COMPARISON: Final = Form("compare", "compare", COMPARISON_SCHEMA)


def check_target(path: str, *, overwrite: bool = False) -> None:
    """Raise UsageError where settings may not be written to a path: to a file that is not as this module left it."""
    target = Path(path).expanduser()
    if target.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--save writes YAML: name a file that ends in .yaml, not {path}")
    if not target.parent.is_dir():
        raise UsageError(f"--save cannot write {path}: there is no folder {target.parent}")
    if target.exists() and not target.is_file():
        raise UsageError(f"--save cannot write {path}: it is no file")
    if target.exists() and not overwrite and not is_as_written(target):
        raise UsageError(f"{path} is there, and is not as --save left it. Name another file, or add --overwrite")


def is_as_written(path: Path) -> bool:
    """Whether a file is as `save_settings` wrote it: no other one is written over without a word."""
    with suppress(OSError, UnicodeDecodeError):
        text = path.read_bytes().decode()
        mark = MARK.search(text)
        return mark is not None and mark[1] == _digest(text[mark.end() :])
    return False


def save_settings(settings: BaseModel, path: str, *, form: Form = RUN, overwrite: bool = False) -> list[str]:
    """Write all settings to a YAML file, as a whole or not at all; returns what its user should know of it.

    Raises UsageError as `check_target` does, and where the file cannot be written.
    """
    check_target(path, overwrite=overwrite)
    target = Path(path).expanduser()
    text = format_settings(settings, os.path.relpath(form.schema, target.resolve().parent), form.writes)
    try:
        with tempfile.NamedTemporaryFile("w", dir=target.parent, encoding="utf-8", newline="", delete=False) as stream:
            try:
                stream.write(text)
                stream.close()
                os.chmod(stream.name, 0o666 & ~_umask())
                os.replace(stream.name, target)
            except BaseException:
                os.unlink(stream.name)
                raise
    except OSError as error:
        raise UsageError(f"--save cannot write {path}: {error.strerror}") from None
    has_password = redact_users(text) != text
    return [f"{path} holds all settings of this run: `selectllm {form.reads} --config {path}` runs it"] + (
        [f"{path} holds the password of a URL: show it to nobody"] if has_password else []
    )


def format_settings(settings: BaseModel, schema: str, command: str = RUN.writes) -> str:
    """All settings as YAML, in their order, each below its description; `schema` is where an editor finds the schema.

    Every setting has its value, so that no environment fills one in: null where it is left open.
    """
    body = "\n".join(["", *_lines(settings, settings.model_dump(mode="json"), "")]) + "\n"
    return (
        f"# yaml-language-server: $schema={schema}\n"
        f"# Written by `selectllm {command} --save`, unchanged while its digest is {_digest(body)}.\n{body}"
    )


def _lines(settings: BaseModel, values: dict[str, Any], indent: str) -> Iterator[str]:
    import yaml

    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        about = (type(value).__doc__ if isinstance(value, BaseModel) else field.description) or ""
        yield from (f"{indent}# {line}" for line in wrap(" ".join(about.split()), WIDTH - len(indent)))
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, values[name], f"{indent}  ")
        else:
            written = yaml.dump({name: values[name]}, Dumper=_dumper(), allow_unicode=True, width=math.inf)
            yield from (f"{indent}{line}" for line in written.removesuffix("\n").split("\n"))
        if not indent:
            yield ""


@cache
def _dumper() -> Any:
    """Writes values that are read again as they were: the library takes a line end of Unicode for its own."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = '"' if any(mark in value for mark in UNICODE_LINE_ENDS) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
