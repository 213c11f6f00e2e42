"""
Shared-subject decoding: what other subjects save a new one
===========================================================

Eight simulated subjects see the same 300 images, once. Each in turn is a new subject, of which the first 25, 50, ...
images are known, while all images of the other seven are. Decoders of its test images: ridge regression on the new
subject alone; shared latents with a decoder that the other subjects teach (the design of MindEye2, arXiv 2403.11207, in
closed form); the same design as networks, whose trunks the other subjects train, before an input layer of the new one;
and functional alignment to a common space by the shared images (Ferrante et al. 2024). Above all stands what ridge
regression decodes of responses without noise. The script takes a quarter of an hour on one core::

    .venv/bin/python analyses/plot_14_shared_subjects.py

The argument is a folder for the results. The store is built beside its recipe, `stores/scenes-eight-subjects.toml`.
"""

# %%
import sys
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import neurorecon as nr
from neurorecon.datasets.recipe import load_recipe
from neurorecon.decoders import MultiSubjectMLP, MultiSubjectRidge, RidgeDecoder
from neurorecon.decoders.samples import Recordings
from neurorecon.figures import WIDTHS, journal_style, save_figure
from neurorecon.metrics import two_way
from neurorecon.stats import bootstrap_means, bootstrap_p

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_14_shared_subjects")
RECIPE = Path(nr.__file__).parents[1] / "stores" / "scenes-eight-subjects.toml"
COUNTS = (25, 50, 100, 150, 300)
ALPHAS = tuple(np.logspace(1, 6, 11))
TARGETS = {"clip_image": "semantics (CLIP)", "vqvae": "layout (latents of the autoencoder)"}
SINGLE, SHARED, ALIGNED, CLEAN = "single subject", "shared latents", "functional alignment", "single, without noise"
NETWORKS = {"network, linear": {"latent": 64, "hidden": ()}, "network, hidden layer": {"latent": 128, "hidden": (256,)}}
COMPARED = (SHARED, *NETWORKS, ALIGNED)
COLORS = dict(
    zip((SINGLE, *COMPARED, CLEAN), ("#555555", "#D55E00", "#CC79A7", "#E69F00", "#0072B2", "#009E73"), strict=True)
)

# %%
# The store, and the same brains and images without noise.
recipe = load_recipe(RECIPE)
store = nr.build(RECIPE)
options = {**recipe.options, "train_videos": 0, "test_videos": 0, "signal": 1000.0}
clean = recipe.model_copy(update={"name": "scenes-eight-subjects-clean", "options": options, "targets": []})
clean = nr.build(clean, OUT / "clean.icechunk")


def recordings(store, subject, split, count=None):
    """Return responses in the units of the first training images, (stimulus, voxel), and the names of the images."""
    found = Recordings.read(store, subject, "visual", task="images", split=split)
    return found.responses[:count], found.stimuli[:count].tolist()


