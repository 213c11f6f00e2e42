"""Metrics of videos: their definitions, spelled out, and networks of the published classes with random weights."""

import itertools
import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.hub import fetch
from neurorecon.metrics import METRICS, load_metric, video
from neurorecon.metrics.video import farneback, n_way_class
from neurorecon.simulation.drawing.render import render
from neurorecon.simulation.scene import sample_scene

NAMES = [name for name, place in METRICS._builtin.items() if place.startswith("neurorecon.metrics.video:")]
ORDERS = np.array([[1, 2, 3, 4, 0], [4, 3, 2, 1, 0], [1, 0, 2, 4, 3]])


@pytest.fixture(scope="module")
def clips():
    """Five drawn videos, and the same with noise, which changes motion, too."""
    times = np.linspace(0, 1, 4)
    scenes = [sample_scene(99, number, "video") for number in range(5)]
    seen = np.stack([np.stack([render(scene, size=64, time=time) for time in times]) for scene in scenes])
    return seen, np.clip(seen / 255 + 0.1 * np.random.default_rng(0).standard_normal(seen.shape), 0, 1)


@pytest.mark.parametrize("name", [*NAMES, "top2_of_4_vifi", "5_way_i_top3_any", "3_way_clip_frames"])
def test_every_metric_tells_right_from_wrong_and_has_the_null_of_its_function(clips, name):
    metric = load_metric(name)
    assert metric.of == "video"
    values = metric.values(*clips)
    assert values.shape == (5,)
    null = metric.null(*clips, ORDERS)
    if name.startswith("retrieval_top"):  # five videos are all among the ten nearest, whatever is taken for which
        assert values.mean() == 1
        assert (null == 1).all()
    elif name != "clip_pcc":  # does not look at the stimulus
        assert (values.mean() > null).all() if metric.higher_is_better else (values.mean() < null).all()
    expected = [metric.values(*clips, order=order).mean() for order in ORDERS]
    np.testing.assert_allclose(null, expected, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_neither_order_nor_batch_nor_type_matters(clips, name):
    seen, reconstructed = clips
    metric, order = load_metric(name), np.array([3, 0, 4, 1, 2])
    whole = metric.values(seen, reconstructed)
    np.testing.assert_allclose(metric.values(seen[order], reconstructed[order]), whole[order], atol=1e-9)
    if not metric.compares:
        alone = [metric.values(*(one[None] for one in pair))[0] for pair in zip(seen, reconstructed, strict=True)]
        np.testing.assert_allclose(alone, whole, atol=1e-6)  # networks: a matrix product of another shape
    as_bytes = np.rint(255 * reconstructed).astype(np.uint8)
    np.testing.assert_allclose(metric.values(seen / 255, as_bytes), metric.values(seen, as_bytes / 255.0), atol=1e-12)


def test_frames_are_compared_as_published(clips):
    seen = clips[0]
    other = np.rint(255 * clips[1]).astype(np.uint8)
    pairs = [list(zip(*pair, strict=True)) for pair in zip(seen, other, strict=True)]
    options = {"data_range": 255, "channel_axis": -1}
    expected = [np.mean([structural_similarity(*pair, **options) for pair in one]) for one in pairs]
    np.testing.assert_allclose(video.ssim_frames(seen, other), expected, atol=1e-9)
    expected = [np.mean([peak_signal_noise_ratio(*pair, data_range=255) for pair in one]) for one in pairs]
    np.testing.assert_allclose(video.psnr_frames(seen, other), expected, atol=1e-9)
    other[0, 2] = seen[0, 2]
    better = video.psnr_frames(seen, other)
    one = np.mean([peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs[0][:2] + pairs[0][3:]])
    assert better[0] == pytest.approx((100 + 3 * one) / 4)  # no error at all counts 100


def test_hues_are_those_of_exchanged_colors(clips):
    seen, other = clips[0], clips[0][::-1]

    def cosine_of(one, two, code):
        a, b = (cv2.cvtColor(frame, code)[..., 0].ravel() / 360 for frame in (one, two))
        return a @ b / np.sqrt((a @ a) * (b @ b))

    for name, code in (("hue_cosine", cv2.COLOR_BGR2HSV), ("hue_cosine_rgb", cv2.COLOR_RGB2HSV)):
        both = zip(seen, other, strict=True)
        expected = [np.mean([cosine_of(*pair, code) for pair in zip(*two, strict=True)]) for two in both]
        np.testing.assert_allclose(load_metric(name).values(seen, other), expected, atol=1e-12)
    gray = np.full((1, 2, 8, 8, 3), 90, dtype=np.uint8)
    assert np.isnan(video.hue_cosine(gray, seen[:1, :2, :8, :8]))[0]


def _moving(step, frames=5):
    """A texture that moves by (y, x) pixels a frame."""
    texture = cv2.GaussianBlur(np.random.default_rng(1).random((160, 160)), (0, 0), 3)
    texture = 255 * (texture - texture.min()) / np.ptp(texture)
    moved = [texture[40 - n * step[0] : 104 - n * step[0], 40 - n * step[1] : 104 - n * step[1]] for n in range(frames)]
    return np.repeat(np.stack(moved).astype(np.uint8)[..., None], 3, axis=-1)


def test_flow_of_a_known_motion():
    flow = farneback(_moving((1, 2)))
    assert flow.shape == (4, 64, 64, 2)
    np.testing.assert_allclose(flow[:, 16:48, 16:48].mean(axis=(0, 1, 2)), (2, 1), atol=0.05)
    right, left, still = _moving((0, 2))[None], _moving((0, -2))[None], _moving((0, 0))[None]
    assert video.epe(right, left)[0] == pytest.approx(4, abs=0.4)
    assert video.epe(right, right)[0] == 0
    assert video.epe(right, still)[0] == pytest.approx(2, abs=0.2)  # its own speed
    assert video.direction_agreement(right, right)[0] == pytest.approx(1, abs=1e-6)
    assert video.direction_agreement(right, _moving((0, 1))[None])[0] > 0.9
    assert video.direction_agreement(right, left)[0] < -0.9
    assert abs(video.direction_agreement(right, _moving((2, 0))[None])[0]) < 0.2
    assert np.isnan(video.direction_agreement(right, still)[0])


def test_end_point_error_is_that_of_the_published_settings(clips):
    seen, other = clips[0], np.rint(255 * clips[1]).astype(np.uint8)
    for name, code in (("epe", cv2.COLOR_BGR2GRAY), ("epe_rgb", cv2.COLOR_RGB2GRAY)):
        expected = []
        for pair in zip(seen, other, strict=True):
            gray = [[cv2.cvtColor(frame, code) for frame in one] for one in pair]
            flows = [
                [cv2.calcOpticalFlowFarneback(*two, None, 0.5, 3, 15, 3, 5, 1.2, 0) for two in itertools.pairwise(one)]
                for one in gray
            ]
            expected.append(np.sqrt(((np.array(flows[0]) - flows[1]) ** 2).sum(axis=-1)).mean())
        np.testing.assert_allclose(load_metric(name).values(seen, other), expected, rtol=1e-6)
    assert not np.allclose(video.epe(seen, other), video.epe(seen, other, "rgb"))


def test_few_flows_at_a_time_give_the_same_pairs(clips, monkeypatch):
    whole = video.epe_matrix(*clips)
    monkeypatch.setattr(video, "_FLOW_BYTES", 1)
    np.testing.assert_array_equal(video.epe_matrix(*clips), whole)


@pytest.mark.parametrize(("n", "top"), [(2, 1), (2, 3), (4, 1), (4, 3)])
def test_n_way_classification_is_the_mean_of_all_draws(n, top):
    rng = np.random.default_rng(0)
    seen, reconstructed = rng.standard_normal((2, 4, 3, 9))  # three frames, nine classes
    expected = np.zeros(4)
    for row, frame in itertools.product(range(4), range(3)):
        right = np.argsort(seen[row, frame])[-top:]
        logits = reconstructed[row, frame]
        draws = list(itertools.combinations([number for number in range(9) if number not in right], n - 1))
        expected[row] += np.mean([logits[right].max() > logits[list(draw)].max() for draw in draws]) / 3
    np.testing.assert_allclose(n_way_class(seen, reconstructed, n, top), expected, atol=1e-12)
    np.testing.assert_allclose(
        n_way_class(seen[:, 0], reconstructed[:, 0], n, top), n_way_class(seen[:, :1], reconstructed[:, :1], n, top)
    )


def test_chance_of_classification():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 4000, 40))
    for name in ("two_way_i_top1", "two_way_i_top3_any", "5_way_v_top1", "5_way_v_top3_any"):
        metric = load_metric(name)
        found = metric.function(*logits)
        assert found.mean() == pytest.approx(metric.chance, abs=4 * found.std() / np.sqrt(4000))
    assert load_metric("two_way_v_top3_any").chance == 0.6 + 0.15
    with pytest.raises(InputError, match="too few classes"):
        n_way_class(*logits, n=39, top=3)
    with pytest.raises(InputError, match="needs two classes"):
        load_metric("1_way_i_top1")
    with pytest.raises(UnknownNameError):
        load_metric("two_way_i_top5_any")


