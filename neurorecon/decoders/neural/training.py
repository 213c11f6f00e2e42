"""Train torch decoders: optimizers, schedules, early stopping, and checkpoints that resume identically to the bit.

Checkpoints use the format of :mod:`neurorecon.io.tensors`.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from neurorecon.decoders.neural.data import ONLY, Batches, SampleReader, Standard
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io import tensors
from neurorecon.io.files import damaged, remove_leftovers

if TYPE_CHECKING:
    from accelerate import Accelerator

    from neurorecon.decoders.neural.base import NeuralDecoder


OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}

SCHEDULES = ("constant", "linear", "cosine", "exponential", "one_cycle")


def named_optimizer(
    name: str, network: nn.Module, learning_rate: float, weight_decay: float, momentum: float
) -> Optimizer:
    """Return an optimizer of all trainable weights.

    Vectors (biases, and gains of normalization layers) are not decayed, like the intercept of ridge regression.

    Parameters
    ----------
    name : {"adamw", "adam", "sgd"}
        With "adamw", weight decay is decoupled from the gradient. With the others, ``weight_decay / 2`` times the sum
        of squared weights is added to the loss.
    network : Module
        Network to train.
    learning_rate, weight_decay : float
        See :mod:`torch.optim`.
    momentum : float
        Nesterov momentum of "sgd".
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("this network has no weights to train", given=type(network).__name__)
    groups = [
        {"params": [weights for weights in trained if weights.ndim > 1], "weight_decay": weight_decay},
        {"params": [weights for weights in trained if weights.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
    return OPTIMIZERS[name](groups, lr=learning_rate)


def named_schedule(name: str, optimizer: Optimizer, n_steps: int, warmup: float) -> lr_scheduler.LRScheduler:
    """Return a learning rate schedule, stepped after each batch.

    Parameters
    ----------
    name : {"constant", "linear", "cosine", "exponential", "one_cycle"}
        Learning rate after the warm-up: constant; decreasing to 0 linearly or along a cosine; or decreasing
        exponentially to a thousandth. "one_cycle" rises and falls along cosines (Smith & Topin, 2019).
    optimizer : Optimizer
        Optimizer with the peak learning rates.
    n_steps : int
        Total number of batches.
    warmup : float
        Fraction of the steps in which the learning rate increases linearly.
    """
    if name not in SCHEDULES:
        raise UnknownNameError("schedule", name, SCHEDULES)
    if not 0 <= warmup < 1:
        raise InputError("warmup must be a fraction of the training", given=warmup, expected="0 or more, and below 1")
    highest = [group["lr"] for group in optimizer.param_groups]
    rising = round(warmup * n_steps)
    if name == "one_cycle":
        share = warmup or 0.3
        # Momentum is not cycled, as it is part of the estimates of Adam.
        return lr_scheduler.OneCycleLR(optimizer, highest, total_steps=n_steps, pct_start=share, cycle_momentum=False)
    falling = max(1, n_steps - rising)
    after = _after(name, optimizer, falling)
    if not rising:
        return after
    before = lr_scheduler.LinearLR(optimizer, 1 / (rising + 1), 1.0, total_iters=rising)
    return lr_scheduler.SequentialLR(optimizer, [before, after], milestones=[rising])


def _after(name: str, optimizer: Optimizer, n_steps: int) -> lr_scheduler.LRScheduler:
    if name == "linear":
        return lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=n_steps)
    if name == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_steps)
    if name == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, 0.001 ** (1 / n_steps))
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


#: Version of the file format.
FORMAT = 1

_FILE = "checkpoint.safetensors"


