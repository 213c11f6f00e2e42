import copy
import json
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel
from diffusers.pipelines.deprecated.versatile_diffusion.pipeline_versatile_diffusion_dual_guided import (
    VersatileDiffusionDualGuidedPipeline,
)

from neurorecon.errors import InputError, MissingFileError
from neurorecon.models.dual_guided import DualGuidedUNet, DualTransformer

TEXT, IMAGE = 24, 16
SHAPE = {
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}


def small_unet(width=TEXT, seed=0, **options):
    torch.manual_seed(seed)
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(sample_size=8, cross_attention_dim=width, **{**blocks, **SHAPE, **options}).eval()


def small_text_unet(width=TEXT, seed=1):
    """Versatile Diffusion's network for writing text, of which only the transformers matter for images."""
    torch.manual_seed(seed)
    return UNetFlatConditionModel(
        in_channels=(12, 1, 1),
        out_channels=(12, 1, 1),
        down_block_types=("CrossAttnDownBlockFlat", "CrossAttnDownBlockFlat", "DownBlockFlat"),
        up_block_types=("UpBlockFlat", "CrossAttnUpBlockFlat", "CrossAttnUpBlockFlat"),
        cross_attention_dim=width,
        **SHAPE,
    ).eval()


def transformers(unet):
    return {place: module for place, module in unet.named_modules() if isinstance(module, Transformer2DModel)}


def with_transformers_of(unet, other):
    """A plain UNet with the ResNets of one and the transformers of the other."""
    mixed = copy.deepcopy(unet)
    for place, module in transformers(other).items():
        parent, name = place.rsplit(".", 1)
        mixed.get_submodule(parent)[int(name)] = copy.deepcopy(module)
    return mixed


def randomize(dual, seed=5):
    """Move the image branch away from the text branch it was copied from."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in dual.image_branch_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return dual.eval()


@pytest.fixture(scope="module")
def text_unet():
    return small_unet()


@pytest.fixture
def dual(text_unet):
    return randomize(DualGuidedUNet.from_text_unet(text_unet, IMAGE))


@pytest.fixture
def batch():
    return make_batch()


def make_batch(samples=4, image_width=IMAGE, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return SimpleNamespace(
        sample=normal(samples, 4, 8, 8),
        timestep=torch.tensor([3, 250, 600, 999])[:samples],
        text=normal(samples, 7, TEXT),
        image=normal(samples, 5, image_width),
    )


def run(dual, batch, ratio=None):
    with torch.no_grad():
        return dual(batch.sample, batch.timestep, batch.text, batch.image, ratio)


def plain(unet, batch, context):
    with torch.no_grad():
        return unet(batch.sample, batch.timestep, context).sample


# What the two ends and the middle are


def test_with_all_on_the_text_it_is_the_text_unet_bit_for_bit(dual, text_unet, batch):
    expected = plain(text_unet, batch, batch.text)
    for ratio in (1, 1.0, torch.tensor(1.0), torch.ones(4), torch.ones(4, dtype=torch.bool)):
        assert torch.equal(run(dual, batch, ratio), expected)


def test_with_all_on_the_image_it_is_the_image_unet_bit_for_bit(dual, text_unet, batch):
    image_unet = with_transformers_of(text_unet, small_unet(IMAGE, seed=9))
    dual.load_image_branch(
        {
            f"{place}.{key}": tensor
            for place, net in transformers(image_unet).items()
            for key, tensor in net.state_dict().items()
        }
    )
    expected = plain(image_unet, batch, batch.image)
    for ratio in (0, 0.0, torch.tensor(0.0), torch.zeros(4), torch.zeros(4, dtype=torch.int64)):
        assert torch.equal(run(dual, batch, ratio), expected)


def test_one_context_alone_decides_who_is_listened_to(dual, batch):
    with torch.no_grad():
        text_only = dual(batch.sample, batch.timestep, text=batch.text)
        image_only = dual(batch.sample, batch.timestep, image=batch.image)
    assert torch.equal(text_only, run(dual, batch, 1.0))
    assert torch.equal(image_only, run(dual, batch, 0.0))
    assert (text_only - image_only).abs().max() > 0.01


def test_both_contexts_are_mixed_as_in_brain_diffuser_by_default(dual, batch):
    assert torch.equal(run(dual, batch), run(dual, batch, 0.4))


@pytest.mark.parametrize("ratio", [0.1, 0.4])
def test_mixtures_agree_with_the_authors_of_diffusers(monkeypatch, batch, ratio):
    """diffusers' own conversion and module, but for the keyword that it refuses."""
    batch = make_batch(image_width=TEXT)
    image_unet, writer = small_unet(), small_text_unet()
    places = transformers(image_unet)
    ours = DualGuidedUNet(
        copy.deepcopy(image_unet), {place: copy.deepcopy(transformers(writer)[place]) for place in places}, "image"
    )

    theirs = image_unet
    VersatileDiffusionDualGuidedPipeline._convert_to_dual_attention(
        SimpleNamespace(image_unet=theirs, text_unet=writer)
    )
    modules = [module for module in theirs.modules() if isinstance(module, DualTransformer2DModel)]
    assert len(modules) == len(places)
    for module in modules:
        module.mix_ratio = ratio
        module.condition_lengths = [batch.text.shape[1], batch.image.shape[1]]
    forward = DualTransformer2DModel.forward
    monkeypatch.setattr(
        DualTransformer2DModel,
        "forward",
        lambda self, *inputs, encoder_attention_mask=None, **options: forward(self, *inputs, **options),
    )

    expected = plain(theirs, batch, torch.cat([batch.text, batch.image], dim=1))
    found = run(ours.eval(), batch, ratio)
    assert (found - expected).abs().max() < 1e-5
    assert (found - run(ours, batch, 1.0)).abs().max() > 1e-3


