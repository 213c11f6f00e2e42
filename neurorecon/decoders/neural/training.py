"""The training loop of neural decoders: plain torch over accelerate. Imported late, as it needs both."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from neurorecon.decoders.neural.batches import Batches, Samples
from neurorecon.decoders.neural.checkpoints import Checkpoint
from neurorecon.decoders.neural.rows import ONLY, Standard
from neurorecon.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from neurorecon.decoders.neural.decoder import NeuralDecoder

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
    samples : Samples
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
        samples: Samples,
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
    def _loader(samples: Samples, batches: Batches) -> DataLoader:
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
