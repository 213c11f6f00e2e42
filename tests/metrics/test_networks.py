"""Metrics on networks: known features, CLIP and the probe on drawn scenes, and what they refuse to judge."""

import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.spatial
import torch

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.hub import BUNDLED
from neurorecon.metrics import Metric, load_metric, networks, similarity_matrix, two_way
from neurorecon.metrics.identification import strict_share
from neurorecon.metrics.networks import ImageNetwork
from neurorecon.models.load import WeightsSource
from neurorecon.models.preprocessing import Preprocessing
from neurorecon.models.probe import Probe
from neurorecon.simulation.drawing.render import render
from neurorecon.simulation.scene import sample_scene
from neurorecon.simulation.training.loop import SEEDS

#: Of the model card: accuracy of the main object on all held-out scenes, 8 categories.
CARD = 0.988


class Corners(ImageNetwork):
    """The colors of two corners: features that can be computed by hand."""

    layers = ("left", "right")

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read_images = 0

    @property
    def source(self):
        return WeightsSource("corners", Path(), "corners", "0" * 64, "none", "none")

    @property
    def preprocessing(self):
        return Preprocessing(8, "bicubic", "squeeze")

    def load(self, device):
        return device

    def read(self, prepared):
        self.read_images += len(prepared)
        values = torch.from_numpy(prepared.copy()).float()
        return {"left": values[:, 0, :2].flatten(1), "right": values[:, 0, -2:].flatten(1)}


def corner_metric():
    return Metric(
        two_way,
        similarity_matrix,
        lambda matrix, order: strict_share(matrix[:, order]),
        network=Corners(),
        layer="left",
    )


def pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(SEEDS["held-out"], index) for index in range(160)]


@pytest.fixture(scope="module")
def drawn(scenes):
    return np.stack([render(scene, size=64, time=0.0) for scene in scenes])


@pytest.fixture(scope="module")
def categories(scenes):
    return np.array([scene.category for scene in scenes])


def test_two_way_compares_features():
    seen, reconstructed = pixels(9), pixels(9, seed=1)
    reconstructed[:, 0, :2] = np.clip(seen[:, 0, :2].astype(int) + 9, 0, 255)  # the rest stays random
    expected = two_way(seen[:, 0, :2].reshape(9, -1), reconstructed[:, 0, :2].reshape(9, -1))
    metric = corner_metric()
    np.testing.assert_array_equal(metric.values(seen, reconstructed), expected)
    assert expected.mean() > two_way(seen, reconstructed).mean()
    order = np.random.default_rng(2).permutation(9)
    null = metric.null(seen, reconstructed, order[None])
    assert null[0] == two_way(seen[order][:, 0, :2].reshape(9, -1), reconstructed[:, 0, :2].reshape(9, -1)).mean()


def test_identical_features_lose_and_constant_ones_are_undefined():
    seen, reconstructed = pixels(6), pixels(6)
    seen[1] = seen[0]
    reconstructed[2, 0, :2] = 7
    values = corner_metric().values(seen, reconstructed)
    assert values[0] == pytest.approx(0.8)
    assert np.isnan(values[2])


def test_similarity_is_the_cosine_of_embeddings(drawn):
    metric, seen = load_metric("clip_similarity"), drawn[:9]
    reconstructed = np.clip(seen[::-1] / 255 + 0.1, 0, 1)
    one, other = metric.features(seen), metric.features(reconstructed)
    expected = [1 - scipy.spatial.distance.cosine(*pair) for pair in zip(one, other, strict=True)]
    np.testing.assert_allclose(metric.values(seen, reconstructed), expected, atol=1e-6)
    np.testing.assert_allclose(metric.values(seen, seen), 1)
    order = np.random.default_rng(0).permutation(9)
    null = metric.null(seen, reconstructed, order[None])
    assert null[0] == pytest.approx(metric.values(seen, reconstructed, order=order).mean())


def test_each_image_is_read_once(monkeypatch):
    metric, seen, reconstructed = corner_metric(), pixels(7), pixels(7, seed=1)
    orders = np.stack([np.random.default_rng(n).permutation(7) for n in range(20)])
    values, null = metric.values(seen, reconstructed), metric.null(seen, reconstructed, orders)
    assert metric.network.read_images == 14
    metric.values(seen, pixels(7, seed=2))
    assert metric.network.read_images == 21
    # With little memory, images are read again and numbers stay.
    monkeypatch.setattr(networks, "KEPT_BYTES", 100)
    forgetful = corner_metric()
    np.testing.assert_array_equal(forgetful.values(seen, reconstructed), values)
    np.testing.assert_array_equal(forgetful.null(seen, reconstructed, orders), null)
    assert len(forgetful.network._kept) < 3


def test_a_layer_that_does_not_exist():
    with pytest.raises(UnknownNameError, match="unknown layer 'middle'"):
        Metric(two_way, network=Corners(), layer="middle")


def test_videos_are_refused():
    with pytest.raises(InputError, match="compare images"):
        corner_metric().values(np.zeros((2, 3, 8, 8, 3)), np.zeros((2, 3, 8, 8, 3)))


