"""Regressions: from responses to targets (decoding), and from features to responses (encoding)."""

from neurorecon.decoders.band_kernels import kernels_by_block
from neurorecon.decoders.banded_nested import NestedScores, fit_by_voxel_block, nested_cross_validation
from neurorecon.decoders.banded_ridge import BandedRidge
from neurorecon.decoders.delays import Delayer, delayed_kernel, rows_at_delays
from neurorecon.decoders.folds import group_folds
from neurorecon.decoders.mixtures import candidate_mixtures
from neurorecon.decoders.mlp import MLPDecoder
from neurorecon.decoders.multi_subject import MultiSubjectRidge
from neurorecon.decoders.neural import NeuralDecoder
from neurorecon.decoders.persistence import load_decoder
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.roi_bands import bands_of_rois
from neurorecon.decoders.scores import correlation_score, correlation_score_split, r2_score, r2_score_split
from neurorecon.decoders.smoothing import RidgeSmoother
from neurorecon.decoders.updating import UpdatingRidge
from neurorecon.decoders.updating_sessions import standardize_sessions

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
