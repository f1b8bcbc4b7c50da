"""Steps of prefect.yaml: values of the machine that deploys, and of the server."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from selectllm.cli.environment import from_environment

ROOT = Path(__file__).resolve().parents[1]


def checkout() -> dict[str, str]:
    """The folder of the code, and its version: from SELECTLLM_VERSION, git, or the package, in this order."""
    checkout_version = os.environ.get("SELECTLLM_VERSION") or _git_version() or version("selectllm")
    return {"directory": str(ROOT), "version": checkout_version}


def _git_version() -> str:
    """The checked-out tag or commit, with `-dirty` if files differ from it; empty without git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--tags"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def selector_settings() -> dict[str, Any]:
    """The selector and its settings: SELECTLLM_SELECTOR of the environment or of `.env`, or else the demo.

    The demo gets only the beginning of each text.
    """
    selector = from_environment().get("selector") or "embedded"
    return {"selector": selector, "ranking": {"candidate_chars": 120} if selector == "embedded" else {}}


def switch(deployment: str, slug: str) -> dict[str, bool]:
    """Whether a schedule is on: off at first, later as on the server, so that deploying again changes nothing."""
    with get_client(sync_client=True) as client:
        try:
            schedules = client.read_deployment_by_name(deployment).schedules
        except ObjectNotFound:
            schedules = []
    return {"active": any(schedule.active for schedule in schedules if schedule.slug == slug)}
