import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ABOVE = {"selectllm": {"tasks", "flows", "prefect"}, "tasks": {"flows"}}
HEAVY = ("torch", "sentence_transformers", "great_expectations", "prefect", "sklearn", "pyarrow", "ollama", "openai")


@pytest.mark.parametrize("package", ABOVE)
def test_imports_go_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & ABOVE[package], f"{file} imports from above itself"


@pytest.mark.parametrize("statement", ["import selectllm", "import selectllm.settings", "import selectllm.cli.main"])
def test_import_is_light(statement: str) -> None:
    loaded = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_flow_shadows_the_standard_library_or_our_packages() -> None:
    # A worker loads flows/x.py with the folder `flows` first on sys.path.
    taken = sys.stdlib_module_names | {"selectllm", "tasks", "flows", "prefect"}
    assert not {file.stem for file in (ROOT / "flows").glob("*.py")} & taken


def test_flow_modules_leave_annotations_as_they_are() -> None:
    # Prefect makes the form from evaluated annotations: a served run failed with postponed ones.
    for file in (ROOT / "flows").glob("*.py"):
        assert "from __future__ import annotations" not in file.read_text(encoding="utf-8")
