"""What the first groups of a VDVAE are taught from."""

import torch

from neurorecon.models.training.taught import Taught


def test_what_is_taught_is_what_the_finer_groups_read(shipped, pixels):
    taught = Taught.make(shipped, pixels, "cpu", side=8, batch=7)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    latents = shipped.encode(images)
    with torch.no_grad():
        states = shipped.decoder.run(24, lambda group, block, x, prior: latents[group], 2)[8]
    torch.testing.assert_close(taught.states.float(), states[:, :12], rtol=1e-2, atol=1e-2)
    assert taught.spread.shape == (12, 1, 1)
    assert bool((taught.spread > 0).all())
    assert sorted(taught.activations) == [1, 8]