def test_gate_of_clip_pcc(clips, monkeypatch):
    plain, similar = load_metric("clip_pcc").values(*clips), load_metric("vifi_clip").values(*clips)
    metric = load_metric("clip_pcc_gated")
    monkeypatch.setattr(video, "GATE", np.sort(similar)[2])
    np.testing.assert_array_equal(metric.values(*clips), np.where(similar > np.sort(similar)[2], plain, 0))
    assert metric.network.record()["gate"].startswith("bundled-clip ")
    frozen = np.repeat(clips[1][:, :1], 4, axis=1)
    np.testing.assert_allclose(load_metric("clip_pcc").values(clips[0], frozen), 1)


def test_images_and_single_frames_are_refused(clips):
    for name in NAMES:
        with pytest.raises(InputError, match="metrics of videos compare videos"):
            load_metric(name).values(clips[0][:, 0], clips[1][:, 0])
    with pytest.raises(InputError, match="motion needs two frames"):
        video.epe(clips[0][:, :1], clips[1][:, :1])


# -- published networks, with random weights --------------------------------------------------------------------------


def _at(videos, size):
    return np.stack([[cv2.resize(frame, (size, size)) for frame in clip] for clip in videos])


def _transformer(folder, kind, **config):
    torch.manual_seed(0)
    network = kind(kind.config_class(num_labels=12, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                     intermediate_size=24, **config)).eval()  # fmt: skip
    for value in network.parameters():  # far from 0, so that logits differ
        torch.nn.init.normal_(value, std=0.3)
    network.save_pretrained(folder)
    return network