def test_clip_is_open_clips(drawn):
    """The embedding by open_clip itself, and the definition, one comparison at a time."""
    import open_clip

    from neurorecon.models.clip import clip_settings

    seen, reconstructed = drawn[:12], np.clip(drawn[:12] / 255 + 0.15, 0, 1)
    settings = clip_settings()
    clip = settings.load()
    transform = open_clip.transform.image_transform(64, is_train=False, mean=settings.mean, std=settings.std)
    from PIL import Image

    def embedded(images):
        tensors = [transform(Image.fromarray(image)) for image in images]
        with torch.inference_mode():
            return clip.encode_image(torch.stack(tensors)).numpy().astype(float)

    one, other = embedded(seen), embedded(np.rint(reconstructed * 255).astype(np.uint8))
    r = np.corrcoef(other, one)[:12, 12:]
    expected = [np.mean([r[i, j] < r[i, i] for j in range(12) if j != i]) for i in range(12)]
    metric = load_metric("two_way_clip")
    np.testing.assert_allclose(metric.values(seen, reconstructed), expected)
    np.testing.assert_allclose(metric.features(seen), one, atol=1e-4)
    assert metric.network.record()["weights"] == "bundled-clip"


def test_the_probe_sees_what_its_card_says(drawn, categories):
    metric = load_metric("probe")
    share = metric.values(drawn, drawn, {"categories": categories}).mean()
    assert abs(share - CARD) < 3 * np.sqrt(CARD * (1 - CARD) / len(drawn))
    # Prepared exactly as in training: pooled features and verdicts are those of the network itself.
    probe = Probe.load(BUNDLED / "probe")
    np.testing.assert_array_equal(metric.network.features(drawn, "category"), probe.answers(drawn).category)
    pooled = load_metric("two_way_probe").features(drawn)
    np.testing.assert_allclose(pooled, probe.features(drawn), atol=1e-5)


@pytest.mark.parametrize("factor", [2, 5])
def test_images_enter_at_any_size_and_type(drawn, categories, factor):
    metric = load_metric("probe")
    large = np.repeat(np.repeat(drawn[:80], factor, axis=1), factor, axis=2) / 255
    small = metric.values(drawn[:80], drawn[:80], {"categories": categories[:80]})
    assert metric.values(large, large.astype(np.float32), {"categories": categories[:80]}).mean() >= small.mean() - 0.05


def test_verdicts_of_other_stimuli_are_at_chance(drawn, categories):
    metric, context = load_metric("probe"), {"categories": categories}
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(len(drawn)) for _ in range(200)])
    null = metric.null(drawn, drawn, orders, context)
    said = metric.network.features(drawn, "category")
    np.testing.assert_allclose(null, [np.mean(said == categories[order]) for order in orders])
    assert null.mean() == pytest.approx(metric.chance, abs=0.02)
    with pytest.raises(InputError, match="needs categories"):
        metric.values(drawn[:2], drawn[:2])


def test_metrics_on_the_same_weights_share_a_network():
    one, other = load_metric("probe"), load_metric("two_way_probe")
    assert one.network is other.network
    assert load_metric("two_way_clip").network is not one.network
    gone = id(one.network), len(networks._OPEN)
    del one, other
    gc.collect()
    assert len(networks._OPEN) < gone[1]


def test_the_probe_refuses_what_is_no_drawn_scene():
    network = load_metric("probe").network
    scenes = pd.DataFrame({"category": ["animal", "tool"]})
    network.check(SimpleNamespace(name="scenes", simulated=True, stimuli=scenes))
    with pytest.raises(InputError, match=r"drawn scenes only[\s\S]*nsd: measured data"):
        network.check(SimpleNamespace(name="nsd", simulated=False, stimuli=scenes))
    photographs = pd.DataFrame({"category": ["zebra", ""]})
    with pytest.raises(InputError, match=r"drawn scenes only[\s\S]*categories '', 'zebra'"):
        network.check(SimpleNamespace(name="nsd", simulated=True, stimuli=photographs))


def test_weights_that_are_not_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("NEURORECON_WEIGHTS", str(tmp_path))
    metric = load_metric("two_way_clip", "published")
    with pytest.raises(InputError, match="neurorecon weights"):
        metric.values(pixels(2), pixels(2))
    assert load_metric("probe", "published").network.record()["weights"] == "bundled-probe"


# -- the judges of the papers' tables ---------------------------------------------------------------------------------

JUDGES = {
    "two_way_alexnet2": ("alexnet", "alexnet", {}, "features", 4),
    "two_way_alexnet5": ("alexnet", "alexnet", {}, "features", 11),
    "two_way_inception": (
        "inception",
        "inception_v3",
        {"init_weights": False, "transform_input": True},
        "avgpool",
        None,
    ),
    "effnet_distance": ("efficientnet", "efficientnet_b1", {}, "avgpool", None),
    "swav_distance": ("swav", "resnet50", {}, "avgpool", None),
}  # fmt: skip


