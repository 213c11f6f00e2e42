"""Registries: names for readers, extractors, decoders, generators and systems, imported only when they are used.

The tables below list what neurorecon ships. Other packages register theirs through entry points: groups
``neurorecon.datasets``, ``neurorecon.features``, ``neurorecon.decoders``, ``neurorecon.generators``,
``neurorecon.systems`` and ``neurorecon.metrics``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from neurorecon.errors import InputError, UnknownNameError


class Registry:
    """A table of names for objects whose modules are imported on first use.

    Parameters
    ----------
    kind : str
        What the names refer to, e.g. ``"data set"``; used in error messages.
    group : str
        Entry-point group in which other packages register theirs.
    builtin : dict of str to str
        Maps each name to ``"module:attribute"``.

    Examples
    --------
    >>> import neurorecon as nr
    >>> nr.METRICS.names()[:3]
    ['pixcorr', 'ssim_gray2d', 'ssim_gray_columns']
    """

    def __init__(self, kind: str, group: str, builtin: dict[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._builtin: dict[str, str] = dict(builtin)
        self._added: dict[str, Any] = {}

    def register(self, name: str, thing: Any) -> None:
        """Register an object for this process, e.g. a reader defined in an analysis script.

        Parameters
        ----------
        name : str
            The new name.
        thing : object
            The object to register.

        Raises
        ------
        InputError
            If the name is already taken by another object.
        """
        if name in self.names() and self._added.get(name) is not thing:
            raise InputError(
                f"the name {name!r} is already taken",
                given=f"another {self.kind} with that name",
                expected=f"a name other than: {', '.join(self.names())}",
                todo="choose another name",
            )
        self._added[name] = thing

    @property
    def builtin(self) -> list[str]:
        """The names that neurorecon ships."""
        return list(self._builtin)

    def names(self) -> list[str]:
        """Return all names, those of neurorecon first."""
        others = {point.name for point in entry_points(group=self.group)} | set(self._added)
        return [*self._builtin, *sorted(others - set(self._builtin))]

    def load(self, name: str) -> Any:
        """Import and return a registered object.

        Parameters
        ----------
        name : str
            A name from :meth:`names`.

        Returns
        -------
        object

        Raises
        ------
        UnknownNameError
            If the name is not registered.
        InputError
            If a package that it depends on is not installed.
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
                expected=f"{error.name!r} to be installed",
                todo=f"pip install {error.name}",
            ) from error


#: Readers of data sets.
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
        "cc2017": "neurorecon.datasets.cc2017:Cc2017Reader",
        "hcp7t": "neurorecon.datasets.hcp7t:Hcp7tReader",
        "algonauts2021": "neurorecon.datasets.algonauts2021:Algonauts2021Reader",
        "things": "neurorecon.datasets.things:ThingsReader",
        "laion_fmri": "neurorecon.datasets.laion_fmri:LaionFmriReader",
        "bold_moments": "neurorecon.datasets.bold_moments:BoldMomentsReader",
    },
)

#: Extractors, which compute targets from stimuli.
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
        "clip_text_embedding": "neurorecon.features.clip:ClipTextEmbeddingExtractor",
        "clip_image": "neurorecon.features.clip:ClipImageExtractor",
        "clip_image_mean": "neurorecon.features.clip:ClipImageMeanExtractor",
        "clip_layers": "neurorecon.features.clip:ClipLayersExtractor",
        "clip_bigg": "neurorecon.features.clip:ClipBigGExtractor",
        "ip_adapter": "neurorecon.features.clip:ImagePromptExtractor",
        "ip_adapter_sd15": "neurorecon.features.clip:ImagePromptSd15Extractor",
        "kandinsky_image": "neurorecon.features.clip:KandinskyImageExtractor",
        "vqvae": "neurorecon.features.autoencoder:VqvaeExtractor",
        "vqvae_frames": "neurorecon.features.autoencoder:VqvaeFramesExtractor",
        "vqvae_first": "neurorecon.features.autoencoder:VqvaeFirstExtractor",
        "vdvae": "neurorecon.features.vdvae:VdvaeExtractor",
    },
)

#: Decoders, by class name: saved decoders store it.
DECODERS = Registry(
    "decoder",
    "neurorecon.decoders",
    {
        "RidgeDecoder": "neurorecon.decoders.ridge:RidgeDecoder",
        "BandedRidge": "neurorecon.decoders.banded:BandedRidge",
        "MLPDecoder": "neurorecon.decoders.neural.mlp:MLPDecoder",
        "GRUDecoder": "neurorecon.decoders.neural.chunks:GRUDecoder",
        "CNNDecoder": "neurorecon.decoders.neural.chunks:CNNDecoder",
        "TransformerDecoder": "neurorecon.decoders.neural.chunks:TransformerDecoder",
        "SemanticDecoder": "neurorecon.decoders.neural.animator:SemanticDecoder",
        "MotionDecoder": "neurorecon.decoders.neural.animator:MotionDecoder",
        "MultiSubjectMLP": "neurorecon.decoders.neural.subjects:MultiSubjectMLP",
        "MultiSubjectRidge": "neurorecon.decoders.multi_subject:MultiSubjectRidge",
    },
)

