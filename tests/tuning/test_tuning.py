"""Fine-tuning a tiny model: what is learnt, what is kept of a run that is killed, and the file that is exported."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectllm.cli.main import main
from selectllm.errors import MissingDependency, SelectorUnavailable, Stopped, StoreError, UsageError
from selectllm.llm.embedded import open_embedded
from selectllm.llm.model import Request
from selectllm.tuning.base import load, open_base
from selectllm.tuning.checkpoint import CHECKPOINT
from selectllm.tuning.encode import IGNORED, collate, encode
from selectllm.tuning.examples import Example
from selectllm.tuning.inputs import load_and_encode, read_inputs
from selectllm.tuning.plan import plan_tuning
from selectllm.tuning.score import RowLosses, measures, score
from selectllm.tuning.settings import TuningSettings
from selectllm.tuning.train import batch_of
from selectllm.tuning.tune import tune, tune_loaded
from tests.tuning.tiny import write_rows, write_tiny_gguf

Make = Callable[..., TuningSettings]

ROOT = Path(__file__).resolve().parents[2]


def ignore(step: str, done: int, total: int) -> None:
    pass


def weights(folder: str) -> bytes:
    """The state of a training, as bytes that can be compared."""
    import torch

    state = torch.load(Path(folder) / CHECKPOINT, weights_only=True)
    return b"".join(state["adapters"][name].numpy().tobytes() for name in sorted(state["adapters"]))


def test_tuning_lowers_the_loss_of_held_out_answers(make: Make) -> None:
    record = tune(make())
    assert record["steps"] == len(record["step_losses"]) == 16
    assert record["step_losses"][-1] < record["step_losses"][0] - 1
    difference = record["scores"]["difference"]["per token"]
    assert difference["mean"] < difference["high"] < 0
    assert record["test"]["rows"] == 40
    losses = [json.loads(line) for line in (Path(make().out) / "losses.jsonl").read_text().splitlines()]
    assert [row["model"] for row in losses] == ["untuned"] * 40 + ["tuned"] * 40
    tuned = losses[40:]
    per_token = sum(row["loss"] for row in tuned) / sum(row["tokens"] for row in tuned)
    assert per_token == pytest.approx(record["scores"]["tuned"]["per token"]["mean"], abs=1e-5)


def test_bfloat16_trains_another_way_and_as_well(make: Make, tmp_path: Path) -> None:
    whole = tune(make(no_export=True))["scores"]["tuned"]["per token"]["mean"]
    record = tune(make(precision="bfloat16", no_export=True, out=str(tmp_path / "bfloat16")))
    assert record["scores"]["difference"]["per token"]["high"] < 0
    assert 0 < abs(record["scores"]["tuned"]["per token"]["mean"] - whole) < 0.5


def test_the_same_command_finds_its_result_and_another_one_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tune(make())
    monkeypatch.setattr("selectllm.tuning.inputs.load", lambda _base: pytest.fail("loaded again"))
    assert tune(make()) == record
    with pytest.raises(UsageError, match="belongs to a training with another base, other rows or other options"):
        tune(make(seed=1))


def test_a_training_that_was_stopped_gives_the_same_weights(make: Make, tmp_path: Path) -> None:
    whole = tune(make(out=str(tmp_path / "whole")))

    def stop(step: str, done: int, total: int) -> None:
        if step == "training" and done == 8:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        tune(make(), stop)
    resumed = tune(make())
    assert weights(make().out) == weights(str(tmp_path / "whole"))
    assert {**resumed, "model": ""} | {"settings": 0} == {**whole, "model": ""} | {"settings": 0}


@pytest.mark.slow
def test_a_killed_training_gives_the_same_weights_wherever_it_is_killed(make: Make, tmp_path: Path) -> None:
    settings = make(epochs=12, checkpoint_every=1)
    arguments = [settings.train, "--test", str(settings.test), "--base", str(settings.base), "--epochs", "12"]
    arguments += ["--learning-rate", "0.005", "--checkpoint-every", "1", "--out"]

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "selectllm", "tune", *arguments, str(out)]
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})

    assert start(tmp_path / "whole").wait() == 0
    out, kills = tmp_path / "killed", 0
    for pause in (0.0, 0.21, 0.57):
        process = start(out)
        before = (out / CHECKPOINT).stat().st_mtime_ns if (out / CHECKPOINT).exists() else 0
        while process.poll() is None:
            if (out / CHECKPOINT).exists() and (out / CHECKPOINT).stat().st_mtime_ns > before:
                time.sleep(pause)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    assert start(out).wait() == 0
    assert weights(str(out)) == weights(str(tmp_path / "whole"))
    assert (out / "model.gguf").read_bytes() == (tmp_path / "whole" / "model.gguf").read_bytes()


def next_token(weights: str, text: str) -> dict[str, float]:
    """The log-probability of each token behind a text, by transformers."""
    import torch

    loaded = load(open_base(weights))
    ids = torch.tensor([loaded.tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        found = loaded.model(ids).logits[0, -1].log_softmax(0).tolist()
    return {loaded.tokenizer.decode([number]): value for number, value in enumerate(found)}


def check_log_probabilities(weights: str, text: str) -> None:
    """Check that llama.cpp and transformers agree about the token behind a text."""

    async def ask() -> dict[str, float]:
        model = await open_embedded(weights)
        await model.prepare(100, 1)
        reply = await model.answer(Request(text, logprobs=True))
        await model.close()
        return dict(reply.logprobs)

    found, expected = asyncio.run(ask()), next_token(weights, text)
    compared = [name for name in found if name in expected and "\ufffd" not in name]  # no part of a character
    assert len(compared) >= 8
    assert max(abs(found[name] - expected[name]) for name in compared) < 0.006


def test_the_exported_file_gives_the_same_log_probabilities_in_llama_cpp(make: Make) -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    record = tune(make())
    for text in ("<|im_start|>user\nSay 17.<|im_end|>\n<|im_start|>assistant\n", "the other 1"):
        check_log_probabilities(record["model"], text)
        tuned, untuned = next_token(record["model"], text), next_token(str(make().base), text)
        assert tuned["1"] > untuned["1"] + 0.1


def test_the_exported_file_is_the_merged_model_and_its_modelfile_names_it(make: Make) -> None:
    record = tune(make())
    inputs = read_inputs(make(base=record["model"], out="elsewhere"))
    loaded, rows = load_and_encode(inputs)
    assert rows.test is not None
    again = measures(score(loaded.model, rows.test.rows, ignore))["per token"]["mean"]
    assert again == pytest.approx(record["scores"]["tuned"]["per token"]["mean"], abs=0.006)
    text = (Path(make().out) / "Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\nTEMPLATE ")
    assert 'SYSTEM """You are tiny."""' in text
    assert 'PARAMETER stop "<|im_end|>"' in text


def test_a_folder_of_transformers_is_tuned_and_exported_as_one(make: Make, tmp_path: Path) -> None:
    from_file = tune(make())
    loaded = load(open_base(make().base))
    loaded.model.hf_quantizer = None  # else transformers refuses to write what it read from a GGUF file
    del loaded.model.config.quantization_config
    loaded.model.save_pretrained(tmp_path / "base")
    loaded.tokenizer.save_pretrained(tmp_path / "base")
    record = tune(make(base=str(tmp_path / "base"), out=str(tmp_path / "from folder")))
    assert record["step_losses"] == from_file["step_losses"]
    assert load(open_base(record["model"])).model.config.num_hidden_layers == 2
    assert (tmp_path / "from folder" / "Modelfile").read_text().startswith("FROM ./model\n")
    assert tune(make(base=str(tmp_path / "base"), out=str(tmp_path / "from folder"))) == record


def test_the_loss_of_a_row_is_the_models_own_and_of_its_answer_alone(make: Make) -> None:
    loaded, rows = load_and_encode(read_inputs(make()))
    assert rows.test is not None
    losses = score(loaded.model, rows.test.rows, ignore)
    for number in (0, 7, 30):
        row = rows.test.rows[number]
        tensors = collate([row])
        assert int((tensors["labels"] != IGNORED).sum()) == len(row.answer) == losses.tokens[number]
        own = loaded.model(**tensors).loss.item()
        assert losses.sums[number] / losses.tokens[number] == pytest.approx(own, abs=1e-4)
        answer = loaded.tokenizer.decode(row.answer)
        assert answer.endswith("<|im_end|>")
        assert answer.removesuffix("<|im_end|>").strip().isdigit() or " " in answer


def test_a_tuning_without_export_leaves_the_model_as_it_was(make: Make) -> None:
    inputs = read_inputs(make(no_export=True))
    loaded, rows = load_and_encode(inputs)
    Path(inputs.settings.out).mkdir()
    assert rows.test is not None
    before = score(loaded.model, rows.test.rows, ignore)
    first = tune_loaded(inputs, (loaded, rows), before, ignore)
    (Path(inputs.settings.out) / CHECKPOINT).unlink()
    assert tune_loaded(inputs, (loaded, rows), before, ignore) == first
    assert score(loaded.model, rows.test.rows, ignore).sums.tolist() == before.sums.tolist()
    assert not (Path(inputs.settings.out) / "model.gguf").exists()


def test_each_epoch_reads_every_row_once_and_in_an_order_of_its_own(make: Make) -> None:
    _, rows = load_and_encode(read_inputs(make()))
    epochs = [
        [row.id for step in range(first, first + 8) for row in batch_of(rows.train.rows, step, make())]
        for first in (0, 8)
    ]
    assert set(epochs[0]) == set(epochs[1]) == {row.id for row in rows.train.rows}
    assert len(epochs[0]) == 30
    assert epochs[0] != epochs[1]


def test_long_answers_are_cut_and_long_questions_left_out(base: Path) -> None:
    loaded = load(open_base(str(base)))
    messages = ({"role": "user", "content": "short"},)
    long = ({"role": "user", "content": "long " * 40},)
    rows = encode(
        loaded, [Example("a", messages, "x " * 40), Example("b", long, "y"), Example("c", messages, "z")], 120
    )
    assert rows.too_long == ("b",)
    assert [(row.id, row.is_cut) for row in rows.rows] == [("a", True), ("c", False)]
    assert len(rows.rows[0]) == 120
    assert rows.rows[0].characters == 80
    with pytest.raises(UsageError, match="no question fits into 8 tokens: raise --max-tokens"):
        encode(loaded, [Example("a", messages, "x")], 8)


def test_measures_weigh_rows_as_they_say(base: Path) -> None:
    losses = RowLosses(
        ("a", "b", "c"), np.array([10.0, 2.0, 9.0]), np.array([10.0, 1.0, 9.0]), np.array([79.0, 80, 350])
    )
    found = measures(losses)
    assert found["per token"]["mean"] == pytest.approx(21 / 20)
    assert found["mean of rows"]["mean"] == pytest.approx(4 / 3)
    assert [found[name]["mean"] for name in found if name.startswith("answers")] == [1, 2, 1]
    assert found["answers of 80 to 349 characters"]["low"] is None
    assert found["mean of rows"]["low"] < 4 / 3 < found["mean of rows"]["high"]
    better = RowLosses(losses.ids, losses.sums - losses.tokens / 2, losses.tokens, losses.characters)
    difference = measures(better, losses)["mean of rows"]
    assert [difference[name] for name in ("mean", "low", "high")] == pytest.approx([-0.5] * 3)


def test_a_plan_counts_steps_and_writes_nothing(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_tuning(make())
    assert plan["steps"] == 16
    assert plan["train"]["rows"] == 30
    assert set(plan["seconds"]) == {"training", "scoring"}
    assert all(math.isfinite(value) and value >= 0 for value in plan["seconds"].values())
    settings = make()
    arguments = ["tune", settings.train, "--base", str(settings.base), "--out", settings.out, "--dry-run"]
    assert main(arguments) == 0
    assert "Steps: 8\n" in capsys.readouterr().out
    assert not Path(settings.out).exists()


def test_the_command_prints_the_scores(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make()
    arguments = ["tune", settings.train, "--test", str(settings.test), "--base", str(settings.base)]
    assert main([*arguments, "--out", settings.out]) == 0
    printed = capsys.readouterr().out
    assert "| per token | 40 |" in printed
    assert "model.gguf" in printed
    assert main([*arguments, "--out", settings.out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 8


def test_rows_that_are_trained_on_and_held_out_are_refused(make: Make, tmp_path: Path) -> None:
    test = write_rows(tmp_path / "both.jsonl", range(129, 140))
    with pytest.raises(UsageError, match=r"1 rows of .*both.jsonl are trained on, too"):
        tune(make(test=str(test)))


def test_bases_that_cannot_be_tuned_are_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model: a folder of transformers"):
        tune(make(base=str(tmp_path)))
    with pytest.raises(SelectorUnavailable, match="cannot read the model file"):
        tune(make(base=str(tmp_path / "none.gguf")))
    other = write_tiny_gguf(tmp_path / "other.gguf", "qwen2")
    with pytest.raises(UsageError, match="of the architecture qwen2, and only GGUF files of llama"):
        tune(make(base=str(other)))


def test_a_damaged_checkpoint_is_named(make: Make) -> None:
    tune(make(no_export=True))
    (Path(make().out) / "tuning.json").unlink()
    (Path(make().out) / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"checkpoint\.pt cannot be read: .* Remove it to train from the start"):
        tune(make())


def test_a_missing_package_is_named_with_its_extra(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make()

    def find(name: str) -> Any:
        return None if name == "peft" else object()

    monkeypatch.setattr("selectllm.tuning.base.find_spec", find)
    with pytest.raises(MissingDependency, match=r"'peft'. Install it with: pip install 'selectllm\[train\]'"):
        tune(settings)


@pytest.mark.slow
def test_the_demo_model_is_tuned_and_runs_in_llama_cpp(make: Make, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    try:
        open_base(None)
    except SelectorUnavailable:
        pytest.skip("the demo weights are not installed")
    test = write_rows(tmp_path / "few.jsonl", range(4))
    record = tune(make(base=None, epochs=1, learning_rate=1e-3, test=str(test)))
    assert record["scores"]["difference"]["per token"]["mean"] < 0
    check_log_probabilities(record["model"], "<|im_start|>user\nSay 17.<|im_end|>\n<|im_start|>assistant\n")
    text = (Path(make().out) / "Modelfile").read_text()
    assert 'SYSTEM """You are a helpful AI assistant named SmolLM' in text
