"""For those who write readers or extractors of their own: the contracts, as checks that say what was expected.

In a test module::

    import pytest
    from neurorecon.testing import reader_checks

    @pytest.mark.parametrize("check", reader_checks(), ids=str)
    def test_contract(check):
        check(MyReader("testdata"))

or all at once, ``check_reader(MyReader("testdata"))``. Extractors of targets have ``extractor_checks`` and
``check_extractor`` in the same way.
"""

from neurorecon.testing.contract import ContractError
from neurorecon.testing.examples import Examples
from neurorecon.testing.extractors import ExtractorCheck, check_extractor, extractor_checks
from neurorecon.testing.readers import ReaderCheck, check_reader, reader_checks

__all__ = [
    "ContractError",
    "Examples",
    "ExtractorCheck",
    "ReaderCheck",
    "check_extractor",
    "check_reader",
    "extractor_checks",
    "reader_checks",
]