class Checkpoint:
    """A checkpoint in a folder.

    Parameters
    ----------
    folder : path
        Folder of the checkpoint, created if needed.
    identity : dict
        Everything that determines the run, in JSON types: parameters, and digests of the data. Checkpoints of other
        runs raise an error.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]) -> None:
        self.file = Path(folder) / _FILE
        # A round trip through JSON turns tuples into lists, for comparison.
        self._identity = json.loads(json.dumps(identity))

    def read(self) -> dict[str, Any] | None:
        """Return the last state, or None if there is no checkpoint.

        Raises
        ------
        InputError
            If the file is damaged, has a newer format, or belongs to another run.
        """
        if not self.file.exists():
            return None
        again = "delete it to start training from the beginning"
        description = tensors.read_description(self.file, again)
        try:
            version, identity, packed = int(description["format"]), description["identity"], description["state"]
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(self.file, error, again) from error
        self._check(version, identity)
        arrays, _ = tensors.load(self.file, framework="torch", todo=again)
        state: dict[str, Any] = tensors.unpack(packed, arrays)
        return state

    def _check(self, version: int, identity: Mapping[str, Any]) -> None:
        if version > FORMAT:
            raise InputError(
                "this checkpoint was written by a newer version of neurorecon",
                given=f"format {version}",
                expected=f"format {FORMAT} or older",
                todo="update neurorecon, or choose another folder",
            )
        names = [name for name in {**identity, **self._identity} if identity.get(name) != self._identity.get(name)]
        if names:
            there = ", ".join(f"{name}={_short(identity.get(name))}" for name in names)
            here = ", ".join(f"{name}={_short(self._identity.get(name))}" for name in names)
            raise InputError(
                "this checkpoint belongs to another training run",
                given=f"{self.file} with {there}",
                expected=here,
                todo="pass the data and parameters of that run to resume it, or choose another folder to start over",
            )

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically.

        Parameters
        ----------
        state : dict
            Nested dicts and lists of tensors, numbers, strings and None.
        """
        arrays: dict[str, Any] = {}
        todo = "train without checkpoint, or override build_scheduler with one of torch's plain schedules"
        packed = tensors.pack(state, "state", arrays, todo)
        description = {"format": FORMAT, "identity": self._identity, "state": packed}
        tensors.save(self.file, arrays, description, what="a checkpoint could not be written")

    def sweep(self) -> None:
        """Delete partial files left by killed processes."""
        remove_leftovers(self.file)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


#: torch's random state and accelerate's state are shared by the process, so only one training runs at a time.
_LOCK = threading.RLock()

#: Names of precisions in accelerate.
PRECISIONS = {"float32": "no", "float64": "no", "bf16": "bf16", "fp16": "fp16"}


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Restore torch's random state at the end of a block."""
    cards = [device.index if device.index is not None else torch.cuda.current_device()] if device.type == "cuda" else []
    with _LOCK, torch.random.fork_rng(devices=cards):
        before = torch.mps.get_rng_state() if device.type == "mps" else None
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)


def seed_torch(seed: list[int], device: torch.device) -> None:
    """Seed torch's generators of the CPU and of one device."""
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


