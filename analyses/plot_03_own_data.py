"""
Data of your own
================

Responses in an array, tables of what was shown and of where voxels lie, images: from there to an encoding map, and to
images picked by their decoded CLIP embedding. The arrays stand for yours; they are simulated and small, so that all
of it runs in half a minute::

    .venv/bin/python analyses/plot_03_own_data.py

Files of a whole folder are described in ``docs/datasets/arrays.md``.
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
# What a lab has: for each subject responses (sample, voxel), a table of what each sample shows, a table of voxels with
# a mask; a table of stimuli and their images for all. Only the responses and the column ``stimulus`` are demanded.
lab = write_arrays(OUT / "lab")
for path in sorted(lab.rglob("*.*")):
    print(path.relative_to(lab))
print(pd.read_csv(lab / "sub01" / "samples.csv").head(3).to_string(index=False))
print(pd.read_csv(lab / "sub01" / "voxels.csv").head(3).to_string(index=False))
print(pd.read_csv(lab / "stimuli.csv").head(3).to_string(index=False))

# %%
# From the folder to a store; on the command line: ``neurorecon build stores/arrays.toml --root lab``.
# What does not fit together is refused with a sentence before anything is written.
store = nr.build("arrays", OUT / "lab.icechunk", root=lab, overwrite=True)
print(store)

# %%
# The same from arrays that a script holds in memory, in one call. The images may be a folder of PNG files, a
# subject's ROIs plain masks; a split is drawn where there is none. Numbers are the same, wherever they come from.
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
# A target: what the voxels are to be explained by, here CLIP's image embedding.
store = nr.extract(store, ["clip_image"], progress=False)

# %%
# How much of each voxel does it explain? Simulated early ROIs follow the layout of an image, FFA and PPA its
# category.
found = nr.voxelwise_maps(store, "sub01", bands=["clip_image"], seed=0)
print(found.rois[["roi", "band", "value", "p", "ceiling", "n"]].round(3).to_string(index=False))
bars = band_bars(
    found.rois,
    rois=["V1", "V2", "FFA", "PPA"],
    title="CLIP in each area of sub01",
    note="Mean over all voxels of the ROI; whiskers are 95 % intervals over test stimuli.",
    width="single",
    simulated=store.simulated,
)

# %%
# Decoding: from all voxels to the embedding, fitted on the training stimuli; which of the twelve test images is
# closest to what was decoded? Chance is .5.
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
    score_label="pairwise identification of the decoded CLIP embedding, mean of both subjects; chance .5",
    per_line=12,
    title="Which test image lies closest to the decoded embedding?",
    simulated=store.simulated,
)

# %%
# Each file carries how it was made: command, digest of the store, settings, versions.
record = nr.record_of(store, "analyses/plot_03_own_data.py", seed=0, settings=found.record())
for name, figure in (("rois", bars), ("picked", panel_of_images)):
    for path in save_figure(figure, OUT / name, record):
        print(path)
