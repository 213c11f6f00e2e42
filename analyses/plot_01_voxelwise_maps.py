"""
What does each voxel encode?
============================

Banded ridge regression from Gabor energy, object categories and motion energy to every voxel, on the embedded
simulated data set. To use your own data, replace the store; nothing else changes.

References: Nunez-Elizalde, Huth & Gallant (2019) NeuroImage 197:482; Dupre la Tour et al. (2022) NeuroImage 264:119728.
"""

# %%
# The store is built on the first run; later runs only open it. The arguments are a folder for the results and a store
# that is there already.
import sys

import numpy as np
import pandas as pd

import neurorecon as nr

OUT = sys.argv[1] if len(sys.argv) > 1 else "results/plot_01_voxelwise_maps"
store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
print(store)

# %%
# Responses are lazy, labeled arrays: select by ROI, task and split before anything is read.
responses = store.responses("subj01", roi="MT", task="videos", split="test", average="stimulus")
print(responses)

# %%
# The map: R2 on held-out videos, split among the bands, with a permutation p-value for each voxel.
found = nr.voxelwise_maps(store, "subj01", bands=["gabor", "category", "motion"], seed=0)
columns = ["roi", "band", "value", "low", "high", "joint", "p", "ceiling", "n"]
print(found.rois[columns].to_string(index=False, float_format="{:.3f}".format))

# %%
# Write tables, brain images and figures, with the provenance record inside each file.
record = nr.record_of(store, "analyses/plot_01_voxelwise_maps.py", seed=0, settings=found.record())
for path in nr.write(found, store, OUT, record):
    print(path)

# %%
# Does the analysis recover the ground truth? Only simulated data can tell. Rows: the band with the largest share of the
# simulated signal (layout counts as category); columns: the winning band of significant voxels.
truth = store.truth("subj01")
shares = np.stack([truth["share_gabor"], truth["share_category"] + truth["share_layout"], truth["share_motion"]])
planted = np.array(["gabor", "category", "motion"])[shares.argmax(axis=0)]
planted[truth["noise_only"]] = "nothing"
winner = found.table["winning_band"].replace("", "none")
print(pd.crosstab(pd.Series(planted, found.table.index, name="planted"), winner))

# sphinx_gallery_thumbnail_path = "images/winning-bands.png"
