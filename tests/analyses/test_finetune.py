"""Fine-tuning on a tiny store: published and bundled networks, resuming, held-out loss, records, bad input."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import neurorecon as nr
from neurorecon.analyses import finetune as module
from neurorecon.analyses.finetune import DRAWS, FinetuneSettings, compute_finetuning
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.generators.latent_diffusion import LatentDiffusion, NetworkFiles, load_networks, noised
from neurorecon.models.adapters import read_adapter
from neurorecon.models.load import noise_like, seed_of
from neurorecon.systems.generation import networks_of

#: The store is built once.
pytestmark = pytest.mark.xdist_group("finetune")

QUICK = {"rank": 2, "batch_size": 8, "epochs": 3, "learning_rate": 3e-3, "held_out": 0.25, "device": "cpu"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Twenty training and eight test images, without targets."""
    options = {"subjects": 1, "voxels": 100, "train_images": 20, "test_images": 8, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="tiny", reader="scenes", targets=[], options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("finetune") / "tiny.icechunk", progress=False).location


@pytest.fixture(scope="module")
def folders(pipeline_folder, random_models, tmp_path_factory):
    """Folders of random weights, laid out as Stable Diffusion and Versatile Diffusion are published."""
    root = tmp_path_factory.mktemp("versatile")
    shutil.copytree(random_models / "clip", root / "clip")
    pipeline = pipeline_folder("1.x")
    for place, part in (("image_unet", "unet"), ("text_unet", "unet"), ("vae", "vae"), ("scheduler", "scheduler")):
        shutil.copytree(pipeline / part, root / "dual_diffusion" / place)
    return {"text-diffusion": pipeline, "dual-diffusion": root}


@pytest.fixture(scope="module")
def trained(plain, folders, tmp_path_factory):
    """Return store, result and folder of a fine-tuning of a published layout, done once."""
    kept = {}

    def get(network):
        if network not in kept:
            folder = tmp_path_factory.mktemp(network)
            shutil.copytree(plain, folder / "tiny.icechunk")
            store = nr.open_store(folder / "tiny.icechunk")
            found = nr.finetune(store, out=folder / "out", network=network, models=folders[network], **QUICK)
            kept[network] = found.source(store), found, folder / "out"
        return kept[network]

    return get


@pytest.mark.parametrize("network", ["text-diffusion", "dual-diffusion"])
def test_the_adapter_changes_what_is_generated_and_nothing_else_does(trained, folders, network):
    store, found, out = trained(network)
    condition = "text" if network == "text-diffusion" else "both"
    contexts = {name: store.targets(target, split="test").values for name, target in module.CONDITIONS[network].items()}
    plain = LatentDiffusion(condition, folders[network], steps=3, device="cpu")
    tuned = LatentDiffusion(condition, folders[network], steps=3, device="cpu", adapter=out)
    ids = [f"test{n}" for n in range(8)]
    before, after = plain.generate(ids, contexts), tuned.generate(ids, contexts)
    assert np.abs(before - after).max() > 1e-3
    np.testing.assert_array_equal(plain.generate(ids, contexts), before)
    assert [one.role for one in tuned.weights[-2:]][-1] == "adapter"
    assert tuned.record()[:-1] == plain.record()
    # Only the layers that were named have changed.
    base, adapted = (
        load_networks(network == "dual-diffusion", folders[network], "cpu", adapter=one).layers.state_dict()
        for one in (None, read_adapter(out))
    )
    changed = {name for name in base if not torch.equal(base[name], adapted[name])}
    assert changed
    assert all(".attn" in name for name in changed)
    assert len(changed) == found.chosen["layers"]


