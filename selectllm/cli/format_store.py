"""Says in words what lies in a store, and what was removed from it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from selectllm.report.format import one_line
from selectllm.store.inventory import ArtifactInfo, Inventory, ModelFiles
from selectllm.store.pruning import Pruned

KEY: Final = 12
"""Digits of a key that are shown; the JSON has all of them."""

NAMED: Final = 5
"""Artifacts that a sentence names."""

UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def listed(found: Inventory, now: datetime | None = None) -> str:
    """A store's artifacts, and its vectors and replies in total, as a table of plain text."""
    damaged = sum(item.damage is not None for item in found.items)
    total = f"{_count(len(found.items), 'artifact')}, {size(sum(item.bytes for item in found.items))}"
    lines = [*_table(found.items, now), ""] if found.items else []
    lines.append(f"{total}; {damaged:,} damaged: what a run needs of them it makes again" if damaged else total)
    for kind, works in (("vectors", found.vectors), ("replies", found.replies)):
        lines += [_work(kind, one) for one in works]
    return "\n".join(lines)


def pruned(done: Pruned, now: datetime | None = None) -> str:
    """What was removed, or would be, as plain text."""
    verb = "Would remove" if done.dry_run else "Removed"
    lines = [*_table(done.removed, now), ""] if done.removed else []
    lines.append(f"{verb} {_count(len(done.removed), 'artifact')}, {size(done.bytes)}; {done.kept:,} stay.")
    if done.unsure:
        names = ", ".join(f"{item.artifact.kind} {item.artifact.key[:KEY]}" for item in done.unsure[:NAMED])
        more = f" and {len(done.unsure) - NAMED:,} more" if len(done.unsure) > NAMED else ""
        lines.append(
            f"What {one_line(names, 200)}{more} was made from is partly gone or damaged, so nothing older was removed. "
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
    for unit, long in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= long:
            return f"{seconds // long:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _table(items: tuple[ArtifactInfo, ...], now: datetime | None) -> list[str]:
    now = now or datetime.now(UTC)
    lines = [f"{'kind':<12} {'key':<{KEY}} {'rows':>11} {'size':>8} {'age':>7}  made from"]
    for item in items:
        rows = f"{item.manifest.rows:,}" if item.manifest else "?"
        origin = _origin(item.manifest.made_from) if item.manifest else "?"
        damage = f"  DAMAGED: {item.damage}" if item.damage else ""
        key = one_line(item.artifact.key, KEY + 1)[:KEY]
        lines.append(
            f"{one_line(item.artifact.kind, 12):<12} {key:<{KEY}} {rows:>11} {size(item.bytes):>8} "
            f"{age(item.created, now):>7}  {origin}{damage}"
        )
    return lines


def _origin(made_from: Mapping[str, str]) -> str:
    return one_line(", ".join(f"{name} {key[:KEY]}" for name, key in made_from.items()), 120)


def _work(kind: str, one: ModelFiles) -> str:
    model, name = one_line(one.model, KEY + 1)[:KEY], f"  {one_line(one.name, 60)}" if one.name else ""
    return f"{kind:<12} {model:<{KEY}} {_count(one.files, 'file'):>11} {size(one.bytes):>8}{name}"


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"
