"""Trains adapters of rank 16 on all linear layers of a model (LoRA, arXiv 2106.09685), with checkpoints.

A run that is killed goes on from its last checkpoint. On a CPU with the same number of threads the weights are then
those of an undisturbed run, bit for bit: the order of the rows follows from the seed and the epoch alone.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from selectllm.cancellation import raise_if_cancelled
from selectllm.errors import RunError
from selectllm.execution import Progress
from selectllm.tuning.base import Loaded
from selectllm.tuning.checkpoint import load_checkpoint, save_checkpoint
from selectllm.tuning.encode import Encoded, collate
from selectllm.tuning.settings import TuningSettings

RANK: Final = 16
ALPHA: Final = 32
CLIP: Final = 1.0
"""The largest norm of a step's gradient."""


@dataclass
class Training:
    """A model with adapters, its optimizer, and how far it is: `losses` has the mean loss of each step so far."""

    model: Any
    optimizer: Any
    losses: list[float]


def count_steps(rows: int, settings: TuningSettings) -> int:
    """How many steps a training takes; the last of an epoch may read fewer rows."""
    return math.ceil(rows / settings.batch) * settings.epochs


def train(
    loaded: Loaded, rows: Sequence[Encoded], settings: TuningSettings, place: tuple[Path, str], on_progress: Progress
) -> Training:
    """Train, from the checkpoint in the folder of `place` if there is one; `place[1]` is the fingerprint of all inputs.

    Raises RunError where the loss is no number any more, Stopped in a run that is cancelled, and UsageError where the
    folder holds the checkpoint of another training.
    """
    import torch

    folder, fingerprint = place
    training = begin(loaded, settings)
    state = load_checkpoint(folder, fingerprint)
    if state is not None:
        training.model.load_state_dict(state["adapters"], strict=False)
        training.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        training.losses = list(state["losses"])
    steps = count_steps(len(rows), settings)
    for step in range(len(training.losses), steps):
        raise_if_cancelled()
        on_progress("training", step, steps)
        batch = batch_of(rows, step, settings)
        training.losses.append(take_step(training, batch, settings, 1 - step / steps))
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == steps:
            save_checkpoint(folder, fingerprint, _state(training))
    on_progress("training", steps, steps)
    training.model.eval()
    return training


def begin(loaded: Loaded, settings: TuningSettings) -> Training:
    """A model with new adapters, which change nothing until they are trained."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads a name that transformers is about to move
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(settings.seed)
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(loaded.model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Training(model, torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0), [])


def batch_of(rows: Sequence[Encoded], step: int, settings: TuningSettings) -> list[Encoded]:
    """The rows of a step: each epoch has an order of its own, from the seed."""
    each = math.ceil(len(rows) / settings.batch)
    epoch, place = divmod(step, each)
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(rows))
    return [rows[row] for row in order[place * settings.batch : (place + 1) * settings.batch]]


def take_step(training: Training, rows: Sequence[Encoded], settings: TuningSettings, share: float) -> float:
    """Take one step at a share of the learning rate; returns the mean loss of the rows' answer tokens in nats."""
    import torch

    training.model.train()
    for group in training.optimizer.param_groups:
        group["lr"] = settings.learning_rate * share
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"):
        loss = training.model(**collate(rows)).loss
    value = float(loss.detach())
    if not math.isfinite(value):
        step = len(training.losses) + 1
        raise RunError(f"the loss of step {step:,} is no number any more. Lower --learning-rate, and name a new --out")
    training.optimizer.zero_grad()
    loss.backward()
    trained = [parameter for group in training.optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, CLIP)
    training.optimizer.step()
    return value


def _state(training: Training) -> dict[str, Any]:
    import torch

    adapters = {name: value.detach() for name, value in training.model.named_parameters() if value.requires_grad}
    return {
        "adapters": adapters,
        "optimizer": training.optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "losses": training.losses,
    }
