"""What the training of the diffusion networks hands out is what it trained."""

import torch

from neurorecon.simulation.training.diffusion import _SLOW, CONFIG, Denoiser, _more_of, _steps

SMALL = {**CONFIG, "block_out_channels": [16, 16, 32], "cross_attention_dim": 16, "attention_head_dim": 2}


def _given():
    generator = torch.Generator().manual_seed(0)
    shapes = (4, 6, 16, 16), (4, 15, 16), (4, 9, 16)
    noisy, text, image = (torch.randn(shape, generator=generator) for shape in shapes)
    return noisy, torch.tensor([10, 300, 600, 990]), text, 0.08 * image, torch.tensor([1.0, 0.0, 0.4, 0.0])


def test_the_published_network_reads_contexts_as_they_are():
    denoiser = Denoiser(SMALL, patch_width=8).eval()
    with torch.no_grad():
        velocity, _ = denoiser(*_given())
        torch.testing.assert_close(denoiser.published()(*_given()), velocity, rtol=1e-4, atol=1e-5)


def test_a_training_goes_on_from_published_weights():
    before, after = Denoiser(SMALL, patch_width=8).eval(), Denoiser(SMALL, patch_width=8).eval()
    with torch.no_grad():
        for parameter in before.dual.parameters():
            parameter.add_(0.01 * torch.ones_like(parameter))
        published = before.published()
        published.adapt_text(torch.eye(16))
        after.go_on_from(published)
        torch.testing.assert_close(after(*_given())[0], before(*_given())[0], rtol=1e-4, atol=1e-5)


def test_most_steps_are_drawn_where_outlines_are_decided():
    generator = torch.Generator().manual_seed(0)
    steps = torch.cat([_steps(32, 1000, generator) for _ in range(300)])
    shares = torch.histc(steps.float(), 5, 0, 1000) / len(steps)
    assert shares.argmax() == 3
    assert float(shares.min()) > 0.03
    assert int(steps.max()) > 990 > 10 > int(steps.min())


def test_what_is_learned_slowly_is_drawn_more_often():
    generator = torch.Generator().manual_seed(0)
    rows, slow = torch.arange(100).repeat(40), torch.tensor([200, 300])
    drawn = _more_of(slow, rows, generator)
    kept = drawn == rows
    assert set(drawn[~kept].tolist()) == {200, 300}
    assert abs(float((~kept).float().mean()) - _SLOW) < 0.03
