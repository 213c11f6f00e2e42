"""LPIPS and the Frechet distance against torchmetrics, with the same random weights on both sides, and scipy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchmetrics.image.fid import FrechetInceptionDistance

from neurorecon.errors import FewStimuliWarning
from neurorecon.metrics import load_metric
from neurorecon.metrics.networks import ImageNetwork, InceptionV3
from neurorecon.models.load import WeightsSource
from neurorecon.models.preprocessing import Preprocessing


def images(n, side=64, seed=0):
    """Smooth random images and noisy ones."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 8, 8, 3)).repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    noisy = np.clip(coarse + rng.normal(0, 40, coarse.shape), 0, 255)
    return coarse.astype(np.uint8), noisy.astype(np.uint8)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """A folder with random weights of AlexNet, and the network."""
    import torchvision

    root = tmp_path_factory.mktemp("lpips")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = torchvision.models.alexnet(weights=None).eval()
    (root / "alexnet").mkdir()
    torch.save(network.state_dict(), root / "alexnet" / "alexnet.pth")
    return root, network


def test_lpips_is_torchmetrics(alexnet):
    root, network = alexnet
    expected = _NoTrainLpips(net="alex", pnet_rand=True)  # with its trained heads, and a backbone to be filled
    slices = [expected.net.slice1, expected.net.slice2, expected.net.slice3, expected.net.slice4, expected.net.slice5]
    for part in slices:
        for number, layer in part.named_children():
            layer.load_state_dict(network.features[int(number)].state_dict())
    seen, reconstructed = images(5, 224)
    tensors = [torch.from_numpy(one.copy()).permute(0, 3, 1, 2).float() / 255 for one in (seen, reconstructed)]
    with torch.inference_mode():
        values = expected(*tensors, normalize=True).flatten().numpy()
        crossed = expected(tensors[0][[1, 2, 3, 4, 0]], tensors[1], normalize=True).flatten().numpy()
    metric = load_metric("lpips", root)
    np.testing.assert_allclose(metric.values(seen, reconstructed), values, atol=1e-6)
    order = np.array([1, 2, 3, 4, 0])
    np.testing.assert_allclose(metric.values(seen, reconstructed, order=order), crossed, atol=1e-6)
    np.testing.assert_allclose(metric.null(seen, reconstructed, order[None]), crossed.mean(), atol=1e-6)
    np.testing.assert_array_equal(metric.values(seen, seen), 0)
    record = metric.network.record()
    assert record["weights_origin"] == "own"
    assert record["heads"].startswith("LPIPS 0.1, AlexNet, from torchmetrics 1")
    # In other batches, in another order and as floats.
    turned = metric.values(seen[::-1].astype(np.float32) / 255, reconstructed[::-1] / 255)[::-1]
    np.testing.assert_allclose(turned, values, atol=1e-6)


def test_the_probe_stands_in_for_lpips():
    """Uniform weights: by the formula of the paper on the probe's own maps."""
    metric, probe = load_metric("lpips"), load_metric("probe").network
    assert metric.network.record()["weights"] == "bundled-probe"
    assert "heads" not in metric.network.record()
    seen, reconstructed = images(4)
    expected = np.zeros(4)
    for layer in ("early", "middle"):
        one, other = (probe.features(given, layer).astype(float) for given in (seen, reconstructed))
        one, other = (given / np.sqrt(1e-8 + (given**2).sum(axis=1, keepdims=True)) for given in (one, other))
        expected += ((one - other) ** 2).sum(axis=1).mean(axis=(1, 2))
    np.testing.assert_allclose(metric.values(seen, reconstructed), expected, atol=1e-6)
    assert not metric.higher_is_better


class Small(ImageNetwork):
    """A random network of a few channels."""

    layers = ("pooled",)

    @property
    def source(self):
        return WeightsSource("small", Path(), "small", "0" * 64, "none", "none")

    @property
    def preprocessing(self):
        return Preprocessing(64)

    def load(self, device):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [torch.nn.Conv2d(3, 12, 8, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
            return torch.nn.Sequential(*layers, torch.nn.Flatten()).double().eval()

    def read(self, prepared):
        return {"pooled": self.network(torch.from_numpy(prepared.copy()).permute(0, 3, 1, 2).double() / 255).numpy()}


class Doubles(torch.nn.Module):
    """The same network as torchmetrics calls it."""

    num_features = 12

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network(pixels.double() / 255)


def test_frechet_distance_is_torchmetrics_and_scipys():
    network = Small()
    metric = replace(load_metric("fid_torchvision"), network=network)
    seen, reconstructed = images(40)
    found = metric.values(seen, reconstructed)
    assert found.shape == ()
    same = FrechetInceptionDistance(Doubles(network.network))
    for part in (slice(0, 13), slice(13, 40)):
        for given, real in ((seen, True), (reconstructed, False)):
            same.update(torch.from_numpy(given[part].copy()).permute(0, 3, 1, 2), real=real)
    assert found == pytest.approx(float(same.compute()), abs=1e-6)
    one, other = (metric.features(given).astype(float) for given in (seen, reconstructed))
    covariance = [np.cov(given.T) for given in (one, other)]
    root = scipy.linalg.sqrtm(covariance[0] @ covariance[1]).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariance[0] + covariance[1] - 2 * root)
    assert found == pytest.approx(expected, abs=1e-6)
    order = np.random.default_rng(0).permutation(40)
    assert metric.values(seen, reconstructed, order=order) == pytest.approx(float(found), abs=1e-9)
    assert metric.values(seen, seen) == pytest.approx(0, abs=1e-6)
    assert np.isnan(metric.values(seen[:1], reconstructed[:1]))


def test_the_frechet_distance_of_few_stimuli_is_warned_about():
    metric = load_metric("fid_torchvision")
    assert (metric.returns, metric.higher_is_better) == ("set", False)
    assert metric.network.record()["weights"] == "bundled-probe"
    seen, reconstructed = images(6)
    with pytest.warns(FewStimuliWarning, match="6 stimuli in .* features is biased"):
        assert metric.values(seen, reconstructed) > 0


def test_inception_for_the_frechet_distance_reads_299_pixels(tmp_path):
    import torchvision
    from torchvision.transforms import functional as transforms

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    (tmp_path / "inception").mkdir()
    torch.save(network.state_dict(), tmp_path / "inception" / "inception.pth")
    read = []
    network.avgpool.register_forward_hook(lambda _module, _inputs, output: read.append(output.flatten(1).numpy()))
    seen, _ = images(2)
    from PIL import Image

    tensors = [transforms.to_tensor(transforms.resize(Image.fromarray(one), [299, 299])) for one in seen]
    with torch.inference_mode():
        network(transforms.normalize(torch.stack(tensors), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    found = load_metric("fid_torchvision", tmp_path)
    largest = read[0].max()  # activations of random weights are tiny
    np.testing.assert_allclose(found.features(seen) / largest, read[0] / largest, atol=1e-4)
    small = load_metric("two_way_inception", tmp_path).features(seen)
    assert isinstance(found.network, InceptionV3)
    assert abs(small - read[0]).max() > 0.05 * largest