@pytest.fixture(scope="module")
def random_judges(tmp_path_factory):
    """Random weights of each architecture as their authors publish them, and the networks themselves."""
    import torchvision

    root, networks_ = tmp_path_factory.mktemp("judges"), {}
    for role, architecture, options, *_ in JUDGES.values():
        if role in networks_:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = getattr(torchvision.models, architecture)(weights=None, **options).eval()
        (root / role).mkdir()
        state = network.state_dict()
        if role == "swav":  # a checkpoint of distributed training, without the classifier
            state = {"state_dict": {f"module.{name}": value for name, value in state.items() if "fc." not in name}}
        torch.save(state, root / role / ("weights.pth.tar" if role == "swav" else "weights.pth"))
        networks_[role] = network
    return root, networks_


@pytest.mark.parametrize("name", JUDGES)
def test_judges_are_those_of_brain_diffusers_evaluation(name, random_judges, drawn):
    """By a hook in torchvision's network and scipy, one image at a time, as the authors' scripts describe it."""
    from PIL import Image
    from scipy.spatial.distance import correlation
    from torchvision.transforms import functional as transforms

    role, _, _, module, number = JUDGES[name]
    root, networks_ = random_judges
    network, read = networks_[role], []
    place = getattr(network, module) if number is None else getattr(network, module)[number]
    handle = place.register_forward_hook(lambda _module, _inputs, output: read.append(output.numpy().ravel().copy()))

    def features(images):
        for image in images:
            tensor = transforms.to_tensor(transforms.resize(Image.fromarray(image), [224, 224]))
            tensor = transforms.normalize(tensor, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            with torch.inference_mode():
                network(tensor[None])
        found = np.array(read, dtype=np.float64)
        read.clear()
        return found

    seen, reconstructed = drawn[:6], np.roll(drawn[:6], 3, axis=1)
    one, other = features(seen), features(reconstructed)
    handle.remove()
    metric = load_metric(name, root)
    if name.startswith("two_way"):
        r = np.corrcoef(other, one)[:6, 6:]
        expected = [np.mean([r[i, j] < r[i, i] for j in range(6) if j != i]) for i in range(6)]
    else:
        expected = [correlation(*pair) for pair in zip(one, other, strict=True)]
        assert not metric.higher_is_better
    np.testing.assert_allclose(metric.values(seen, reconstructed), expected, atol=1e-5)
    assert metric.network.record()["weights_origin"] == "own"
    # Images that come in another order or batch have the same features.
    again = np.concatenate([metric.features(seen[:1]), metric.features(seen[1:])])
    np.testing.assert_allclose(again.reshape(6, -1), one, atol=1e-4 * np.abs(one).max())


def test_the_bundled_probe_stands_in_for_judges_of_photographs(drawn):
    for name in JUDGES:
        metric = load_metric(name)
        assert metric.network.record()["weights"] == "bundled-probe"
        noisy = np.clip(drawn[:20] / 255 + np.random.default_rng(0).normal(0, 0.02, drawn[:20].shape), 0, 1)
        good, bad = metric.values(drawn[:20], noisy).mean(), metric.values(drawn[:20], noisy[::-1]).mean()
        assert (good > 0.95 > bad) if metric.higher_is_better else (good < 0.2 < bad)


@pytest.mark.parametrize("judge", networks.JUDGES)
def test_identification_on_every_network_in_both_directions(judge, drawn):
    """The names' rule, against the definition on the features themselves."""
    seen, reconstructed = drawn[:7], np.roll(drawn[:7], 5, axis=2)
    layer = load_metric(f"two_way_{judge}")
    r = np.corrcoef(*(layer.features(images).reshape(7, -1) for images in (reconstructed, seen)))[:7, 7:]
    lower = np.array([(np.delete(row, own) < row[own]).sum() for own, row in enumerate(r)])
    turned = np.array([(np.delete(row, own) < row[own]).sum() for own, row in enumerate(r.T)])
    expected = {
        f"two_way_{judge}": lower / 6,
        f"two_way_half_ties_{judge}": lower / 6,
        f"two_way_{judge}_among_reconstructions": turned / 6,
        f"7_way_{judge}": lower == 6,
        f"3_way_{judge}_among_reconstructions": turned * (turned - 1) / 30,
        f"top3_of_7_{judge}": lower >= 4,
    }
    for name, values in expected.items():
        metric = load_metric(name)
        assert metric.network is layer.network
        np.testing.assert_allclose(metric.values(seen, reconstructed), values, atol=1e-12, err_msg=name)


def test_names_of_identification_that_are_none():
    for name in ("two_way_vgg", "50_way_half_ties_clip", "top5_clip", "two_way_among_reconstructions_clip"):
        with pytest.raises(UnknownNameError, match="unknown metric"):
            load_metric(name)


def test_weights_of_another_network_are_refused(random_judges, tmp_path):
    root, _ = random_judges
    (tmp_path / "alexnet").mkdir()
    (tmp_path / "alexnet" / "weights.pth").symlink_to(root / "efficientnet" / "weights.pth")
    with pytest.raises(InputError, match="not those of alexnet"):
        load_metric("two_way_alexnet2", tmp_path).values(pixels(2), pixels(2))
