"""A suite of checks: one by one by their names, or all at once with a line for each that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from neurorecon.testing.contract import ContractError


@dataclass(frozen=True)
class Check:
    """One check of a contract; suites add how it is called.

    Parameters
    ----------
    name : str
        What it looks at; ``str(check)`` is this name, for test ids.
    function : callable
        Raises a :class:`~neurorecon.testing.ContractError` where the contract is not kept.
    """

    name: str
    function: Callable[..., None]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, functions: Iterable[Callable[..., None]]) -> list[Self]:
        """Return a check for each function, named as it is without ``check_``."""
        return [cls(function.__name__.removeprefix("check_"), function) for function in functions]


def run_all(checks: Sequence[Check], *arguments: Any, what: str, name: str) -> list[str]:
    """Run all checks, whatever one of them meets.

    Parameters
    ----------
    checks : sequence of Check
        The suite.
    *arguments
        What the function of each check takes.
    what, name : str
        What is under test, for the message: ``"decoder"``, and which.

    Returns
    -------
    list of str
        Names of the checks, all of which were passed.

    Raises
    ------
    ContractError
        Where checks failed: a line for each, with the name of the check and what was expected.
    """
    failed, error = [], None
    for check in checks:
        try:
            check.function(*arguments)
        except ContractError as caught:
            failed.append(f"{check}: {caught}")
        except Exception as caught:  # what the code under test raises is reported as well
            failed.append(f"{check}: the {what} raised {type(caught).__name__}: {caught}")
            error = caught
    if failed:
        raise ContractError("\n".join([f"the {what} {name} does not keep the contract", *failed])) from error
    return [str(check) for check in checks]
