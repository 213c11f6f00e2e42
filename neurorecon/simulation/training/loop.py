"""The training loop of all bundled networks, and their training scenes.

Scenes are drawn by the renderer of the embedded data set but with other seeds, so no stimulus of the embedded data
set, whether training or test, is among them.

The batch of a step depends only on the seed and the step, so an interrupted training resumes with the same batches as
an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from neurorecon.errors import InputError
from neurorecon.io.files import replacing
from neurorecon.parallel import in_processes
from neurorecon.simulation.captions import captions
from neurorecon.simulation.drawing.render import render
from neurorecon.simulation.scene import Scene, sample_scene

#: Pixels per side.
SIZE = 64

#: Seeds of the scenes. The embedded data set has seed 0.
SEEDS = {"train": 101, "held-out": 202}

#: Images and frames of videos in each set.
COUNTS = {"train": (20_000, 4_000), "held-out": (2_000, 400)}

#: Number of images in one job and in one file.
_BLOCK = 200


@dataclass(frozen=True)
class Images:
    """A set of scenes.

    Parameters
    ----------
    scenes : list of Scene
    times : array, shape (scene,)
        Time of the frame in seconds; 0 for images.
    pixels : array, shape (scene, y, x, rgb)
        uint8.
    """

    scenes: list[Scene]
    times: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.scenes)

    @cached_property
    def captions(self) -> list[list[str]]:
        """Captions of each scene."""
        return [captions(scene) for scene in self.scenes]


def images(split: str, folder: str | Path, *, progress: bool = True) -> Images:
    """Return a set of scenes, drawn on all cores in the first call and read from disk afterwards.

    Parameters
    ----------
    split : {"train", "held-out"}
    folder : path
        Cache of the pixels (300 MB for training). Interrupted drawing resumes.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    Images

    Raises
    ------
    InputError
        If the split is unknown.
    """
    if split not in SEEDS:
        raise InputError("unknown set of scenes", given=split, expected=" or ".join(SEEDS))
    keys = _keys(split)
    blocks = [keys[start : start + _BLOCK] for start in range(0, len(keys), _BLOCK)]
    home = Path(folder) / "scenes"
    home.mkdir(parents=True, exist_ok=True)
    files = [home / f"{split}-{SEEDS[split]}-{SIZE}px-{number:04d}.npy" for number in range(len(blocks))]
    _draw_missing(split, files, blocks, progress)
    pixels = np.concatenate([np.load(file, mmap_mode="r") for file in files])
    scenes = [sample_scene(SEEDS[split], index, kind) for kind, index, _ in keys]
    return Images(scenes, np.array([time for _, _, time in keys]), pixels)


def _keys(split: str) -> list[tuple[str, int, float]]:
    """Return kind, index and time of every image of a set."""
    images, videos = COUNTS[split]
    times = np.random.default_rng(SEEDS[split]).uniform(-1.0, 0.75, videos).round(3)
    return [("image", n, 0.0) for n in range(images)] + [("video", n, float(times[n])) for n in range(videos)]


def _draw_missing(split: str, files: list[Path], blocks: list[list[tuple[str, int, float]]], progress: bool) -> None:
    from joblib import delayed

    todo = [(file, block) for file, block in zip(files, blocks, strict=True) if not file.exists()]
    if not todo:
        return
    work = in_processes(-1, return_as="generator_unordered")(
        delayed(_draw_block)(SEEDS[split], file, block) for file, block in todo
    )
    for _ in tqdm(work, total=len(todo), desc=f"drawing {split} scenes", unit="block", disable=not progress):
        pass


def _draw_block(seed: int, file: Path, block: list[tuple[str, int, float]]) -> None:
    drawn = [render(sample_scene(seed, index, kind), size=SIZE, time=time) for kind, index, time in block]
    with replacing(file) as part:
        np.save(part, np.stack(drawn))


@dataclass(frozen=True)
class Plan:
    """Hyperparameters of a training.

    Parameters
    ----------
    name : str
        Name of the network.
    steps, batch : int
        Number of optimizer steps, and batch size in scenes.
    learning_rate, weight_decay : float
        Parameters of AdamW. The learning rate increases during `warmup` steps, stays constant, and decays to 2 % with a
        cosine schedule.
    warmup : int
        Number of warmup steps.
    hold : float
        Share of the steps after which the decay begins.
    average : float
        Decay of the exponential moving average of the weights, which is published.
    clip : float
        Maximum norm of the gradient.
    seed : int
        Seed of batches, augmentation and noise.
    every : int
        Train on every n-th scene only.
    """

    name: str
    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 200
    average: float = 0.999
    clip: float = 1.0
    seed: int = 0
    hold: float = 0.0
    every: int = 1

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, relative to its maximum."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        first = max(self.warmup, round(self.hold * self.steps))
        done = min(1.0, max(0.0, (step - first) / max(1, self.steps - first)))
        return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done))


#: Called with the network, the rows of the batch and a generator; returns the loss as "loss", and values to log.
Loss = Callable[[Any, Tensor, torch.Generator], dict[str, Tensor]]


@dataclass
class Run:
    """Where, how and for how long a training runs.

    Parameters
    ----------
    folder : path
        Folder of scenes, checkpoints and logs.
    device : str
        Device of the network.
    precision : {"no", "bf16", "fp16"}
        Mixed precision of accelerate.
    minutes : float or None
        Save a checkpoint and stop after this time.
    compiled : bool
        Whether to use ``torch.compile``.
    checkpoint_every : float
        Seconds between checkpoints.
    progress : bool
        Whether to show progress bars.
    images : int
        Number of images to generate when judging the diffusion networks.
    """

    folder: Path
    device: str = "cpu"
    precision: str = "no"
    minutes: float | None = None
    compiled: bool = False
    checkpoint_every: float = 120.0
    progress: bool = True
    images: int = 500


def train(plan: Plan, network: nn.Module, loss: Loss, scenes: int, run: Run) -> nn.Module:
    """Train a network, resuming from a checkpoint if there is one.

    Parameters
    ----------
    plan : Plan
        Hyperparameters.
    network : torch.nn.Module
        A network with initial weights; it has the last weights afterwards.
    loss : callable
        ``loss(network, rows, generator) -> {"loss": ..., ...}``.
    scenes : int
        Number of scenes; every epoch visits all of them in a new order.
    run : Run
        Folder, device and time limit.

    Returns
    -------
    torch.nn.Module
        The network with averaged weights, in evaluation mode.

    Raises
    ------
    InputError
        If the checkpoint was made with another plan.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision=run.precision, cpu=run.device == "cpu")
    network = network.to(run.device)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.average), use_buffers=True)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.learning_rate, weight_decay=plan.weight_decay, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, plan.rate)
    state = _State(plan, network, average, optimizer, schedule, run.folder / f"{plan.name}.pt")
    first = state.restore(run.device)
    forward: Any = torch.compile(network) if run.compiled else network
    started = saved = time.monotonic()
    spent = state.seconds
    network.train()
    log = run.folder / f"{plan.name}.jsonl"
    with tqdm(total=plan.steps, initial=first, desc=plan.name, unit="step", disable=not run.progress) as bar:
        for step in range(first, plan.steps):
            generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
            rows = batch_rows(plan, scenes, step)
            with accelerator.autocast():
                values = loss(forward, rows, generator)
            accelerator.backward(values["loss"])
            norm = accelerator.clip_grad_norm_(trained, plan.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            average.update_parameters(network)
            state.step = step + 1
            state.seconds = spent + time.monotonic() - started
            bar.update()
            if step % 20 == 0 or step + 1 == plan.steps:
                _log(log, bar, state, {**values, "gradient": norm})
            late = run.minutes is not None and time.monotonic() - started > run.minutes * 60
            if late or time.monotonic() - saved > run.checkpoint_every or step + 1 == plan.steps:
                state.save()
                saved = time.monotonic()
            if late:
                break
    published: nn.Module = average.module
    return published.eval()


def averaged(plan: Plan, network: nn.Module, folder: Path) -> tuple[nn.Module, int, float]:
    """Load the averaged weights of the last checkpoint.

    Parameters
    ----------
    plan : Plan
    network : torch.nn.Module
        A network of the same architecture.
    folder : path
        Folder of the checkpoint.

    Returns
    -------
    network : torch.nn.Module
        In evaluation mode.
    step : int
        Number of steps done.
    seconds : float
        Duration of the training.

    Raises
    ------
    InputError
        If there is no checkpoint.
    """
    file = folder / f"{plan.name}.pt"
    if not file.exists():
        raise InputError(
            f"no checkpoint of {plan.name!r}",
            given=f"no file {file}",
            expected="a checkpoint",
            todo=f"run python -m neurorecon.simulation.training {plan.name}",
        )
    found = torch.load(file, map_location="cpu", weights_only=True)
    average = AveragedModel(network, use_buffers=True)
    average.load_state_dict(found["average"])
    published: nn.Module = average.module
    return published.eval(), int(found["step"]), float(found["seconds"])


def batch_rows(plan: Plan, scenes: int, step: int) -> Tensor:
    """Return the scenes of a step, shape (scene,); each epoch visits every scene once, in a new order."""
    first = step * plan.batch
    parts, wanted = [], plan.batch
    while wanted:
        epoch, place = divmod(first, scenes)
        order = torch.randperm(scenes, generator=torch.Generator().manual_seed(plan.seed * 7919 + epoch))
        part = order[place : place + wanted]
        parts.append(part)
        first, wanted = first + len(part), wanted - len(part)
    return torch.cat(parts)


def on_device(generator: torch.Generator, device: str) -> torch.Generator:
    """Return a generator on a device: the given one on a CPU, otherwise one that is seeded from it."""
    if torch.device(device).type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


@dataclass
class _State:
    """Contents of a checkpoint."""

    plan: Plan
    network: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    file: Path
    step: int = 0
    seconds: float = 0.0

    def save(self) -> None:
        content = {
            "plan": asdict(self.plan),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        with replacing(self.file) as part:
            torch.save(content, part)

    def restore(self, device: str) -> int:
        if not self.file.exists():
            return 0
        found = torch.load(self.file, map_location=device, weights_only=True)
        different = {key for key, value in asdict(self.plan).items() if found["plan"].get(key, value) != value}
        if different - {"steps"}:
            raise InputError(
                f"the checkpoint of {self.plan.name!r} was made with another plan",
                given=", ".join(f"{key} = {found['plan'].get(key)}" for key in sorted(different)),
                expected=", ".join(f"{key} = {asdict(self.plan)[key]}" for key in sorted(different)),
                todo=f"move {self.file} away to start over",
            )
        self.network.load_state_dict(found["network"])
        self.average.load_state_dict(found["average"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.schedule.load_state_dict(found["schedule"])
        self.step, self.seconds = int(found["step"]), float(found["seconds"])
        return self.step


def _log(file: Path, bar: Any, state: _State, values: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = {key: round(float(value.detach()), 5) for key, value in values.items()}
    bar.set_postfix({key: f"{value:.3g}" for key, value in numbers.items()}, refresh=False)
    with file.open("a") as stream:
        stream.write(json.dumps({"step": state.step, "seconds": round(state.seconds, 1), **numbers}) + "\n")
