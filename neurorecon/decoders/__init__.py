"""Regressions: from responses to targets (decoding), and from features to responses (encoding)."""

from neurorecon.decoders.banded.decoder import BandedRidge
from neurorecon.decoders.banded.kernels_by_block import kernels_by_block
from neurorecon.decoders.banded.mixtures import candidate_mixtures
from neurorecon.decoders.banded.nested import NestedScores, fit_by_voxel_block, nested_cross_validation
from neurorecon.decoders.banded.rois import bands_of_rois
from neurorecon.decoders.delays import Delayer, delayed_kernel, rows_at_delays
from neurorecon.decoders.folds import group_folds
from neurorecon.decoders.neural.decoder import NeuralDecoder
from neurorecon.decoders.neural.mlp import MLPDecoder
from neurorecon.decoders.persistence import load_decoder
from neurorecon.decoders.ridge.decoder import RidgeDecoder
from neurorecon.decoders.ridge.smoothing import RidgeSmoother
from neurorecon.decoders.scores import correlation_score, correlation_score_split, r2_score, r2_score_split
from neurorecon.decoders.sessions.decoder import UpdatingRidge
from neurorecon.decoders.sessions.standardizing import standardize_sessions
from neurorecon.decoders.subjects.decoder import MultiSubjectRidge

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
