"""For those who write readers of their own: the contract, as checks that say what was expected.

In a test module::

    import pytest
    from neurorecon.testing import reader_checks

    @pytest.mark.parametrize("check", reader_checks(), ids=str)
    def test_contract(check):
        check(MyReader("testdata"))

or all at once, ``check_reader(MyReader("testdata"))``.
"""

from neurorecon.testing.contract import ContractError
from neurorecon.testing.readers import ReaderCheck, check_reader, reader_checks

__all__ = ["ContractError", "ReaderCheck", "check_reader", "reader_checks"]