#: Systems, which reconstruct stimuli from responses.
SYSTEMS = Registry(
    "system",
    "neurorecon.systems",
    {
        "linear-pixels": "neurorecon.systems.linear_pixels:LinearPixels",
        "brain-diffuser": "neurorecon.systems.brain_diffuser:BrainDiffuser",
        "takagi": "neurorecon.systems.takagi:Takagi",
        "gru-two-stage": "neurorecon.systems.gru_two_stage:GRUTwoStage",
        "mind-diffuser": "neurorecon.systems.mind_diffuser:MindDiffuser",
        "mind-animator": "neurorecon.systems.mind_animator:MindAnimator",
        "linear-frames": "neurorecon.systems.frame_by_frame:LinearFrames",
        "frame-by-frame": "neurorecon.systems.frame_by_frame:FrameByFrame",
        "neurorecon": "neurorecon.systems.refined:Neurorecon",
        "refined": "neurorecon.systems.refined:Refined",
    },
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
        "n_way": "neurorecon.metrics.identification:identification",
        "topk_of_n": "neurorecon.metrics.identification:identification",
        "two_way_clip": "neurorecon.metrics.networks:TWO_WAY_CLIP",
        "clip_similarity": "neurorecon.metrics.networks:CLIP_SIMILARITY",
        "two_way_probe": "neurorecon.metrics.networks:TWO_WAY_PROBE",
        "two_way_alexnet2": "neurorecon.metrics.networks:TWO_WAY_ALEXNET2",
        "two_way_alexnet5": "neurorecon.metrics.networks:TWO_WAY_ALEXNET5",
        "two_way_inception": "neurorecon.metrics.networks:TWO_WAY_INCEPTION",
        "effnet_distance": "neurorecon.metrics.networks:EFFNET_DISTANCE",
        "swav_distance": "neurorecon.metrics.networks:SWAV_DISTANCE",
        "lpips": "neurorecon.metrics.perceptual:LPIPS",
        "fid_torchvision": "neurorecon.metrics.perceptual:FID_TORCHVISION",
        "probe": "neurorecon.metrics.networks:PROBE",
        "probe_kind": "neurorecon.metrics.semantics:PROBE_KIND",
        "zero_shot": "neurorecon.metrics.semantics:ZERO_SHOT",
        "caption_similarity": "neurorecon.metrics.semantics:CAPTION_SIMILARITY",
        "caption_recall": "neurorecon.metrics.semantics:CAPTION_RECALL",
        "ssim_frames": "neurorecon.metrics.video:SSIM_FRAMES",
        "psnr_frames": "neurorecon.metrics.video:PSNR_FRAMES",
        "hue_cosine": "neurorecon.metrics.video:HUE_COSINE",
        "hue_cosine_rgb": "neurorecon.metrics.video:HUE_COSINE_RGB",
        "epe": "neurorecon.metrics.video:EPE",
        "epe_rgb": "neurorecon.metrics.video:EPE_RGB",
        "epe_raft": "neurorecon.metrics.video:EPE_RAFT",
        "direction_agreement": "neurorecon.metrics.video:DIRECTION_AGREEMENT",
        "two_way_i_top1": "neurorecon.metrics.video:TWO_WAY_I_TOP1",
        "two_way_i_top3_any": "neurorecon.metrics.video:TWO_WAY_I_TOP3_ANY",
        "two_way_v_top1": "neurorecon.metrics.video:TWO_WAY_V_TOP1",
        "two_way_v_top3_any": "neurorecon.metrics.video:TWO_WAY_V_TOP3_ANY",
        "two_way_vifi": "neurorecon.metrics.video:TWO_WAY_VIFI",
        "vifi_clip": "neurorecon.metrics.video:VIFI_CLIP",
        "retrieval_top10": "neurorecon.metrics.video:RETRIEVAL_TOP10",
        "retrieval_top100": "neurorecon.metrics.video:RETRIEVAL_TOP100",
        "clip_pcc": "neurorecon.metrics.video:CLIP_PCC",
        "clip_pcc_gated": "neurorecon.metrics.video:CLIP_PCC_GATED",
    },
)

#: Generators, which turn decoded targets into images.
GENERATORS = Registry(
    "generator",
    "neurorecon.generators",
    {
        "vdvae": "neurorecon.generators.vdvae:VdvaeGenerator",
        "latent-diffusion": "neurorecon.generators.latent_diffusion:LatentDiffusion",
        "refined-diffusion": "neurorecon.generators.refined_diffusion:RefinedDiffusion",
        "video-diffusion": "neurorecon.generators.video:VideoDiffusion",
        "sdxl-ip-adapter": "neurorecon.generators.image_prompt:SdxlIPAdapter",
        "sd15-ip-adapter": "neurorecon.generators.image_prompt:IPAdapter",
        "kandinsky-2.2": "neurorecon.generators.image_prompt:Kandinsky",
        "sdxl-unclip": "neurorecon.generators.image_prompt:SdxlUnclip",
        "autoencoder": "neurorecon.generators.latent_diffusion:AutoencoderGenerator",
    },
)
