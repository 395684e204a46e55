"""One step of gradient training on several devices: each computes a part of the batch, and one update is made.

The network that is trained stays where it is, with its optimizer, its metrics and its files. Every device has a copy of
it under ``tf.distribute``, which is given the weights before each step. A device computes the outputs of its rows; all
outputs are gathered, so that the loss is that of the whole batch, as on one device: whatever the loss compares with
what, however rows are weighted, and when the last batch is short or the rows cannot be shared out evenly. The gradients
of the parts are then summed (synchronous data parallelism; Goyal et al. 2017, arXiv:1706.02677, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.errors import UsageError
from keras_transfer.training.folding import fold_frozen_norms


class Replicas:
    """A network's copies, one a device.

    Batch normalization that learns takes the mean and the variance of the whole batch, not of a device's part. Each
    device draws dropout masks from the same state for its own rows.

    Args:
        network: compiled, to be trained; a Functional model with one input and one output.
        plain: the same before ``fold_frozen_norms``, sharing its variables.
        strategy: of ``tf.distribute``.
        loss: of Keras, on the network's output.

    Raises:
        UsageError: the network cannot be copied.
    """

    def __init__(
        self,
        network: keras.Model,
        plain: keras.Model,
        strategy: tf.distribute.Strategy,
        loss: keras.losses.Loss,
    ) -> None:
        self.network, self.strategy, self.loss = network, strategy, loss
        original = keras.Model(plain.inputs, plain.outputs, name=plain.name)  # without what was compiled
        with strategy.scope():
            copied = _copy(original)
            for layer in leaf_layers(copied):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
            self.copy = fold_frozen_norms(copied)
        pairs = list(zip(original.variables, copied.variables, strict=True))
        for variable, its_copy in pairs:
            its_copy.assign(variable)
        copy_of = {id(variable): its_copy for variable, its_copy in pairs}
        self.trained = [copy_of[id(variable)] for variable in network.trainable_variables]
        changing = {id(variable) for variable in _changing(original)}
        self.changing = [pair for pair in pairs if id(pair[0]) in changing]
        self.tracked = [pair for pair in self.changing if id(pair[1]) not in set(map(id, self.trained))]

    def install(self) -> None:
        """Let ``fit`` and ``evaluate`` of the compiled network compute on all devices, until it is compiled again."""
        self.network.train_function = _over(self._train)
        self.network.test_function = _over(self._test)

    def _train(self, *batch: tf.Tensor) -> dict[str, tf.Tensor]:
        gradients, outputs, loss, tracked = self._run(self._train_part, *batch)
        self.network.optimizer.apply(gradients, self.network.trainable_variables)
        for (variable, _), value in zip(self.tracked, tracked, strict=True):
            variable.assign(value)
        return self._measured(loss, outputs, *batch)

    def _test(self, *batch: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs, loss = self._run(self._test_part, *batch)
        return self._measured(loss, outputs, *batch)

    def _run(self, part: Callable[..., Any], *batch: tf.Tensor) -> Any:
        """What the first device answers; every device has it."""
        for variable, its_copy in self.changing:
            its_copy.assign(variable)
        answers = self.strategy.run(part, args=(self._judge(*batch[1:]), *batch))
        return tf.nest.map_structure(lambda one: self.strategy.experimental_local_results(one)[0], answers)

    def _judge(self, y: tf.Tensor, *weights: tf.Tensor) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
        """``(y, outputs, weights)`` -> the loss ``()`` of the whole batch, and its gradient by the outputs.

        Traced before the devices are entered: among several, Keras divides every loss by their number.
        """

        def judge(y: tf.Tensor, outputs: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(outputs)
                loss = self.loss(y, outputs[: tf.shape(y)[0]], *weights)  # without the repeated ones
            return loss, tape.gradient(loss, outputs)

        output = self.copy.outputs[0]
        given = [tf.TensorSpec(one.shape, one.dtype) for one in (y, *weights)]
        given.insert(1, tf.TensorSpec(output.shape, output.dtype))
        return tf.function(judge, autograph=False).get_concrete_function(*given)

    def _measured(self, loss: tf.Tensor, outputs: tf.Tensor, *batch: tf.Tensor) -> dict[str, tf.Tensor]:
        """The metrics so far, as Keras's own steps give them."""
        x, y, *weights = batch
        tracker = next(metric for metric in self.network.metrics if metric.name == "loss")
        tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        return self.network.compute_metrics(x, y, outputs, weights[0] if weights else None)

    def _train_part(
        self, judge: Callable[..., Any], x: tf.Tensor, y: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[Any, ...]:
        """On one device: the summed gradients, all outputs, the loss, and what training changes besides weights."""
        context = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            total, shared = tf.shape(x)[0], self._shared(tf.shape(x)[0])
            low, high = self._rows(shared)
            own = self.copy(tf.gather(x, tf.range(low, high) % total), training=True)
            outputs = self._gathered(own, shared)
            loss, slope = judge(y, outputs, *weights)
            slope = tf.stop_gradient(slope)
            # Its gradient is that of the whole batch's loss by way of these rows.
            target = tf.reduce_sum(tf.cast(own, tf.float32) * tf.cast(slope[low:high], tf.float32))
            penalty = self._penalty()
            target += penalty / self.strategy.num_replicas_in_sync
        variables = [variable.value for variable in self.trained]
        gradients = tape.gradient(target, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return (
            summed,
            outputs[:total],
            loss + penalty,
            [tf.identity(copied.value) for _, copied in self.tracked],
        )

    def _test_part(
        self, judge: Callable[..., Any], x: tf.Tensor, y: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        total, shared = tf.shape(x)[0], self._shared(tf.shape(x)[0])
        low, high = self._rows(shared)
        own = self.copy(tf.gather(x, tf.range(low, high) % total), training=False)
        outputs = self._gathered(own, shared)
        return outputs[:total], judge(y, outputs, *weights)[0] + self._penalty()

    def _penalty(self) -> tf.Tensor:
        """What regularisers of the weights add to the loss."""
        return tf.add_n(self.copy.losses) if self.copy.losses else tf.zeros(())

    def _shared(self, total: tf.Tensor) -> tf.Tensor:
        """How many rows are shared out: fewer than there are devices are repeated, all of them equally often.

        No device then has none, which some convolutions refuse, and the batch's mean and variance stay what they are.
        """
        return -(-self.strategy.num_replicas_in_sync // total) * total

    def _starts(self, total: tf.Tensor) -> tf.Tensor:
        """int32 ``(devices + 1,)``: where each device's rows begin; their numbers differ by at most one."""
        devices = self.strategy.num_replicas_in_sync
        return tf.range(devices + 1) * total // devices

    def _rows(self, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The first row of this device, and the first one after its last."""
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        starts = self._starts(total)
        return starts[index], starts[index + 1]

    def _gathered(self, own: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        """All devices' outputs ``(total, ...)`` in the order of the batch, as constants."""
        devices = self.strategy.num_replicas_in_sync
        starts, most = self._starts(total), -(-total // devices)
        missing = [[0, most - tf.shape(own)[0]], *([[0, 0]] * (len(own.shape) - 1))]
        context = tf.distribute.get_replica_context()
        padded = context.all_gather(tf.pad(tf.stop_gradient(own), missing), axis=0)
        rows = tf.range(total)
        device = tf.searchsorted(starts, rows, side="right") - 1
        return tf.gather(padded, device * most + rows - tf.gather(starts, device))


def _copy(network: keras.Model) -> keras.Model:
    try:
        return keras.models.clone_model(network)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(
            f"{network.name!r} cannot be copied to other devices ({str(error).splitlines()[0]}). Train on one: "
            "--devices 1."
        ) from error


def _changing(network: keras.Model) -> Iterator[Any]:
    """The variables that a step changes: of layers that train, and the random states."""
    for layer in leaf_layers(network):
        still = set() if layer.trainable else {id(variable) for variable in layer.weights}
        yield from (variable for variable in layer.variables if id(variable) not in still)


def _over(step: Callable[..., Any]) -> Callable[[Any], Any]:
    """A step as Keras's ``fit`` calls it: with the iterator. Traced once, for batches of any length."""
    traced: list[Callable[..., Any]] = []

    def call(iterator: Any) -> Any:
        if not traced:
            traced.append(tf.function(step, autograph=False).get_concrete_function(*iterator.element_spec))
        return traced[0](*next(iterator))

    return call
