"""Permutation tests, multiple comparisons, confidence intervals, noise ceilings and variance partitioning."""

from neurorecon.stats.bootstrap import Interval, bootstrap_interval, bootstrap_means, bootstrap_p, bootstrap_weights
from neurorecon.stats.exchange import Exchange, choose_exchange, lag_one_autocorrelation, ordered_test
from neurorecon.stats.jackknife import enough_for_intervals, jackknife_interval, jackknife_r2
from neurorecon.stats.noise_ceiling import (
    CEILING_FLOOR,
    RepeatVariance,
    VarianceComponents,
    explainable_variance,
    mean_ceiling,
    noise_ceiling_from_trials,
    normalize_correlation,
    normalize_r2,
    series_components,
    shown_ceiling,
)
from neurorecon.stats.permutation import (
    PermutationCounter,
    false_discovery_rate,
    max_statistic_p,
    permutation_p,
    stimulus_permutations,
)
from neurorecon.stats.prediction import GroupTest, PermutationTest, permutation_test_r2
from neurorecon.stats.refit import (
    RefitTest,
    refit_permutation_test,
    refit_permutation_test_kernels,
    refit_warnings,
)
from neurorecon.stats.variance_partition import (
    VariancePartition,
    band_combinations,
    partition_predictions,
    variance_partition,
)

__all__ = [
    "CEILING_FLOOR",
    "Exchange",
    "GroupTest",
    "Interval",
    "PermutationCounter",
    "PermutationTest",
    "RefitTest",
    "RepeatVariance",
    "VarianceComponents",
    "VariancePartition",
    "band_combinations",
    "bootstrap_interval",
    "bootstrap_means",
    "bootstrap_p",
    "bootstrap_weights",
    "choose_exchange",
    "enough_for_intervals",
    "explainable_variance",
    "false_discovery_rate",
    "jackknife_interval",
    "jackknife_r2",
    "lag_one_autocorrelation",
    "max_statistic_p",
    "mean_ceiling",
    "noise_ceiling_from_trials",
    "normalize_correlation",
    "normalize_r2",
    "ordered_test",
    "partition_predictions",
    "permutation_p",
    "permutation_test_r2",
    "refit_permutation_test",
    "refit_permutation_test_kernels",
    "refit_warnings",
    "series_components",
    "shown_ceiling",
    "stimulus_permutations",
    "variance_partition",
]
