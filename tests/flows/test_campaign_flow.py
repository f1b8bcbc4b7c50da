"""Kills and stops the flow on a real Prefect server, as test_campaign.py does with the library."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local import Environment
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.boundaries import Blow
from tests.campaign import CONCURRENCY, STOPPED, Scene, Undisturbed, check_goes_on

pytestmark = [
    pytest.mark.slow,  # tests/test_campaign.py does the same with the library
    pytest.mark.skipif(sys.platform != "linux", reason="which file a handle means is asked of /proc"),
]

MOMENTS = [
    *(("not renamed pool.json", 1), ("after embedder", 1), ("synced replies", 4), ("half written queries.parquet", 1)),
    *(("renamed embeddings.parquet", 1), ("half written replies", 2), ("not renamed rankings.parquet", 2)),
    *(("renamed ratings.parquet", 1), ("not synced selection.json", 1), ("half written runs", 1)),
    *(
        ("renamed history", 1),
        ("renamed out", 2),
        ("half written quarantine.parquet", 1),
        ("renamed quarantine.json", 1),
    ),
    *(("half written vectors", 1), ("renamed vectors", 1), ("not renamed centroids.parquet", 1)),
    *(("half written centroids.json", 1), ("renamed rankings.json", 1), ("not synced replies", 7)),
    *(("not synced looks.json", 1), ("not renamed selection.parquet", 1), ("half written history", 1)),
    *(("not renamed latest", 1), ("half written out", 3), ("before embedder", 1)),
]
"""Together with the kills during requests below, there are thirty."""


@pytest.fixture
def server() -> Iterator[FaultyOllama]:
    with FaultyOllama(delay=0.1, parallel=CONCURRENCY) as server:
        yield server


@pytest.fixture
def scene(tmp_path: Path, server: FaultyOllama, environment: Environment) -> Scene:
    return Scene(tmp_path, server, "flow", environment=environment)


def test_a_stopped_flow_can_be_run_again(scene: Scene, undisturbed: Undisturbed) -> None:
    check_stopped(signal.SIGTERM, scene)
    check_goes_on(scene, undisturbed)


def test_a_flow_survives_alternating_kills_and_stops(scene: Scene, undisturbed: Undisturbed) -> None:
    for moment, nth in (("renamed embeddings.parquet", 1), ("half written replies", 2)):
        assert scene.run(moment, nth).code == -signal.SIGKILL
    check_stopped(signal.SIGTERM, scene)
    check_goes_on(scene, undisturbed, deaths=2)


@pytest.mark.parametrize(("moment", "nth"), MOMENTS)
def test_a_flow_killed_at_any_moment_continues(moment: str, nth: int, scene: Scene, undisturbed: Undisturbed) -> None:
    dead = scene.run(moment, nth)
    assert dead.code == -signal.SIGKILL
    check_goes_on(scene, undisturbed, deaths=1)


@pytest.mark.parametrize("arrived", [4, 18, 27, 43])
def test_a_flow_killed_during_requests_continues(arrived: int, scene: Scene, undisturbed: Undisturbed) -> None:
    run = scene.begin()
    scene.wait_for(lambda server: len(server.asked) >= arrived, run)
    run.signal(signal.SIGKILL)
    assert run.end().code == -signal.SIGKILL
    check_goes_on(scene, undisturbed, deaths=1)


def test_an_interrupted_flow_can_be_run_again(scene: Scene, undisturbed: Undisturbed) -> None:
    check_stopped(signal.SIGINT, scene)
    check_goes_on(scene, undisturbed)


def check_stopped(number: signal.Signals, scene: Scene) -> None:
    """Check that a stopped flow stores the requests in flight and says how to continue."""
    kept, begun = scene.kept(), len(scene.server.asked)
    run = scene.begin()
    scene.wait_for(lambda server: len(server.asked) >= begun + 8, run)
    run.signal(number)
    stopped = run.end()
    assert stopped.code == 1
    assert stopped.stderr.endswith(STOPPED)
    assert "Traceback" not in stopped.stderr
    assert scene.kept() == kept | set(stopped.questions), "requests in flight were awaited and stored"


@pytest.mark.parametrize("blow", ["lose space", "lose rights"])
@pytest.mark.parametrize("moment", [f"opening {place}" for place in ("pool.json", "replies", "history", "out")])
def test_a_flow_survives_a_disk_that_refuses_writes(
    moment: str, blow: Blow, scene: Scene, undisturbed: Undisturbed
) -> None:
    failed = scene.run(moment, 1, blow)
    assert failed.code == 1
    assert "selectllm: " in failed.stderr.splitlines()[-1]
    assert "run again" in failed.stderr or "The selection is kept" in failed.stderr
    assert "Traceback" not in failed.stderr
    check_goes_on(scene, undisturbed, failures=1)
