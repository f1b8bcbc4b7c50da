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
from selectllm.quality.gx import great_expectations, new_context, quiet
from selectllm.quality.verdicts import Finding, Verdict
from selectllm.text import map_strings


def write_data_docs(folder: str | Path, verdicts: Iterable[Verdict], run: str) -> Path:
    """Write the pages of a run's verdicts into a folder, which is made where it is missing; returns the first page.

    Raises StoreError where the folder cannot be written to, MissingDependency without Great Expectations.
    """
    path = Path(folder).expanduser().absolute()
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(path)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "show_how_to_buttons": False,
    }
    try:
        path.mkdir(parents=True, exist_ok=True)
        with quiet():
            context = new_context(data_docs_sites={"verdicts": site})
            run_id = great_expectations("core.run_identifier").RunIdentifier(run, datetime.now(UTC))
            for verdict in verdicts:
                _add(context, verdict, run_id)
            context.build_data_docs()
    except OSError as error:
        raise StoreError(f"the data docs cannot be written to {str(folder)!r}: {error.strerror}") from error
    return path / "index.html"


def _add(context: Any, verdict: Verdict, run_id: Any) -> None:
    results = [_result(finding) for finding in verdict.findings]
    expectations = [result.expectation_config for result in results]
    context.suites.add(great_expectations().ExpectationSuite(name=verdict.boundary, expectations=expectations))
    statistics = great_expectations("validator.validation_statistics").calc_validation_statistics(results)
    suite_result = great_expectations("core.expectation_validation_result").ExpectationSuiteValidationResult(
        success=verdict.success,
        results=results,
        suite_name=verdict.boundary,
        statistics=statistics._asdict(),
        meta={
            "great_expectations_version": great_expectations().__version__,
            "run_id": run_id,
            "validation_time": run_id.run_time.isoformat(),
            "active_batch_definition": {"data_asset_name": verdict.boundary},
        },
    )
    identifiers = great_expectations("data_context.types.resource_identifiers")
    name = identifiers.ExpectationSuiteIdentifier(verdict.boundary)
    identifier = identifiers.ValidationResultIdentifier(name, run_id, verdict.boundary)
    context.validation_results_store.store_validation_results(suite_result, identifier, name)


def _result(finding: Finding) -> Any:
    """A finding as the result that it was; its strings are escaped here, since the pages' templates escape nothing."""
    configuration = great_expectations("expectations.expectation_configuration").ExpectationConfiguration(
        type=finding.expectation,
        kwargs=map_strings(finding.arguments, escape),
        severity=finding.severity,
        meta={"rule": escape(finding.rule)},
    )
    share = 100 * finding.count / max(finding.rows, 1)
    counts = {
        "element_count": finding.rows,
        "unexpected_count": finding.count,
        **dict.fromkeys(("unexpected_percent", "unexpected_percent_total", "unexpected_percent_nonmissing"), share),
        "missing_count": 0,
        "missing_percent": 0.0,
        "partial_unexpected_list": [escape(f"{finding.key} {name}") for name in finding.first],
    }
    return great_expectations("core.expectation_validation_result").ExpectationValidationResult(
        success=finding.success,
        expectation_config=configuration,
        result=counts if finding.about == "rows" else {"observed_value": finding.observed},
    )
