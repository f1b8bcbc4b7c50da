"""An evaluation killed at any moment goes on: nothing is asked twice, and its files and its record are the same."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from selectllm.testing.faulty_ollama import FaultyOllama
from tests.campaign import CONCURRENCY, check_goes_on
from tests.evaluation.killed import ASKED, DELAY, Evaluation, kill_after, undisturbed_evaluation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to find the file of a handle")

KEPT: dict[str, tuple[str, ...]] = {
    "answers": ("answers",),
    "overlap": ("answers", "overlaps"),
    "mt-bench": ("conversations", "mt_bench_judgments"),
    "mt-bench-pairwise": ("conversations", "mt_bench_judgments"),
    "alpaca-eval": ("judgements",),
    "judge-agreement": ("judgements",),
}
"""The artifacts of each command."""

WRITES = [
    *((name, "half written replies", nth) for name in ASKED for nth in (1, 4)),
    *((name, "synced replies", 3) for name in ASKED),
    *((name, f"half written {kind}.parquet", 1) for name, kinds in KEPT.items() for kind in kinds),
    *((name, f"not renamed {kind}.json", 1) for name, kinds in KEPT.items() for kind in kinds),
    *((name, f"{what} out", 1) for name in ASKED if name != "judge-agreement" for what in ("half written", "renamed")),
    ("mt-bench", "not renamed out", 2),
    ("mt-bench-pairwise", "half written out", 3),
    ("overlap", "half written vectors", 1),
]
"""Command, moment of its writing, and which of these."""

SHARES = (0.0, 0.2, 0.5, 0.8, 1.0)
"""How much of all that a command asks the server has been asked at the kill."""


@pytest.fixture
def server() -> Iterator[FaultyOllama]:
    with FaultyOllama(delay=DELAY, parallel=CONCURRENCY) as server:
        yield server


def check(scene: Evaluation, name: str, deaths: int = 1) -> None:
    """Check what a killed run has left, and that the same command then ends as if it had never been killed."""
    undisturbed, outputs = undisturbed_evaluation(name)
    assert scene.outputs().items() <= outputs.items(), "what has its final name is whole"
    check_goes_on(scene, undisturbed, deaths=deaths)
    asked = len(scene.server.asked)
    assert scene.run().code == 0
    assert len(scene.server.asked) == asked, "what is done is not asked again"


@pytest.mark.parametrize(
    ("name", "share"),
    [pytest.param(name, share, marks=[] if share == 0.5 else pytest.mark.slow) for name in ASKED for share in SHARES],
)
def test_an_evaluation_killed_while_it_asks_goes_on(
    name: str, share: float, tmp_path: Path, server: FaultyOllama
) -> None:
    scene = Evaluation(tmp_path, server, name)
    dead = kill_after(scene, max(1, round(share * ASKED[name])))
    assert dead.code == -signal.SIGKILL
    check(scene, name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "moment", "nth"), WRITES)
def test_an_evaluation_killed_while_it_writes_goes_on(
    name: str, moment: str, nth: int, tmp_path: Path, server: FaultyOllama
) -> None:
    scene = Evaluation(tmp_path, server, name)
    dead = scene.run(moment, nth)
    assert dead.code == -signal.SIGKILL
    assert dead.moments[-1] == moment or "replies" in moment
    check(scene, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_an_evaluation_killed_again_and_again_goes_on(name: str, tmp_path: Path, server: FaultyOllama) -> None:
    scene, deaths = Evaluation(tmp_path, server, name), 3
    for _ in range(deaths):
        kept = scene.kept()
        dead = kill_after(scene, len(server.asked) + ASKED[name] // 5)
        assert dead.code == -signal.SIGKILL
        assert not kept & set(dead.questions)
        assert scene.faults() == []
    check(scene, name, deaths)
