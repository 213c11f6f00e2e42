"""Statistics over arrays: permutation tests, multiple comparisons, intervals and noise ceilings."""

from neurorecon.stats.bootstrap import Interval, bootstrap_interval, bootstrap_weights
from neurorecon.stats.multiple_comparisons import false_discovery_rate, max_statistic_p
from neurorecon.stats.noise_ceiling import RepeatVariance, explainable_variance, noise_ceiling_from_trials
from neurorecon.stats.normalization import CEILING_FLOOR, normalize_correlation, normalize_r2
from neurorecon.stats.permutation import PermutationCounter, permutation_p, stimulus_permutations
from neurorecon.stats.permutation_results import GroupTest, PermutationTest
from neurorecon.stats.prediction import permutation_test_r2
from neurorecon.stats.refit.permutation import refit_permutation_test, refit_permutation_test_kernels
from neurorecon.stats.variance_partition import (
    VariancePartition,
    band_combinations,
    partition_predictions,
    variance_partition,
)

__all__ = [
    "CEILING_FLOOR",
    "GroupTest",
    "Interval",
    "PermutationCounter",
    "PermutationTest",
    "RepeatVariance",
    "VariancePartition",
    "band_combinations",
    "bootstrap_interval",
    "bootstrap_weights",
    "explainable_variance",
    "false_discovery_rate",
    "max_statistic_p",
    "noise_ceiling_from_trials",
    "normalize_correlation",
    "normalize_r2",
    "partition_predictions",
    "permutation_p",
    "permutation_test_r2",
    "refit_permutation_test",
    "refit_permutation_test_kernels",
    "stimulus_permutations",
    "variance_partition",
]
