"""How long each linear model takes against samples, voxels (or features) and targets: docs/which-model.md.

``python tests/benchmarks/test_which_model.py --figure docs/images/which-model.png`` measures, prints the rows and
draws; ``--scale 0.5`` halves every size. Each point is the best of ``--rounds`` fits with prediction of 100 samples.
"""

import argparse
import time
import warnings

import numpy as np
import pytest

from neurorecon.decoders import BandedRidge, RidgeDecoder

pytestmark = pytest.mark.benchmark

#: Sizes that do not vary, and those along each axis.
BASE = {"samples": 1000, "inputs": 2000, "targets": 1000}
AXES = {
    "samples": (250, 500, 1000, 2000, 4000),
    "inputs": (500, 1000, 2000, 4000, 8000),
    "targets": (250, 1000, 4000, 16000),
}
ALPHAS = tuple(float(value) for value in np.logspace(1, 5, 5))
TEST = 100

#: A fit is not repeated once a model has taken so long at a smaller size.
TOO_LONG = 20.0


def ridge_fixed(x, y, x_test):
    """One alpha, only predictions wanted."""
    return RidgeDecoder(alpha=100.0).fit_and_predict(x, y, x_test)


def ridge_generalized(x, y, x_test):
    """An alpha for each target by generalized cross-validation."""
    return RidgeDecoder(alpha=ALPHAS, cv="gcv", alpha_per="target").fit(x, y).predict(x_test)


def ridge_folds(x, y, x_test):
    """An alpha for each target by five folds."""
    return RidgeDecoder(alpha=ALPHAS, cv=5, alpha_per="target").fit(x, y).predict(x_test)


def banded(x, y, x_test):
    """Two bands, the designed mixtures, five alphas, five folds."""
    half = x.shape[1] // 2
    bands = {"one": slice(0, half), "two": slice(half, None)}
    return BandedRidge(bands, alphas=[alpha / 100 for alpha in ALPHAS]).fit(x, y).predict(x_test)


def sklearn_ridge(x, y, x_test):
    """scikit-learn's Ridge, one alpha."""
    from sklearn.linear_model import Ridge

    return Ridge(alpha=100.0).fit(x, y).predict(x_test)


def himalaya_kernel(x, y, x_test):
    """himalaya's KernelRidgeCV, an alpha for each target by five folds."""
    from himalaya.kernel_ridge import KernelRidgeCV

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return KernelRidgeCV(alphas=np.array(ALPHAS), cv=5, fit_intercept=True).fit(x, y).predict(x_test)


MODELS = {
    "RidgeDecoder, fixed alpha": ridge_fixed,
    "RidgeDecoder, alpha per target, GCV": ridge_generalized,
    "RidgeDecoder, alpha per target, 5 folds": ridge_folds,
    "BandedRidge, 2 bands": banded,
    "scikit-learn Ridge, fixed alpha": sklearn_ridge,
    "himalaya KernelRidgeCV, 5 folds": himalaya_kernel,
}


def problem(samples, inputs, targets):
    """Return training inputs and targets, and test inputs, with signal in a few directions."""
    random = np.random.default_rng(0)
    x = random.standard_normal((samples + TEST, inputs), dtype=np.float32)
    weights = random.standard_normal((20, targets), dtype=np.float32)
    y = x[:, :20] @ weights + 5 * random.standard_normal((samples + TEST, targets), dtype=np.float32)
    return x[:samples], y[:samples], x[samples:]


def measure(scale=1.0, rounds=2):
    """Return the seconds of each model at each size, by axis and model."""
    small = problem(20, 20, 20)
    for model in MODELS.values():
        model(*small)  # what is imported late is not part of any fit
    found = {axis: {name: [] for name in MODELS} for axis in AXES}
    for axis, values in AXES.items():
        for value in values:
            sizes = {name: round(size * scale) for name, size in {**BASE, axis: value}.items()}
            arrays = problem(**sizes)
            for name, model in MODELS.items():
                before = found[axis][name]
                if before and before[-1][1] > TOO_LONG:
                    continue
                seconds = min(_seconds(model, arrays) for _ in range(rounds))
                before.append((sizes[axis], seconds))
    return found


def _seconds(model, arrays):
    begun = time.perf_counter()
    model(*arrays)
    return time.perf_counter() - begun


def rows(found):
    """Print the rows of the table."""
    for axis, models in found.items():
        sizes = [size for size, _ in max(models.values(), key=len)]
        print(f"\n| {axis} | {' | '.join(f'{size:,}' for size in sizes)} |\n|{'---|' * (len(sizes) + 1)}")
        for name, points in models.items():
            taken = dict(points)
            cells = [f"{taken[size]:.2f} s" if size in taken else "" for size in sizes]
            print(f"| {name} | {' | '.join(cells)} |")


def draw(found, path, scale=1.0):
    """Draw time against each size, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colors = ["#0072b2", "#009e73", "#56b4e9", "#d55e00", "#999999", "#444444"]
    styles = ["-", "-", "-", "-", "--", "--"]
    labels = {"samples": "samples", "inputs": "voxels (features, for BandedRidge)", "targets": "targets"}
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.6), sharey=True, layout="constrained")
    for panel, (axis, models) in zip(axes, found.items(), strict=True):
        for (name, points), color, style in zip(models.items(), colors, styles, strict=True):
            panel.plot(*zip(*points, strict=True), style, color=color, marker="o", markersize=3.5, label=name)
        others = [f"{round(size * scale):,} {other}" for other, size in BASE.items() if other != axis]
        panel.set(xscale="log", yscale="log", xlabel=labels[axis], title=", ".join(others))
        panel.title.set_fontsize(9)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(True, which="major", linewidth=0.4, alpha=0.5)
        ticks = [size for size, _ in max(models.values(), key=len)]
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=30, fontsize=8)
        panel.minorticks_off()
    axes[0].set_ylabel("seconds to fit and predict")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def test_models_against_sizes(tmp_path):
    found = measure(rounds=1)
    rows(found)
    draw(found, tmp_path / "which-model.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", default=None, help="PNG to write")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    found = measure(chosen.scale, chosen.rounds)
    rows(found)
    if chosen.figure:
        draw(found, chosen.figure, chosen.scale)


if __name__ == "__main__":
    main()
