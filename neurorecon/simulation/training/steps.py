"""Train, publish and judge each bundled network; one table lists what differs between them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from neurorecon.errors import UnknownNameError
from neurorecon.hub import BUNDLED, record_bundled
from neurorecon.io.files import replacing
from neurorecon.models.clip import WordTokenizer, clip_settings, vocabulary
from neurorecon.models.dual_guided import DualGuidedUNet
from neurorecon.models.load import autoencoder_settings, load_vdvae
from neurorecon.models.probe import Probe
from neurorecon.models.vdvae import VDVAE
from neurorecon.simulation.training import diffusion, gist, perception, probe, vdvae
from neurorecon.simulation.training import judge as bars
from neurorecon.simulation.training.diffusion import draw, to_pixels
from neurorecon.simulation.training.loop import Images, Loss, Plan, Run, averaged, images, train
from neurorecon.simulation.training.vdvae import from_prior, reconstruct

#: Folders of the bundled networks, below ``neurorecon/models/bundled``.
FOLDERS = {
    "probe": ("probe",),
    "clip": ("clip",),
    "autoencoder": ("autoencoder",),
    "vdvae": ("vdvae",),
    "gist": ("vdvae",),
    "details": ("vdvae",),
    "diffusion": ("text_diffusion", "dual_diffusion"),
    "image_branch": ("dual_diffusion",),
}


def publish_probe(network: Probe, home: Path) -> None:
    """Write the probe."""
    network.half().save(home / "probe")
    record_bundled(home / "probe")


def publish_clip(network: nn.Module, tokenizer: WordTokenizer, home: Path) -> None:
    """Write CLIP and its vocabulary."""
    folder = home / "clip"
    preprocessing = {"size": 64, "mean": perception.MEAN, "std": perception.STD}
    _write_json(
        folder / "config.json", {**perception.clip_config(tokenizer.vocab_size), "preprocessing": preprocessing}
    )
    (folder / "vocabulary.txt").write_text("\n".join(tokenizer.words) + "\n", encoding="utf-8")
    _write_weights(folder / "model.safetensors", network)
    record_bundled(folder)


def publish_autoencoder(network: Any, pixels: np.ndarray, home: Path) -> None:
    """Write the autoencoder, with the factor that scales the latents of these scenes to unit variance."""
    network.register_to_config(scaling_factor=1.0)
    latents = diffusion.encode(network, pixels, "cpu", progress=False).float()
    network.register_to_config(scaling_factor=round(float(1.0 / latents.std()), 4))
    folder = home / "autoencoder"
    config = {key: value for key, value in network.config.items() if not key.startswith("_")}
    wanted = {key: config[key] for key in (*perception.AUTOENCODER_CONFIG, "scaling_factor")}
    _write_json(folder / "config.json", {"_class_name": "AutoencoderKL", **wanted})
    _write_weights(folder / "diffusion_pytorch_model.safetensors", network)
    record_bundled(folder)


def publish_vdvae(network: VDVAE, home: Path) -> None:
    """Write the VDVAE."""
    folder = home / "vdvae"
    _write_json(folder / "config.json", network.config.to_dict())
    _write_weights(folder / "model.safetensors", network)
    record_bundled(folder)


def publish_diffusion(dual: DualGuidedUNet, text_adapter: Tensor, home: Path) -> None:
    """Write the text-conditioned UNet, the image branch of the dual-guided network, and the text adapter."""
    folder = home / "text_diffusion"
    unet = dual.plain_unet("text")
    _write_json(folder / "config.json", {"_class_name": "UNet2DConditionModel", **diffusion.CONFIG})
    _write_json(folder / "scheduler_config.json", {"_class_name": "DDIMScheduler", **diffusion.SCHEDULE})
    _write_weights(folder / "diffusion_pytorch_model.safetensors", unet)
    record_bundled(folder)
    publish_image_branch(dual, text_adapter, home)


def publish_image_branch(dual: DualGuidedUNet, text_adapter: Tensor, home: Path) -> None:
    """Write the image branch of the dual-guided network and the text adapter."""
    dual.adapt_text(text_adapter)
    dual.save(home / "dual_diffusion", text_unet="../text_diffusion", dtype=torch.float16)
    record_bundled(home / "dual_diffusion")


def _write_weights(file: Path, network: nn.Module) -> None:
    with replacing(file) as part:
        save_file({name: _half(tensor) for name, tensor in network.state_dict().items()}, part, {"format": "pt"})


def _half(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


#: Number of samples shown in a card.
SHOWN = 24

#: Bars, and sets of images by name.
Judged = tuple[list[bars.Bar], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Step:
    """Training, publishing and judging of one network.

    Parameters
    ----------
    plan : Plan
        Hyperparameters.
    make : callable
        Given the run, returns the network with random weights.
    loss : callable
        Given the run, returns the loss.
    publish : callable
        Writes the averaged weights to a folder.
    read : callable
        Reads bundled weights, as the network returned by `make` or the published part of it.
    judge : callable
        Given the folder of all bundled weights and the run, returns bars and samples by folder of the network.
    begin : callable, optional
        Initializes weights with the scenes, before the first step.
    """

    plan: Plan
    make: Callable[[Run], nn.Module]
    loss: Callable[[Run], Loss]
    publish: Callable[[Any, Run, Path], None]
    read: Callable[[Path], nn.Module]
    judge: Callable[[Path, Run], dict[str, Judged]]
    begin: Callable[[Any, Run], None] | None = None


def train_network(name: str, run: Run, shipped: Path | None = None) -> None:
    """Train a network, resuming from a checkpoint if there is one.

    Parameters
    ----------
    name : str
        Name of the network.
    run : Run
        Folder, device and time limit.
    shipped : path, optional
        Folder of bundled networks from whose weights to start if there is no checkpoint.

    Raises
    ------
    UnknownNameError
        If the name is unknown.
    InputError
        If the checkpoint was made with another plan.
    """
    step = _step(name)
    scenes = _scenes("train", run.folder)
    network = step.make(run)
    begins = not (run.folder / f"{name}.pt").exists()
    if begins and (shipped is not None or name in _PARTS):
        _remember_runs(name, shipped or BUNDLED, run)
    if begins and shipped is not None and name not in _PARTS:
        weights = step.read(shipped)
        if isinstance(network, diffusion.Denoiser):
            network.go_on_from(weights)  # type: ignore[arg-type]
        else:
            network.load_state_dict({key: value.float() for key, value in weights.state_dict().items()})
    if begins and step.begin is not None:
        step.begin(network, run)
    train(step.plan, network, step.loss(run), len(range(0, len(scenes), step.plan.every)), run)


def _remember_runs(name: str, shipped: Path, run: Run) -> None:
    """Copy the training record of the initial weights."""
    before = shipped / FOLDERS[name][0] / "training.json"
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / f"{name}.before.json").write_text(before.read_text(encoding="utf-8"), encoding="utf-8")


def publish(name: str, run: Run, out: Path | None = None) -> None:
    """Write the averaged weights of the last checkpoint to the bundled weights, or to `out`."""
    step = _step(name)
    network, done, seconds = averaged(step.plan, step.make(run), run.folder)
    home = out or BUNDLED
    step.publish(network, run, home)
    before = run.folder / f"{name}.before.json"
    record = json.loads(before.read_text(encoding="utf-8")) if before.exists() else {"name": name, "runs": []}
    facts = {**asdict(step.plan), "steps": done, "steps_planned": step.plan.steps, "hours": round(seconds / 3600, 2)}
    facts["device"] = run.device
    del facts["name"]
    if name in _PARTS:
        facts["part"] = _PARTS[name]
    for folder in FOLDERS[name]:
        content = json.dumps({"name": record["name"], "runs": [*record["runs"], facts]}, indent=2) + "\n"
        (home / folder / "training.json").write_text(content, encoding="utf-8")


def judge(name: str, run: Run, out: Path | None = None) -> bool:
    """Evaluate the weights on held-out scenes, write the model card, and return whether all requirements are met."""
    home = out or BUNDLED
    judged = _step(name).judge(home, run)
    for folder, (found, samples) in judged.items():
        for bar in found:
            print(f"{folder}: {bars.line(bar)}")
        bars.write(home / folder, found, samples)
    return all(bar.met is not False for found, _ in judged.values() for bar in found)


@cache
def _scenes(split: str, folder: Path) -> Images:
    return images(split, folder)


@cache
def _tokenizer(folder: Path) -> WordTokenizer:
    words = vocabulary(text for found in _scenes("train", folder).captions for text in found)
    return WordTokenizer(words, perception.CONTEXT)


def _tokens(split: str, folder: Path) -> Tensor:
    return perception.tokenized(_scenes(split, folder).captions, _tokenizer(folder))


def _pixels(run: Run) -> np.ndarray:
    return _scenes("train", run.folder).pixels


# -- probe --------------------------------------------------------------------------------------------------------
def _probe_loss(run: Run) -> Loss:
    scenes = _scenes("train", run.folder)
    return probe.loss(scenes.pixels, probe.labels(scenes.scenes), run.device)


def _judge_probe(home: Path, run: Run) -> dict[str, Judged]:
    held_out = _scenes("held-out", run.folder)
    found = bars.probe_bars(Probe.load(home / "probe"), held_out)
    return {"probe": (found, {"held-out scenes": held_out.pixels[:SHOWN]})}


# -- CLIP ---------------------------------------------------------------------------------------------------------
def _judge_clip(home: Path, run: Run) -> dict[str, Judged]:
    held_out = _scenes("held-out", run.folder)
    network, tokens = _clip(home), _tokens("held-out", run.folder)
    found = bars.clip_bars(network, tokens, held_out)
    asked = list(range(0, 80, 10))
    similarity = bars.clip_texts(network, tokens[asked, 0]) @ bars.clip_images(network, held_out.pixels).T
    best = similarity.argsort(dim=1, descending=True)[:, : bars.COLUMNS].numpy()
    shown = {
        f"{held_out.captions[row][0]}  (best of {len(held_out):,})": held_out.pixels[columns]
        for row, columns in zip(asked, best, strict=True)
    }
    return {"clip": (found, shown)}


def _clip(home: Path) -> nn.Module:
    return clip_settings(home).load()


# -- autoencoder --------------------------------------------------------------------------------------------------
def _judge_autoencoder(home: Path, run: Run) -> dict[str, Judged]:
    scenes = _scenes("held-out", run.folder).pixels
    network = autoencoder_settings(home).load()
    latents = diffusion.encode(network, scenes, "cpu", progress=run.progress).float()
    reconstructed = to_pixels(network, latents)
    found = bars.reconstruction_bars(Probe.load(home / "probe"), scenes, reconstructed, least=29.0)
    shown = {"held-out scenes": scenes[:SHOWN], "after encoding and decoding": reconstructed[:SHOWN]}
    return {"autoencoder": (found, shown)}


# -- VDVAE --------------------------------------------------------------------------------------------------------
def _judge_vdvae(home: Path, run: Run) -> dict[str, Judged]:
    scenes = _scenes("held-out", run.folder).pixels
    network, _ = load_vdvae(home)
    sides = [shape[-1] for shape in network.group_shapes]
    to_16, to_8 = (sum(side <= most for side in sides) for most in (16, 8))
    reconstructed = {groups: reconstruct(network, scenes[:600], groups) for groups in (len(sides), to_16, to_8)}
    judging = Probe.load(home / "probe")
    found = bars.reconstruction_bars(judging, scenes[:600], reconstructed[len(sides)], least=25.0)
    found = [bar if bar.least != 0.95 else bars.Bar(bar.what, bar.value) for bar in found]
    for groups in (to_16, to_8):
        likeness = bars.layout_likeness(scenes[:600], reconstructed[groups])
        found.append(bars.Bar(f"first {groups} groups: correlation of 8 x 8 layouts", likeness, 0.9))
    shown = {
        "held-out scenes": scenes[:SHOWN],
        f"from all {len(sides)} groups": reconstructed[len(sides)][:SHOWN],
        f"from the first {to_16} groups (up to 16 x 16)": reconstructed[to_16][:SHOWN],
        f"from the first {to_8} groups (up to 8 x 8)": reconstructed[to_8][:SHOWN],
    }
    for name, temperature in _PRIOR_SAMPLES.items():
        drawn = from_prior(network, 600, temperature)
        found.append(bars.Bar(f"{name}: {bars.FRECHET}", bars.frechet_ratio(judging, drawn, scenes[:1200])))
        shown[name] = drawn[:SHOWN]
    return {"vdvae": (found, shown)}


#: Temperatures of samples from the prior, given the resolution of a group; 0 means the mean.
_PRIOR_SAMPLES: dict[str, Callable[[int], float]] = {
    "samples from the prior, groups up to 8 x 8 drawn, the others their means": lambda side: float(side <= 8),
    "samples from the prior, groups up to 8 x 8 drawn, the others at a temperature of .5": lambda side: (
        1.0 if side <= 8 else 0.5
    ),
    "samples from the prior, all groups drawn at a temperature of .9": lambda side: 0.9,
}

#: Retraining of parts of bundled networks: the trainable parts, as described in model cards.
_PARTS = {
    "gist": "the groups up to 8 x 8 and what they read alone, with labels of the scenes (`gist`)",
    "details": "the groups finer than 8 x 8 alone (`details`)",
    "image_branch": "the image branch alone, with most contexts corrupted as if decoded (`image_branch`)",
}


def _gist_loss(run: Run) -> Loss:
    scenes = _scenes("train", run.folder)
    return gist.loss(_taught(run), gist.Described.of(scenes.scenes), run.device)


@cache
def _taught_in(folder: Path, device: str) -> gist.Taught:
    shipped, _ = load_vdvae(BUNDLED)
    return gist.Taught.make(shipped.float(), _scenes("train", folder).pixels, device)


def _taught(run: Run) -> gist.Taught:
    return _taught_in(run.folder, run.device)


def _publish_vdvae(network: Any, run: Run, home: Path) -> None:
    publish_vdvae(network, home)


def _read_vdvae(home: Path) -> nn.Module:
    return load_vdvae(home)[0]


# -- diffusion ----------------------------------------------------------------------------------------------------
def _frozen(run: Run, every: int = 1) -> diffusion.Frozen:
    latents_file = run.folder / "latents.pt"
    scenes = _scenes("train", run.folder)
    settings = autoencoder_settings()
    found = torch.load(latents_file, weights_only=True) if latents_file.exists() else {}
    if found.get("weights") != settings.source.sha256:
        latents = diffusion.encode(settings.load(run.device), scenes.pixels, run.device)
        found = {"weights": settings.source.sha256, "latents": latents}
        torch.save(found, latents_file)
    some = slice(None, None, every)
    return diffusion.Frozen.make(
        clip_settings().load(run.device),
        found["latents"][some],
        _tokens("train", run.folder)[some],
        _tokenizer(run.folder)(""),
        scenes.pixels[some],
        [scene.category for scene in scenes.scenes[some]],
        run.device,
    )


def _text_adapter(run: Run) -> Tensor:
    return diffusion.text_adapter(clip_settings().load(), _tokens("train", run.folder)[:500].flatten(0, 1))


def _read_dual(home: Path) -> DualGuidedUNet:
    return DualGuidedUNet.load(home / "dual_diffusion")


def _publish_image_branch(network: Any, run: Run, home: Path) -> None:
    adapter = _read_dual(BUNDLED).text_adapter
    assert adapter is not None  # the bundled network has one
    publish_image_branch(network.published(), adapter.weight, home)


def _judge_diffusion(home: Path, run: Run, folders: tuple[str, ...]) -> dict[str, Judged]:
    held_out = _scenes("held-out", run.folder)
    seeing, tokens = _clip(home), _tokens("held-out", run.folder)
    dual = _read_dual(home).float()
    # More contexts than are used: the components in which they are corrupted are estimated from them.
    contexts = _contexts(seeing, tokens[:1200, 0], _tokenizer(run.folder)(""), held_out.pixels[:1200])
    judging, decoder = Probe.load(home / "probe"), autoencoder_settings(home).load()
    judged: dict[str, Judged] = {}
    for folder, name, ratio, used in _GENERATIONS:
        if folder not in folders:
            continue
        given = {key.partition(" ")[0]: (contexts[key][0], contexts[key][1][: run.images]) for key in used}
        adapter = dual.text_adapter
        if folder == "text_diffusion":
            dual.text_adapter = None  # use the text-conditioned UNet alone
        made = draw(dual, decoder, diffusion.SCHEDULE, given, text_ratio=ratio, progress=run.progress)
        dual.text_adapter = adapter
        found, shown = judged.setdefault(folder, ([], {"held-out scenes": held_out.pixels[:SHOWN]}))
        measured = bars.generation_bars(judging, seeing, tokens, held_out, made, f"{name}, {len(made)} images")
        found += [bars.Bar(bar.what, bar.value) for bar in measured] if name == _DECODED else measured
        shown[f"from {name}"] = made[:SHOWN]
    return judged


#: Name of the condition with corrupted contexts, for which nothing is required.
_DECODED = "images .6 and captions .4 as if decoded"

#: Folder, name of the condition, text ratio, contexts.
_GENERATIONS = (
    ("text_diffusion", "captions", 1.0, ("text hidden",)),
    ("dual_diffusion", "images", 0.0, ("image",)),
    ("dual_diffusion", "captions", 1.0, ("text projected",)),
    ("dual_diffusion", "images .6 and captions .4", 0.4, ("image", "text projected")),
    ("dual_diffusion", _DECODED, 0.4, ("image decoded", "text decoded")),
)


def _contexts(clip_network: Any, tokens: Tensor, empty: Tensor, pixels: np.ndarray) -> dict[str, tuple[Tensor, Tensor]]:
    """Return, by name, the unconditional context and those of several scenes."""
    gray = np.full((1, 64, 64, 3), diffusion.GRAY, dtype=np.uint8)
    hidden, mapped, seen = diffusion.text_context, diffusion.projected_text_context, diffusion.image_context
    contexts = {
        "text hidden": (hidden(clip_network, empty), hidden(clip_network, tokens)),
        "text projected": (mapped(clip_network, empty), mapped(clip_network, tokens)),
        "image": (seen(clip_network, perception.normalized(gray)), seen(clip_network, perception.normalized(pixels))),
    }
    generator = torch.Generator().manual_seed(0)
    for decoded, exact in (("image decoded", "image"), ("text decoded", "text projected")):
        nothing, given = contexts[exact]
        noise, spread = torch.full((len(given),), diffusion.DECODED_NOISE), torch.ones(len(given))
        contexts[decoded] = nothing, diffusion.Corruption.of(given)(given, noise, spread, generator)
    return contexts


def _step(name: str) -> Step:
    if name not in _STEPS:
        raise UnknownNameError("bundled network", name, _STEPS)
    return _STEPS[name]


_STEPS = {
    "probe": Step(
        probe.PLAN,
        lambda run: probe.make(),
        _probe_loss,
        lambda network, run, home: publish_probe(network, home),
        lambda home: Probe.load(home / "probe"),
        _judge_probe,
    ),
    "clip": Step(
        perception.CLIP_PLAN,
        lambda run: perception.make_clip(perception.clip_config(_tokenizer(run.folder).vocab_size)),
        lambda run: perception.clip_loss(_pixels(run), _tokens("train", run.folder), run.device),
        lambda network, run, home: publish_clip(network, _tokenizer(run.folder), home),
        _clip,
        _judge_clip,
    ),
    "autoencoder": Step(
        perception.AUTOENCODER_PLAN,
        lambda run: perception.make_autoencoder(),
        lambda run: perception.autoencoder_loss(_pixels(run), run.device),
        lambda network, run, home: publish_autoencoder(network, _pixels(run)[:2000], home),
        lambda home: autoencoder_settings(home).load(),
        _judge_autoencoder,
    ),
    "vdvae": Step(
        vdvae.PLAN,
        lambda run: vdvae.make(),
        lambda run: vdvae.loss(_pixels(run), run.device),
        _publish_vdvae,
        _read_vdvae,
        _judge_vdvae,
    ),
    "gist": Step(
        gist.PLAN,
        lambda run: gist.make(load_vdvae(BUNDLED)[0]),
        _gist_loss,
        lambda network, run, home: publish_vdvae(network.vdvae, home),
        _read_vdvae,
        _judge_vdvae,
        lambda network, run: gist.begin(network, _taught(run)),
    ),
    "details": Step(
        vdvae.DETAILS_PLAN,
        lambda run: vdvae.make_details(load_vdvae(BUNDLED)[0]),
        lambda run: vdvae.details_loss(_pixels(run), run.device),
        _publish_vdvae,
        _read_vdvae,
        _judge_vdvae,
    ),
    "diffusion": Step(
        diffusion.PLAN,
        lambda run: diffusion.Denoiser(diffusion.CONFIG),
        lambda run: diffusion.loss(_frozen(run), run.device),
        lambda network, run, home: publish_diffusion(network.published(), _text_adapter(run), home),
        _read_dual,
        lambda home, run: _judge_diffusion(home, run, FOLDERS["diffusion"]),
    ),
    "image_branch": Step(
        diffusion.IMAGE_BRANCH_PLAN,
        lambda run: diffusion.make_image_branch(_read_dual(BUNDLED)),
        lambda run: diffusion.image_branch_loss(_frozen(run, _step("image_branch").plan.every), run.device),
        _publish_image_branch,
        _read_dual,
        lambda home, run: _judge_diffusion(home, run, FOLDERS["image_branch"]),
    ),
}
