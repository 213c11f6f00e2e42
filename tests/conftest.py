"""Fixtures of all tests."""

import json
import signal
from pathlib import Path

import pytest

#: Excerpts of public data sets, kept beside the checkout and never committed.
SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


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
