"""
Your own data
=============

From an array of responses, tables of samples and voxels, and images to an encoding map, and to images identified by
their decoded CLIP embedding. The arrays stand in for yours. They are simulated and small, so that the script runs in
half a minute::

    .venv/bin/python analyses/plot_03_own_data.py

See ``docs/datasets/arrays.md`` for the files that such a folder may contain.
"""

# %%
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import neurorecon as nr
from neurorecon.figures import band_bars, panel, save_figure
from neurorecon.metrics.identification import similarity_matrix, two_way
from neurorecon.testing.layouts.arrays import write_arrays

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_03_own_data")

# %%
# A typical data set: for each subject, responses (sample, voxel), a table of samples, a table of voxels and a mask; for
# all subjects, a table of stimuli and their images. Only the responses and the column ``stimulus`` are required.
lab = write_arrays(OUT / "lab")
for path in sorted(lab.rglob("*.*")):
    print(path.relative_to(lab))
print(pd.read_csv(lab / "sub01" / "samples.csv").head(3).to_string(index=False))
print(pd.read_csv(lab / "sub01" / "voxels.csv").head(3).to_string(index=False))
print(pd.read_csv(lab / "stimuli.csv").head(3).to_string(index=False))

# %%
# Build a store from the folder. The command is ``neurorecon build stores/arrays.toml --root lab``.
# Inconsistent files raise an error before anything is written.
store = nr.build("arrays", OUT / "lab.icechunk", root=lab, overwrite=True)
print(store)

# %%
# The same from arrays in memory, in one call. The images may also be a folder of PNG files. ROIs are boolean masks. If
# there is no split, one is drawn at random. Both stores hold the same numbers.
betas = np.load(lab / "sub01" / "responses.npy")
places = pd.read_csv(lab / "sub01" / "voxels.csv", keep_default_na=False)
in_memory = nr.build_from_arrays(
    OUT / "in-memory.icechunk",
    responses=betas,
    samples=pd.read_csv(lab / "sub01" / "samples.csv"),
    stimuli=pd.read_csv(lab / "stimuli.csv"),
    images=np.load(lab / "images.npy", mmap_mode="r"),
    voxels=places[["i", "j", "k"]],
    rois={name: places["roi"].str.contains(name).to_numpy() for name in ("V1", "V2", "early", "FFA", "PPA")},
    mask=lab / "sub01" / "mask.nii.gz",
    units="percent signal change",
    simulated=True,
    overwrite=True,
)
for roi in ("V1", "FFA"):
    one, other = (kept.responses(name, roi).values for kept, name in ((store, "sub01"), (in_memory, "subj01")))
    np.testing.assert_array_equal(one, other)

# %%
# Compute a target, the features that should explain the voxels: here, CLIP's image embedding.
store = nr.extract(store, ["clip_image"], progress=False)

# %%
# How much variance of each voxel does it explain? In the simulation, early ROIs encode the layout of an image, and FFA
# and PPA its category.
found = nr.voxelwise_maps(store, "sub01", bands=["clip_image"], seed=0)
print(found.rois[["roi", "band", "value", "p", "ceiling", "n"]].round(3).to_string(index=False))
bars = band_bars(
    found.rois,
    rois=["V1", "V2", "FFA", "PPA"],
    title="Variance explained by CLIP in each ROI of sub01",
    note="Mean over all voxels of the ROI; whiskers are 95% confidence intervals over test stimuli.",
    width="single",
    simulated=store.simulated,
)

# %%
# Decode the embedding from all voxels with a model fitted on the training stimuli. Which of the twelve test images is
# closest to the decoded embedding? Chance is .5.
decoded, seen = [], []
for subject in store.subjects:
    train, test = (store.responses(subject, split=split, average="stimulus") for split in ("train", "test"))
    decoder = nr.RidgeDecoder(alpha=np.logspace(0, 4, 9))
    decoder.fit(train.values, store.targets("clip_image", stimuli=train["stimulus"].values.tolist()).values)
    order = np.argsort(test["stimulus"].values)
    names = test["stimulus"].values[order].tolist()
    decoded.append(decoder.predict(test.values[order]))
    seen = store.targets("clip_image", stimuli=names).values
    print(f"{subject}: pairwise identification {two_way(seen, decoded[-1]).mean():.3f}")
mean = np.mean(decoded, axis=0)
picked = similarity_matrix(seen, mean).argmax(axis=1)
identification = two_way(seen, mean)
images = store.images(names).values
panel_of_images = panel(
    {"seen": images, "picked": images[picked]},
    scores={"picked": identification.tolist()},
    score_label="pairwise identification of the decoded CLIP embedding, mean of both subjects; chance is .5",
    per_line=12,
    title="Test image closest to the decoded embedding",
    simulated=store.simulated,
)

# %%
# Each file records how it was made: command, digest of the store, settings, versions.
record = nr.record_of(store, "analyses/plot_03_own_data.py", seed=0, settings=found.record())
for name, figure in (("rois", bars), ("picked", panel_of_images)):
    for path in save_figure(figure, OUT / name, record):
        print(path)

# sphinx_gallery_thumbnail_path = "images/linear-reconstruction.png"
