"""`selectllm doctor`: whether a selector can do what a run will ask of it."""

from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import Parameter

from selectllm.cli.environment import with_environment
from selectllm.cli.select import Json, print_json
from selectllm.execution import run_coroutine
from selectllm.settings import RunSettings
from selectllm.text import sanitize


def doctor(
    *,
    selector: Annotated[str, Parameter(help="The selector to check, as for `select`.")] = "embedded",
    host: Annotated[tuple[str, ...], Parameter(help="URL of its server; may be repeated.")] = (),
    mode: Annotated[
        Literal["auto", "listwise", "pointwise"], Parameter(help="How it will be asked, as for `select`.")
    ] = "auto",
    timeout: Annotated[float, Parameter(help="Seconds that one request may take.")] = 120,
    json: Json = False,
) -> int:
    """Check whether a selector can do what a run will ask of it: server, model, context, answers, parallelism.

    Asks it a handful of tiny questions. Exit code 1 where something is not well, with what to do about it.
    """
    ranking = {"hosts": host, "mode": mode, "timeout": timeout}
    settings = checked_settings({"pool": "-", "budget": 1, "selector": selector, "ranking": ranking})
    return run_coroutine(_diagnose(with_environment(settings), json=json))


def checked_settings(values: dict[str, object]) -> RunSettings:
    """Settings of these values; raises UsageError in the command line's names where they are not allowed."""
    from pydantic import ValidationError

    from selectllm.cli.main import setting_errors
    from selectllm.errors import UsageError

    try:
        return RunSettings.model_validate(values)
    except ValidationError as error:
        raise UsageError(setting_errors(error)) from None


async def _diagnose(settings: RunSettings, *, json: bool) -> int:
    from selectllm.llm.keys import ApiKeys
    from selectllm.ranking.diagnosis import diagnose

    findings = []
    async for finding in diagnose(settings, ApiKeys.from_environment()):
        findings.append(finding)
        if not json:
            print(f"{'ok ' if finding.ok else 'NOT'}  {finding.name:<18} {sanitize(finding.seen)}", flush=True)
            if finding.advice and not finding.ok:
                print(f"     {'':<18} {finding.advice}", flush=True)
    if json:
        print_json([asdict(finding) for finding in findings])
    return 0 if all(finding.ok for finding in findings) else 1
