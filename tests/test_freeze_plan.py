"""The freeze plan: it says beforehand what trains, and proves afterwards that nothing else did."""

import math

import keras
import numpy as np
import pytest

from keras_transfer.backbones import load_backbone
from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.errors import KerasTransferError, UsageError
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.heads import add_head


@pytest.fixture(scope="module")
def classifier():
    return add_head(load_backbone("efficientnet_lite0", image_size=64), 3, dropout=0.2)


def learnt(model):
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


@pytest.mark.parametrize("batchnorm", ["frozen", "train", "adapt"])
@pytest.mark.parametrize("rule", ["none", "all", "30%", "blocks:2", "from:block6a", "block5.*conv"])
def test_the_plan_counts_what_keras_then_trains(classifier, rule, batchnorm):
    plan = FreezePlan.for_model(classifier, rule, batchnorm=batchnorm)
    plan.apply(classifier)
    assert plan.trainable == learnt(classifier) > 0
    assert sum(row.parameters for row in plan.rows) == classifier.count_params()
    assert [layer.name for layer in leaf_layers(classifier) if layer.trainable] == list(plan.layers)
    norms = [layer for layer in leaf_layers(classifier) if isinstance(layer, keras.layers.BatchNormalization)]
    assert any(layer.trainable for layer in norms) == (
        batchnorm == "train" and rule not in ("none", "block5.*conv")
    )
    assert classifier.get_layer("logits").trainable


def test_planning_touches_nothing(classifier):
    FreezePlan.for_model(classifier, "all").apply(classifier)
    before = learnt(classifier)
    FreezePlan.for_model(classifier, "blocks:1")
    assert learnt(classifier) == before


def test_blocks_are_counted_on_the_backbone(classifier):
    plan = FreezePlan.for_model(classifier, "blocks:2", layer_decay=0.5)
    trained = {row.block: row.rate for row in plan.rows if row.trainable}
    assert trained == {"head": 1.0, "top": 0.5, "block7a": 0.25}
    plan.apply(classifier)
    multipliers = plan.variable_multipliers(classifier)
    assert multipliers["top_conv/kernel"] == 0.5
    assert not [path for path in multipliers if path.startswith("logits")]


def test_the_table_has_every_block_and_its_state(classifier):
    plan = FreezePlan.for_model(classifier, "blocks:1", batchnorm="train", layer_decay=0.5)
    lines = str(plan).splitlines()
    assert lines[0].split() == ["block", "layers", "parameters", "trainable", "batch", "norm", "rate"]
    assert [line.split()[0] for line in lines[1:]] == [row.block for row in plan.rows]
    columns = [
        [int(line.replace(",", "").replace(" -", " 0").split()[i]) for line in lines[1:]] for i in (1, 2, 3)
    ]
    assert sum(columns[0]) == len(classifier.layers) and sum(columns[1]) == classifier.count_params()
    plan.apply(classifier)
    assert (
        sum(columns[2]) == sum(int(np.prod(w.shape)) for w in classifier.trainable_weights) == plan.trainable
    )
    assert [line.split()[-1] for line in lines[-2:]] == ["0.5", "1"]
    assert next(line for line in lines if line.startswith("top")).split()[4] == "train"
    assert next(line for line in lines if line.startswith("stem")).split()[4] == "frozen"
    assert lines[-1].startswith("head")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("0%", "trains no layer"),
        ("blocks:0", "trains no layer"),
        ("100%", "Say 'all'"),
        ("blocks:99", "Say 'all'"),
        (".*", "Say 'all'"),
        ("from:stem", "Say 'all'"),
        ("nothing_like_it", "matches no layer"),
        ("from:block6", "Did you mean"),
        ("[", "regular expression"),
    ],
)
def test_a_rule_that_covers_nothing_or_everything_is_refused(classifier, rule, said):
    with pytest.raises(UsageError, match=said):
        FreezePlan.for_model(classifier, rule)


@pytest.mark.parametrize("values", [{"batchnorm": "maybe"}, {"layer_decay": 0.0}, {"layer_decay": 1.5}])
def test_impossible_values_are_refused(classifier, values):
    with pytest.raises(UsageError, match="expected"):
        FreezePlan.for_model(classifier, "all", **values)


def test_a_frozen_weight_or_statistic_that_changed_is_named(classifier):
    plan = FreezePlan.for_model(classifier, "blocks:1")
    plan.apply(classifier)
    snapshot = plan.snapshot_frozen(classifier)
    kernel = classifier.get_layer("top_conv").kernel
    kernel.assign(kernel + 1)
    plan.check(classifier, snapshot)  # trained: may change
    mean = classifier.get_layer("top_bn").moving_mean
    before = np.array(mean)
    mean.assign(before + 1e-6)
    with pytest.raises(KerasTransferError, match="top_bn/moving_mean"):
        plan.check(classifier, snapshot)
    mean.assign(before)
    plan.check(classifier, snapshot)


def test_normalization_alone_may_be_trained(classifier):
    plan = FreezePlan.for_model(classifier, ".*_bn", batchnorm="train")
    weighted = [name for name in plan.layers if classifier.get_layer(name).weights]
    assert len(weighted) == 50 and all(name.endswith("_bn") or name == "logits" for name in weighted)
    with pytest.raises(UsageError, match="trains no layer"):
        FreezePlan.for_model(classifier, ".*_bn")
