import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error

from neurorecon.decoders.neural.layers import cosine, info_nce, mae, mse, soft_clip, weighted_loss
from neurorecon.errors import InputError, UnknownNameError


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(12, 3, 5, generator=generator, dtype=torch.float64)
    return targets + torch.randn(targets.shape, generator=generator, dtype=torch.float64), targets


def flat(values):
    return values.reshape(len(values), -1).numpy()


def test_errors_are_scikit_learns(pair):
    outputs, targets = pair
    assert mse(outputs, targets).item() == pytest.approx(mean_squared_error(flat(targets), flat(outputs)), abs=1e-12)
    assert mae(outputs, targets).item() == pytest.approx(mean_absolute_error(flat(targets), flat(outputs)), abs=1e-12)


def test_cosine_distance_is_scipys(pair):
    outputs, targets = pair
    expected = np.diag(cdist(flat(outputs), flat(targets), "cosine")).mean()
    assert cosine(outputs, targets).item() == pytest.approx(expected, abs=1e-12)


def test_info_nce_is_scikit_learns_log_loss_of_telling_samples_apart(pair):
    outputs, targets = (flat(values) / np.linalg.norm(flat(values), axis=1, keepdims=True) for values in pair)
    logits = outputs @ targets.T / 0.2
    expected = np.mean([log_loss(np.arange(12), softmax(part, axis=1)) for part in (logits, logits.T)])
    assert info_nce(*pair, 0.2).item() == pytest.approx(expected, abs=1e-12)


def test_soft_clip_is_its_equation(pair):
    outputs, targets = (flat(values) / np.linalg.norm(flat(values), axis=1, keepdims=True) for values in pair)
    wanted = softmax(targets @ targets.T / 0.1, axis=1)
    logits = outputs @ targets.T / 0.1
    expected = -sum((wanted * log_softmax(part, axis=1)).sum(axis=1).mean() for part in (logits, logits.T)) / 2
    assert soft_clip(*pair, 0.1).item() == pytest.approx(expected, abs=1e-12)
    # Where targets are unlike, it is the other contrastive loss.
    apart = torch.eye(6, dtype=torch.float64)
    given = apart + 0.3 * torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert soft_clip(given, apart, 0.02).item() == pytest.approx(info_nce(given, apart, 0.02).item(), abs=1e-9)


def test_several_losses_are_summed_by_weight(pair):
    outputs, targets = pair
    found = weighted_loss(outputs, targets, {"mse": 0.5, "info_nce": 2.0}, temperature=0.2)
    expected = 0.5 * mse(outputs, targets) + 2 * info_nce(outputs, targets, 0.2)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    with pytest.raises(UnknownNameError, match="did you mean 'info_nce'"):
        weighted_loss(outputs, targets, "infonce")
    for wrong in ({"mse": -1.0}, {"mse": 0.0}, {}):
        with pytest.raises(InputError, match="weights of losses"):
            weighted_loss(outputs, targets, wrong)


def test_all_are_least_where_outputs_are_the_targets(pair):
    outputs, targets = pair
    for loss in (mse, mae, cosine, info_nce):
        assert loss(targets, targets) < loss(outputs, targets)
