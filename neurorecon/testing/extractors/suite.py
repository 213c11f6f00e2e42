"""The contract suite that every extractor of a target has to pass, ours and those of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurorecon.testing.examples import Examples
from neurorecon.testing.extractors.checks import CHECKS
from neurorecon.testing.extractors.trial import Trial
from neurorecon.testing.suite import Check, run_all

#: Largest difference, relative to the largest value, that the size of a batch may make.
TOLERANCE = 1e-5


class ExtractorCheck(Check):
    """One check of the contract; its function takes a :class:`~neurorecon.testing.extractors.trial.Trial`."""

    def __call__(
        self,
        extractor: Any,
        *,
        others: Sequence[Any] = (),
        examples: Examples | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        """Run the check; the parameters are those of :func:`check_extractor`.

        Raises
        ------
        ContractError
            Where the extractor does not keep the contract. What the extractor itself raises is passed through.
        """
        self.function(Trial(extractor, others, examples or Examples(), tolerance))


def extractor_checks() -> list[ExtractorCheck]:
    """Return all checks, e.g. for ``pytest.mark.parametrize("check", extractor_checks(), ids=str)``."""
    return ExtractorCheck.of(CHECKS)


def check_extractor(
    extractor: Any,
    *,
    others: Sequence[Any] = (),
    examples: Examples | None = None,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Run all checks on an extractor.

    Parameters
    ----------
    extractor : Extractor
        Made with the settings to test.
    others : sequence of Extractor
        The same extractor with other settings that change its numbers: what it says of itself has to differ.
    examples : Examples, optional
        Stimuli; by default five small pictures, films, lists of captions and categories.
    tolerance : float
        Largest difference, relative to the largest value, that the size of a batch may make.

    Returns
    -------
    list of str
        Names of the checks, all of which were passed.

    Raises
    ------
    ContractError
        Where checks failed: a line for each, with the name of the check and what was expected.
    """
    trial = Trial(extractor, others, examples or Examples(), tolerance)
    name = getattr(extractor, "name", type(extractor).__name__)
    return run_all(extractor_checks(), trial, what="extractor", name=repr(name))
