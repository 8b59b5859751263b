"""Every operation that is registered keeps the contract of operations, in both kinds of cells."""

import pytest

from tests.support.contracts import OperationContract
from tests.support.operations import CNN_CASES, SEQUENCE_CASES


@pytest.mark.parametrize("case", CNN_CASES, ids=str)
class TestCnnOperations(OperationContract):
    pass


@pytest.mark.parametrize("case", SEQUENCE_CASES, ids=str)
class TestSequenceOperations(OperationContract):
    pass
