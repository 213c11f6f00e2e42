"""A system of another package: ridge regression to the latents of an autoencoder, then its decoder."""

import torch

from neurorecon import RidgeDecoder, System, TargetSpec
from neurorecon.models.load import autoencoder_settings
from neurorecon.systems.base import as_images


class LatentRidge(System):
    name = "latent-ridge"

    def __init__(self, alpha=1000.0, models="bundled"):
        self.alpha = alpha
        self.models = models

    @property
    def targets(self):
        return {"vqvae": TargetSpec("vqvae", RidgeDecoder(self.alpha), required=True)}

    def generate(self, decoded, *, seed=0):
        latents = torch.from_numpy(decoded["vqvae"].values) / decoded["vqvae"].attrs["scaling_factor"]
        with torch.inference_mode():
            pixels = autoencoder_settings(self.models).load("cpu").decode(latents).sample
        return as_images(pixels.permute(0, 2, 3, 1).numpy() / 2 + 0.5, decoded.stimuli)
