"""Options of the BIDS reader: the keys of ``[options]`` in a recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from neurorecon.datasets.base import Options

#: Seconds by which a response follows its stimulus, where the recipe does not say.
LAG = 5.0


class Part(BaseModel):
    """A table within the options; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Atlas(Part):
    """Where areas come from.

    Parameters
    ----------
    path : str or list of str
        NIfTI, dlabel, dscalar, annot or label GIFTI, or one file for each hemisphere. Relative to the root;
        ``{subject}`` stands for ``sub-01``.
    labels : str or dict of str to str, optional
        Names of the values of a file that has none: a TSV or CSV with the columns ``index`` and ``name``, or a table
        ``{1 = "V1v"}``.
    threshold : float, optional
        For probabilities: what lies above is in the area.
    """

    path: str | list[str]
    labels: str | dict[str, str] | None = None
    threshold: float | None = None


class Strategy(Part):
    """Confounds chosen by nilearn's ``load_confounds``; its parameters, with its defaults."""

    strategy: list[str]
    motion: str = "full"
    scrub: int = 5
    fd_threshold: float = 0.5
    std_dvars_threshold: float = 1.5
    wm_csf: str = "basic"
    global_signal: str = "basic"
    compcor: str = "anat_combined"
    n_compcor: int | str = "all"
    ica_aroma: str = "full"


class Split(Part):
    """Which stimuli are test stimuli; at most one of the keys.

    Parameters
    ----------
    column : str, optional
        A column of the events that says ``train``, ``test`` or another split. Where no key is given, a column
        ``split`` is taken if there is one.
    runs, sessions : list of str, optional
        Labels of the test runs or test sessions.
    stimuli : list of str, optional
        Test stimuli, with wildcards.
    """

    column: str | None = None
    runs: list[str] | None = None
    sessions: list[str] | None = None
    stimuli: list[str] | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Refuse two rules at once."""
        given = [key for key, value in self if value is not None]
        if len(given) > 1:
            raise ValueError(f"at most one of column, runs, sessions, stimuli, not {' and '.join(given)}")


class BidsOptions(Options):
    """Options of the BIDS reader. ``stores/README.md`` explains them one by one."""

    subjects: list[str] | None = None
    tasks: list[str] | None = None
    sessions: list[str] | None = None
    runs: list[str] | None = None
    space: str | None = None
    resolution: str | None = None
    density: str | None = None
    kind: Literal["volume", "surface", "grayordinates"] | None = None
    entities: dict[str, str] = Field(default_factory=dict)
    repetition_time: float | None = Field(default=None, gt=0)

    events: str | None = None
    stimulus_column: str | None = None
    category_column: str = "trial_type"
    rest: list[str] = Field(default_factory=lambda: ["rest", "baseline", "fixation", "blank", "null"])
    split: Split | Literal["none"] = Field(default_factory=Split)

    stimuli: str | None = None
    captions: str | None = None
    image_size: int | None = Field(default=None, ge=8, le=2048)
    fit: Literal["pad", "crop", "stretch"] = "pad"
    frames: int = Field(default=8, ge=1, le=256)

    samples: Literal["block", "volume", "fir", "glm", "glmsingle"] = "block"
    lag: float | None = Field(default=None, ge=0, le=30)
    window: float | None = Field(default=None, gt=0, le=60)
    fir_seconds: float = Field(default=20.0, gt=0, le=60)
    least_squares: Literal["all", "separate"] = "separate"
    hrf_model: Literal["glover", "spm"] = "glover"
    noise_model: str = Field(default="ols", pattern=r"^(ols|ar[1-9])$")

    confounds: list[str] | Strategy = Field(default_factory=list)
    detrend: bool = True
    standardize: Literal["zscore", "psc", "none"] = "zscore"
    high_pass: float | None = Field(default=None, gt=0)

    mask: str = "brain"
    rois: dict[str, str | list[str] | Atlas] = Field(default_factory=dict)
    bad_voxels: Literal["drop", "keep"] = "drop"

    @property
    def seconds_after(self) -> float:
        """Seconds by which a response follows its stimulus."""
        if self.lag is not None:
            return self.lag
        return 0.0 if self.samples == "volume" else LAG