@contextmanager
def own_accelerator(device: torch.device, precision: str) -> Iterator[Accelerator]:
    """Yield an accelerator that does not share its state with other accelerators of this process."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    shared = [kind._shared_state for kind in (AcceleratorState, GradientState, PartialState)]
    before = [dict(state) for state in shared]
    try:
        for state in shared:
            state.clear()
        # We move networks and batches, because accelerate cannot be told which GPU to use.
        yield Accelerator(cpu=device.type == "cpu", mixed_precision=PRECISIONS[precision], device_placement=False)
    finally:
        for state, old in zip(shared, before, strict=True):
            state.clear()
            state.update(old)


class Scaler:
    """Move batches to the device, standardize them, and scale outputs back.

    Parameters
    ----------
    inputs : Standard
        Mean and scale of the inputs.
    targets : dict of str to Standard
        Mean and scale of the targets, by name.
    device : torch.device
        Device of the network.
    dtype : torch.dtype
        float32 or float64.
    """

    def __init__(
        self, inputs: Standard, targets: Mapping[str, Standard], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device, self.dtype = device, dtype
        self._inputs = self._tensors(inputs)
        self._targets = {name: self._tensors(standard) for name, standard in targets.items()}

    def _tensors(self, standard: Standard) -> tuple[Tensor, Tensor]:
        return self._tensor(standard.mean), self._tensor(standard.scale)

    def _tensor(self, values: Any) -> Tensor:
        # A copy has the memory alignment of torch, so results do not depend on the origin of the data.
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def inputs(self, values: Any) -> Tensor:
        """Return standardized inputs."""
        mean, scale = self._inputs
        return (self._tensor(values) - mean) / scale

    def targets(self, values: Mapping[str, Any]) -> Any:
        """Return standardized targets: a tensor, or tensors by name."""
        found = {}
        for name, rows in values.items():
            mean, scale = self._targets[name]
            found[name] = (self._tensor(rows) - mean) / scale
        return found[ONLY] if set(found) == {ONLY} else found

    def back(self, name: str, predicted: Tensor) -> Tensor:
        """Return predictions in the units of the targets."""
        mean, scale = self._targets[name]
        return predicted.to(self.dtype) * scale + mean


class Training:
    """A training run: network, optimizer, schedule, history, and the best weights so far.

    Parameters
    ----------
    decoder : NeuralDecoder
        Decoder that provides parameters and hooks.
    network : Module
        Network, on its device.
    samples : SampleReader
        Source of the batches.
    train, validation : Batches
        Batches of training and validation samples; `validation` is None without validation.
    scaler : Scaler
        Scaling of inputs and targets.
    accelerator : Accelerator
        Accelerator with the required precision.
    """

    def __init__(
        self,
        decoder: NeuralDecoder,
        network: nn.Module,
        samples: SampleReader,
        train: Batches,
        validation: Batches | None,
        scaler: Scaler,
        accelerator: Accelerator,
    ) -> None:
        self._decoder, self._scaler, self._accelerator = decoder, scaler, accelerator
        self._order, self._device = train, scaler.device
        self._train = self._loader(samples, train)
        self._validation = None if validation is None else self._loader(samples, validation)
        optimizer = decoder.build_optimizer(network)
        schedule = decoder.build_scheduler(optimizer, len(train) * decoder.max_epochs)
        self.network, self._optimizer, self._schedule = accelerator.prepare(network, optimizer, schedule)
        self._forward = self.network
        if decoder.compile:
            backend = decoder.compile if isinstance(decoder.compile, str) else "inductor"
            self._forward = torch.compile(self.network, backend=backend)
        self.history: dict[str, list[float]] = {"loss": [], "validation_score": [], "learning_rate": []}
        self.best_epoch, self.best_weights = 0, None  # type: int, dict[str, Tensor] | None

    @staticmethod
    def _loader(samples: SampleReader, batches: Batches) -> DataLoader:
        # A separate generator, as loaders would draw from the global one.
        return DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=_as_read,
            generator=torch.Generator(),
        )

    @property
    def epochs(self) -> int:
        """Number of completed epochs."""
        return len(self.history["loss"])

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the score has stopped improving."""
        patience = self._decoder.patience
        waited = self._validation is not None and patience is not None and self.epochs - self.best_epoch >= patience
        return self.epochs >= self._decoder.max_epochs or waited

    def run(self, checkpoint: Checkpoint | None = None) -> None:
        """Train to the end, and restore the best weights.

        Parameters
        ----------
        checkpoint : Checkpoint, optional
            Checkpoint to which the state is saved, and from which it is resumed.
        """
        if checkpoint is not None:
            checkpoint.sweep()
            state = checkpoint.read()
            if state is not None:
                self.load_state(state)
        every = self._decoder.checkpoint_every
        with tqdm(
            total=self._decoder.max_epochs, initial=self.epochs, unit="epoch", disable=not self._decoder.progress
        ) as bar:
            while not self.finished:
                self._epoch()
                if checkpoint is not None and (self.finished or self.epochs % every == 0):
                    checkpoint.write(self.state())
                bar.set_postfix({name: f"{values[-1]:.4g}" for name, values in self.history.items() if values})
                bar.update()
        if self.best_weights is not None:
            self.network.load_state_dict(self.best_weights)

    def _epoch(self) -> None:
        number = self.epochs
        self._order.epoch = number
        # Randomness in an epoch depends only on the seed and its number, so checkpoints need no random state.
        seed_torch([self._decoder.random_state, number], self._device)
        loss = self._train_epoch()
        if not math.isfinite(loss):
            raise InputError(
                "training diverged",
                given=f"a loss of {loss} in epoch {number + 1}",
                expected="a finite loss",
                todo="lower learning_rate, set clip_norm=1.0, or use precision='float32'",
            )
        self.history["loss"].append(loss)
        self.history["learning_rate"].append(float(self._optimizer.param_groups[0]["lr"]))
        if self._validation is None:
            return
        score = self._validate()
        past = self.history["validation_score"]
        best = past[self.best_epoch - 1] if self.best_epoch else -math.inf
        past.append(score)
        if score > best + self._decoder.tolerance or not self.best_epoch:
            self.best_epoch = self.epochs
            self.best_weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _train_epoch(self) -> float:
        """Return the mean loss of the epoch."""
        decoder, losses, counts = self._decoder, [], []
        self.network.train()
        for rows, measured in self._train:
            targets = self._scaler.targets(measured)
            inputs, targets = decoder.augment(self._scaler.inputs(rows), targets)
            with self._accelerator.autocast():
                outputs = decoder.forward(self._forward, inputs, targets)
            loss = decoder.compute_loss(in_full(outputs, self._scaler.dtype), targets)
            self._accelerator.backward(loss)
            if decoder.clip_norm is not None:
                self._accelerator.clip_grad_norm_(self.network.parameters(), decoder.clip_norm)
            self._optimizer.step()
            self._schedule.step()
            self._optimizer.zero_grad()
            losses.append(loss.detach())
            counts.append(len(rows))
        # Once per epoch, as this waits for the GPU.
        return float(np.average(torch.stack(losses).cpu().numpy().astype(np.float64), weights=counts))

    def _validate(self) -> float:
        """Return the mean validation score, weighted by batch size."""
        assert self._validation is not None
        total, count = 0.0, 0
        self.network.eval()
        with torch.no_grad():
            for rows, measured in self._validation:
                targets = self._scaler.targets(measured)
                with self._accelerator.autocast():
                    outputs = self._decoder.forward(self._forward, self._scaler.inputs(rows), None)
                score = self._decoder.validation_score(in_full(outputs, self._scaler.dtype), targets)
                total += float(score) * len(rows)
                count += len(rows)
        mean = total / count
        return mean if math.isfinite(mean) else -math.inf

    def state(self) -> dict[str, Any]:
        """Return the state that the next epoch depends on."""
        scaler = self._accelerator.scaler
        return {
            "network": dict(self.network.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "best_weights": self.best_weights,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume a run from its :meth:`state`."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None and state["scaler"] is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        best = state["best_weights"]
        self.best_weights = best and {name: value.to(self._device) for name, value in best.items()}
        self.best_epoch = state["best_epoch"]
        self.history = {name: list(values) for name, values in state["history"].items()}


def in_full(outputs: Any, dtype: torch.dtype) -> Any:
    """Convert outputs of a network (a tensor, or nested dicts and lists of tensors) to full precision."""
    if isinstance(outputs, Tensor):
        return outputs.to(dtype) if outputs.is_floating_point() else outputs
    if isinstance(outputs, Mapping):
        return {name: in_full(value, dtype) for name, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(in_full(value, dtype) for value in outputs)
    return outputs


def _as_read(batch: Any) -> Any:
    """Return a batch unchanged, as batches are read as a whole."""
    return batch
