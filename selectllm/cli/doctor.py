"""`selectllm doctor`: whether a selector can do what a run will ask of it, and whether it judges well enough."""

from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import Parameter
from pydantic import ValidationError

from selectllm.cli.config import ConfigFile, nested, settings_of
from selectllm.cli.messages import setting_errors
from selectllm.cli.printing import Json, output_width, print_json, print_text, progress_bars
from selectllm.errors import ModelError, SelectorUnavailable, UsageError
from selectllm.execution import run_coroutine
from selectllm.settings import RunSettings
from selectllm.text import sanitize

if TYPE_CHECKING:
    from selectllm.ranking.diagnosis import Finding
    from selectllm.steps.calibrate import CalibrationReport

NEEDED: Final = ("server", "query", "parallelism")
"""The checks without which a calibration is not begun: its questions would fail one by one, and slowly."""


@Parameter(name="*")
@dataclass(frozen=True)
class DoctorOptions:
    """The model to check, and how it will be asked."""

    selector: Annotated[str, Parameter(help="The selector to check, as for `select`.")] = "embedded"
    host: Annotated[tuple[str, ...], Parameter(help="URL of its server; may be repeated.")] = ()
    mode: Annotated[
        Literal["auto", "listwise", "pointwise"], Parameter(help="How it will be asked, as for `select`.")
    ] = "auto"
    think: Annotated[
        Literal["auto", "off", "low", "on"], Parameter(help="Whether it thinks first, as for `select`.")
    ] = "auto"
    timeout: Annotated[float, Parameter(help="Seconds that one request may take.")] = 120
    price_in: Annotated[float | None, Parameter(help="Price of a million tokens of prompts, for --calibrate.")] = None
    price_out: Annotated[float | None, Parameter(help="Price of a million tokens of answers, for --calibrate.")] = None

    def settings(self, config: str | None = None) -> RunSettings:
        """Settings of a run with these options; what they leave open comes from a file, then from the environment.

        Raises UsageError.
        """
        from selectllm.cli.environment import with_environment

        prices = {"price_in": self.price_in, "price_out": self.price_out}
        ranking = {"hosts": self.host, "mode": self.mode, "think": self.think, "timeout": self.timeout}
        ranking |= {name: price for name, price in prices.items() if price is not None}
        try:
            values = {"pool": "-", "budget": 1, "selector": self.selector, "ranking": ranking}
            file = nested(settings_of(config)) if config else None
            return with_environment(RunSettings.model_validate(values), config=file)
        except ValidationError as error:
            raise UsageError(setting_errors(error)) from None


DEFAULTS: Final = DoctorOptions()


def doctor(
    *,
    options: DoctorOptions = DEFAULTS,
    calibrate: Annotated[
        bool, Parameter(help="Also have it rank pairs of which we know the better one: is it good enough to pay for?")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Check whether a selector can do what a run will ask of it: server, model, context, answers, speed, parallelism.

    Asks it a handful of small questions, and a long one where its context is not known. With --calibrate, it also ranks
    140 pairs of instructions: 40 questions, or 280 short ones pointwise. Exit code 1 where something is not well, or
    the model is not shown to be good enough, with what to do about it.
    """
    settings = options.settings(config)
    findings = run_coroutine(_diagnose(settings, json=json))
    report = _calibrate(settings, findings, json=json) if calibrate else None
    if json:
        checks: Any = [asdict(finding) for finding in findings]
        print_json({"checks": checks, "calibration": report and report.record()} if calibrate else checks)
    return 0 if all(finding.ok for finding in findings) and (report is None or report.ok) else 1


async def _diagnose(settings: RunSettings, *, json: bool) -> list["Finding"]:
    from selectllm.llm.keys import ApiKeys
    from selectllm.ranking.diagnosis import diagnose

    findings = []
    async for finding in diagnose(settings, ApiKeys.from_environment()):
        findings.append(finding)
        if not json:
            _print_finding(finding)
    return findings


def _print_finding(finding: "Finding") -> None:
    print_text(f"{'ok ' if finding.ok else 'NOT'}  {finding.name:<18} {sanitize(finding.seen)}")
    if finding.advice and not finding.ok:
        print_text(f"     {'':<18} {sanitize(finding.advice)}")


def _calibrate(settings: RunSettings, findings: list["Finding"], *, json: bool) -> "CalibrationReport | None":
    """The calibration, printed too unless as JSON; None where it could not be made, which becomes one more finding."""
    from selectllm.ranking.diagnosis import Finding
    from selectllm.report.calibration import format_calibration
    from selectllm.steps.calibrate import calibrate
    from selectllm.steps.context import Context
    from selectllm.store import Store

    failure = "not begun: mend what failed above first"
    if all(finding.ok for finding in findings if finding.name.rpartition(" ")[2] in NEEDED):
        try:
            # Replies are not kept: those of an earlier calibration would take no time to measure.
            with TemporaryDirectory(prefix="selectllm-") as folder, progress_bars(settings) as on_progress:
                report = calibrate(Context(settings, Store(folder), on_progress))
        except (ModelError, SelectorUnavailable) as error:
            failure = str(error)
        else:
            if not json:
                print_text(format_calibration(report, output_width()))
            return report
    findings.append(Finding("calibration", False, failure))
    if not json:
        _print_finding(findings[-1])
    return None
