"""How a benchmark tells `benchmarks/run_all.py` what it has measured: with `--json`, on its last line."""

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """A figure, what it stands against, and its bar.

    Parameters: `value`, by default how many times as much as `against`, measured in the same run; `unit` where it is no
    such ratio; `at_most` and `at_least`, the bar, where there is one.
    """

    what: str
    against: str
    value: float
    unit: str = "times"
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_reached(self) -> bool | None:
        """Whether the bar is reached; None where there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        is_low_enough = self.at_most is None or self.value <= self.at_most
        return is_low_enough and (self.at_least is None or self.value >= self.at_least)


def add_json(parser: ArgumentParser) -> None:
    """Add the option `--json`."""
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, on the last line")


def print_figures(figures: Iterable[Figure], *, as_json: bool) -> None:
    """Print the last line, where it is asked for."""
    if as_json:
        print(json.dumps([asdict(figure) for figure in figures]))


def parse_figures(output: str) -> list[Figure]:
    """The figures of the last line of a benchmark's output."""
    return [Figure(**fields) for fields in json.loads(output.splitlines()[-1])]
