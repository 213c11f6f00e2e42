"""Statistics over arrays: permutation tests, multiple comparisons, intervals and noise ceilings."""

from neurorecon.stats.bootstrap import Interval, bootstrap_interval
from neurorecon.stats.multiple_comparisons import false_discovery_rate, max_statistic_p
from neurorecon.stats.noise_ceiling import RepeatVariance, explainable_variance, noise_ceiling_from_trials
from neurorecon.stats.permutation import PermutationCounter, permutation_p, stimulus_permutations
from neurorecon.stats.prediction import GroupTest, PermutationTest, permutation_test_r2

__all__ = [
    "GroupTest",
    "Interval",
    "PermutationCounter",
    "PermutationTest",
    "RepeatVariance",
    "bootstrap_interval",
    "explainable_variance",
    "false_discovery_rate",
    "max_statistic_p",
    "noise_ceiling_from_trials",
    "permutation_p",
    "permutation_test_r2",
    "stimulus_permutations",
]
