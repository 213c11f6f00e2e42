"""Fine-tune the diffusion network of a system on the training stimuli of a store: a low-rank adapter (LoRA).

A published network has seen all kinds of images, the stimuli of a data set are of a few kinds. The adapter learns these
from the training stimuli alone: their latents are denoised, conditioned on their true targets. No response and no test
stimulus takes part. Some training stimuli are held out: the loss on them, with the same noise and the same steps
after every epoch, says when to stop, and which epoch to keep.

The low-rank layers are those of the package peft (an extra, ``pip install "neurorecon[peft]"``). Batches, noise and
steps depend on the seed and the number of the epoch alone, so a training that was killed continues with the same bits.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from neurorecon.analyses.design import Settings
from neurorecon.analyses.results import Result, record_of, write
from neurorecon.errors import BundledWeightsWarning, InputError, UnknownNameError
from neurorecon.features.extract import check_models, ensure_targets, require_networks
from neurorecon.models.adapters import write_adapter
from neurorecon.models.load import WeightsSource, noise_like, seed_of
from neurorecon.provenance import bundled_weights, weights_label
from neurorecon.stats.bootstrap import bootstrap_interval
from neurorecon.store.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from neurorecon.decoders.neural.data import Batches, SampleReader
    from neurorecon.generators.latent_diffusion import NetworkFiles, Networks

#: The targets that condition each network, by the name of the condition.
CONDITIONS: dict[str, dict[str, str]] = {
    "text-diffusion": {"text": "clip_text_sd"},
    "dual-diffusion": {"text": "clip_text", "image": "clip_vision"},
}

#: What each choice of layers changes, as a pattern of names in the UNet. Attention is what LoRA usually changes.
LAYERS = {
    "attention": r".*\.attn[12]\.(to_[qkv]|to_out\.0)",
    "all": r".*\.(attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)|proj_in|proj_out|conv1|conv2|conv_shortcut)",
}

#: Noisy versions of each held-out stimulus, one in each quarter of the noise schedule.
DRAWS = 4

#: Shares of a batch of a dual-guided network that are conditioned on text only, and on images only. The others are
#: conditioned on both, in the proportion of the system.
_TEXT, _IMAGE = 0.15, 0.15

#: Stimuli that are encoded at a time.
_ENCODED = 16

#: Stimuli from which the components of contexts are estimated.
_PCA_STIMULI = 1000

#: Targets of all training stimuli together are kept in memory up to this size, in bytes.
_MEMORY = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """Settings of a fine-tuning; `roi`, `task` and `n_permutations` have no meaning here.

    Parameters
    ----------
    network : {"text-diffusion", "dual-diffusion"}
        Which network: the text-conditioned one (takagi), or the dual-guided one (brain-diffuser).
    models : {"bundled", "published"} or path, optional
        Which weights; of simulated data by default the bundled ones.
    rank : int
        Of the change of each layer.
    alpha : float, optional
        The change is multiplied by `alpha` / `rank`; by default by 1.
    layers : {"attention", "all"}
        Which layers change: the projections of attention, or also feed-forward layers and convolutions.
    learning_rate : float
        Highest learning rate of AdamW; it falls to 0 along a cosine.
    batch_size : int
        Stimuli in a batch.
    epochs : int
        At most.
    patience : int
        Stop after this many epochs without a lower validation loss.
    held_out : float
        Share of the training stimuli that are held out for the validation loss.
    unconditional : float
        Share of a batch without condition, because classifier-free guidance needs both predictions.
    corrupted : float
        Share of a batch whose contexts are corrupted as if they had been decoded from responses; see
        :mod:`neurorecon.generators.corruption`. With exact contexts alone the oracle gains more, and reconstructions
        may lose.
    text_ratio : float
        Weight of the text where a dual-guided network gets both conditions; that of the system.
    precision : {"float32", "bf16", "fp16"}
        Of the computation; weights are in float32.
    checkpointing : bool
        Compute activations twice rather than keep them: slower, with less memory.
    """

    network: str = "text-diffusion"
    models: str | None = None
    rank: int = 16
    alpha: float | None = None
    layers: Literal["attention", "all"] = "attention"
    learning_rate: float = 1e-4
    batch_size: int = 16
    epochs: int = 20
    patience: int = 3
    held_out: float = 0.1
    unconditional: float = 0.1
    corrupted: float = 0.5
    text_ratio: float = 0.4
    precision: str = "float32"
    checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network not in CONDITIONS:
            raise UnknownNameError("network to fine-tune", self.network, CONDITIONS)
        if self.layers not in LAYERS:
            raise UnknownNameError("choice of layers", self.layers, LAYERS)
        if self.precision not in ("float32", "bf16", "fp16"):
            raise UnknownNameError("precision", self.precision, ("float32", "bf16", "fp16"))
        for name, usual in (("rank", "16"), ("batch_size", "16"), ("epochs", "20"), ("patience", "3")):
            self._require(name, getattr(self, name) >= 1, "a number of 1 or more", usual)
        self._require("learning_rate", 0 < self.learning_rate < math.inf, "above 0", "1e-4")
        self._require("alpha", self.alpha is None or self.alpha > 0, "above 0", "16")
        self._require("held_out", 0 < self.held_out < 1, "above 0 and below 1", "0.1")
        for name in ("unconditional", "corrupted", "text_ratio"):
            self._require(name, 0 <= getattr(self, name) <= 1, "from 0 to 1", "0.1")

    @property
    def dual(self) -> bool:
        """Whether the network is dual-guided."""
        return self.network == "dual-diffusion"


@dataclass(frozen=True, kw_only=True)
class Finetuning(Result):
    """An adapter, and how it was trained.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights of the adapter, by the names of the layers and ``lora_A`` or ``lora_B``.
    config : mapping
        peft's configuration.
    base : WeightsSource
        The weights that were trained on.
    history : DataFrame
        Columns ``epoch``, ``loss`` (of training), ``validation_loss``, ``learning_rate``; epoch 0 is the network
        before training.
    held_out : DataFrame
        Columns ``stimulus``, ``before``, ``after``: the validation loss of each held-out stimulus.
    made : mapping of str to mapping
        What made the targets, and the networks.
    store : Store
        The store with all targets.
    """

    subject: str = ""
    task: str = ""
    kind: str = "finetuning"
    settings: FinetuneSettings
    state: Mapping[str, Tensor]
    config: Mapping[str, Any]
    base: WeightsSource
    history: pd.DataFrame
    held_out: pd.DataFrame
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return self.settings.network

    def source(self, store: Store) -> Store:
        """Return the store with all targets."""
        return store if self.store is None else self.store

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return what made the targets, and the networks."""
        return {name: dict(made) for name, made in self.made.items()}

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the losses of all epochs, and those of the held-out stimuli."""
        return {"history": self.history, "held_out": self.held_out}

    def folders(self, store: Store) -> dict[str, Callable[[Path], None]]:
        """Return what writes the adapter."""
        about = {name: self.chosen[name] for name in ("stimuli", "held_out_stimuli", "best_epoch", "stimuli_digest")}
        trained_on = {
            "store": store.name,
            "split_column": store.split_column,
            **about,
            "settings": self.settings.record(),
        }
        return {
            "adapter": functools.partial(
                write_adapter, state=self.state, config=self.config, base=self.base,
                sha256=self.chosen["base_sha256"], trained_on=trained_on,
            )
        }  # fmt: skip

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws the losses."""
        return {"losses": functools.partial(self._curves, simulated=store.simulated)}

    def _curves(self, simulated: bool) -> Any:
        from neurorecon.figures import training_curves

        losses = {"training": self.history["loss"].to_numpy(), "held out": self.history["validation_loss"].to_numpy()}
        return training_curves(losses, self.chosen["best_epoch"], "mean squared error", simulated=simulated)

    def text(self, store: Store) -> str:
        """Return the validation loss before and after, with its interval."""
        chosen, settings = self.chosen, self.settings
        change, (low, high) = chosen["change"], chosen["change_interval"]
        lines = [
            f"{settings.network} ({self.base.name}, {self.base.sha256[:8]}): rank {settings.rank}, "
            f"{chosen['parameters']:,} weights in {chosen['layers']} layers, trained on {chosen['stimuli']:,} stimuli "
            f"of {store.label}",
            f"epoch {chosen['best_epoch']} of {chosen['epochs']}: validation loss {chosen['validation_before']:.4f} -> "
            f"{chosen['validation_after']:.4f} (change {change:.4f}, 95 % CI {low:.4f} to {high:.4f}, "
            f"{chosen['held_out_stimuli']:,} held-out training stimuli)",
            *(f"{name}: {weights_label(made)}" for name, made in self.made.items()),
            *(f"warning: {text}" for text in chosen["warnings"]),
        ]
        return "\n".join(lines)