@pytest.mark.parametrize("ratio", [0.25, torch.tensor([0.0, 1.0, 0.3, 0.8])])
def test_every_transformer_adds_the_weighted_changes_of_its_two(dual, batch, ratio):
    """The formula as the papers have it, from what goes in and out of each plain transformer."""
    seen = {}

    def note(place):
        def hook(module, inputs, output):
            seen[place] = (inputs[0], output[0])

        return hook

    duals = {place: module for place, module in dual.unet.named_modules() if isinstance(module, DualTransformer)}
    for place, module in duals.items():
        module.register_forward_hook(note(place))
    run(dual, batch, ratio)
    assert len(seen) == len(duals) == 7
    r = ratio.view(-1, 1, 1, 1) if isinstance(ratio, torch.Tensor) else ratio
    for place, (x, mixed) in seen.items():
        with torch.no_grad():
            text = duals[place].text(x, batch.text, return_dict=False)[0]
            image = duals[place].image(x, batch.image, return_dict=False)[0]
        assert (mixed - (x + r * (text - x) + (1 - r) * (image - x))).abs().max() < 1e-5


def test_each_sample_has_its_own_ratio(dual, batch):
    ratios = [1.0, 0.0, 0.4, 0.0]
    together = run(dual, batch, torch.tensor(ratios))
    for row, ratio in enumerate(ratios):
        alone = SimpleNamespace(**{name: value[row : row + 1] for name, value in vars(batch).items()})
        assert (together[row : row + 1] - run(dual, alone, ratio)).abs().max() < 1e-5


def test_a_branch_is_computed_for_the_samples_that_listen_to_it_only(dual, batch):
    sizes = {"text": [], "image": []}
    module = dual.unet.mid_block.attentions[0]
    for name, seen in sizes.items():
        getattr(module, name).register_forward_hook(
            lambda module, inputs, output, seen=seen: seen.append(len(inputs[0]))
        )
    for ratio in (1.0, 0.0, torch.ones(4), torch.tensor([1.0, 0.0, 0.4, 0.0]), 0.4):
        run(dual, batch, ratio)
    assert sizes == {"text": [4, 4, 2, 4], "image": [4, 3, 4]}


def test_contexts_that_nobody_listens_to_have_no_influence(dual, batch):
    ratio = torch.tensor([1.0, 0.0, 1.0, 0.0])
    before = run(dual, batch, ratio)
    batch.text[1::2], batch.image[::2] = float("nan"), float("nan")
    assert torch.equal(run(dual, batch, ratio), before)


# Gradients


def gradients_of(dual, batch, ratio):
    dual.zero_grad()
    dual(batch.sample, batch.timestep, batch.text, batch.image, ratio).square().mean().backward()
    return {name: parameter.grad for name, parameter in dual.named_parameters()}


@pytest.mark.parametrize(("ratio", "silent"), [(1.0, ".image."), (torch.ones(4), ".image."), (0.0, ".text.")])
def test_gradients_reach_only_the_branch_that_is_listened_to(dual, batch, ratio, silent):
    for name, gradient in gradients_of(dual, batch, ratio).items():
        assert (gradient is None) == (silent in name), name


