"""The first groups run apart from the rest of the network."""

import torch

from neurorecon.models.training.first_groups import first_groups, seen


def test_blocks_of_the_encoder_below_a_side_can_be_run_again(shipped, pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        whole = shipped.activations(images)
        again = seen(shipped, {16: whole[16], 8: whole[8]}, 8)
    assert sorted(again) == [1, 8, 16]
    for side, found in again.items():
        torch.testing.assert_close(found, whole[side])


def test_the_gist_alone_says_nothing_finer(shipped, pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    half = torch.arange(24) % 2 == 0
    with torch.no_grad():
        activations = shipped.activations(images)
        found = first_groups(shipped, activations, side=8, gist=half, temperature=0.0)
        everything = first_groups(shipped, activations, side=8, temperature=0.0)
        latents = shipped.encode(images, groups=1)

        def choose(group, block, x, prior):
            return latents[0] if group == 0 else prior.mean

        alone = shipped.decoder.run(24, choose, 2)[8][:, :12]
        others = {8: activations[8][~half], 1: activations[1][~half]}
        told = first_groups(shipped, others, side=8, temperature=0.0)
    torch.testing.assert_close(found.state[half], alone[half])
    torch.testing.assert_close(found.state[~half], everything.state[~half])
    torch.testing.assert_close(found.rates[1], told.rates[1] / 2)
    torch.testing.assert_close(found.rates[0], everything.rates[0])
