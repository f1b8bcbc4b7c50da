"""Makes command-line options out of `RunSettings`, so that every door offers the same ones, with the same words."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from cyclopts import Group, Parameter
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from selectllm.cli.environment import from_environment, merged
from selectllm.errors import UsageError
from selectllm.paths import redact_url
from selectllm.settings import Flag, RunSettings, Settings


@dataclass(frozen=True)
class Option:
    """One field of the settings, as the command line knows it."""

    path: tuple[str, ...]
    field: FieldInfo
    section: str

    @property
    def name(self) -> str:
        """The option's name, without the dashes before it."""
        flags = [one.name for one in self.field.metadata if isinstance(one, Flag)]
        return flags[0] if flags else self.path[-1].replace("_", "-")

    @property
    def argument(self) -> str:
        """The option's name as a parameter of a function."""
        return self.name.replace("-", "_")

    def parameter(self) -> inspect.Parameter:
        """The option as a function's parameter: the pool by its place, all others by name."""
        by_place = self.path == ("pool",)
        shown = Parameter(
            name=None if by_place else f"--{self.name}",
            help=self.field.description,
            group=None if by_place else _section(self.section),
            negative=(),
        )
        return inspect.Parameter(
            self.argument,
            inspect.Parameter.POSITIONAL_ONLY if by_place else inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[self.field.annotation, shown],
            default=inspect.Parameter.empty if self.field.is_required() else self.field.default,
        )


@cache
def _section(title: str) -> Group:
    """The heading of a section in `--help`, in the order of the settings."""
    return Group.create_ordered(title)


def options(
    settings: type[Settings] = RunSettings, path: tuple[str, ...] = (), section: str = "Run"
) -> Iterator[Option]:
    """Every field of the settings that is not itself a group of them."""
    for name, field in settings.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, Settings):
            yield from options(field.annotation, (*path, name), field.title or name)
        else:
            yield Option((*path, name), field, section)


def command(work: Callable[..., int]) -> Callable[..., int]:
    """A function for the command line: takes each option as a parameter, and hands `work` the settings they make.

    Keyword parameters of `work` itself stay parameters of the command.
    """
    known = {one.argument: one for one in options()}

    def run(pool: str, /, **given: Any) -> int:
        own = {name: given.pop(name) for name in list(given) if name in inspect.signature(work).parameters}
        values = {"pool": pool, **given}
        return work(settings_from({one.path: values[name] for name, one in known.items() if name in values}), **own)

    _, *others = inspect.signature(work, eval_str=True).parameters.values()
    parameters = [one.parameter() for one in known.values()] + others
    run.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    run.__doc__ = work.__doc__
    run.__name__ = work.__name__
    return run


def settings_from(values: dict[tuple[str, ...], Any]) -> RunSettings:
    """Settings made of values by their paths, on top of those that the environment names.

    Raises UsageError, on one line and in the options' names, when they are not allowed.
    """
    nested: dict[str, Any] = {}
    for (*groups, name), value in values.items():
        part = nested
        for group in groups:
            part = part.setdefault(group, {})
        part[name] = value
    try:
        return RunSettings.model_validate(merged(from_environment(), nested))
    except ValidationError as error:
        names = {one.path: one.name for one in options()}
        raise UsageError(
            "; ".join(_fault(names, one["loc"], one["msg"], one["input"]) for one in error.errors())
        ) from None


def _fault(names: dict[tuple[str, ...], str], place: Sequence[int | str], message: str, given: Any) -> str:
    name = names.get(tuple(str(part) for part in place), ".".join(map(str, place)))
    said = message.removeprefix("Value error, ").replace("Input should be", "should be")
    option = "POOL" if name == "pool" else f"--{name}"
    return redact_url(
        f"{option} {said}, not {given!r}" if said.startswith("should") else said
    )  # it may be a host's URL
