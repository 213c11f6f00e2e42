"""Names for things that are imported only when they are used.

What neurorecon ships is listed here; other packages add their own through entry points (groups
``neurorecon.datasets``, ``neurorecon.features``, ``neurorecon.decoders``, ``neurorecon.systems``,
``neurorecon.metrics``).
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from neurorecon.errors import InputError, UnknownNameError


class Registry:
    """A table of names, each standing for an object in a module that is imported late.

    Parameters
    ----------
    kind : str
        What the names stand for, in words for error messages.
    group : str
        Entry-point group in which other packages register theirs.
    builtin : dict of str to str
        Name to ``"module:attribute"``.
    """

    def __init__(self, kind: str, group: str, builtin: dict[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._builtin: dict[str, str] = dict(builtin)
        self._added: dict[str, Any] = {}

    def register(self, name: str, thing: Any) -> None:
        """Add a name for this process, e.g. a reader that is defined in an analysis script.

        Parameters
        ----------
        name : str
            The new name; those that exist stand for what they did.
        thing : object
            What it stands for.
        """
        if name in self.names() and self._added.get(name) is not thing:
            raise InputError(
                f"the name {name!r} is taken",
                given=f"a second {self.kind} of that name",
                expected=f"a name other than: {', '.join(self.names())}",
                todo="choose another name",
            )
        self._added[name] = thing

    @property
    def builtin(self) -> list[str]:
        """Names of what neurorecon ships."""
        return list(self._builtin)

    def names(self) -> list[str]:
        """Return all names, ours first."""
        others = {point.name for point in entry_points(group=self.group)} | set(self._added)
        return [*self._builtin, *sorted(others - set(self._builtin))]

    def load(self, name: str) -> Any:
        """Import and return what a name stands for.

        Raises
        ------
        UnknownNameError
            Where the name is not registered.
        InputError
            Where its package misses something that it needs.
        """
        if name in self._added:
            return self._added[name]
        targets = {point.name: point.value for point in entry_points(group=self.group)} | self._builtin
        if name not in targets:
            raise UnknownNameError(self.kind, name, self.names())
        module, _, attribute = targets[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise InputError(
                f"the {self.kind} {name!r} needs a package that is not installed",
                given=f"no package {error.name!r}",
                expected=f"{error.name!r} beside neurorecon",
                todo=f"pip install {error.name}",
            ) from error


#: Readers of data sets on disk.
DATASETS = Registry(
    "data set",
    "neurorecon.datasets",
    {
        "scenes": "neurorecon.simulation.reader:ScenesReader",
        "miyawaki2008": "neurorecon.datasets.miyawaki2008:Miyawaki2008Reader",
        "nsd": "neurorecon.datasets.nsd.reader:NsdReader",
        "haxby2001": "neurorecon.datasets.haxby2001:Haxby2001Reader",
        "yamada2015": "neurorecon.datasets.yamada2015:Yamada2015Reader",
        "arrays": "neurorecon.datasets.arrays.reader:ArraysReader",
        "bids": "neurorecon.datasets.bids.reader:BidsReader",
    },
)

#: Extractors of targets from stimuli.
FEATURES = Registry(
    "target",
    "neurorecon.features",
    {
        "gabor": "neurorecon.features.gabor:GaborExtractor",
        "category": "neurorecon.features.category:CategoryExtractor",
        "motion": "neurorecon.features.motion:MotionExtractor",
        "optical_flow": "neurorecon.features.optical_flow:OpticalFlowExtractor",
        "clip_vision": "neurorecon.features.clip:ClipVisionExtractor",
        "clip_text": "neurorecon.features.clip:ClipTextExtractor",
        "clip_text_sd": "neurorecon.features.clip:TextConditionExtractor",
        "clip_text_15": "neurorecon.features.clip:TextConditionFirst15Extractor",
        "clip_text_20": "neurorecon.features.clip:TextConditionFirst20Extractor",
        "clip_image": "neurorecon.features.clip:ClipImageExtractor",
        "clip_image_mean": "neurorecon.features.clip:ClipImageMeanExtractor",
        "clip_layers": "neurorecon.features.clip:ClipLayersExtractor",
        "vqvae": "neurorecon.features.autoencoder:VqvaeExtractor",
        "vqvae_frames": "neurorecon.features.autoencoder:VqvaeFramesExtractor",
        "vdvae": "neurorecon.features.vdvae:VdvaeExtractor",
    },
)

#: Decoders by the names of their classes, which saved decoders go by.
DECODERS = Registry(
    "decoder",
    "neurorecon.decoders",
    {
        "RidgeDecoder": "neurorecon.decoders.ridge:RidgeDecoder",
        "BandedRidge": "neurorecon.decoders.banded:BandedRidge",
        "MLPDecoder": "neurorecon.decoders.neural.mlp:MLPDecoder",
        "MultiSubjectRidge": "neurorecon.decoders.multi_subject:MultiSubjectRidge",
    },
)

#: Systems that reconstruct stimuli from responses.
SYSTEMS = Registry(
    "system",
    "neurorecon.systems",
    {"linear-pixels": "neurorecon.systems.linear_pixels:LinearPixels"},
)

#: Metrics that compare reconstructions with what was seen, by the names that papers use.
METRICS = Registry(
    "metric",
    "neurorecon.metrics",
    {
        "pixcorr": "neurorecon.metrics.identification:PIXCORR",
        "ssim_gray2d": "neurorecon.metrics.image:SSIM_GRAY2D",
        "ssim_gray_columns": "neurorecon.metrics.image:SSIM_GRAY_COLUMNS",
        "ssim_rgb7": "neurorecon.metrics.image:SSIM_RGB7",
        "mse": "neurorecon.metrics.image:MSE",
        "psnr": "neurorecon.metrics.image:PSNR",
        "two_way": "neurorecon.metrics.identification:TWO_WAY",
        "two_way_half_ties": "neurorecon.metrics.identification:TWO_WAY_HALF_TIES",
        "two_way_among_reconstructions": "neurorecon.metrics.identification:TWO_WAY_AMONG_RECONSTRUCTIONS",
        "n_way": "neurorecon.metrics.identification:n_way",
    },
)
