"""constraints.txt pins every package."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deployments.steps import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = {line.split("==")[0]: line.split("==")[1] for line in LINES if "==" in line and not line.startswith("#")}
OF_CUDA = re.compile("nvidia-|cuda-|triton")
"""Packages of torch's CUDA builds. Torch itself pins them."""


def test_all_packages_of_make_setup_are_pinned() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    pending = [Requirement(line) for line in chain(PROJECT["project"]["dependencies"], *extras.values())]
    seen: set[tuple[str, str]] = set()
    unpinned: set[str] = set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        for extra in ["", *requirement.extras]:
            if (name, extra) in seen or name == "selectllm":
                continue
            seen.add((name, extra))
            try:
                lines = requires(name) or []
            except PackageNotFoundError:  # belongs to an extra that is not installed here
                continue
            if name not in PINS and not OF_CUDA.match(name):
                unpinned.add(name)
            needs = map(Requirement, lines)
            pending += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    assert len(seen) > 100
    assert unpinned == set()


def test_the_annotators_tools_are_pinned_each_with_a_reason() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (installed,) = re.findall(r"--constraint constraints-annotators\.txt \\\n\t*(.*)\n", makefile)
    text = (ROOT / "constraints-annotators.txt").read_text(encoding="utf-8").partition("\n# What those bring along")[0]
    reasons = dict(re.findall(r"(?m)^(?=# )(?:# .*\n)+?([\w-]+)==(.+)$", text))
    assert set(installed.split()) <= set(reasons)
    assert len(reasons) == text.count("==")


def test_the_build_packages_are_pinned() -> None:
    assert PROJECT["build-system"]["requires"] == [f"hatchling=={PINS['hatchling']}"]


def test_every_important_pin_has_a_reason() -> None:
    end = next(number for number, line in enumerate(LINES) if line.startswith("# What those bring along"))
    paragraphs = re.findall(r"((?:^#.*\n)*)((?:^\w.*\n)+)", "\n".join(LINES[1:end]), re.MULTILINE)
    assert len(paragraphs) > 40
    assert [pins for reason, pins in paragraphs if not reason] == []