def finetune(
    store: Store,
    *,
    out: str | Path,
    network: str = "text-diffusion",
    models: str | Path | None = None,
    progress: bool = False,
    **settings: Any,
) -> Finetuning:
    """Fine-tune a diffusion network on the training stimuli of a store.

    Parameters
    ----------
    store : Store
        Targets that it lacks are computed.
    out : path
        Folder of the checkpoint and of the results, among them the folder ``NETWORK_adapter``. The same call resumes.
    network : {"text-diffusion", "dual-diffusion"}
        Which network.
    models : {"bundled", "published"} or path, optional
        Which weights; measured data need a choice.
    progress : bool
        Show progress bars.
    **settings
        As in :class:`FinetuneSettings`, e.g. ``rank=4, epochs=10``.

    Returns
    -------
    Finetuning
        ``nr.load_system("takagi", adapter=out)`` generates with it.

    Raises
    ------
    InputError
        If peft is not installed, a setting is out of range, or `out` holds the checkpoint of another training.
    """
    chosen = FinetuneSettings(network=network, models=None if models is None else str(models), **settings)
    found = compute_finetuning(store, chosen, out, progress=progress)
    write(found, store, out, record_of(found.source(store), "neurorecon.finetune", seed=chosen.seed))
    return found


def compute_finetuning(
    store: Store, settings: FinetuneSettings, folder: str | Path, *, progress: bool = False
) -> Finetuning:
    """Do what :func:`finetune` does, from its settings, but for writing the results.

    Parameters
    ----------
    store : Store
        Open.
    settings : FinetuneSettings
        What to train, and how.
    folder : path
        Folder of the checkpoint.
    progress : bool
        Show progress bars.
    """
    _require_peft()
    import torch

    from neurorecon.decoders.neural.training import Checkpoint, own_accelerator, own_random_numbers
    from neurorecon.generators.latent_diffusion import NetworkFiles, load_networks
    from neurorecon.io.tensors import block_digest
    from neurorecon.parallel import choose_device

    models, names = settings.models or "bundled", list(CONDITIONS[settings.network].values())
    check_models(names, settings.models, simulated=store.simulated, of=f"the store {store.name!r}, which is measured")
    files = NetworkFiles.of(settings.dual, models)
    if files.schedule.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction", "sample"):
        raise InputError(
            "networks of this kind cannot be fine-tuned",
            given=f"prediction_type {files.schedule['prediction_type']!r} of {files.diffusion.name}",
            expected="epsilon, v_prediction or sample",
        )
    bundled = bundled_weights(store, {settings.network: files.diffusion.record()})
    if bundled is not None:
        warnings.warn(bundled, BundledWeightsWarning, stacklevel=2)
    stimuli = _training_stimuli(store)
    store = ensure_targets(store, names, models=settings.models, device=settings.device, progress=progress)
    for name in names:
        require_networks(name, store.about_target(name)[1], models, f"the network {settings.network!r}")
    device = torch.device(choose_device("cpu" if settings.device == "torch" else settings.device))
    base_sha256 = list(files.base_sha256)
    with own_random_numbers(device), own_accelerator(device, settings.precision) as accelerator:
        networks = load_networks(settings.dual, models, str(device))
        samples = _Samples.read(store, settings, files, networks, stimuli, progress)
        identity = {
            "settings": settings.record(),
            "base": base_sha256,
            "autoencoder": files.autoencoder.source.sha256,
            "stimuli": samples.digest,
        }
        training = _Training(settings, files, networks, samples, accelerator)
        training.run(Checkpoint(Path(folder) / "checkpoint", identity), progress)
        before, after = training.base_losses, training.best_losses
        change = bootstrap_interval(after - before, seed=settings.seed)
        said = [] if training.best_epoch else ["no epoch lowered the validation loss: the adapter changes nothing"]
        state = {name: value.detach().cpu() for name, value in training.best_weights.items()}
        return Finetuning(
            settings=settings,
            chosen={
                "models": models if models in ("bundled", "published") else Path(models).name,
                "base_sha256": base_sha256,
                "stimuli": len(samples.rows[0]),
                "held_out_stimuli": len(samples.rows[1]),
                "stimuli_digest": block_digest(np.asarray(stimuli)),
                "layers": training.layers,
                "parameters": sum(value.numel() for value in state.values()),
                "epochs": training.epochs,
                "best_epoch": training.best_epoch,
                "validation_before": float(before.mean()),
                "validation_after": float(after.mean()),
                "change": float(change.estimate),
                "change_interval": [float(change.low), float(change.high)],
                "warnings": said + ([] if bundled is None else [bundled]),
            },
            state=state,
            config=training.config,
            base=files.diffusion,
            history=pd.DataFrame(training.history),
            held_out=pd.DataFrame(
                {"stimulus": [stimuli[row] for row in samples.rows[1]], "before": before, "after": after}
            ),
            made={
                **{name: store.about_target(name)[1] for name in names},
                f"network {settings.network}": files.diffusion.record(),
                "network autoencoder": files.autoencoder.source.record(),
            },
            store=store,
        )


