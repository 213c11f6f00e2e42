"""Regression from responses to targets (decoding) and from features to responses (encoding)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurorecon.decoders.banded import BandedRidge, bands_of_rois
    from neurorecon.decoders.banded_search import candidate_mixtures
    from neurorecon.decoders.kernels import Delayer, delayed_kernel, kernels_by_block, rows_at_delays
    from neurorecon.decoders.multi_subject import MultiSubjectRidge
    from neurorecon.decoders.nested import NestedScores, fit_by_voxel_block, nested_cross_validation
    from neurorecon.decoders.neural.animator import MotionDecoder, SemanticDecoder
    from neurorecon.decoders.neural.base import NeuralDecoder
    from neurorecon.decoders.neural.chunks import CNNDecoder, GRUDecoder, TransformerDecoder
    from neurorecon.decoders.neural.mlp import MLPDecoder
    from neurorecon.decoders.neural.subjects import MultiSubjectMLP
    from neurorecon.decoders.persistence import load_decoder
    from neurorecon.decoders.ridge import RidgeDecoder
    from neurorecon.decoders.smoother import RidgeSmoother
    from neurorecon.decoders.validation import (
        correlation_score,
        correlation_score_split,
        group_folds,
        r2_score,
        r2_score_split,
    )

#: Module of each name; it is imported when the name is first used.
_HOMES = {
    "BandedRidge": "banded",
    "CNNDecoder": "neural.chunks",
    "Delayer": "kernels",
    "GRUDecoder": "neural.chunks",
    "MLPDecoder": "neural.mlp",
    "MotionDecoder": "neural.animator",
    "MultiSubjectMLP": "neural.subjects",
    "MultiSubjectRidge": "multi_subject",
    "NestedScores": "nested",
    "NeuralDecoder": "neural.base",
    "RidgeDecoder": "ridge",
    "RidgeSmoother": "smoother",
    "SemanticDecoder": "neural.animator",
    "TransformerDecoder": "neural.chunks",
    "bands_of_rois": "banded",
    "candidate_mixtures": "banded_search",
    "correlation_score": "validation",
    "correlation_score_split": "validation",
    "delayed_kernel": "kernels",
    "fit_by_voxel_block": "nested",
    "group_folds": "validation",
    "kernels_by_block": "kernels",
    "load_decoder": "persistence",
    "nested_cross_validation": "nested",
    "r2_score": "validation",
    "r2_score_split": "validation",
    "rows_at_delays": "kernels",
}

__all__ = [
    "BandedRidge",
    "CNNDecoder",
    "Delayer",
    "GRUDecoder",
    "MLPDecoder",
    "MotionDecoder",
    "MultiSubjectMLP",
    "MultiSubjectRidge",
    "NestedScores",
    "NeuralDecoder",
    "RidgeDecoder",
    "RidgeSmoother",
    "SemanticDecoder",
    "TransformerDecoder",
    "bands_of_rois",
    "candidate_mixtures",
    "correlation_score",
    "correlation_score_split",
    "delayed_kernel",
    "fit_by_voxel_block",
    "group_folds",
    "kernels_by_block",
    "load_decoder",
    "nested_cross_validation",
    "r2_score",
    "r2_score_split",
    "rows_at_delays",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
