"""One finished run of the real backbone on real crops, shared by the tests that only read it."""

import pytest


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, photo_folder):
    """A probe of EfficientNet-Lite0 at 64 pixels on two classes of crops."""
    from keras_transfer.workflow.train import train

    cache = tmp_path_factory.mktemp("run_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRANSFER_CACHE", str(cache))
        output = tmp_path_factory.mktemp("runs") / "run"
        return train(photo_folder, output, image_size=64, strategy="probe", engine="keras")