def standardized(responses, by):
    """Return responses in units of the deviation from the mean of others."""
    deviation = by.std(axis=0)
    return (responses - by.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


# %%
# All decoders choose alpha by cross-validation on what they are fitted to. Voxels are standardized by the images that
# are known of their subject. Scores: the correlation of decoded and true features of an image, both standardized by
# the training images, and two-way identification.
responses = {subject: recordings(store, subject, "train") for subject in store.subjects}
rows = []
for target in TARGETS:
    ids = responses[store.subjects[0]][1]
    y = store.targets(target, stimuli=ids).values.reshape(len(ids), -1)
    center, spread = y.mean(axis=0), y.std(axis=0)
    y = (y - center) / np.where(spread > 0, spread, 1.0)
    whole = {subject: standardized(values, values) for subject, (values, _) in responses.items()}
    assert all(names == ids for _, names in responses.values())
    networks = {}
    for new, (name, shape) in product(store.subjects, NETWORKS.items()):
        others = [subject for subject in store.subjects if subject != new]
        network = MultiSubjectMLP(**shape, max_epochs=300, learning_rate=3e-4, weight_decay=0.1, input_dropout=0.2)
        networks[new, name] = network.fit(
            {subject: responses[subject][0] for subject in others}, dict.fromkeys(others, y),
            dict.fromkeys(others, np.array(ids)),
        )  # fmt: skip
    for count, new in product(COUNTS, store.subjects):
        known = responses[new][0][:count]
        test, shown = recordings(store, new, "test")
        true = (store.targets(target, stimuli=shown).values.reshape(len(shown), -1) - center) / np.where(
            spread > 0, spread, 1.0
        )
        x, x_test = standardized(known, known), standardized(test, known)
        others = {subject: values for subject, values in whole.items() if subject != new}
        targets, groups = dict.fromkeys(others, y), dict.fromkeys(others, np.array(ids))
        decoded = {SINGLE: RidgeDecoder(ALPHAS).fit(x, y[:count]).predict(x_test)}
        shared = MultiSubjectRidge(alpha=ALPHAS, adapt_samples=count if count <= len(ids) // 2 else None)
        shared.fit(others, targets, groups).adapt(new, x, y[:count], np.array(ids[:count]))
        decoded[SHARED] = shared.predict(new, x_test)
        aligned = MultiSubjectRidge("concatenated", alpha=ALPHAS).fit(others, targets, groups)
        decoded[ALIGNED] = aligned.adapt(new, x, groups=np.array(ids[:count])).predict(new, x_test)
        for name in NETWORKS:
            decoded[name] = networks[new, name].adapt(new, known, y[:count], trunk=True).predict(new, test)
        silent, silent_test = (recordings(clean, new, split)[0] for split in ("train", "test"))
        silent, silent_test = silent[:count], standardized(silent_test, silent[:count])
        decoded[CLEAN] = RidgeDecoder(ALPHAS).fit(standardized(silent, silent), y[:count]).predict(silent_test)
        for name, values in decoded.items():
            one, other = (part - part.mean(axis=1, keepdims=True) for part in (values, true))
            length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            correlations = (one * other).sum(axis=1) / np.where(length > 0, length, 1.0)
            scores = zip(shown, correlations, two_way(true, values), strict=True)
            rows += [(target, count, new, name, *score) for score in scores]
    print(target, flush=True)

# %%
# Means over subjects and images. Differences are paired: for each count, of the same subject and image. One p is over
# images (bootstrap of means over subjects), the other over subjects (all signs of the differences of subjects).
table = pd.DataFrame(rows, columns=["target", "images", "subject", "decoder", "stimulus", "correlation", "two_way"])
OUT.mkdir(parents=True, exist_ok=True)
table.to_csv(OUT / "stimuli.csv", index=False)
metrics = ("correlation", "two_way")
means = table.groupby(["target", "images", "decoder"])[list(metrics)].mean()
print(means.round(3).unstack("decoder").to_string())
compared = []
for (target, count), part in table.groupby(["target", "images"]):
    for name, metric in product(COMPARED, metrics):
        wide = part.pivot(index=["subject", "stimulus"], columns="decoder", values=metric)
        gain = (wide[name] - wide[SINGLE]).unstack("subject")
        drawn = bootstrap_means(gain.mean(axis=1).to_numpy()[:, None])
        low, high = np.percentile(drawn[1:], [2.5, 97.5])
        of_subjects = gain.mean(axis=0).to_numpy(np.float64)
        sums = np.array(list(product((1, -1), repeat=len(of_subjects)))) @ of_subjects
        p_subjects = float((sums >= sums[0] - 1e-9).mean())  # the first are the signs that were found
        better = int((of_subjects > 0).sum())
        p_images = float(bootstrap_p(drawn)[0])
        compared.append((target, count, name, metric, drawn[0, 0], low, high, p_images, p_subjects, better))
comparison = pd.DataFrame(
    compared,
    columns=["target", "images", "decoder", "metric", "gain", "low", "high", "p_images", "p_subjects", "better"],
)
comparison.to_csv(OUT / "comparison.csv", index=False)
print(comparison.round(4).to_string(index=False))

# %%
# Quality over the number of images of the new subject; bars are 95 % bootstrap intervals over images.
with journal_style():
    size = (WIDTHS["double"] / 25.4, 3.9)
    figure, axes = plt.subplots(len(metrics), len(TARGETS), figsize=size, sharex=True, layout="constrained")
    for (row, metric), (column, (target, label)) in product(enumerate(metrics), enumerate(TARGETS.items())):
        axis = axes[row, column]
        for name, color in COLORS.items():
            part = table[(table["target"] == target) & (table["decoder"] == name)]
            curve = part.groupby(["stimulus", "images"])[metric].mean().unstack("images")
            drawn = bootstrap_means(curve.to_numpy())
            low, high = np.percentile(drawn[1:], [2.5, 97.5], axis=0)
            style = "--" if name == CLEAN else "-"
            axis.plot(curve.columns, drawn[0], marker="o", markersize=3, color=color, label=name, linestyle=style)
            axis.fill_between(curve.columns, low, high, color=color, alpha=0.12, linewidth=0)
        axis.set_xscale("log")
        axis.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axis.minorticks_off()
        if row == 0:
            axis.set_title(label)
        else:
            axis.set_xlabel("training images of the new subject")
        if column == 0:
            axis.set_ylabel({"correlation": "correlation of features", "two_way": "two-way identification"}[metric])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"A new subject among {len(store.subjects)} (simulated responses)")
record = nr.record_of(store, "analyses/plot_14_shared_subjects.py", seed=0)
save_figure(figure, OUT / "shared", record)
print(f"figures and tables: {OUT}")

# sphinx_gallery_thumbnail_path = "images/shared-subjects.png"
