"""The target keeps the promises that the core expects of every one."""

from keras_transfer.testing import conformance


@conformance("compiled-model")
def test_the_target_keeps_its_promises(check):
    check()