def test_videomae_is_that_of_transformers(clips, tmp_path):
    import transformers

    network = _transformer(tmp_path / "videomae", transformers.VideoMAEForVideoClassification, patch_size=56)
    assert network.config.num_frames == 16
    colors = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}  # those of the published one
    processor = transformers.VideoMAEImageProcessor(**colors)
    large = _at(clips[0], 224)  # so that nothing is resampled, which transformers leaves to torch
    four = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / "videomae", num_frames=4).eval()
    with torch.no_grad():
        expected = [four(**processor(list(clip), return_tensors="pt")).logits[0].numpy() for clip in large]
    metric = load_metric("two_way_v_top3_any", tmp_path)
    np.testing.assert_allclose(metric.features(large), expected, atol=1e-4)
    assert np.std(expected, axis=0).min() > 0.1
    assert metric.values(clips[0], clips[0]).tolist() == [1] * 5
    with pytest.raises(InputError, match=r"videos of 3 frames[\s\S]*a multiple of 2"):
        metric.values(clips[0][:, :3], clips[0][:, :3])


def test_vit_reads_frames(clips, tmp_path):
    import transformers

    network = _transformer(tmp_path / "vit_b16", transformers.ViTForImageClassification, patch_size=56)
    processor = transformers.ViTImageProcessor()
    with torch.no_grad():
        expected = network(**processor(list(_at(clips[0], 224)[0]), return_tensors="pt")).logits.numpy()
    metric = load_metric("two_way_i_top1", tmp_path)
    assert metric.features(clips[0]).shape == (5, 4, 12)
    np.testing.assert_allclose(metric.features(_at(clips[0], 224))[0], expected, atol=1e-4)
    (tmp_path / "vit_b16" / "config.json").write_text(json.dumps({**network.config.to_dict(), "num_hidden_layers": 3}))
    with pytest.raises(InputError, match="do not match their configuration"):
        load_metric("two_way_i_top1", tmp_path, progress=True).network.load("cpu")


def test_vifi_clip_reads_the_image_tower_of_its_checkpoint(clips, tmp_path):
    from open_clip.model import CLIP

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 224, "patch_size": 56, "width": 32, "layers": 2, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1},
        "quick_gelu": True,
    }
    network = CLIP(**config).eval()
    folder = tmp_path / "vifi_clip"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tower = {f"module.image_encoder.{name}": value for name, value in network.visual.state_dict().items()}
    torch.save({"model": {**tower, "module.logit_scale": torch.ones(())}}, folder / "vifi_clip.pth")
    metric = load_metric("vifi_clip", tmp_path)
    large = _at(clips[0], 256)[1, :, 16:240, 16:240]
    values = (large / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    with torch.no_grad():
        frames = network.encode_image(torch.from_numpy(values).permute(0, 3, 1, 2).float())
    found = metric.features(_at(clips[0], 256))
    assert found.shape == (5, 16)
    np.testing.assert_allclose(found[1], frames.mean(dim=0), atol=1e-5)
    save_file({"conv1.weight": torch.ones(3)}, folder / "other.safetensors")
    with pytest.raises(InputError, match="do not match their configuration"):
        load_metric("vifi_clip", tmp_path).network.load("cpu")


def test_raft_is_torchvisions(tmp_path):
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    network = raft_large(weights=None, progress=False).eval()
    (tmp_path / "raft").mkdir()
    torch.save(network.state_dict(), tmp_path / "raft" / "weights.pth")
    metric = load_metric("epe_raft", tmp_path)
    assert metric.network.record()["weights_origin"] == "own"
    clip = np.repeat(np.repeat(_moving((0, 1), 2), 2, axis=1), 2, axis=2)
    with torch.no_grad():
        frames = (torch.from_numpy(frame[None] / 127.5 - 1).permute(0, 3, 1, 2).float() for frame in clip)
        expected = network(*frames)[-1].permute(0, 2, 3, 1)
    np.testing.assert_allclose(metric.network.flow(clip), expected, rtol=1e-3, atol=1e-3)
    small = metric.network.flow(_moving((0, 1), 2))  # 64 pixels, doubled for the network
    assert small.shape == (1, 128, 128, 2)
    assert load_metric("epe_raft").network.record()["model"].startswith("Farneback")


def test_weights_that_have_to_be_fetched_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"by hand[\s\S]*github\.com/muzairkhattak/ViFi-CLIP[\s\S]*weights_only"):
        fetch("vifi-clip-b16")
