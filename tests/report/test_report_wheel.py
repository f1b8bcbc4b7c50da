"""The wheel has the files of the report that are no modules."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "selectllm" / "report" / "page" / "templates"


@pytest.mark.slow
def test_the_wheel_has_the_templates_of_the_report(tmp_path: Path) -> None:
    program = f"from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = ZipFile(wheel).namelist()
    files = [path.name for path in TEMPLATES.iterdir()]
    assert len(files) == 3
    assert {f"selectllm/report/page/templates/{name}" for name in files} <= {*names}
