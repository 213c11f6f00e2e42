"""What the first groups of a VDVAE are taught from."""

import torch

from neurorecon.models.training.taught import Taught


def test_components_are_as_many_as_values_at_the_top(shipped, pixels):
    taught = Taught.make(shipped, pixels, "cpu", side=8)
    components = taught.components()
    assert components.shape == (24, 4)
    torch.testing.assert_close(components.T.cov(), torch.eye(4), atol=1e-4, rtol=0)
