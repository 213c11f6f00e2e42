"""What NSD needs: files of its public bucket, and the commands that copy exactly those."""

from __future__ import annotations

from collections.abc import Sequence

from neurorecon.datasets.catalog import Entry, Need, Plan, Request, choose
from neurorecon.errors import InputError

#: The public bucket (AWS Open Data; no account is needed).
BUCKET = "s3://natural-scenes-dataset"

#: Sessions that each subject took part in.
SESSIONS = {
    "subj01": 40, "subj02": 40, "subj03": 32, "subj04": 30, "subj05": 40, "subj06": 32, "subj07": 40, "subj08": 30,
}  # fmt: skip

SPACES = ("func1pt8mm", "func1mm", "fsaverage")
BETAS = ("betas_fithrf_GLMdenoise_RR", "betas_fithrf", "betas_assumehrf")
FORMATS = ("nii.gz", "hdf5")

#: Trials of a session; bytes of a value in volumes (int16) and on surfaces (float32).
TRIALS, VOLUME_BYTES, SURFACE_BYTES = 750, 2, 4

#: Voxels of the first subject at 1.8 mm (others are as large, give or take a tenth); vertices of a hemisphere.
VOXELS, VERTICES = 81 * 104 * 83, 163_842

#: Pictures: 73,000 of 425 x 425 x 3 bytes.
PICTURES = 73_000 * 425 * 425 * 3

#: Where COCO keeps the captions and objects of 2017.
COCO = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"


