"""neurorecon: voxel-wise maps, decoding and reconstruction from fMRI of people looking at images and videos.

All public names are imported lazily, so that ``import neurorecon`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from neurorecon.analyses.ablate import ablate
    from neurorecon.analyses.audit import audit
    from neurorecon.analyses.classify import classify
    from neurorecon.analyses.controls import compare, with_controls
    from neurorecon.analyses.evaluate import evaluate
    from neurorecon.analyses.finetune import finetune
    from neurorecon.analyses.generalization import generalization
    from neurorecon.analyses.maps import maps, voxelwise_maps
    from neurorecon.analyses.output_effects import output_effects
    from neurorecon.analyses.partition import partition_variance
    from neurorecon.analyses.reconstruct import reconstruct
    from neurorecon.analyses.results import (
        Result,
        Score,
        record_of,
        write,
        write_classification,
        write_maps,
        write_reconstruction,
    )
    from neurorecon.analyses.roi_optimal import roi_optimal
    from neurorecon.analyses.shuffle import shuffle
    from neurorecon.analyses.splits import split
    from neurorecon.analyses.system_maps import system_maps
    from neurorecon.decoders.banded import BandedRidge
    from neurorecon.decoders.neural.mlp import MLPDecoder
    from neurorecon.decoders.persistence import load_decoder
    from neurorecon.decoders.ridge import RidgeDecoder
    from neurorecon.features.extract import build, extract, load_extractor
    from neurorecon.features.own import add_target
    from neurorecon.generators.base import Generator, load_generator
    from neurorecon.registry import GENERATORS, METRICS
    from neurorecon.store.build import build_from_arrays
    from neurorecon.store.check import check_store, export_store
    from neurorecon.store.store import Store, open_store
    from neurorecon.systems.base import System, TargetSpec, load_system
    from neurorecon.systems.decoded import Decoded
    from neurorecon.systems.refined import refine

_PUBLIC = {
    "GENERATORS": "neurorecon.registry",
    "METRICS": "neurorecon.registry",
    "BandedRidge": "neurorecon.decoders.banded",
    "Decoded": "neurorecon.systems.decoded",
    "Generator": "neurorecon.generators.base",
    "MLPDecoder": "neurorecon.decoders.neural.mlp",
    "Result": "neurorecon.analyses.results",
    "RidgeDecoder": "neurorecon.decoders.ridge",
    "Score": "neurorecon.analyses.results",
    "Store": "neurorecon.store.store",
    "System": "neurorecon.systems.base",
    "TargetSpec": "neurorecon.systems.base",
    "ablate": "neurorecon.analyses.ablate",
    "add_target": "neurorecon.features.own",
    "audit": "neurorecon.analyses.audit",
    "build": "neurorecon.features.extract",
    "build_from_arrays": "neurorecon.store.build",
    "check_store": "neurorecon.store.check",
    "classify": "neurorecon.analyses.classify",
    "compare": "neurorecon.analyses.controls",
    "evaluate": "neurorecon.analyses.evaluate",
    "export_store": "neurorecon.store.check",
    "extract": "neurorecon.features.extract",
    "finetune": "neurorecon.analyses.finetune",
    "load_decoder": "neurorecon.decoders.persistence",
    "load_extractor": "neurorecon.features.extract",
    "load_generator": "neurorecon.generators.base",
    "load_system": "neurorecon.systems.base",
    "maps": "neurorecon.analyses.maps",
    "open_store": "neurorecon.store.store",
    "output_effects": "neurorecon.analyses.output_effects",
    "partition_variance": "neurorecon.analyses.partition",
    "reconstruct": "neurorecon.analyses.reconstruct",
    "record_of": "neurorecon.analyses.results",
    "refine": "neurorecon.systems.refined",
    "roi_optimal": "neurorecon.analyses.roi_optimal",
    "shuffle": "neurorecon.analyses.shuffle",
    "generalization": "neurorecon.analyses.generalization",
    "split": "neurorecon.analyses.splits",
    "system_maps": "neurorecon.analyses.system_maps",
    "voxelwise_maps": "neurorecon.analyses.maps",
    "with_controls": "neurorecon.analyses.controls",
    "write": "neurorecon.analyses.results",
    "write_classification": "neurorecon.analyses.results",
    "write_maps": "neurorecon.analyses.results",
    "write_reconstruction": "neurorecon.analyses.results",
}

#: A literal list: type checkers read it, and re-export only what is in it.
__all__ = [
    "GENERATORS",
    "METRICS",
    "BandedRidge",
    "Decoded",
    "Generator",
    "MLPDecoder",
    "Result",
    "RidgeDecoder",
    "Score",
    "Store",
    "System",
    "TargetSpec",
    "__version__",
    "ablate",
    "add_target",
    "audit",
    "build",
    "build_from_arrays",
    "check_store",
    "classify",
    "compare",
    "evaluate",
    "export_store",
    "extract",
    "finetune",
    "generalization",
    "load_decoder",
    "load_extractor",
    "load_generator",
    "load_system",
    "maps",
    "open_store",
    "output_effects",
    "partition_variance",
    "reconstruct",
    "record_of",
    "roi_optimal",
    "shuffle",
    "split",
    "system_maps",
    "voxelwise_maps",
    "with_controls",
    "write",
    "write_classification",
    "write_maps",
    "write_reconstruction",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name == "stats":  # a package of functions on plain arrays
        return import_module("neurorecon.stats")
    raise AttributeError(f"module 'neurorecon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
