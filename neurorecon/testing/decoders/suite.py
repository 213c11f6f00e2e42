"""The contract suite that every decoder has to pass, ours and those of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neurorecon.testing.decoders import estimator, numbers
from neurorecon.testing.decoders.trial import Trial
from neurorecon.testing.problems import Problem
from neurorecon.testing.suite import Check, run_all

#: Largest difference, relative to the largest value, that predicting samples one by one may make.
TOLERANCE = 1e-4

#: Least R2 on new samples of the problem.
LEAST_R2 = 0.5

CHECKS: tuple[Callable[[Trial], None], ...] = (
    estimator.check_parameters,
    estimator.check_unfitted,
    numbers.check_shapes,
    numbers.check_learns,
    numbers.check_score,
    numbers.check_determinism,
    numbers.check_refit,
    estimator.check_global_state,
    numbers.check_inputs_stay,
    numbers.check_storage,
    numbers.check_rows,
    numbers.check_groups,
    estimator.check_save,
    estimator.check_pickle,
    estimator.check_pipeline,
    estimator.check_errors,
)


class DecoderCheck(Check):
    """One check of the contract; its function takes a :class:`~neurorecon.testing.decoders.trial.Trial`."""

    def __call__(
        self,
        decoder: Any,
        *,
        problem: Problem | None = None,
        tolerance: float = TOLERANCE,
        least_r2: float = LEAST_R2,
    ) -> None:
        """Run the check; the parameters are those of :func:`check_decoder`.

        Raises
        ------
        ContractError
            Where the decoder does not keep the contract. What the decoder itself raises is passed through.
        """
        self.function(Trial(decoder, problem or Problem(), tolerance, least_r2))


def decoder_checks() -> list[DecoderCheck]:
    """Return all checks, e.g. for ``pytest.mark.parametrize("check", decoder_checks(), ids=str)``."""
    return DecoderCheck.of(CHECKS)


def check_decoder(
    decoder: Any, *, problem: Problem | None = None, tolerance: float = TOLERANCE, least_r2: float = LEAST_R2
) -> list[str]:
    """Run all checks on a decoder.

    Parameters
    ----------
    decoder : estimator
        Made with the settings to test, which have to suit the problem: small, and quick to fit.
    problem : Problem, optional
        By default 48 samples of 24 stimuli, 8 voxels, and targets of shape (2, 3) that follow from them
        linearly, with noise.
    tolerance : float
        Largest difference, relative to the largest value, that predicting samples one by one may make.
    least_r2 : float
        Mean R2 on new samples that has to be reached.

    Returns
    -------
    list of str
        Names of the checks, all of which were passed.

    Raises
    ------
    ContractError
        Where checks failed: a line for each, with the name of the check and what was expected.
    """
    trial = Trial(decoder, problem or Problem(), tolerance, least_r2)
    return run_all(decoder_checks(), trial, what="decoder", name=type(decoder).__name__)
