"""
The images that ROIs prefer
===========================

A brain in which one ROI is active and all others are at rest decodes into an image (Ozcelik & VanRullen 2023): FFA's
shows a face, PPA's a room, EBA's a person. Beside each image stand the response of the ROI that an encoding model
predicts, and the category that a judge sees, a network that took no part. The responses are simulated. The script takes
five minutes on one core::

    .venv/bin/python analyses/plot_07_roi_optimal.py

The second argument is a store that is there already.
"""

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import neurorecon as nr
from neurorecon.figures import WIDTHS, journal_style, save_figure

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "results/plot_07_roi_optimal")
ROIS = ["FFA", "EBA", "PPA", "OPA", "RSC", "V1"]
SUBJECT = "subj01"

store = nr.open_store(sys.argv[2]) if len(sys.argv) > 2 else nr.build("scenes")
system = nr.load_system("brain-diffuser", device="cpu").fit(store, SUBJECT)
store = nr.open_store(store.location)
record = nr.record_of(store, "analyses/plot_07_roi_optimal.py", seed=0)

# %%
# Two ways to say what an ROI prefers: the pattern that is 1 in the ROI and 0 elsewhere, through the decoders; and the
# mean target of the training images that drive it most. Text tokens alone carry what the ROIs are selective for.
for method in ("pattern", "stimuli"):
    found = nr.roi_optimal(store, ROIS, system, SUBJECT, method=method, targets=["clip_text"], seeds=8)
    print(found.text(store))
    nr.write(found, store, OUT / method, record)

# %%
# Is the image selective? Rows are the images of an ROI, columns the responses that encoding models predict for them.
names = [name for name in store.rois(SUBJECT) if name in found.responses]
values = found.responses[names]
with journal_style():
    figure, axes = plt.subplots(figsize=(WIDTHS["double"] / 25.4, 2.4), layout="constrained")
    limit = np.abs(values.to_numpy()).max()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=60)
    axes.set_yticks(range(len(values)), values.index)
    axes.set_ylabel("images of")
    axes.set_title(f"Predicted responses to images that ROIs prefer · {SUBJECT}", loc="left")
    axes.set_xlabel("predicted response of")
    figure.colorbar(image, label="standard deviations")
save_figure(figure, OUT / "selectivity", record)

# %%
# The layout is that of the VDVAE: contrast of the image that foveal voxels prefer lies nearer to the center.
places = nr.roi_optimal(store, ["ecc0pt5+ecc1", "ecc4+"], system, SUBJECT, targets=["vdvae"], seeds=8)
print(places.table.groupby("roi", sort=False)["eccentricity"].agg(["mean", "std"]))
nr.write(places, store, OUT / "eccentricity", record)
print(f"figures and tables: {OUT}")

# sphinx_gallery_thumbnail_path = "images/roi-optimal.png"
