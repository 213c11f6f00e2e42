"""Fixtures of all tests."""

import json
import signal
from pathlib import Path

import pytest

#: Excerpts of public data sets, kept beside the checkout and never committed.
SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


#: Files that take a minute or more. They go first, so that no process is left alone with one of them at the end.
LONG = ("test_documentation", "test_tour", "test_planted", "test_nsd", "test_maps", "test_mind_animator", "test_steps",
        "test_diffusion_systems", "test_planted_networks", "test_real_weights", "test_target_blocks")  # fmt: skip


def pytest_collection_modifyitems(items):
    """Put long files first, in the order of the table."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive():
    """Take Ctrl-C as usual even where tests run in the background of a shell, which tells processes to ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data():
    """Folder with excerpts of real data; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data are not beside the checkout: no folder {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def miyawaki_folder(shared_data):
    """Folder with the V1 excerpt of Miyawaki 2008."""
    folder = shared_data / "miyawaki2008_V1"
    if not (folder / "V1_mean_figure.mat").is_file():
        pytest.skip(f"the excerpt of Miyawaki 2008 is not beside the checkout: no file in {folder}")
    return folder


#: Configurations of networks of a few kilobytes, of the classes of the bundled ones.
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 7, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 16, "width": 32, "heads": 2, "layers": 2},
}
TINY_AUTOENCODER = {
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [8, 8, 16],
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 32,
    "mid_block_add_attention": False,
    "scaling_factor": 0.5,
}
TINY_VDVAE = {
    "image_size": 16,
    "width": 8,
    "z_dim": 2,
    "encoder_blocks": "16x1,16d2,8x1,8d2,4x1,4d4,1x1",
    "decoder_blocks": "1x1,4m1,4x1,8m4,8x1,16m8",
    "num_mixtures": 2,
}
TINY_WORDS = ["a", "animal", "building", "car", "face", "here", "one", "person", "red", "tool", "two", "with"]


@pytest.fixture(scope="session")
def random_models(tmp_path_factory):
    """A folder with random networks of a few kilobytes, laid out as bundled ones are: for ``--models PATH``."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    from neurorecon.models.vdvae import VDVAE, VDVAEConfig

    folder = tmp_path_factory.mktemp("models")

    def save(name, network, config):
        (folder / name).mkdir()
        state = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
        save_file(state, folder / name / "model.safetensors")
        (folder / name / "config.json").write_text(json.dumps(config))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save("clip", CLIP(**TINY_CLIP), {**TINY_CLIP, "preprocessing": {"mean": [0.5] * 3, "std": [0.25] * 3}})
        (folder / "clip" / "vocabulary.txt").write_text("\n".join(TINY_WORDS))
        AutoencoderKL(**TINY_AUTOENCODER).save_pretrained(folder / "autoencoder")
        network = VDVAE(VDVAEConfig(**TINY_VDVAE))
        for weight in network.parameters():  # biases begin at zero, and the priors at nothing
            torch.nn.init.normal_(weight, std=0.2)
        save("vdvae", network, TINY_VDVAE)
    return folder


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    """Return a function that writes a small Stable Diffusion, 1.x or 2.x, with random weights, as it is published."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    kept = {}

    def write(version):
        if version in kept:
            return kept[version]
        folder = tmp_path_factory.mktemp(f"stable-diffusion-{version}")
        newer = version == "2.x"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            unet = UNet2DConditionModel(
                sample_size=8,
                block_out_channels=(16, 32),
                layers_per_block=1,
                norm_num_groups=8,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=16,
                attention_head_dim=[2, 4] if newer else 4,
                use_linear_projection=newer,
            )
            autoencoder = AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
                up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
                norm_num_groups=4,
                latent_channels=4,
                sample_size=16,
            )
            encoder = CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=49408, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
                )
            )
        unet.save_pretrained(folder / "unet")
        autoencoder.save_pretrained(folder / "vae")
        encoder.save_pretrained(folder / "text_encoder")
        DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction" if newer else "epsilon",
        ).save_pretrained(folder / "scheduler")
        _write_tokenizer(folder / "tokenizer")
        parts = {
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDIMScheduler"],
        }
        (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}))
        kept[version] = folder
        return folder

    return write


@pytest.fixture(scope="session")
def write_tokenizer():
    """Return a function that writes OpenAI's byte pairs into a folder as transformers keeps them."""
    return _write_tokenizer


def _write_tokenizer(folder):
    """Write OpenAI's byte pairs as transformers keeps them."""
    from open_clip.tokenizer import SimpleTokenizer

    folder.mkdir()
    pairs = SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    names = {special.get(name, name): number for name, number in pairs.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(names))
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs.bpe_ranks)])
    (folder / "merges.txt").write_text(merges + "\n")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    about = {"model_max_length": 77, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer", **ends}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
