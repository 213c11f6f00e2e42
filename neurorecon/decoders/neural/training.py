"""The training loop of torch decoders: schedules, early stopping, checkpoints that resume to the bit.

The format is that of :mod:`neurorecon.io.tensors`.
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
    """Return an optimizer of all weights that are trained.

    Vectors (biases, gains of normalizations) are not decayed, as the intercept of a ridge regression is not.

    Parameters
    ----------
    name : {"adamw", "adam", "sgd"}
        "adamw" decays weights beside the gradient, the other two through it: there it is an alpha of
        ``weight_decay / 2`` times the sum of squares, added to the loss.
    network : Module
        Whose weights.
    learning_rate, weight_decay : float
        As in torch.
    momentum : float
        Of "sgd"; above 0 it is Nesterov's.
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
    """Return a schedule of the learning rate, stepped after each batch.

    Parameters
    ----------
    name : {"constant", "linear", "cosine", "exponential", "one_cycle"}
        After the warm-up: unchanged; down to 0 in a line or along a cosine; down to a thousandth by the same
        factor each step. "one_cycle" rises and falls along cosines (Smith & Topin, 2019).
    optimizer : Optimizer
        Its learning rates are the highest.
    n_steps : int
        Batches of the whole run.
    warmup : float
        Share of the steps in which the learning rate rises in a line.
    """
    if name not in SCHEDULES:
        raise UnknownNameError("schedule", name, SCHEDULES)
    if not 0 <= warmup < 1:
        raise InputError("warmup is a share of the training", given=warmup, expected="0 or more, below 1")
    highest = [group["lr"] for group in optimizer.param_groups]
    rising = round(warmup * n_steps)
    if name == "one_cycle":
        share = warmup or 0.3
        # Momentum stays as it is: Adam's is part of its estimates.
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


#: Version of the layout of the file.
FORMAT = 1

_FILE = "checkpoint.safetensors"


class Checkpoint:
    """The checkpoint in a folder.

    Parameters
    ----------
    folder : path
        Where it lies; made where it is missing.
    identity : dict
        What the run is determined by, in JSON types: parameters and digests of the data. A checkpoint of
        another run is refused.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]) -> None:
        self.file = Path(folder) / _FILE
        # As it comes back from JSON: tuples are lists there.
        self._identity = json.loads(json.dumps(identity))

    def read(self) -> dict[str, Any] | None:
        """Return the state that was written last, or None where nothing was.

        Raises
        ------
        InputError
            Where the file is damaged, of a newer format, or belongs to another run.
        """
        if not self.file.exists():
            return None
        again = "delete it to train from the beginning"
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
                todo="update neurorecon, or give another folder",
            )
        names = [name for name in {**identity, **self._identity} if identity.get(name) != self._identity.get(name)]
        if names:
            there = ", ".join(f"{name}={_short(identity.get(name))}" for name in names)
            here = ", ".join(f"{name}={_short(self._identity.get(name))}" for name in names)
            raise InputError(
                "this checkpoint belongs to another training run",
                given=f"{self.file} with {there}",
                expected=here,
                todo="give the data and parameters of that run to go on with it, or another folder to begin anew",
            )

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint: a killed process leaves the old one or the new one, never half of one.

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
        """Delete what killed processes left half written."""
        remove_leftovers(self.file)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


#: torch's random numbers and accelerate's state belong to the process: one training at a time.
_LOCK = threading.RLock()

#: Precisions, and what accelerate calls them.
PRECISIONS = {"float32": "no", "float64": "no", "bf16": "bf16", "fp16": "fp16"}


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Give a block random numbers of its own, and the caller's back."""
    cards = [device.index if device.index is not None else torch.cuda.current_device()] if device.type == "cuda" else []
    with _LOCK, torch.random.fork_rng(devices=cards):
        before = torch.mps.get_rng_state() if device.type == "mps" else None
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)


def seed_torch(seed: list[int], device: torch.device) -> None:
    """Set torch's generators of the processor and of one device; those of other devices stay."""
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


@contextmanager
def own_accelerator(device: torch.device, precision: str) -> Iterator[Accelerator]:
    """Yield an accelerator, whatever other accelerators this process has: they share one state otherwise."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    shared = [kind._shared_state for kind in (AcceleratorState, GradientState, PartialState)]
    before = [dict(state) for state in shared]
    try:
        for state in shared:
            state.clear()
        # Networks and batches are moved by us, as accelerate cannot be told which of several cards to take.
        yield Accelerator(cpu=device.type == "cpu", mixed_precision=PRECISIONS[precision], device_placement=False)
    finally:
        for state, old in zip(shared, before, strict=True):
            state.clear()
            state.update(old)


class Scaler:
    """Brings batches to the device and standardizes them there, and brings outputs back.

    Parameters
    ----------
    inputs : Standard
        Of the inputs.
    targets : dict of str to Standard
        Of the targets, by name.
    device : torch.device
        Where the network computes.
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
        # A copy, aligned as torch aligns: the same numbers then give the same bits wherever they came from.
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
    """One run: the network, its optimizer and schedule, the epochs done, and the best weights so far.

    Parameters
    ----------
    decoder : NeuralDecoder
        Whose parameters and hooks are used.
    network : Module
        On its device.
    samples : SampleReader
        What batches are read from.
    train, validation : Batches
        Samples of each batch; None where there is no validation.
    scaler : Scaler
        Of inputs and targets.
    accelerator : Accelerator
        Of the precision.
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
        # With a generator of its own, as loaders draw from the one of the process.
        return DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=_as_read,
            generator=torch.Generator(),
        )

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.history["loss"])

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the score stopped rising."""
        patience = self._decoder.patience
        waited = self._validation is not None and patience is not None and self.epochs - self.best_epoch >= patience
        return self.epochs >= self._decoder.max_epochs or waited

    def run(self, checkpoint: Checkpoint | None = None) -> None:
        """Train to the end; the network then has the best weights.

        Parameters
        ----------
        checkpoint : Checkpoint, optional
            Where the state is kept, and taken up again.
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
        # All that is random in an epoch follows from the seed and its number: nothing else has to be kept.
        seed_torch([self._decoder.random_state, number], self._device)
        loss = self._train_epoch()
        if not math.isfinite(loss):
            raise InputError(
                "training diverged",
                given=f"a loss of {loss} in epoch {number + 1}",
                expected="finite numbers",
                todo="lower learning_rate, set clip_norm=1.0, or train in precision='float32'",
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
        # Once an epoch, as a graphics card has to be waited for.
        return float(np.average(torch.stack(losses).cpu().numpy().astype(np.float64), weights=counts))

    def _validate(self) -> float:
        """Return the mean score of held-out samples, of each batch by its samples."""
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
        """Return all that the next epoch depends on."""
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
        """Take up a run where :meth:`state` was asked for."""
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
    """Return outputs of a network, a tensor or several in dicts and lists, in full precision."""
    if isinstance(outputs, Tensor):
        return outputs.to(dtype) if outputs.is_floating_point() else outputs
    if isinstance(outputs, Mapping):
        return {name: in_full(value, dtype) for name, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(in_full(value, dtype) for value in outputs)
    return outputs


def _as_read(batch: Any) -> Any:
    """Batches come as one: there is nothing to collate."""
    return batch