def test_gradients_of_a_mixed_batch_are_the_sum_over_its_samples(dual, batch):
    ratios = [1.0, 0.0, 0.4, 0.0]
    together = gradients_of(dual, batch, torch.tensor(ratios))
    total = {name: torch.zeros_like(gradient) for name, gradient in together.items()}
    for row, ratio in enumerate(ratios):
        alone = SimpleNamespace(**{name: value[row : row + 1] for name, value in vars(batch).items()})
        for name, gradient in gradients_of(dual, alone, ratio).items():
            if gradient is not None:
                total[name] += gradient / len(ratios)
    for name, gradient in together.items():
        assert (gradient - total[name]).abs().max() < 1e-5, name


def test_training_the_image_branch_leaves_everything_else_as_it_was(dual, batch):
    before = {name: tensor.clone() for name, tensor in dual.state_dict().items()}
    dual.train_image_branch_only()
    optimizer = torch.optim.SGD(dual.image_branch_parameters(), lr=0.1)
    ratio = torch.tensor([0.0, 0.4, 0.0, 0.4])
    dual(batch.sample, batch.timestep, batch.text, batch.image, ratio).square().mean().backward()
    optimizer.step()
    moved = {name for name, tensor in dual.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(".image." in name for name in moved)
    trainable = {name for name, parameter in dual.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in dual.named_parameters() if ".image." in name}


def test_contexts_latents_and_the_ratio_can_be_optimized_through_the_network(text_unet):
    """MindDiffuser's second stage; gradients against finite differences in double precision."""
    dual = randomize(DualGuidedUNet.from_text_unet(text_unet, IMAGE)).double().requires_grad_(False)
    batch = make_batch(2, dtype=torch.float64)
    ratio = torch.tensor([0.4, 0.7], dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (batch.sample, batch.text, batch.image, ratio)]

    def loss(sample, text, image, ratio):
        return dual(sample, batch.timestep, text, image, ratio).square().mean()

    gradients = torch.autograd.grad(loss(*inputs), inputs)
    for place, gradient in enumerate(gradients):
        direction = torch.randn(gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(place))
        ends = []
        for step in (1e-5, -1e-5):
            moved = [tensor.detach() for tensor in inputs]
            moved[place] = moved[place] + step * direction
            ends.append(loss(*moved))
        assert ((ends[0] - ends[1]) / 2e-5).item() == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(dual, batch):
    ratio = torch.tensor([1.0, 0.0, 0.4, 0.0])
    dual.train()
    expected = gradients_of(dual, batch, ratio)
    dual.unet.enable_gradient_checkpointing()
    for name, gradient in gradients_of(dual, batch, ratio).items():
        assert torch.allclose(gradient, expected[name], atol=1e-7), name


# Precisions, memory layouts, attention processors


def test_double_precision_agrees_with_single(dual, batch):
    single = run(dual, batch, torch.tensor([1.0, 0.0, 0.4, 0.0]))
    double = run(dual.double(), make_batch(dtype=torch.float64), torch.tensor([1.0, 0.0, 0.4, 0.0]))
    assert double.dtype == torch.float64
    assert (single - double).abs().max() < 1e-5


def test_half_precision_stays_half_whatever_the_ratios_precision(dual, batch):
    single = run(dual, batch, 0.4)
    half = make_batch(dtype=torch.bfloat16)
    for ratio in (0.4, torch.full((4,), 0.4), torch.full((4,), 0.4, dtype=torch.float64)):
        found = run(dual.bfloat16(), half, ratio)
        assert found.dtype == torch.bfloat16
        assert (found.float() - single).abs().max() < 0.1 * single.abs().max()


def test_autocast_agrees_with_single_precision(dual, batch):
    ratio = torch.tensor([1.0, 0.0, 0.4, 0.0])
    single = run(dual, batch, ratio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(dual, batch, ratio)
    assert (found.float() - single).abs().max() < 0.1 * single.abs().max()


def test_channels_last_gives_the_same_output(dual, batch):
    ratio = torch.tensor([1.0, 0.0, 0.4, 0.0])
    expected = run(dual, batch, ratio)
    batch.sample = batch.sample.to(memory_format=torch.channels_last)
    found = run(dual.to(memory_format=torch.channels_last), batch, ratio)
    assert (found - expected).abs().max() < 1e-5


def test_attention_processors_are_set_on_both_branches(dual, batch):
    from diffusers.models.attention_processor import AttnProcessor

    expected = run(dual, batch, 0.4)
    seen = []

    class Counted(AttnProcessor):
        def __call__(self, attention, hidden_states, encoder_hidden_states=None, *inputs, **options):
            seen.append(None if encoder_hidden_states is None else encoder_hidden_states.shape[1])
            return super().__call__(attention, hidden_states, encoder_hidden_states, *inputs, **options)

    dual.unet.set_attn_processor(Counted())
    assert (run(dual, batch, 0.4) - expected).abs().max() < 1e-5
    assert (seen.count(None), seen.count(7), seen.count(5)) == (14, 7, 7)


# Where the weights come from


@pytest.mark.parametrize("width", [None, TEXT])
def test_the_image_branch_starts_as_a_copy_of_the_text_branch(text_unet, width):
    dual = DualGuidedUNet.from_text_unet(text_unet, width)
    batch = make_batch(image_width=TEXT)
    assert torch.equal(run(dual, batch, 0.0), plain(text_unet, batch, batch.image))
    text_weights = {id(parameter) for parameter in dual.plain_unet("text").parameters()}
    assert not text_weights & {id(parameter) for parameter in dual.image_branch_parameters()}


def test_with_another_width_only_keys_and_values_of_the_context_are_new(text_unet):
    dual = DualGuidedUNet.from_text_unet(text_unet, IMAGE)
    own = text_unet.state_dict()
    new = {key for key, tensor in dual.image_branch_state_dict().items() if tensor.shape != own[key].shape}
    assert new == {
        key for key in dual.image_branch_state_dict() if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }
    for key, tensor in dual.image_branch_state_dict().items():
        assert key in new or torch.equal(tensor, own[key])
    assert (dual.text_width, dual.image_width) == (TEXT, IMAGE)


@pytest.mark.parametrize("linear", [False, True])
def test_an_image_branch_of_zero_output_leaves_the_features_as_they_are(batch, linear):
    unet = small_unet(use_linear_projection=linear)
    dual = DualGuidedUNet.from_text_unet(unet, IMAGE, zero_output=True).eval()
    before = run(dual, batch, 0.0)
    batch.image = batch.image + 1
    assert torch.equal(run(dual, batch, 0.0), before)
    assert torch.equal(run(dual, batch, 1.0), plain(unet, batch, batch.text))


@pytest.mark.parametrize("share", [False, True])
def test_the_text_unet_stays_usable_and_shares_its_weights_if_asked(batch, share):
    unet = small_unet()
    expected = plain(unet, batch, batch.text)
    dual = DualGuidedUNet.from_text_unet(unet, IMAGE, share=share).eval()
    assert torch.equal(plain(unet, batch, batch.text), expected)
    with torch.no_grad():
        dual.unet.conv_in.weight.mul_(2)
    assert torch.equal(plain(unet, batch, batch.text), expected) != share
    assert torch.equal(run(dual, batch, 1.0), plain(unet, batch, batch.text)) == share


def test_each_branch_comes_back_as_a_plain_unet(dual, batch, tmp_path):
    for branch, ratio, context in (("text", 1.0, batch.text), ("image", 0.0, batch.image)):
        unet = dual.plain_unet(branch)
        assert unet.config.cross_attention_dim == context.shape[-1]
        assert torch.equal(plain(unet, batch, context), run(dual, batch, ratio))
        unet.save_pretrained(tmp_path / branch)
        again = UNet2DConditionModel.from_pretrained(tmp_path / branch)
        assert torch.equal(plain(again, batch, context), run(dual, batch, ratio))


# Files


@pytest.mark.parametrize(("width", "safe"), [(TEXT, False), (IMAGE, True)])
def test_versatile_diffusions_folder_is_read(tmp_path, width, safe):
    """A folder of the published layout, written by diffusers' own classes with random weights."""
    image_unet, writer = small_unet(TEXT, seed=3), small_text_unet(width)
    image_unet.save_pretrained(tmp_path / "image_unet", safe_serialization=safe)
    writer.save_pretrained(tmp_path / "text_unet", safe_serialization=safe)
    dual = DualGuidedUNet.from_published(tmp_path)
    assert not dual.training
    assert (dual.text_width, dual.image_width) == (width, TEXT)
    batch = make_batch(image_width=TEXT)
    batch.text = batch.text[:, :, :width]
    assert torch.equal(run(dual, batch, 0.0), plain(image_unet, batch, batch.image))
    assert torch.equal(run(dual, batch, 1.0), plain(with_transformers_of(image_unet, writer), batch, batch.text))
    dual.requires_grad_(True)
    assert all(gradient is not None for gradient in gradients_of(dual, batch, 0.4).values())


def test_large_networks_in_several_files_and_half_precision_are_read(tmp_path):
    image_unet, writer = small_unet(seed=3).half(), small_text_unet().half()
    image_unet.save_pretrained(tmp_path / "image_unet", max_shard_size="100KB")
    writer.save_pretrained(tmp_path / "text_unet", max_shard_size="100KB")
    assert len(list((tmp_path / "text_unet").glob("*.safetensors"))) > 2
    dual = DualGuidedUNet.from_published(tmp_path)
    batch = make_batch(image_width=TEXT)
    assert {parameter.dtype for parameter in dual.parameters()} == {torch.float32}
    assert torch.equal(run(dual, batch, 0.0), plain(image_unet.float(), batch, batch.image))


def test_a_saved_network_comes_back(dual, batch, tmp_path):
    dual.save(tmp_path)
    again = DualGuidedUNet.load(tmp_path)
    assert not again.training
    assert torch.equal(run(again, batch, 0.4), run(dual, batch, 0.4))
    assert torch.equal(
        plain(UNet2DConditionModel.from_pretrained(tmp_path / "text_unet"), batch, batch.text), run(dual, batch, 1)
    )


def test_the_image_branch_alone_is_written_beside_a_text_unet(dual, text_unet, batch, tmp_path):
    text_unet.save_pretrained(tmp_path / "text_diffusion")
    dual.save(tmp_path / "dual_diffusion", text_unet="../text_diffusion", dtype=torch.float16)
    assert sorted(path.name for path in (tmp_path / "dual_diffusion").iterdir()) == ["config.json", "model.safetensors"]
    branch = sum(parameter.numel() for parameter in dual.image_branch_parameters())
    assert branch * 2 < (tmp_path / "dual_diffusion" / "model.safetensors").stat().st_size < branch * 2 + 30_000

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("text_diffusion", "dual_diffusion"):
        (tmp_path / name).rename(moved / name)
    again = DualGuidedUNet.load(moved / "dual_diffusion")
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    assert torch.equal(run(again, batch, 1.0), run(dual, batch, 1.0))
    assert (run(again, batch, 0.0) - run(dual, batch, 0.0)).abs().max() < 5e-3


def test_a_text_unet_in_memory_is_shared(dual, text_unet, batch, tmp_path):
    dual.save(tmp_path, text_unet="../not-there")
    again = DualGuidedUNet.load(tmp_path, text_unet)
    assert again.unet.conv_in.weight is text_unet.conv_in.weight
    assert torch.equal(run(again, batch, 0.4), run(dual, batch, 0.4))
    with pytest.raises(MissingFileError, match="not-there"):
        DualGuidedUNet.load(tmp_path)


def test_the_image_branch_travels_as_tensors(dual, text_unet, batch):
    state = dual.image_branch_state_dict()
    assert state.keys() == {
        f"{place}.{key}" for place, net in transformers(text_unet).items() for key in net.state_dict()
    }
    other = DualGuidedUNet.from_text_unet(text_unet, IMAGE).eval()
    other.load_image_branch(state)
    assert torch.equal(run(other, batch, 0.4), run(dual, batch, 0.4))


# Mistakes


def test_missing_contexts_are_named(dual, batch):
    with pytest.raises(InputError, match="needs a context"):
        dual(batch.sample, batch.timestep)
    with pytest.raises(InputError, match="text_ratio requires the image context"):
        dual(batch.sample, batch.timestep, text=batch.text, text_ratio=0.4)
    with pytest.raises(InputError, match="text_ratio requires the text context"):
        dual(batch.sample, batch.timestep, image=batch.image, text_ratio=torch.tensor([0.0, 0.0, 0.0, 0.1]))


@pytest.mark.parametrize(("name", "width"), [("text", TEXT), ("image", IMAGE)])
def test_wrong_shapes_of_contexts_are_refused(dual, batch, name, width):
    for shape in ((4, 7, 20), (4, width), (2, 7, width)):
        setattr(batch, name, torch.zeros(shape))
        with pytest.raises(InputError, match=rf"the {name} context has the wrong shape(.|\n)*\(4, token, {width}\)"):
            run(dual, batch)


@pytest.mark.parametrize("ratio", [-0.1, 1.5, float("nan"), torch.tensor([0.0, 0.5, 1.1, 1.0])])
def test_ratios_outside_zero_to_one_are_refused(dual, batch, ratio):
    with pytest.raises(InputError, match="text_ratio is out of range"):
        run(dual, batch, ratio)


def test_a_ratio_for_another_number_of_samples_is_refused(dual, batch):
    with pytest.raises(InputError, match=r"text_ratio has the wrong shape(.|\n)*\(4,\)"):
        run(dual, batch, torch.tensor([0.0, 1.0]))


def test_masks_are_refused(dual, batch):
    module = dual.unet.mid_block.attentions[0]
    with pytest.raises(InputError, match="does not support attention masks"):
        module(torch.zeros(1, 32, 2, 2), None, encoder_attention_mask=torch.ones(1, 7))


def test_unets_that_cannot_be_dual_are_refused(text_unet, dual):
    without = small_unet(down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3, mid_block_type=None)
    projected = small_unet(encoder_hid_dim=10, encoder_hid_dim_type="text_proj")
    for unet in (without, projected, dual.unet):
        with pytest.raises(InputError, match="does not read its condition in plain transformers only"):
            DualGuidedUNet.from_text_unet(unet)
    with pytest.raises(InputError, match="not a UNet2DConditionModel"):
        DualGuidedUNet.from_text_unet(small_text_unet())
    with pytest.raises(InputError, match="transformers of the two UNets do not match"):
        DualGuidedUNet(small_unet(), {})
    with pytest.raises(InputError, match="different widths"):
        DualGuidedUNet.from_text_unet(small_unet((TEXT, 32, TEXT)))


def test_weights_that_do_not_fit_are_refused(dual):
    state = dual.image_branch_state_dict()
    first = next(iter(state))
    with pytest.raises(InputError, match=f"1 tensors missing; the first is {first}"):
        dual.load_image_branch({key: tensor for key, tensor in state.items() if key != first})
    with pytest.raises(InputError, match="1 tensors unknown; the first is conv_in"):
        dual.load_image_branch({**state, "conv_in.bias": torch.zeros(16)})
    with pytest.raises(InputError, match=f"1 tensors of another shape; the first is {first}"):
        dual.load_image_branch({**state, first: torch.zeros(3)})


def test_folders_that_hold_something_else_are_refused(text_unet, tmp_path):
    with pytest.raises(MissingFileError, match="contains no network"):
        DualGuidedUNet.from_published(tmp_path)
    text_unet.save_pretrained(tmp_path / "image_unet")
    with pytest.raises(MissingFileError, match="text_unet"):
        DualGuidedUNet.from_published(tmp_path)
    with pytest.raises(InputError, match="does not contain a dual-guided UNet"):
        DualGuidedUNet.load(tmp_path / "image_unet")
    (tmp_path / "text_unet").mkdir()
    (tmp_path / "text_unet" / "config.json").write_text(json.dumps({"cross_attention_dim": 24}))
    with pytest.raises(MissingFileError, match="no weights"):
        DualGuidedUNet.from_published(tmp_path)


def test_an_adapted_text_is_the_text_mapped_before_and_is_kept_with_the_weights(dual, batch, tmp_path):
    weight = torch.randn(TEXT, TEXT, generator=torch.Generator().manual_seed(5))
    adapted = copy.deepcopy(dual)
    adapted.adapt_text(weight)
    mapped = copy.copy(batch)
    mapped.text = batch.text @ weight.T
    torch.testing.assert_close(run(adapted, batch, 0.4), run(dual, mapped, 0.4))
    adapted.save(tmp_path)
    read = DualGuidedUNet.load(tmp_path)
    torch.testing.assert_close(read.text_adapter.weight, weight)
    torch.testing.assert_close(run(read, batch, 1.0), run(dual, mapped, 1.0))
    torch.testing.assert_close(run(adapted, batch, 0.0), run(dual, batch, 0.0))


def test_a_map_of_texts_of_another_width_is_refused(dual):
    with pytest.raises(InputError, match="does not match the text transformers"):
        dual.adapt_text(torch.zeros(TEXT, IMAGE))
