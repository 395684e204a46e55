"""The task keeps the promises that the core makes for every task."""

from keras_transfer.testing import conformance


@conformance("ordinal")
def test_the_task_keeps_its_promises(check):
    check()
