"""Great Expectations' Data Docs of verdicts: pages to look through.

They are made from what a verdict records, so that a verdict from the store has them too. The pages load scripts and
styles from other hosts: without the internet they are bare.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from selectllm.errors import StoreError
from selectllm.quality.gx import great_expectations, module, new_context
from selectllm.quality.quiet import quiet
from selectllm.quality.verdicts import Finding, Verdict


def write_data_docs(folder: str | Path, verdicts: Iterable[Verdict], run: str) -> Path:
    """Write the pages of a run's verdicts into a folder, which is made where it is missing; returns the first page.

    Raises StoreError where the folder cannot be written to, MissingDependency without Great Expectations.
    """
    path = Path(folder).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with quiet():
            _build(path, verdicts, run)
    except OSError as error:
        raise StoreError(f"the data docs cannot be written to {str(folder)!r}: {error.strerror}") from error
    return path / "index.html"


def _build(path: Path, verdicts: Iterable[Verdict], run: str) -> None:
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(path)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "show_how_to_buttons": False,
    }
    site_context = new_context(data_docs_sites={"verdicts": site})
    run_id = module("core.run_identifier").RunIdentifier(run_name=run, run_time=datetime.now(UTC))
    for verdict in verdicts:
        _add(site_context, verdict, run_id)
    site_context.build_data_docs()


def _add(site_context: Any, verdict: Verdict, run_id: Any) -> None:
    identifiers = module("data_context.types.resource_identifiers")
    results = [_result(finding) for finding in verdict.findings]
    successful = sum(finding.success for finding in verdict.findings)
    suite = great_expectations().ExpectationSuite(
        name=verdict.boundary, expectations=[result.expectation_config for result in results]
    )
    site_context.suites.add(suite)
    name = identifiers.ExpectationSuiteIdentifier(name=verdict.boundary)
    site_context.validation_results_store.store_validation_results(
        suite_validation_result=module("core.expectation_validation_result").ExpectationSuiteValidationResult(
            success=verdict.success,
            results=results,
            suite_name=verdict.boundary,
            suite_parameters={},
            statistics={
                "evaluated_expectations": verdict.checked,
                "successful_expectations": successful,
                "unsuccessful_expectations": verdict.checked - successful,
                "success_percent": 100 * successful / max(verdict.checked, 1),
            },
            meta={
                "great_expectations_version": great_expectations().__version__,
                "run_id": run_id,
                "validation_time": run_id.run_time.isoformat(),
                "active_batch_definition": {
                    "datasource_name": "selectllm",
                    "data_connector_name": "selectllm",
                    "data_asset_name": verdict.boundary,
                    "batch_identifiers": {},
                },
            },
        ),
        suite_validation_result_identifier=identifiers.ValidationResultIdentifier(
            expectation_suite_identifier=name, run_id=run_id, batch_identifier=verdict.boundary
        ),
        expectation_suite_identifier=name,
    )


def _result(finding: Finding) -> Any:
    """A finding as the result that it was; its strings are escaped here, since the pages' templates escape nothing."""
    configuration = module("expectations.expectation_configuration").ExpectationConfiguration
    share = 100 * finding.count / max(finding.rows, 1)
    counts = {
        "element_count": finding.rows,
        "unexpected_count": finding.count,
        "unexpected_percent": share,
        "unexpected_percent_total": share,
        "unexpected_percent_nonmissing": share,
        "missing_count": 0,
        "missing_percent": 0.0,
        "partial_unexpected_list": [
            escape(f"{finding.key} {name}") for name in finding.first
        ],  # the pages' place for values
    }
    return module("core.expectation_validation_result").ExpectationValidationResult(
        success=finding.success,
        expectation_config=configuration(
            type=finding.expectation,
            kwargs=_escaped(finding.arguments),
            severity=finding.severity,
            meta={"rule": escape(finding.rule)},
        ),
        result=counts if finding.about == "rows" else {"observed_value": finding.observed},
    )


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(item) for item in value]
    return escape(value) if isinstance(value, str) else value