def plan(wanted: Request) -> Plan:
    """Return the files of some subjects, and the commands that fetch them.

    Parameters
    ----------
    wanted : Request
        Subjects (by default ``subj01``), space, version of the betas, sessions (by default all of each subject),
        file format of volumes (``"nii.gz"`` is smaller to fetch, ``"hdf5"`` many times faster to read).
    """
    subjects = choose("subject", wanted.subjects, list(SESSIONS), ["subj01"])
    space = choose("space", wanted.space, SPACES, SPACES[:1])[0]
    betas = choose("version of the betas", wanted.betas, BETAS, BETAS[:1])[0]
    form = choose("file format", wanted.file_format, FORMATS, FORMATS[:1])[0]
    if space == "fsaverage" and wanted.file_format is not None:
        raise InputError(
            "betas on fsaverage have one file format",
            given=f"--format {form}",
            expected="no --format (they are .mgh files)",
            todo="leave it out",
        )
    needs = [
        Need("nsddata/experiments/nsd/nsd_expdesign.mat", "design: which picture in which trial"),
        Need("nsddata/experiments/nsd/nsd_stim_info_merged.csv", "pictures and their COCO ids"),
        Need("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "73,000 pictures", PICTURES, about=True),
        Need("annotations/*_{train,val}2017.json", "captions and objects (COCO)", number=4, optional=True),
    ]
    commands = [_copy(need.path, wanted.folder) for need in needs[:3]]
    commands += [f"curl -L -o {wanted.folder}/coco.zip {COCO}", f"unzip {wanted.folder}/coco.zip -d {wanted.folder}"]
    for subject in subjects:
        more, how = _of_subject(subject, space, betas, form, _sessions(subject, wanted.sessions), wanted.folder)
        needs += more
        commands += how
    return Plan(needs, commands, ["complete the NSD Data Access Agreement: https://naturalscenesdataset.org", _AWS])


_AWS = "install the AWS command line (https://aws.amazon.com/cli/); no account is needed for the commands below"


def _of_subject(
    subject: str, space: str, betas: str, form: str, sessions: Sequence[int], folder: str
) -> tuple[list[Need], list[str]]:
    base, prepared = f"nsddata_betas/ppdata/{subject}/{space}/{betas}", f"nsddata/ppdata/{subject}/{space}"
    behavior = f"nsddata/ppdata/{subject}/behav/responses.tsv"
    labels = f"nsddata/freesurfer/{subject}/label"
    needs = [Need(behavior, "button presses", optional=True)]
    commands = [_copy(behavior, folder)]
    if space == "fsaverage":
        names = [f"{side}.betas_session{number:02d}.mgh" for number in sessions for side in ("lh", "rh")]
        size, noise = VERTICES * TRIALS * SURFACE_BYTES * len(names), ["lh.ncsnr.mgh", "rh.ncsnr.mgh"]
        areas = ["nsddata/freesurfer/fsaverage/label"]
        needs.append(Need(f"{areas[0]}/{{lh,rh}}.*.mgz", "ROIs on the average surface"))
        commands.append(_sync(areas[0], ["*.mgz", "*.ctab"], folder))
    else:
        names = [f"betas_session{number:02d}.{form}" for number in sessions]
        scale = 1.0 if space == "func1pt8mm" else 1.8**3
        size, noise = round(VOXELS * scale) * TRIALS * VOLUME_BYTES * len(names), ["ncsnr.nii.gz"]
        needs += [
            Need(f"{prepared}/roi/*.nii.gz", "ROIs, nsdgeneral among them"),
            Need(f"{prepared}/brainmask.nii.gz", "the brain, for mask = 'brain'", optional=True),
            Need(f"{labels}/*.mgz.ctab", "names of labels", optional=True),
        ]
        commands += [
            _sync(f"{prepared}/roi", ["*.nii.gz"], folder),
            _copy(f"{prepared}/brainmask.nii.gz", folder),
            _sync(labels, ["*.mgz.ctab"], folder),
        ]
    packed = " (before compression)" if form == "nii.gz" and space != "fsaverage" else ""
    ending = names[0].rpartition("session")[2][2:]
    stars = "{lh,rh}." if space == "fsaverage" else ""
    what = f"betas of sessions {_span(sessions)}{packed}"
    needs.append(Need(f"{base}/{stars}betas_session*{ending}", what, size, about=True, number=len(names)))
    needs.append(Need(f"{base}/{stars}ncsnr.{noise[0].rpartition('ncsnr.')[2]}", "noise ceiling", number=len(noise)))
    commands.append(_sync(base, [*noise, *names], folder))
    return needs, commands


def _sessions(subject: str, wanted: Sequence[int] | None) -> list[int]:
    last = SESSIONS[subject]
    if wanted is None:
        return list(range(1, last + 1))
    wrong = [number for number in wanted if not 1 <= number <= last]
    if wrong or not wanted:
        raise InputError(
            f"{subject} has no such sessions",
            given=", ".join(map(str, wrong)) or "none",
            expected=f"sessions from 1 to {last}",
            todo="ask for sessions that exist, e.g. --sessions 1-30",
        )
    return sorted(set(wanted))


def _span(numbers: Sequence[int]) -> str:
    whole = list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}-{numbers[-1]}" if whole and len(numbers) > 1 else ", ".join(map(str, numbers))


def _copy(key: str, folder: str) -> str:
    return f"aws s3 cp --no-sign-request {BUCKET}/{key} {folder}/{key}"


def _sync(key: str, names: Sequence[str], folder: str) -> str:
    """Copy some files of a folder; what is there already is left alone."""
    included = " ".join(f'--include "{name}"' for name in names)
    return f'aws s3 sync --no-sign-request {BUCKET}/{key} {folder}/{key} --exclude "*" {included}'


NSD = Entry(
    name="nsd",
    title="Natural Scenes Dataset: 8 subjects, 73,000 photographs, 7 T",
    terms="NSD Data Access Agreement, to be completed by everybody who uses it; no redistribution",
    citation=(
        "Allen EJ, St-Yves G, Wu Y, Breedlove JL, Prince JS, Dowdle LT, Nau M, Caron B, Pestilli F, Charest I, "
        "Hutchinson JB, Naselaris T, Kay K (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and "
        "artificial intelligence. Nat Neurosci 25:116-126. doi:10.1038/s41593-021-00962-x"
    ),
    home="https://naturalscenesdataset.org",
    download="public commands",
    plan=plan,
    choices=("subjects", "sessions", "space", "betas", "file_format"),
    page="docs/datasets/nsd.md",
)
