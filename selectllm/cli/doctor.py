"""`selectllm doctor`: whether a selector can do what a run will ask of it."""

from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import ValidationError

from selectllm.cli.messages import setting_errors
from selectllm.cli.printing import Json, print_json, print_text
from selectllm.errors import UsageError
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
    think: Annotated[
        Literal["auto", "off", "low", "on"], Parameter(help="Whether it thinks first, as for `select`.")
    ] = "auto",
    timeout: Annotated[float, Parameter(help="Seconds that one request may take.")] = 120,
    json: Json = False,
) -> int:
    """Check whether a selector can do what a run will ask of it: server, model, context, answers, speed, parallelism.

    Asks it a handful of small questions, and a long one where its context is not known. Exit code 1 where something is
    not well, with what to do about it.
    """
    from selectllm.cli.environment import with_environment

    ranking = {"hosts": host, "mode": mode, "think": think, "timeout": timeout}
    values = {"pool": "-", "budget": 1, "selector": selector, "ranking": ranking}
    try:
        settings = with_environment(RunSettings.model_validate(values))
    except ValidationError as error:
        raise UsageError(setting_errors(error)) from None
    return run_coroutine(_diagnose(settings, json=json))


async def _diagnose(settings: RunSettings, *, json: bool) -> int:
    from selectllm.llm.keys import ApiKeys
    from selectllm.ranking.diagnosis import diagnose

    findings = []
    async for finding in diagnose(settings, ApiKeys.from_environment()):
        findings.append(finding)
        if not json:
            print_text(f"{'ok ' if finding.ok else 'NOT'}  {finding.name:<18} {sanitize(finding.seen)}")
            if finding.advice and not finding.ok:
                print_text(f"     {'':<18} {sanitize(finding.advice)}")
    if json:
        print_json([asdict(finding) for finding in findings])
    return 0 if all(finding.ok for finding in findings) else 1