def _require_peft() -> None:
    try:
        import peft  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "fine-tuning needs a package that is not installed",
            given=f"no package {error.name!r}",
            expected="peft, an extra of neurorecon",
            todo='pip install "neurorecon[peft]", or pip install peft',
        ) from error


def _training_stimuli(store: Store) -> list[str]:
    """Return the ids of the training images, in the order of the store."""
    table = store.stimuli
    chosen = table[(table["kind"] == "image") & (table["split"] == "train")]
    if len(chosen) < 4:
        raise InputError(
            "a network is fine-tuned on the training images of a store",
            given=f"{len(chosen)} training images in {store.name}",
            expected="four or more",
            todo="choose a store with images and a split 'train'",
        )
    return [str(name) for name in chosen["id"]]


@dataclass(frozen=True)
class _Samples:
    """Latents and contexts of the training stimuli.

    Parameters
    ----------
    stimuli : list of str
        Ids.
    rows : (int array, int array)
        Training and held-out stimuli.
    reader : SampleReader
        Reads latents (stimulus, channel, y, x) and contexts (stimulus, token, channel), float32.
    digest : str
        Of all values.
    """

    stimuli: list[str]
    rows: tuple[np.ndarray, np.ndarray]
    reader: SampleReader
    digest: str

    @classmethod
    def read(
        cls,
        store: Store,
        settings: FinetuneSettings,
        files: NetworkFiles,
        networks: Networks,
        stimuli: list[str],
        progress: bool,
    ) -> _Samples:
        """Encode the stimuli into latents, and find their contexts."""
        import torch
        from tqdm import tqdm

        from neurorecon.decoders.neural.data import Rows, SampleReader, split_samples
        from neurorecon.generators.latent_diffusion import encode_images
        from neurorecon.io.tensors import block_digest, combine

        widths = {"text": files.text_width, "image": files.image_width}
        contexts: dict[str, Any] = {}
        digests: dict[str, str] = {}
        for condition, name in CONDITIONS[settings.network].items():
            found = store.targets(name, stimuli=stimuli)
            if found.ndim != 3 or found.shape[2] != widths[condition]:
                raise InputError(
                    f"the target {name!r} does not condition this network",
                    given=f"shape {found.shape[1:]} of a stimulus",
                    expected=f"(token, {widths[condition]})",
                    todo=f"extract it again: neurorecon features --target {name} --overwrite",
                )
            contexts[condition], digests[name] = found, store.digests()[f"targets/{name}/values"]
        if sum(found.nbytes for found in contexts.values()) <= _MEMORY:
            contexts = {condition: found.values for condition, found in contexts.items()}
        latents = np.empty((len(stimuli), *files.latent_shape), dtype=np.float32)
        device = next(networks.autoencoder.parameters()).device
        factor, size = files.autoencoder.scaling_factor, files.image_shape[0]
        with torch.inference_mode(), tqdm(total=len(stimuli), desc="latents", disable=not progress, leave=False) as bar:
            for start in range(0, len(stimuli), _ENCODED):
                part = stimuli[start : start + _ENCODED]
                images = torch.from_numpy(store.images(part).values).to(device) / 255
                latents[start : start + len(part)] = (encode_images(networks.autoencoder, images, size) * factor).cpu()
                bar.update(len(part))
        rows = split_samples(len(stimuli), None, None, settings.held_out, settings.seed)
        inputs = Rows(latents, "float32", "latents")
        targets = {condition: Rows(values, "float32") for condition, values in contexts.items()}
        digest = combine({"latents": block_digest(latents), "stimuli": block_digest(np.asarray(stimuli)), **digests})
        return cls(stimuli, rows, SampleReader(inputs, targets), digest)

    def contexts(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the contexts of some stimuli, each (stimulus, token, channel)."""
        found = [self.reader.__getitems__([row])[1] for row in rows.tolist()]
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}

    def batches(self, part: int, size: int, seed: int | None) -> Batches:
        """Return the order in which the training (0) or the held-out stimuli (1) are visited."""
        from neurorecon.decoders.neural.data import Batches

        return Batches(self.rows[part], size, self.reader.window, seed)


class _Training:
    """The state of a training: adapter, optimizer, schedule, history, and the best weights so far."""

    def __init__(
        self,
        settings: FinetuneSettings,
        files: NetworkFiles,
        networks: Networks,
        samples: _Samples,
        accelerator: Any,
    ) -> None:
        import torch
        from peft import LoraConfig, inject_adapter_in_model

        from neurorecon.decoders.neural.training import named_optimizer, named_schedule, seed_torch
        from neurorecon.generators.corruption import Corruption
        from neurorecon.generators.latent_diffusion import make_scheduler

        self._settings, self._samples, self._accelerator = settings, samples, accelerator
        self._unet, self._nothing = networks.unet, networks.nothing
        self._device = next(networks.unet.parameters()).device
        self._prediction = str(files.schedule.get("prediction_type", "epsilon"))
        self._kept = make_scheduler("DDIMScheduler", files.schedule).alphas_cumprod.to(self._device)
        self._latent_shape = files.latent_shape
        some = samples.rows[0][:: max(1, len(samples.rows[0]) // _PCA_STIMULI)]
        self._corruptions = (
            {name: Corruption.of(torch.from_numpy(values)) for name, values in samples.contexts(some).items()}
            if settings.corrupted
            else {}
        )
        options: dict[str, Any] = {
            "r": settings.rank,
            "lora_alpha": settings.rank if settings.alpha is None else settings.alpha,
            "target_modules": LAYERS[settings.layers],
            "lora_dropout": 0.0,
            "bias": "none",
        }
        self.config = {"peft_type": "LORA", **options}
        seed_torch([settings.seed], self._device)  # of the first weights
        inject_adapter_in_model(LoraConfig(**options), networks.layers)
        self._weights = {
            name.replace(".default.", "."): value
            for name, value in networks.layers.named_parameters()
            if ".lora_" in name
        }
        if settings.checkpointing:
            networks.layers.enable_gradient_checkpointing()
        self._order = samples.batches(0, settings.batch_size, settings.seed)
        optimizer = named_optimizer("adamw", networks.layers, settings.learning_rate, 0.01, 0.0)
        schedule = named_schedule("cosine", optimizer, len(self._order) * settings.epochs, warmup=0.05)
        self._optimizer, self._schedule = accelerator.prepare(optimizer, schedule)
        self.history: dict[str, list[float]] = {"epoch": [], "loss": [], "validation_loss": [], "learning_rate": []}
        self.best_epoch, self.best_weights = 0, self._copy()
        self.base_losses = self.best_losses = np.empty(0)

    @property
    def layers(self) -> int:
        """The number of layers that change."""
        return len(self._weights) // 2

    @property
    def epochs(self) -> int:
        """The number of epochs that are done."""
        return max(0, len(self.history["epoch"]) - 1)

    def run(self, checkpoint: Any, progress: bool) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        from tqdm import tqdm

        settings = self._settings
        checkpoint.sweep()
        state = checkpoint.read()
        if state is not None:
            self._load(state)
        else:
            self.base_losses = self.best_losses = self._validate()
            self._note(math.nan, self.base_losses)
            checkpoint.write(self._state())
        batches = len(self._order)
        with tqdm(
            total=settings.epochs * batches, initial=self.epochs * batches, unit="batch", desc=settings.network,
            disable=not progress, leave=False,
        ) as bar:  # fmt: skip
            bar.set_postfix(validation=f"{self.history['validation_loss'][-1]:.4f}")
            while self.epochs < settings.epochs and self.epochs - self.best_epoch < settings.patience:
                loss = self._epoch(bar)
                losses = self._validate()
                self._note(loss, losses)
                if losses.mean() < self.best_losses.mean():
                    self.best_epoch, self.best_weights, self.best_losses = self.epochs, self._copy(), losses
                checkpoint.write(self._state())
                bar.set_postfix(loss=f"{loss:.4f}", validation=f"{losses.mean():.4f}")

    def _note(self, loss: float, losses: np.ndarray) -> None:
        rate = float(self._optimizer.param_groups[0]["lr"])
        for name, value in zip(self.history, (len(self.history["epoch"]), loss, losses.mean(), rate), strict=True):
            self.history[name].append(float(value))

    def _epoch(self, bar: Any) -> float:
        """Visit all training stimuli once; return the mean loss."""
        import torch

        settings, number = self._settings, self.epochs
        self._order.epoch = number
        losses, counts = [], []
        for place, rows in enumerate(self._order):
            # Randomness depends on the seed and the batch alone, so checkpoints need no random state.
            seed = seed_of(settings.seed, f"epoch {number} batch {place}")
            generator = torch.Generator().manual_seed(seed)
            loss = self._training_loss(rows, generator)
            self._accelerator.backward(loss)
            self._accelerator.clip_grad_norm_(self._weights.values(), 1.0)
            self._optimizer.step()
            self._schedule.step()
            self._optimizer.zero_grad()
            losses.append(loss.detach())
            counts.append(len(rows))
            bar.update()
        mean = float(np.average(torch.stack(losses).cpu().numpy().astype(np.float64), weights=counts))
        if not math.isfinite(mean):
            raise InputError(
                "the fine-tuning diverged",
                given=f"a loss of {mean} in epoch {number + 1}",
                expected="a finite loss",
                todo="lower the learning rate, or use the precision float32; delete the checkpoint to start over",
            )
        return mean

    def _training_loss(self, rows: Sequence[int], generator: Any) -> Tensor:
        """Return the loss of a batch with random noise, steps, and conditions that are left out."""
        import torch

        from neurorecon.generators.corruption import drawn_noise, drawn_spread
        from neurorecon.generators.latent_diffusion import stratified

        settings = self._settings
        latents, contexts = self._read(rows)
        chance = torch.rand(len(rows), 4 + len(contexts), generator=generator)
        among, spread = (chance[:, 2] < settings.corrupted)[:, None, None], drawn_spread(chance[:, 3])
        for place, (name, corrupt) in enumerate(self._corruptions.items(), 4):
            decoded = corrupt(contexts[name].cpu(), drawn_noise(chance[:, place]), spread, generator)
            contexts[name] = torch.where(among, decoded, contexts[name].cpu()).to(self._device)
        noise = torch.randn(latents.shape, generator=generator)
        step = (stratified(len(rows), generator) * len(self._kept)).long()
        dropped = (chance[:, 0] < settings.unconditional).to(self._device)[:, None, None]
        contexts = {
            name: torch.where(dropped, self._nothing[name][:, : values.shape[1]], values)
            for name, values in contexts.items()
        }
        one = chance[:, 1]
        ratio = torch.where(one < _TEXT, 1.0, torch.where(one < _TEXT + _IMAGE, 0.0, settings.text_ratio))
        return self._errors(latents, contexts, noise, step, ratio).mean()

    def _validate(self) -> np.ndarray:
        """Return the loss of each held-out stimulus, (stimulus,), always with the same noise and steps."""
        import torch

        settings, found = self._settings, []
        with torch.no_grad():
            for rows in self._samples.batches(1, settings.batch_size, None):
                ids = [self._samples.stimuli[row] for row in rows]
                latents, contexts = self._read(rows)
                places = np.stack([np.random.default_rng(seed_of(settings.seed, name)).random(DRAWS) for name in ids])
                steps = ((np.arange(DRAWS) + places) / DRAWS * len(self._kept)).astype(np.int64)
                ratio = torch.full((len(rows),), settings.text_ratio)
                errors = []
                for draw in range(DRAWS):
                    noise = [noise_like(self._latent_shape, settings.seed, f"{name} {draw}") for name in ids]
                    step = torch.from_numpy(steps[:, draw])
                    errors.append(self._errors(latents, contexts, torch.from_numpy(np.stack(noise)), step, ratio))
                found.append(torch.stack(errors).double().mean(dim=0).cpu().numpy())
        return np.concatenate(found)

    def _read(self, rows: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return latents and contexts of stimuli, on the device."""
        import torch

        latents, contexts = self._samples.reader.__getitems__(list(rows))
        found = {name: torch.from_numpy(values).to(self._device) for name, values in contexts.items()}
        return torch.from_numpy(latents).to(self._device), found

    def _errors(
        self, latents: Tensor, contexts: Mapping[str, Tensor], noise: Tensor, step: Tensor, ratio: Tensor
    ) -> Tensor:
        """Add noise and denoise: the mean squared error of each stimulus, (stimulus,)."""
        from neurorecon.generators.latent_diffusion import noised

        step = step.to(self._device)
        noisy, wanted = noised(latents, noise.to(self._device), self._kept[step], self._prediction)
        with self._accelerator.autocast():
            if self._settings.dual:
                predicted = self._unet(noisy, step, **contexts, text_ratio=ratio)
            else:
                predicted = self._unet(noisy, step, encoder_hidden_states=contexts["text"], return_dict=False)[0]
        return (predicted.float() - wanted).square().mean(dim=(1, 2, 3))

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._weights.items()}

    def _state(self) -> dict[str, Any]:
        """Return what the next epoch depends on."""
        import torch

        scaler = self._accelerator.scaler
        return {
            "weights": dict(self._weights),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "base_losses": torch.from_numpy(self.base_losses),
            "best_losses": torch.from_numpy(self.best_losses),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, value in self._weights.items():
                value.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None and state["scaler"] is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.best_epoch = state["best_epoch"]
        self.best_weights = {name: value.to(self._device) for name, value in state["best_weights"].items()}
        self.base_losses, self.best_losses = (state[name].numpy() for name in ("base_losses", "best_losses"))
