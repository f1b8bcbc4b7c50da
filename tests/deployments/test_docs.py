"""Runs the commands of docs/deploying.md."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from deployments.local import free_port, take_interrupts
from deployments.steps import ROOT

DOCS = ROOT / "docs" / "deploying.md"
READY = ROOT / ".venv" / ".ready"


def blocks(heading: str) -> list[str]:
    """The fenced `sh` blocks below a heading."""
    section = DOCS.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def fresh_copy(tmp_path: Path) -> Path:
    """A copy of the checkout that shares its installed packages. It is older than they are, so `make` installs none."""
    if not READY.is_file():
        pytest.skip("the environment was not made by `make setup`")
    copy = tmp_path / "checkout"
    kept = shutil.ignore_patterns(".venv*", ".git", ".*_cache", ".hypothesis", "__pycache__", "artifacts", "selection")
    shutil.copytree(ROOT, copy, ignore=kept)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(copy / name, (0, 0))
    return copy


@pytest.mark.slow
def test_the_documented_quick_path_completes_a_nightly_run(fresh_copy: Path, tmp_path: Path) -> None:
    port = str(free_port())
    script = "".join(blocks("Quick path")).replace("4200", port)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SELECTLLM_"))}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_API_PORT": port, "TMPDIR": str(tmp_path)}
    with (tmp_path / "output").open("wb") as output:
        following = subprocess.Popen(
            ["bash", "-exmo", "pipefail", "-c", script],  # m: as in a terminal, background jobs receive SIGINT
            cwd=fresh_copy, env=environment, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=take_interrupts,
        )  # fmt: skip
    try:
        code = following.wait(1800)
    finally:
        left = subprocess.run(["pgrep", "-s", str(following.pid)], capture_output=True, text=True, check=False).stdout
        for process in left.split():
            os.kill(int(process), signal.SIGKILL)
    text = (tmp_path / "output").read_text(encoding="utf-8")
    assert code == 0, text[-3000:]
    assert "Completed" in text
    assert "| True " in re.sub("[│┃]", "|", text), "the schedule is on"
    slots = list((fresh_copy / "artifacts" / "v1" / "history" / "nightly").glob("*.json"))
    assert len(slots) == 1
    assert not (ROOT / "artifacts" / "v1" / "history" / "nightly" / slots[0].name).exists()
    assert left == "", "background processes were ended"
