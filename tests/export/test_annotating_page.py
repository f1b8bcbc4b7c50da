"""The commands of docs/annotating.md run as they are written; the slow tests run them with the tools."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from deployments.steps import ROOT
from selectllm.cli.main import main
from tests.docs.pages import DOCS, TEXTS, blocks

COMMANDS = [
    line
    for block in blocks(TEXTS[DOCS / "annotating.md"], "sh")
    for line in block.splitlines()
    if line.startswith("selectllm ")
]


@pytest.mark.usefixtures("quick_embedding")
def test_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names = [command.split()[1] for command in COMMANDS]
    assert names == ["select", "export", "annotations", "annotations", "select", "export", "export"]
    for command in COMMANDS:
        if "annotated.json" in command and not Path("annotated.json").exists():
            _annotate(tmp_path)
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    trained = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [row["messages"][-1] for row in trained] == [{"role": "assistant", "content": "An answer."}] * 20
    chosen, following = (
        {json.loads(line)["id"] for line in (tmp_path / name / "selection.jsonl").read_text().splitlines()}
        for name in ("selection", "next")
    )
    assert (len(chosen), len(following), chosen & following) == (20, 20, set())
    assert len((tmp_path / "requests.jsonl").read_text().splitlines()) == 20
    assert len(json.loads((tmp_path / "for-argilla" / "records.json").read_text())) == 20


def _annotate(folder: Path) -> None:
    """Write what Label Studio exports when every task was answered."""
    result = [{"from_name": "answer", "to_name": "prompt", "type": "textarea", "value": {"text": ["An answer."]}}]
    tasks = json.loads((folder / "for-label-studio" / "tasks.json").read_text())
    annotated = [
        {**task, "id": n, "annotations": [{"completed_by": 1, "result": result}]} for n, task in enumerate(tasks)
    ]
    (folder / "annotated.json").write_text(json.dumps(annotated))
