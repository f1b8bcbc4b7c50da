"""The rooms of the library, and the direction of their imports."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ROOMS = (
    {"cli"},
    {"comparison", "tuning"},
    {"pipeline", "plan"},
    {"report", "export", "explain"},
    {"evaluation"},
    {"strategies"},
    {"steps"},
    {"ranking"},
    {"quality"},
    {"pool"},
    {"embedding"},
    {"llm"},
    {"blocks"},
    {"queries", "selection"},
    {"store"},
    {"settings", "quota", "schemas", "errors", "text", "paths", "cancellation", "execution"},
)
"""The library from top to bottom: each line may import from those below it. Docs: docs/architecture.md."""

LINES = {"testing": 0.5} | {name: number for number, names in enumerate(ROOMS) for name in names}
"""`testing` may import every room below `cli`."""

HEAVY = (
    "torch",
    "sentence_transformers",
    "great_expectations",
    "prefect",
    "sklearn",
    "pandas",
    "pyarrow",
    "ollama",
    "openai",
)
ABOVE = {
    "selectllm": {"tasks", "flows", "deployments", "benchmarks", "prefect", "tests"},
    "tasks": {"flows", "deployments", "benchmarks", "tests"},
    "flows": {"deployments", "benchmarks", "tests"},
    "deployments": {"benchmarks", "tests"},
    "benchmarks": {"tests"},
}


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, including imports for type checkers and inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relatively"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                path = ROOT / name.replace(".", "/")
                yield name if path.is_dir() or path.with_suffix(".py").is_file() else node.module or ""


def library_files() -> list[Path]:
    return sorted((ROOT / "selectllm").rglob("*.py"))


def module_name(file: Path) -> str:
    name = file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_module_belongs_to_a_room() -> None:
    names = {path.stem if path.suffix == ".py" else path.name for path in (ROOT / "selectllm").iterdir()}
    known = set().union(*ROOMS) | {"testing", "__init__", "__main__", "__pycache__", "py.typed"}
    assert names - known == set()


@pytest.mark.parametrize("file", library_files(), ids=module_name)
def test_no_room_imports_from_a_room_above_or_beside_it(file: Path) -> None:
    own = module_name(file)
    if own in ("selectllm", "selectllm.__main__"):
        return
    for imported in imports(file):
        if imported.startswith("selectllm.") and room(imported) != room(own):
            is_on_ground_floor = {room(imported), room(own)} <= ROOMS[-1]
            assert LINES[room(imported)] > LINES[room(own)] or is_on_ground_floor, f"{own} imports {imported}"


def test_files_have_no_import_cycles() -> None:
    graph = {}
    for file in library_files():
        own = module_name(file)
        graph[own] = {name for name in imports(file) if name.startswith("selectllm.") and name != own}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {error.args[1]}")


@pytest.mark.parametrize("package", ABOVE)
def test_no_package_imports_from_above_itself(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        packages = {name.split(".")[0].split("_")[0] for name in imports(file)}  # prefect_dask is Prefect's too
        assert not packages & ABOVE[package], f"{file} imports from above itself"


@pytest.mark.parametrize("module", ["selectllm", "selectllm.settings", "selectllm.cli.main"])
def test_import_is_light(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_library_is_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["selectllm"]


def test_no_flow_shadows_the_standard_library_or_our_packages() -> None:
    # A worker loads flows/x.py with the folder `flows` first on sys.path.
    taken = sys.stdlib_module_names | {"selectllm", "tasks", "flows", "prefect"}
    assert not {file.stem for file in (ROOT / "flows").glob("*.py")} & taken


def test_flow_modules_do_not_import_annotations_from_future() -> None:
    # Prefect makes the form from evaluated annotations: a served run failed with postponed ones.
    for file in (ROOT / "flows").glob("*.py"):
        assert "from __future__ import annotations" not in file.read_text(encoding="utf-8")


def test_no_function_has_more_than_six_parameters() -> None:
    for folder in ("selectllm", "tasks", "flows"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
                    is_exempt = (file.name, node.name) in MANY_PARAMETERS
                    assert len(names) <= 6 or is_exempt, f"{file}: {node.name}({', '.join(names)})"


MANY_PARAMETERS = {("faulty_ollama.py", "__init__")}
"""Fakes of a whole server can have more parameters."""
