"""The example notebook: its cells run in order, and hold what they give."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deployments.steps import ROOT
from tests.report.pages import Page

NOTEBOOK = ROOT / "examples" / "choose.ipynb"
pytestmark = pytest.mark.usefixtures("quick_embedding")


def cells() -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell's code; returns the value of its last line, where that is an expression and no `;` hides it."""
    *lines, last = ast.parse(source).body
    shows = isinstance(last, ast.Expr) and not source.rstrip().endswith(";")
    exec(compile(ast.Module(lines if shows else [*lines, last], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if shows else None


def test_the_cells_run_in_order_and_hold_what_they_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selectllm.report.page.scripts.vega", lambda: "window.vegaEmbed = () => {};")
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "pool.jsonl", tmp_path)
    names: dict[str, Any] = {}
    for count, cell in enumerate(cells(), start=1):
        assert cell["execution_count"] == count, "the notebook was saved after its cells had run in order"
        value = run_cell("".join(cell["source"]), names)
        kept = [output["data"] for output in cell["outputs"]]
        if value is None:
            assert kept == []
        elif hasattr(value, "_repr_html_"):
            told, saved = Page(value._repr_html_()), Page("".join(kept[0]["text/html"]))
            assert [tag for tag, _ in told.elements if tag != "p"] == [tag for tag, _ in saved.elements if tag != "p"]
            assert "Chose 10 of 149 rows" in told.text
            assert "Chose 10 of 149 rows" in saved.text
        else:
            assert ast.literal_eval("".join(kept[0]["text/plain"])) == value
    assert sorted(path.name for path in tmp_path.iterdir()) == ["choose-output", "pool.jsonl"]
    assert (tmp_path / "choose-output" / "report.html").is_file()
    trained = (tmp_path / "choose-output" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(trained) == 9


@pytest.mark.slow
def test_a_kernel_runs_the_notebook_and_gives_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its users run it: in a process of its own, with the embedding model itself."""
    import nbclient
    import nbformat

    shutil.copy(ROOT / "examples" / "pool.jsonl", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    kept = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            values = [output.data for output in cell.outputs if output.output_type == "execute_result"]
            saved = [output.data for output in kept[cell.id]]
            assert [value.keys() for value in values] == [value.keys() for value in saved], cell.source
            for value, before in zip(values, saved, strict=True):
                if "text/html" in before:
                    assert "Chose 10 of 149 rows" in Page(value["text/html"]).text
                else:
                    assert value == before
    assert (tmp_path / "choose-output" / "report.html").is_file()


def test_the_notebook_names_no_folder_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert "/root/" not in text