def test_the_held_out_loss_is_that_of_an_independent_computation(trained, folders):
    """The mean over four steps, one in each quarter of the schedule, of what diffusers adds and predicts."""
    from diffusers import DDPMScheduler, UNet2DConditionModel

    store, found, out = trained("text-diffusion")
    folder = folders["text-diffusion"]
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    networks = load_networks(False, folder, "cpu")
    for _, (name, before, after) in found.held_out.iloc[:2].iterrows():
        pixels = torch.from_numpy(store.images([name]).values).permute(0, 3, 1, 2) / 127.5 - 1
        small = torch.nn.functional.interpolate(pixels / 2 + 0.5, (16, 16), mode="bicubic", antialias=True).clamp(0, 1)
        text = torch.from_numpy(store.targets("clip_text_sd", stimuli=[name]).values)
        places = np.random.default_rng(seed_of(0, name)).random(DRAWS)
        for adapter, expected in ((None, before), (read_adapter(out), after)):
            network = unet if adapter is None else load_networks(False, folder, "cpu", adapter=adapter).unet
            losses = []
            with torch.no_grad():
                latents = networks.autoencoder.encode(2 * small - 1).latent_dist.mode() * 0.18215
                for draw in range(DRAWS):
                    step = torch.tensor([int((draw + places[draw]) * 250)])
                    noise = torch.from_numpy(noise_like((4, 8, 8), 0, f"{name} {draw}"))[None]
                    predicted = network(scheduler.add_noise(latents, noise, step), step, text).sample
                    losses.append(float((predicted - noise).square().mean()))
            assert np.mean(losses) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_what_is_predicted_is_what_diffusers_calls_it(prediction):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False)
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 5, 5, generator=generator)
    step = torch.tensor([3, 500, 998])
    noisy, wanted = noised(clean, noise, scheduler.alphas_cumprod[step], prediction)
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, step))
    if prediction == "v_prediction":
        torch.testing.assert_close(wanted, scheduler.get_velocity(clean, noise, step))
    scheduler.set_timesteps(1000)
    # From the right prediction, a sampler finds the clean latents.
    found = torch.cat(
        [scheduler.step(wanted[n : n + 1], step[n], noisy[n : n + 1]).pred_original_sample for n in (0, 1)]
    )
    torch.testing.assert_close(found, clean[:2], rtol=1e-3, atol=1e-3)


def test_only_training_images_take_part(trained):
    store, found, _ = trained("text-diffusion")
    train = set(store.stimuli.loc[store.stimuli["split"] == "train", "id"])
    assert set(found.held_out["stimulus"]) < train
    assert found.chosen["stimuli"] + found.chosen["held_out_stimuli"] == len(train) == 20
    assert found.chosen["held_out_stimuli"] == 5


def test_the_best_epoch_is_kept_and_everything_is_recorded(trained, folders):
    store, found, out = trained("dual-diffusion")
    history = pd.read_csv(out / "dual-diffusion_history.csv")
    assert history["validation_loss"].argmin() == found.chosen["best_epoch"] > 0
    held_out = pd.read_csv(out / "dual-diffusion_held_out.csv")
    assert held_out["before"].mean() == pytest.approx(history["validation_loss"][0], rel=1e-4)
    assert held_out["after"].mean() == pytest.approx(history["validation_loss"].min(), rel=1e-4)
    manifest = json.loads((out / "dual-diffusion.json").read_text())
    adapter = read_adapter(out)
    name = "dual-diffusion_adapter/adapter_model.safetensors"
    assert manifest["files"][name] == adapter.source.sha256
    assert manifest["snapshot"] == store.snapshot
    assert manifest["settings"]["base_sha256"] == list(adapter.base_sha256)
    assert set(adapter.base_sha256) == {NetworkFiles.of(True, folders["dual-diffusion"]).diffusion.sha256}
    assert manifest["settings"]["rank"] == 2
    assert {"network dual-diffusion", "clip_text", "clip_vision"} <= manifest["weights"].keys()
    assert found.chosen["change"] < 0


