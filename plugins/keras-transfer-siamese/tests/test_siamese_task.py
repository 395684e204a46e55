"""The task through the core's own verbs: train, evaluate, predict, export, verify; and its bad input."""

import pytest

from keras_transfer.testing import conformance

pytestmark = pytest.mark.slow


@conformance("siamese")
def test_the_task_keeps_its_promises(check):
    check()
