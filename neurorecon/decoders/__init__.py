"""Regressions: from responses to targets (decoding), and from features to responses (encoding)."""

from neurorecon.decoders.banded import BandedRidge, bands_of_rois
from neurorecon.decoders.banded_search import candidate_mixtures
from neurorecon.decoders.kernels import Delayer, delayed_kernel, kernels_by_block, rows_at_delays
from neurorecon.decoders.multi_subject import MultiSubjectRidge
from neurorecon.decoders.nested import NestedScores, fit_by_voxel_block, nested_cross_validation
from neurorecon.decoders.neural.base import NeuralDecoder
from neurorecon.decoders.neural.mlp import MLPDecoder
from neurorecon.decoders.persistence import load_decoder
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.sessions.decoder import UpdatingRidge
from neurorecon.decoders.sessions.standardizing import standardize_sessions
from neurorecon.decoders.smoother import RidgeSmoother
from neurorecon.decoders.validation import (
    correlation_score,
    correlation_score_split,
    group_folds,
    r2_score,
    r2_score_split,
)

__all__ = [
    "BandedRidge",
    "Delayer",
    "MLPDecoder",
    "MultiSubjectRidge",
    "NestedScores",
    "NeuralDecoder",
    "RidgeDecoder",
    "RidgeSmoother",
    "UpdatingRidge",
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
    "standardize_sessions",
]
