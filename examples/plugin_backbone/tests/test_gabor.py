"""The backbone and its weights keep the promises that the core makes for every one."""

from keras_transfer.testing import conformance


@conformance("gabor")
def test_the_backbone_and_its_weights_keep_their_promises(check):
    check()
