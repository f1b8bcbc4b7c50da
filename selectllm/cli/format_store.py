"""Formats what is in a store, and what was removed from it, as tables of plain text."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from rich.console import JustifyMethod

from selectllm.report.plain_table import plain_table
from selectllm.store.inventory import ArtifactInfo, Inventory, ModelFiles
from selectllm.store.pruning import Pruned
from selectllm.text import fit_line

KEY_DIGITS: Final = 12
"""Digits of a key that are shown; the JSON has all of them."""

NAMED_ARTIFACTS: Final = 5
"""Artifacts that a sentence names."""

WIDTH: Final = 160
"""Columns of a table at most: it is cut there, so that each artifact stays one line."""

RIGHT: Final[dict[str, JustifyMethod]] = dict.fromkeys(("rows", "size", "age"), "right")
COLUMNS: Final[dict[str, JustifyMethod]] = {"kind": "left", "key": "left", **RIGHT, "made from": "left"}

UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def format_inventory(inventory: Inventory, now: datetime | None = None) -> str:
    """A store's artifacts, and its vectors and replies in total."""
    artifacts = inventory.artifacts
    damaged = sum(info.damage is not None for info in artifacts)
    total = f"{_count(len(artifacts), 'artifact')}, {size(sum(info.bytes for info in artifacts))}"
    lines = [*_table(artifacts, now), ""] if artifacts else []
    lines.append(f"{total}; {damaged:,} damaged: what a run needs of them it makes again" if damaged else total)
    for kind, models in (("vectors", inventory.vectors), ("replies", inventory.replies)):
        lines += [_model_files(kind, files) for files in models]
    return "\n".join(lines)


def format_pruned(pruned: Pruned, now: datetime | None = None) -> str:
    """What was removed, or would be."""
    verb = "Would remove" if pruned.dry_run else "Removed"
    lines = [*_table(pruned.removed, now), ""] if pruned.removed else []
    lines.append(f"{verb} {_count(len(pruned.removed), 'artifact')}, {size(pruned.bytes)}; {pruned.kept:,} stay.")
    if pruned.reports:
        lines.append(
            f"{verb} the reports of {_count(len(pruned.reports), 'run')}: {size(sum(pruned.reports.values()))} of it."
        )
    if unresolved := pruned.unresolved:
        keys = [f"{info.artifact.kind} {info.artifact.key[:KEY_DIGITS]}" for info in unresolved[:NAMED_ARTIFACTS]]
        names = fit_line(", ".join(keys), 200)
        more = f" and {len(unresolved) - NAMED_ARTIFACTS:,} more" if len(unresolved) > NAMED_ARTIFACTS else ""
        lines.append(
            f"What {names}{more} was made from is partly gone or damaged, so nothing older was removed. "
            "Its run makes it again."
        )
    return "\n".join(lines)


def size(bytes: float) -> str:
    """A number of bytes, in the unit that leaves at most three digits before the point."""
    for unit in UNITS:
        if bytes < 999.5 or unit == UNITS[-1]:
            break
        bytes /= 1000
    return f"{bytes:,.0f} {unit}" if unit == "B" or bytes >= 99.5 else f"{bytes:.1f} {unit}"


def age(then: datetime | None, now: datetime) -> str:
    """How long ago something was, in its largest unit of time."""
    if then is None:
        return "?"
    seconds = max((now - then).total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _table(artifacts: Iterable[ArtifactInfo], now: datetime | None) -> list[str]:
    now = now or datetime.now(UTC)
    return plain_table(COLUMNS, (_row(info, now) for info in artifacts), WIDTH)


def _row(info: ArtifactInfo, now: datetime) -> tuple[str, ...]:
    damage = f"  DAMAGED: {info.damage}" if info.damage else ""
    made_from = "?"
    if info.manifest:
        inputs = info.manifest.made_from.items()
        made_from = fit_line(", ".join(f"{name} {key[:KEY_DIGITS]}" for name, key in inputs), 120)
    return (
        fit_line(info.artifact.kind, 12),
        fit_line(info.artifact.key, KEY_DIGITS + 1)[:KEY_DIGITS],
        f"{info.manifest.rows:,}" if info.manifest else "?",
        size(info.bytes),
        age(info.created, now),
        made_from + damage,
    )


def _model_files(kind: str, files: ModelFiles) -> str:
    model = fit_line(files.model, KEY_DIGITS + 1)[:KEY_DIGITS]
    name = f"  {fit_line(files.name, 60)}" if files.name else ""
    return f"{kind:<12} {model:<{KEY_DIGITS}} {_count(files.files, 'file'):>11} {size(files.bytes):>8}{name}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
