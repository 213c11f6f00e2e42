"""What the small public data sets need, and those that need nothing or are one's own."""

from __future__ import annotations

from neurorecon.datasets.catalog import Entry, Need, Plan, Request, choose
from neurorecon.datasets.download import HAXBY_SUBJECTS, SOURCES

#: Bytes of the archive of a subject of Haxby 2001, about.
HAXBY_ARCHIVE = 291_000_000


def _nothing(wanted: Request) -> Plan:
    return Plan([], steps=["neurorecon build scenes"])


def _own(page: str) -> Plan:
    return Plan([], steps=[f"see {page} for what the folder has to hold"])


def miyawaki2008(wanted: Request) -> Plan:
    """Return nilearn's layout."""
    needs = [
        Need("miyawaki2008/func/data_{random,figure}_run*.nii.gz", "20 random and 12 figure runs", number=32),
        Need("miyawaki2008/label/data_{random,figure}_run*_label.csv", "patterns", number=32),
        Need("miyawaki2008/mask/*.nii.gz", "visual cortex and its areas"),
    ]
    return Plan(needs, _commands("miyawaki2008", wanted.folder))


def haxby2001(wanted: Request) -> Plan:
    """Return nilearn's layout of some subjects (by default the second, as nilearn)."""
    subjects = choose("subject", wanted.subjects, HAXBY_SUBJECTS, ["subj2"])
    needs = []
    for subject in subjects:
        needs += [
            Need(f"haxby2001/{subject}/bold.nii.gz", "12 runs of 121 volumes", HAXBY_ARCHIVE, about=True),
            Need(f"haxby2001/{subject}/labels.txt", "category and run of each volume"),
            Need(f"haxby2001/{subject}/mask*.nii.gz", "ventral temporal cortex and its parts", number=5),
        ]
    needs.append(Need("haxby2001/stimuli/*/*.jpg", "pictures", optional=True))
    options = " ".join(f"--subject {subject}" for subject in subjects)
    return Plan(needs, _commands("haxby2001", wanted.folder, f" {options}"))


def yamada2015(wanted: Request) -> Plan:
    """Return the two files."""
    sizes = SOURCES["yamada2015"].sizes
    needs = [
        Need("S2_figureImage.mat", "BOLD, labels, positions", sizes["S2_figureImage.mat"]),
        Need("S2_outlierVoxInd.mat", "voxels that the authors keep", sizes["S2_outlierVoxInd.mat"]),
    ]
    return Plan(needs, [f"neurorecon datasets download yamada2015 --out {wanted.folder}"])


def _commands(name: str, folder: str, options: str = "") -> list[str]:
    excerpt = sum(SOURCES[name].sizes.values())
    return [
        f"neurorecon datasets download {name} --out {folder}{options}",
        f"neurorecon datasets download {name} --out {folder} --excerpt    # {excerpt / 1e6:.1f} MB for a first try",
    ]


SMALL = (
    Entry(
        name="scenes",
        title="embedded: SIMULATED visual cortex looking at drawn scenes and films",
        terms="as neurorecon (BSD-3-Clause)",
        citation="neurorecon (CITATION.cff)",
        home="",
        download="none needed",
        plan=_nothing,
        page="stores/README.md",
    ),
    Entry(
        name="miyawaki2008",
        title="Miyawaki 2008: 1 subject, patterns of 10 x 10 patches",
        terms="as distributed for nilearn, license not stated; the excerpt: BSD-3-Clause style",
        citation="Miyawaki Y et al. (2008). Neuron 60:915-929. doi:10.1016/j.neuron.2008.11.004",
        home="https://nilearn.github.io",
        download="neurorecon",
        plan=miyawaki2008,
        page="stores/README.md",
    ),
    Entry(
        name="haxby2001",
        title="Haxby 2001: 6 subjects, 8 categories of objects",
        terms="CC BY-SA 3.0",
        citation="Haxby JV et al. (2001). Science 293:2425-2430. doi:10.1126/science.1063736",
        home="http://www.pymvpa.org/datadb/haxby2001.html",
        download="neurorecon",
        plan=haxby2001,
        choices=("subjects",),
        page="docs/datasets/haxby2001.md",
    ),
    Entry(
        name="yamada2015",
        title="Yamada 2015: 1 subject, V1, 5 shapes",
        terms="ODC-BY",
        citation="Yamada K et al. (2015). NeuroImage 113:289-297. doi:10.1016/j.neuroimage.2015.03.059",
        home="https://github.com/KamitaniLab/NeuralCodeConverter",
        download="neurorecon",
        plan=yamada2015,
        page="docs/datasets/yamada2015.md",
    ),
    Entry(
        name="bids",
        title="your own: BIDS with fMRIPrep derivatives",
        terms="yours",
        citation="the papers of your data, and fMRIPrep",
        home="https://bids.neuroimaging.io",
        download="none needed",
        plan=lambda wanted: _own("docs/datasets/bids.md"),
        page="docs/datasets/bids.md",
    ),
    Entry(
        name="arrays",
        title="your own: arrays and tables",
        terms="yours",
        citation="the papers of your data",
        home="",
        download="none needed",
        plan=lambda wanted: _own("docs/datasets/arrays.md"),
        page="docs/datasets/arrays.md",
    ),
)
