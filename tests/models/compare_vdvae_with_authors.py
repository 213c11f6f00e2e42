"""Compare the VDVAE with the authors' public code, on the same weights, images and noise.

    git clone https://github.com/openai/vdvae
    python tests/models/compare_vdvae_with_authors.py vdvae                 # prints the largest differences
    python tests/models/compare_vdvae_with_authors.py vdvae --write         # and freezes what the authors' code gives

The full imagenet64 network needs 2 GB of memory and two minutes of one core. Of the authors' code only `vae.py` and
`vae_helpers.py` are imported. Their functions that draw random numbers are given ours, so that both see the same ones.
"""

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_vdvae import (
    CONFIGS,
    COUNTS,
    FIRST_GROUPS,
    REFERENCE,
    Noise,
    listing,
    outcome,
    random_images,
    seeded_model,
    summarize,
)


def authors_model(vae, config, weights):
    """Build the authors' network with the weights of ours."""
    hyperparameters = SimpleNamespace(
        image_size=config.image_size,
        image_channels=3,
        width=config.width,
        zdim=config.z_dim,
        bottleneck_multiple=config.bottleneck_multiple,
        enc_blocks=config.encoder_blocks,
        dec_blocks=config.decoder_blocks,
        custom_width_str=config.custom_widths,
        no_bias_above=config.no_bias_above,
        num_mixtures=config.num_mixtures,
        dataset="imagenet64",
    )
    model = vae.VAE(hyperparameters)
    model.load_state_dict(weights)
    return model.eval()


def authors_outcome(vae, helpers, model, config, images, first_groups):
    """Return the same quantities as `outcome` of the tests, from the authors' code."""

    def draw(mean, log_scale, noise):
        return mean + torch.exp(log_scale) * noise(mean.shape)

    def with_noise(noise):
        vae.draw_gaussian_diag_samples = lambda mean, log_scale: draw(mean, log_scale, noise)

    def channels_first(x):
        return x.permute(0, 3, 1, 2)

    x = images.permute(0, 2, 3, 1).float()
    # data.py: shift and scale of the inputs, and of the values whose likelihood is taken
    inputs, target = (x - config.input_mean) / config.input_std, (x - 127.5) / 127.5

    with_noise(torch.zeros)
    latents = [block["z"] for block in model.forward_get_latents(inputs)]
    result = {f"latents {group}": value for group, value in enumerate(latents)}

    state = model.decoder.forward_manual_latents(len(images), latents)
    result["mean from all groups"] = mean_of_authors_samples(helpers, model, state)
    result["mode from all groups"] = channels_first(authors_sample(helpers, model, model.decoder.out_net(state)))
    with np.errstate(divide="ignore"):  # the logarithm of the temperature 0
        state = model.decoder.forward_manual_latents(len(images), latents[:first_groups], t=0.0)
    result["mean from first groups"] = mean_of_authors_samples(helpers, model, state)
    with_noise(Noise())
    state = model.decoder.forward_manual_latents(len(images), latents[:first_groups], t=0.7)
    result["mean from first groups, rest at .7"] = mean_of_authors_samples(helpers, model, state)
    with_noise(Noise())
    result["mean from no group"] = mean_of_authors_samples(helpers, model, model.decoder.forward_uncond(len(images)))

    with_noise(Noise())
    blocks = model.forward_get_latents(inputs)
    result["sampled latents"] = torch.cat([block["z"].flatten(1) for block in blocks], dim=1)
    bits = 1 / math.log(2)
    rates = [block["kl"].sum((1, 2, 3)).mean() / x[0].numel() * bits for block in blocks]
    with_noise(Noise())
    loss = model(inputs, target)
    return result | {
        "elbo": loss["elbo"] * bits,
        "distortion": loss["distortion"] * bits,
        "rate by group": torch.stack(rates),
    }


def authors_sample(helpers, model, parameters):
    """Sample with the authors' code, all of its uniform numbers being 1/2; (image, y, x, rgb) in 0..1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "uniform_", lambda tensor, *_: tensor.fill_(0.5))
        return (helpers.sample_from_discretized_mix_logistic(parameters, model.H.num_mixtures) + 1) / 2


def mean_of_authors_samples(helpers, model, state):
    """Weigh what the authors' code gives for each component of the mixture; (image, rgb, y, x)."""
    parameters = model.decoder.out_net(state)
    mixtures = model.H.num_mixtures
    weights = parameters[..., :mixtures].softmax(-1)
    mean = 0
    for component in range(mixtures):
        certain = parameters.clone()
        certain[..., :mixtures] = 1e4 * torch.nn.functional.one_hot(torch.tensor(component), mixtures)
        mean = mean + weights[..., component, None] * authors_sample(helpers, model, certain)
    return mean.permute(0, 3, 1, 2)


def compare(name, vae, helpers):
    """Print the largest differences; return the summary of the authors' outcome."""
    config = CONFIGS[name]
    images, first_groups = random_images(config.image_size, COUNTS[name]), FIRST_GROUPS[name]
    ours = seeded_model(config)
    theirs = authors_model(vae, config, ours.state_dict())
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        found = outcome(ours, images, first_groups, patch)
        expected = authors_outcome(vae, helpers, theirs, config, images, first_groups)
    parameters = sum(weight.numel() for weight in ours.parameters())
    print(f"\n{name}: {parameters:,} parameters, {len(ours.group_shapes)} groups")
    print(f"{'':36} {'largest difference':>20} {'standard deviation':>20} {'range':>24}")
    assert found.keys() == expected.keys()
    latents = [key for key in found if key.startswith("latents ")]
    rows = {"latents of all groups": latents} | {key: [key] for key in found if key not in latents}
    for row, keys in rows.items():
        a, b = (torch.cat([part[key].flatten() for key in keys]) for part in (found, expected))
        assert a.isfinite().all()
        difference, spread = (a - b).abs().max().item(), b.std(unbiased=False).item()
        print(f"{row:36} {difference:20.1e} {spread:20.4f} {b.min().item():12.4f} {b.max().item():11.4f}")
    weights = theirs.state_dict()
    return {
        "weights": len(weights),
        "listing_sha256": hashlib.sha256(listing(weights).encode()).hexdigest(),
        "outcome": {key: summarize(value) for key, value in expected.items()},
    }


def one_line_per_entry(reference):
    """Return JSON in which what belongs together stands in one line."""
    configs = []
    for name, parts in reference.items():
        rounded = {key: [float(f"{value:.8g}") for value in values] for key, values in parts["outcome"].items()}
        outcome = ",\n".join(f"  {json.dumps(key)}: {json.dumps(values)}" for key, values in rounded.items())
        rest = "".join(f" {json.dumps(key)}: {json.dumps(parts[key])},\n" for key in parts if key != "outcome")
        configs.append(f'{json.dumps(name)}: {{\n{rest} "outcome": {{\n{outcome}\n }}\n}}')
    return "{\n" + ",\n".join(configs) + "\n}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder with the authors' vae.py")
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--write", action="store_true", help=f"write {REFERENCE.name}")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.checkout))
    import vae
    import vae_helpers

    reference = {name: compare(name, vae, vae_helpers) for name in arguments.configs}
    if arguments.write:
        REFERENCE.write_text(one_line_per_entry(reference) + "\n")


if __name__ == "__main__":
    main()
