"""Takes the pictures in docs/images of a real run on a real server: `python -m deployments.screenshots`.

Wants Chromium. The run uses the demo model and takes some minutes. `python -m deployments.screenshots report` takes the
picture of a report alone, of a run by a fixed rule.
"""

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_API_URL, temporary_settings
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from deployments.local import Environment, server, worker
from deployments.steps import ROOT

IMAGES = ROOT / "docs" / "images"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WIDTH, SCALE = 1180, 0.85
FORM_HEIGHT = 9000  # all of it: what lies below a window's end stays blank
REPORT_HEIGHT = 2720  # from its head to the map


@dataclass(frozen=True)
class Picture:
    """A page in a window of so many pixels, once it shows a text; if named, from the `first` field to one `beyond`."""

    page: str
    shows: str
    height: int
    first: str | None = None
    beyond: str | None = None


def pictures(client: SyncPrefectClient) -> dict[str, Picture]:
    """What there is to see after one run, by the pictures' names."""
    deployment = client.read_deployment_by_name("select-instructions/on-demand")
    (run,) = client.read_flow_runs()
    ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    artifacts = {artifact.key: artifact.id for artifact in client.read_artifacts(artifact_filter=ours)}
    form = f"deployments/deployment/{deployment.id}/run"
    return {
        "form": Picture(form, "Data Docs", FORM_HEIGHT, beyond="Columns"),
        "form-groups": Picture(form, "Data Docs", FORM_HEIGHT, first="Columns", beyond="Enforce"),
        "run": Picture(f"runs/flow-run/{run.id}?tab=Artifacts", "selection-summary", 1000),
        "summary": Picture(f"artifacts/artifact/{artifacts['selection-summary']}", "Flow Run", 1000),
        "selection": Picture(f"artifacts/artifact/{artifacts['selection']}", "Items per page", 800),
    }


class Tab:
    """A page of a browser, controlled over the DevTools protocol."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._calls = 0

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a DevTools method; returns its result."""
        self._calls += 1
        self._connection.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while (answer := json.loads(self._connection.recv(60))).get("id") != self._calls:
            pass  # an event
        result: dict[str, Any] = answer["result"]
        return result

    def see(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        return self.do("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def take(self, pages: str, picture: Picture, file: Path) -> None:
        """Open a page, wait until it is complete, and save the wanted part as a PNG."""
        window = {"width": WIDTH, "height": picture.height, "deviceScaleFactor": SCALE, "mobile": False}
        self.do("Emulation.setDeviceMetricsOverride", **window)
        self.do("Page.navigate", url=f"{pages}{picture.page}")
        end = time.monotonic() + 60
        while not self.see(f"document.body?.innerText.includes({json.dumps(picture.shows)})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{picture.page} does not show {picture.shows!r}")
            time.sleep(0.2)
        time.sleep(3)  # graphs are drawn, pages fade in
        left, top = self._corner(picture.first) if picture.first else (0, 0)
        bottom = self._corner(picture.beyond)[1] if picture.beyond else picture.height
        clip = {"x": left, "y": top, "width": WIDTH - left, "height": bottom - top, "scale": 1}
        file.write_bytes(base64.b64decode(self.do("Page.captureScreenshot", clip=clip)["data"]))

    def _corner(self, field: str) -> tuple[int, int]:
        """A little to the left of and above a field's label."""
        label = (
            f"[...document.querySelectorAll('label')].find(label => label.innerText.startsWith({json.dumps(field)}))"
        )
        place = self.see(f"{label}.getBoundingClientRect().toJSON()")
        return int(place["left"]) - 16, int(place["top"]) - 8


@contextmanager
def tab(program: str, profile: Path) -> Iterator[Tab]:
    """A page of a headless browser that lasts as long as the block."""
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
    process = subprocess.Popen([*command, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
    try:
        port_file = profile / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (port_file.is_file() and port_file.read_text().count("\n")):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{program} did not start")
            time.sleep(0.1)
        port = port_file.read_text().split("\n")[0]
        pages = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
        (page,) = (page for page in pages if page["type"] == "page")
        with connect(page["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Tab(connection)
    finally:
        process.terminate()
        process.wait(30)


def prefect(environment: Environment, *arguments: str) -> None:
    """Run a command of Prefect's."""
    subprocess.run([sys.executable, "-m", "prefect", *arguments], cwd=ROOT, env=environment, check=True)


def take_all(environment: Environment, program: str, profile: Path) -> None:
    """Take all pictures of a server on which one run has ended."""
    url = environment["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        wanted = pictures(client)
    with tab(program, profile) as page:
        for name, picture in wanted.items():
            file = IMAGES / f"{name}.png"
            page.take(f"{url.removesuffix('api')}v2/", picture, file)
            print(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1000} kB")


def take_report(program: str, folder: Path) -> None:
    """Choose rows of the example by a fixed rule, and take the picture of the report."""
    file, store = folder / "report.html", ["--store", str(folder / "report")]
    select = ["select", "examples/pool.jsonl", "--budget", "40", "--selector", "scripted:longest"]
    for arguments in (
        [*select, *store, "--gather", "ratings", "--no-validate"],
        ["report", *store, "--out", str(file)],
    ):
        subprocess.run([sys.executable, "-m", "selectllm", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with tab(program, folder / "report-browser") as page:
        page.take("", Picture(f"file://{file}", "rows match", REPORT_HEIGHT), IMAGES / "report.png")


def main() -> None:
    """Deploy to a new server, run once, and take all pictures; or, with the argument `report`, that one alone."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        sys.exit("Chromium is needed: apt-get install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="selectllm-") as folder:
        take_report(program, Path(folder))
    if sys.argv[1:] == ["report"]:
        return
    with tempfile.TemporaryDirectory(prefix="selectllm-") as folder, server(Path(folder) / "prefect") as environment:
        subprocess.run([sys.executable, "-m", "deployments.work_pools"], cwd=ROOT, env=environment, check=True)
        prefect(environment, "--no-prompt", "deploy", "--all")
        own_store = environment | {"SELECTLLM_STORE": f"{folder}/artifacts"}
        with worker(own_store, Path(folder) / "worker.log"):
            prefect(environment, "deployment", "run", "select-instructions/on-demand", "--watch")
        take_all(environment, program, Path(folder) / "browser")


if __name__ == "__main__":
    main()
