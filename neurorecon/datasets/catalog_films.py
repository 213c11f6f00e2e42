"""What the data sets of films need. Their readers are not written yet; the files can be fetched meanwhile."""

from __future__ import annotations

from neurorecon.datasets.catalog import Entry, Need, Plan, Request, choose
from neurorecon.errors import InputError

#: Grayordinates of CIFTI files at 2 mm (91k) and at 1.6 mm (170k); bytes of a value.
GRAYORDINATES, FINE_GRAYORDINATES, BYTES = 91_282, 170_494, 4

#: Volumes of a segment of CC2017, about; and of a run of the HCP's 7 T films, about.
CC2017_VOLUMES, HCP_VOLUMES = 245, 915

#: Runs of the HCP's films: direction of phase encoding, and the film shown.
HCP_RUNS = {1: ("AP", "CC1"), 2: ("PA", "HO1"), 3: ("PA", "CC2"), 4: ("AP", "HO2")}

ALGONAUTS_ROIS = ("V1", "V2", "V3", "V4", "LOC", "EBA", "FFA", "STS", "PPA")


def cc2017(wanted: Request) -> Plan:
    """Return the files of some of the three subjects."""
    subjects = choose("subject", wanted.subjects, ["1", "2", "3"], ["1", "2", "3"])
    volume = GRAYORDINATES * CC2017_VOLUMES * BYTES
    needs = [Need("Stimuli/video_fmri_dataset/stimuli/{seg1..18,test1..5}.mp4", "films of 8 min", number=23)]
    for subject in subjects:
        base = f"Subject{int(subject):02d}/video_fmri_dataset/subject{subject}/fmri"
        tests = 5 * 10 - (subject == "3")  # subject 3 saw test2 nine times
        needs += [
            Need(f"{base}/seg*/cifti/seg*_{{1,2}}_Atlas.dtseries.nii", "training films", 36 * volume, True, 36),
            Need(f"{base}/test*/cifti/test*_*_Atlas.dtseries.nii", "test films", tests * volume, True, tests),
        ]
    return Plan(needs, steps=["download the archives from https://purr.purdue.edu/publications/2809 and unpack them"])


def hcp7t(wanted: Request) -> Plan:
    """Return the files of some subjects, by their six digits."""
    subjects = list(wanted.subjects or ["SUBJECT"])
    for subject in wanted.subjects or []:
        if not (subject.isdigit() and len(subject) == 6):
            raise InputError(
                "subjects of the HCP are numbers",
                given=subject,
                expected="six digits, e.g. 100610",
                todo="see the list of subjects with 7 T data at https://db.humanconnectome.org",
            )
    needs = [Need("stimuli/7T_MOVIE*_{CC1,HO1,CC2,HO2}_v2.mp4", "films", number=4)]
    commands = []
    for subject in subjects:
        for number, (direction, _) in HCP_RUNS.items():
            run = f"tfMRI_MOVIE{number}_7T_{direction}"
            path = f"{subject}/MNINonLinear/Results/{run}/{run}_Atlas_1.6mm_MSMAll_hp2000_clean.dtseries.nii"
            needs.append(Need(path, f"film {number}", FINE_GRAYORDINATES * HCP_VOLUMES * BYTES, about=True))
            commands.append(f"aws s3 cp --profile hcp s3://hcp-openaccess/HCP_1200/{path} {wanted.folder}/{path}")
    return Plan(
        needs,
        commands,
        [
            "make an account at https://db.humanconnectome.org and accept the WU-Minn HCP Open Access Data Use Terms",
            "turn on Amazon S3 access there, and keep the keys that it gives you: aws configure --profile hcp",
            "download the films of the 7 T session from the same place, into stimuli",
        ],
    )


def algonauts2021(wanted: Request) -> Plan:
    """Return the files of some of the ten subjects."""
    known = [f"sub{number:02d}" for number in range(1, 11)]
    subjects = choose("subject", wanted.subjects, known, known)
    needs = [Need("AlgonautsVideos268_All_30fpsmax/*.mp4", "films of 3 s", number=1102)]
    for subject in subjects:
        files = f"participants_data_v2021/mini_track/{subject}/{{{','.join(ALGONAUTS_ROIS)}}}.pkl"
        needs.append(Need(files, "nine ROIs", number=len(ALGONAUTS_ROIS)))
        needs.append(Need(f"participants_data_v2021/full_track/{subject}/WB.pkl", "whole brain", optional=True))
    return Plan(needs, steps=["request the data with the form at http://algonauts.csail.mit.edu/2021/challenge.html"])


FILMS = (
    Entry(
        name="cc2017",
        title="CC2017: 3 subjects, 23 films of 8 min",
        terms="CC0 1.0 (PURR 2809, doi:10.4231/R7SF2TCW)",
        citation=(
            "Wen H, Shi J, Zhang Y, Lu KH, Cao J, Liu Z (2018). Neural encoding and decoding with deep learning for "
            "dynamic natural vision. Cereb Cortex 28:4136-4160. doi:10.1093/cercor/bhx268"
        ),
        home="https://purr.purdue.edu/publications/2809",
        download="by hand",
        plan=cc2017,
        choices=("subjects",),
    ),
    Entry(
        name="hcp7t",
        title="Human Connectome Project, films at 7 T",
        terms="WU-Minn HCP Consortium Open Access Data Use Terms; an account at ConnectomeDB",
        citation=(
            "Van Essen DC, Smith SM, Barch DM, Behrens TEJ, Yacoub E, Ugurbil K (2013). The WU-Minn Human Connectome "
            "Project: an overview. NeuroImage 80:62-79. doi:10.1016/j.neuroimage.2013.05.041"
        ),
        home="https://db.humanconnectome.org",
        download="account",
        plan=hcp7t,
        choices=("subjects",),
    ),
    Entry(
        name="algonauts2021",
        title="Algonauts 2021: 10 subjects, 1,102 films of 3 s",
        terms="rules of the Algonauts Project 2021 Challenge; on request",
        citation=(
            "Cichy RM, Dwivedi K, Lahner B, Lascelles A, Iamshchinina P, Graumann M, Andonian A, Murty NAR, Kay K, "
            "Roig G, Oliva A (2021). The Algonauts Project 2021 Challenge: how the human brain makes sense of a world "
            "in motion. arXiv:2104.13714"
        ),
        home="http://algonauts.csail.mit.edu/2021/challenge.html",
        download="by hand",
        plan=algonauts2021,
        choices=("subjects",),
    ),
)
