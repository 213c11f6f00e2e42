"""Systems that generate with current networks: their image prompts are decoded in place of the published conditions."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import neurorecon as nr
from neurorecon.cli.main import app
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.generators.base import load_generator
from neurorecon.systems.generation import networks_of
from neurorecon.testing import system_checks
from tests.prompted_networks import WIDTH, write_prompted_networks

#: Generators, and the targets that are decoded for them.
PROMPTS = {
    "sd15-ip-adapter": ["ip_adapter_sd15", "clip_text_sd"],
    "sdxl-ip-adapter": ["ip_adapter"],
    "kandinsky-2.2": ["kandinsky_image"],
    "sdxl-unclip": ["clip_bigg"],
}
ENCODERS = (
    "h94/IP-Adapter/sdxl_models/image_encoder",
    "h94/IP-Adapter/models/image_encoder",
    "kandinsky-2-2-prior/image_encoder",
)
FIRST = {"brain-diffuser": "vdvae", "takagi": "vqvae", "mind-diffuser": "vqvae", "gru-two-stage": "vdvae"}


@pytest.fixture(scope="module")
def models(tmp_path_factory, random_models, write_tokenizer):
    """A folder with small random networks of the first stages, the image prompts, and the generators."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    root = tmp_path_factory.mktemp("all") / "models"
    shutil.copytree(random_models, root)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_prompted_networks(root, write_tokenizer)
        config = CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=224,
            patch_size=14,
            projection_dim=WIDTH,
        )
        encoder = CLIPVisionModelWithProjection(config)
    for place in ENCODERS:
        encoder.save_pretrained(root / place)
    shutil.copytree(root / "sd-v1-5" / "text_encoder", root / "text-encoder" / "text_encoder")
    shutil.copytree(root / "sd-v1-5" / "tokenizer", root / "text-encoder" / "tokenizer")
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory, models):
    """A small store, with the targets of all these generators."""
    options = {"subjects": 1, "voxels": 200, "train_images": 40, "test_images": 8, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="prompts", reader="scenes", targets=[], options=options)
    found = nr.build(recipe, tmp_path_factory.mktemp("prompts") / "s.icechunk", progress=False)
    targets = ["vdvae", "vqvae", *(name for names in PROMPTS.values() for name in names)]
    return nr.extract(found, targets, models=models, progress=False)


def system_of(name, generator, models, **more):
    return nr.load_system(name, models=models, generator=generator, steps=2, strength=0.6, device="cpu", **more)


@pytest.mark.parametrize("generator", PROMPTS)
def test_images_are_those_of_the_generator_from_what_was_decoded(store, models, generator):
    system = system_of("brain-diffuser", generator, models).fit(store, "subj01")
    responses = store.responses("subj01", task="images", split="test", average="stimulus")[:3]
    decoded = system.decode(responses)
    assert list(decoded) == ["vdvae", *PROMPTS[generator]]
    names = dict(zip(("image", "text"), PROMPTS[generator], strict=False))
    given = {condition: decoded[name].values for condition, name in names.items()}
    given["init"] = system.stages(decoded, seed=4)["vdvae"].values
    alone = load_generator(generator, models=models, steps=2, strength=0.6, device="cpu")  # with its own guidance
    expected = alone.generate(decoded.stimuli.tolist(), given, seed=4)
    images = system.generate(decoded, seed=4)
    np.testing.assert_array_equal(images.values, expected)
    for name in ("vdvae", PROMPTS[generator][0]):  # each of them matters
        assert np.abs(system.generate(decoded.drop(name), seed=4).values - images.values).max() > 0.01
    assert {"vdvae", alone.role, alone.prompt_role} == networks_of(system).keys()


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_contract(store, models, check):
    check(system_of("takagi", "sd15-ip-adapter", models), store)


@pytest.mark.parametrize("name", FIRST)
def test_every_image_system_decodes_the_prompt_from_where_it_decoded_the_conditions(store, models, name):
    system = system_of(name, "sd15-ip-adapter", models)
    rois = {key: spec.roi for key, spec in system.targets.items()}
    assert list(rois) == [FIRST[name], *PROMPTS["sd15-ip-adapter"]]
    usual = {key: spec.roi for key, spec in nr.load_system(name).targets.items() if key != FIRST[name]}
    assert {rois[key] for key in PROMPTS["sd15-ip-adapter"]} == set(usual.values())
    chosen = {key: spec.decoder.alpha_per for key, spec in system.targets.items() if key != FIRST[name]}
    assert chosen == {"ip_adapter_sd15": "target", "clip_text_sd": "token"}


def test_best_of_keeps_the_images_whose_embedding_is_closest_to_the_decoded_one(store, models):
    responses = store.responses("subj01", task="images", split="test", average="stimulus")[:6]
    system = system_of("brain-diffuser", "kandinsky-2.2", models, scheduler="DDIMScheduler").fit(store, "subj01")
    decoded = system.decode(responses)
    one = system.agreement(system.generate(decoded).values, decoded)
    best = system.agreement(system.set_params(best_of=3).generate(decoded).values, decoded)
    assert (best >= one).all()
    assert (best > one).any()


def test_a_refinement_generates_with_it_too(store, models):
    options = {"generator": "sd15-ip-adapter", "steps": 2}
    system = nr.load_system("refined", options=options, models=models, best_of=2, average=2, device="cpu")
    system.fit(store, "subj01")
    responses = store.responses("subj01", task="images", split="test", average="stimulus")[:2]
    assert system.generate(system.decode(responses)).shape == (2, 16, 16, 3)


def test_what_does_not_go_together_is_one_clear_error(models):
    with pytest.raises(UnknownNameError, match="did you mean 'sdxl-ip-adapter'"):
        system_of("brain-diffuser", "sdxl-ip-adaptor", models).targets  # noqa: B018
    with pytest.raises(InputError, match=r"one of: .*sdxl-unclip"):
        system_of("brain-diffuser", "vdvae", models).targets  # noqa: B018
    with pytest.raises(InputError, match="no other generator for videos"):
        system_of("mind-animator", "sdxl-ip-adapter", models).targets  # noqa: B018
    with pytest.raises(InputError, match=r"text_ratio=0.2, preset='released'"):
        system_of("brain-diffuser", "sdxl-ip-adapter", models, text_ratio=0.2, preset="released").targets  # noqa: B018
    with pytest.raises(InputError, match="guidance_by='category'"):
        system_of("gru-two-stage", "sdxl-ip-adapter", models, guidance_by="category").targets  # noqa: B018


@pytest.mark.parametrize(
    "command",
    [
        ["reconstruct", "--stimuli", "4", "--permutations", "20"],
        ["shuffle", "--stimuli", "4", "--permutations", "2", "--target", "ip_adapter"],
        ["audit", "--stimuli", "4", "--permutations", "20"],
        ["ablate", "--vary", "targets"],
    ],
    ids=lambda command: command[0],
)
def test_from_the_shell(store, models, tmp_path, command):
    """What analyzes a system takes one with another generator, whose images are not of the size of the stimuli."""
    asked = ["--store", str(store.location), "--subject", "subj01", "--system", "brain-diffuser", "--metric", "pixcorr",
             "--models", str(models), "--set", "generator=sdxl-ip-adapter", "--set", "steps=2", "--device", "cpu",
             "--no-figures", "--out", str(tmp_path / "out"), "--json"]  # fmt: skip
    found = CliRunner().invoke(app, [*command, *asked])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)
    written = [path.read_text() for path in (tmp_path / "out").rglob("*.json")]
    assert any("sdxl-ip-adapter" in text for text in written)