def test_a_killed_training_continues_with_the_same_bits(trained, folders, tmp_path, monkeypatch):
    store, _, out = trained("dual-diffusion")
    options = {"out": tmp_path / "out", "network": "dual-diffusion", "models": folders["dual-diffusion"], **QUICK}
    whole = module._Training._training_loss
    asked = []

    def killed(self, rows, generator):
        asked.append(rows)
        if len(asked) == 4:  # in the second epoch of two batches
            raise KeyboardInterrupt
        return whole(self, rows, generator)

    monkeypatch.setattr(module._Training, "_training_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        nr.finetune(store, **options)
    asked.clear()
    torch.manual_seed(123)  # the state of the process does not matter
    monkeypatch.setattr(module._Training, "_training_loss", lambda *given: asked.append(1) or whole(*given))
    nr.finetune(store, **options)
    assert len(asked) == 4  # two epochs of two batches
    name = "dual-diffusion_adapter/adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()
    for table in ("history", "held_out"):
        file = f"dual-diffusion_{table}.csv"
        assert (tmp_path / "out" / file).read_bytes() == (out / file).read_bytes()
    asked.clear()
    nr.finetune(store, **options)
    assert not asked  # it is finished
    with pytest.raises(InputError, match="another training run"):
        nr.finetune(store, **{**options, "rank": 3})


def test_early_stop_and_an_adapter_that_changes_nothing(trained, folders, tmp_path):
    store, _, _ = trained("text-diffusion")
    options = {**QUICK, "epochs": 9, "patience": 2, "learning_rate": 1e-30}
    found = nr.finetune(store, out=tmp_path, models=folders["text-diffusion"], **options)
    assert found.chosen["best_epoch"] == 0
    assert found.chosen["epochs"] == 2
    assert "changes nothing" in found.text(store)
    base, same = (
        load_networks(False, folders["text-diffusion"], "cpu", adapter=one).unet.state_dict()
        for one in (None, read_adapter(tmp_path))
    )
    assert all(torch.equal(base[name], same[name]) for name in base)


def test_corruption_gradient_checkpointing_and_half_precision(trained, folders, tmp_path):
    store, _, _ = trained("dual-diffusion")
    options = {"network": "dual-diffusion", "models": str(folders["dual-diffusion"]), **QUICK, "epochs": 1}
    found = {}
    for name, more in (
        ("exact", {"layers": "all", "corrupted": 0.0}),
        ("plain", {"layers": "all"}),
        ("checkpointing", {"layers": "all", "checkpointing": True}),
        ("half", {"layers": "all", "precision": "bf16"}),
    ):
        settings = FinetuneSettings(**options, **more)
        found[name] = compute_finetuning(store, settings, tmp_path / name).history["loss"][1]
    assert found["checkpointing"] == pytest.approx(found["plain"], rel=1e-5)
    assert found["exact"] != found["plain"]
    assert found["half"] != found["plain"]
    assert found["half"] == pytest.approx(found["plain"], rel=0.02)


def test_other_base_weights_are_refused_before_anything_is_decoded(trained, tmp_path):
    store, _, out = trained("text-diffusion")
    system = nr.load_system("takagi", adapter=str(out), device="cpu")
    with pytest.raises(InputError, match="trained on other weights"):
        networks_of(system)
    with pytest.raises(InputError, match="trained on other weights"):
        nr.reconstruct(store, "takagi", options={"adapter": str(out)})
    with pytest.raises(InputError, match="trained on other weights"):
        LatentDiffusion("both", adapter=out, device="cpu").generate(["a"])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"network": "vdvae"}, UnknownNameError),
        ({"layers": "some"}, UnknownNameError),
        ({"precision": "int8"}, UnknownNameError),
        ({"rank": 0}, InputError),
        ({"held_out": 1.0}, InputError),
        ({"learning_rate": 0.0}, InputError),
        ({"text_ratio": 1.5}, InputError),
        ({"models": "/no/such/folder"}, InputError),
    ],
)
def test_bad_settings(plain, tmp_path, wrong, error):
    with pytest.raises(error):
        nr.finetune(nr.open_store(plain), out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_without_peft_one_error_says_how_to_install_it(plain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install"):
        nr.finetune(nr.open_store(plain), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_targets_of_other_networks_are_refused(trained, tmp_path):
    store, _, _ = trained("text-diffusion")
    with pytest.raises(InputError, match="other networks"):
        nr.finetune(store, out=tmp_path / "out", **QUICK)  # the bundled ones
    assert not (tmp_path / "out").exists()
