"""Takes the pictures in docs/images of a real run on a real server: `python -m deployments.screenshots`.

Wants Chromium. The run uses the demo model and takes some minutes.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local import Environment, server, worker
from deployments.steps import ROOT

IMAGES = ROOT / "docs" / "images"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def prefect(environment: Environment, *arguments: str) -> None:
    """Run a command of Prefect's."""
    subprocess.run([sys.executable, "-m", "prefect", *arguments], cwd=ROOT, env=environment, check=True)


def pages(client: SyncPrefectClient) -> dict[str, tuple[str, int]]:
    """What there is to see after one run: the picture's name, the page, and how many pixels of it."""
    deployment = client.read_deployment_by_name("select-instructions/on-demand")
    (run,) = client.read_flow_runs()
    ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    artifacts = {one.key: one.id for one in client.read_artifacts(artifact_filter=ours)}
    return {
        "form": (f"deployments/deployment/{deployment.id}/run", 1500),
        "run": (f"runs/flow-run/{run.id}?tab=Artifacts", 1000),
        "summary": (f"artifacts/artifact/{artifacts['selection-summary']}", 1000),
        "selection": (f"artifacts/artifact/{artifacts['selection']}", 800),
    }


def take(browser: str, url: str, picture: Path, height: int, profile: Path) -> None:
    """Take a picture of a page, once it has loaded what it shows."""
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
        f"--window-size=1180,{height}", "--force-device-scale-factor=0.85", "--virtual-time-budget=20000",
        f"--screenshot={picture}", url,
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=180, stderr=subprocess.DEVNULL)
    print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size // 1000} kB")


def main() -> None:
    """Deploy to a server of its own, run once, and take all pictures."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        sys.exit("Chromium is needed: apt-get install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="selectllm-") as folder, server(Path(folder) / "prefect") as environment:
        subprocess.run([sys.executable, "-m", "deployments.work_pools"], cwd=ROOT, env=environment, check=True)
        prefect(environment, "--no-prompt", "deploy", "--all")
        own_store = environment | {"SELECTLLM_STORE": f"{folder}/artifacts"}
        with worker(own_store, Path(folder) / "worker.log"):
            prefect(environment, "deployment", "run", "select-instructions/on-demand", "--watch")
        with (
            temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}),
            get_client(sync_client=True) as client,
        ):
            found = pages(client)
        for name, (page, height) in found.items():
            url = environment["PREFECT_API_URL"].removesuffix("api") + f"v2/{page}"
            take(browser, url, IMAGES / f"{name}.png", height, Path(folder) / "browser")


if __name__ == "__main__":
    main()
