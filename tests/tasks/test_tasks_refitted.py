"""The heads of multilabel and regression runs are probes of training and validation images together."""

import numpy as np
import pytest

from keras_transfer.features import extract
from keras_transfer.heads import split_head
from keras_transfer.training.multilabel_probe import refit_multilabel_probe
from keras_transfer.training.regression_probe import refit_regression_probe
from keras_transfer.workflow.evaluate import run_table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "fit", "strength", "chosen"),
    [
        ("multilabel_run", refit_multilabel_probe, "c", "C"),
        ("regression_run", refit_regression_probe, "alpha", "alpha"),
    ],
)
def test_the_head_has_learned_from_validation_images_too(run, fit, strength, chosen, request):
    run = request.getfixturevalue(run)
    table, shipped, model = run_table(run), run.load_model(), run.load_model()
    pixels = run.record.contract.preprocessing
    features = extract(table, split_head(model)[0], preprocessing=pixels, engine="keras").values
    rows = {split: table.indices(split) for split in ("train", "val")}
    value = {strength: run.info["training"]["probe"][chosen]}
    heads = {}
    for name, learned in (("train", rows["train"]), ("both", np.concatenate([rows["train"], rows["val"]]))):
        fit(model, features, table.labels, rows=learned, **value)
        heads[name] = model.get_layer("logits").get_weights()[0]
    kernel = shipped.get_layer("logits").get_weights()[0]
    np.testing.assert_allclose(kernel, heads["both"], rtol=1e-3, atol=1e-5)
    assert np.abs(kernel - heads["train"]).max() > 10 * np.abs(kernel - heads["both"]).max()
    assert run.learned_from == ("train", "val")
