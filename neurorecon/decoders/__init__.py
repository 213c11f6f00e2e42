"""Regressions: from responses to targets (decoding), and from features to responses (encoding)."""

from neurorecon.decoders.banded_ridge import BandedRidge
from neurorecon.decoders.folds import group_folds
from neurorecon.decoders.mixtures import candidate_mixtures
from neurorecon.decoders.mlp import MLPDecoder
from neurorecon.decoders.multi_subject import MultiSubjectRidge
from neurorecon.decoders.neural import NeuralDecoder
from neurorecon.decoders.persistence import load_decoder
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.scores import correlation_score, r2_score, r2_score_split
from neurorecon.decoders.smoothing import RidgeSmoother
from neurorecon.decoders.updating import UpdatingRidge
from neurorecon.decoders.updating_sessions import standardize_sessions

__all__ = [
    "BandedRidge",
    "MLPDecoder",
    "MultiSubjectRidge",
    "NeuralDecoder",
    "RidgeDecoder",
    "RidgeSmoother",
    "UpdatingRidge",
    "candidate_mixtures",
    "correlation_score",
    "group_folds",
    "load_decoder",
    "r2_score",
    "r2_score_split",
    "standardize_sessions",
]
