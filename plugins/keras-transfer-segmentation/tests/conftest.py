"""What the plugin's tests share: trainings without graphs."""

from __future__ import annotations

import pytest


@pytest.fixture
def eagerly():
    """Without graphs: for a training of a few steps, tracing takes longer than the training."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(params=["eagerly", pytest.param("in graphs", marks=pytest.mark.nightly)])
def eagerly_and_nightly_in_graphs(request):
    """For a training whose promise must hold either way."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(request.param == "eagerly")
    yield
    tf.config.run_functions_eagerly(False)
