"""K-FAC: natural-gradient training of a network of convolutions whose loss is, above all, a mean squared error.

James Martens, Roger Grosse: "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", ICML 2015,
https://arxiv.org/abs/1503.05671; for convolutions Grosse, Martens, ICML 2016, https://arxiv.org/abs/1602.01407.

The curvature (Gauss-Newton matrix) of the loss in a convolution's weights is approximated by the Kronecker product of two
factors: A holds the second moments of the values under the kernel, with a 1 for the bias; G holds those of the derivatives with
respect to the convolution's outputs. The direction of a step is A^-1 (gradient) G^-1. The derivatives are those of the sum of
the outputs times normal noise, which has the expected curvature of a squared error.

Both factors are running means of measurements at `POSITIONS` random positions, damped by `DAMPING` times their mean eigenvalue.
Until the first inversion every step measures and no weight moves, since the moments of a few batches would send the first steps
astray. A step that would, by this curvature, change the outputs by more than `TRUST` times the root of the running loss is
shortened: rare batches, such as those of very dark pixels, have gradients a hundred times as large as others.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from keras.activations import linear

MEASURE_EVERY = 10  # steps
INVERT_EVERY = 50
POSITIONS = 1024
DECAY = 0.95  # of the running means of the factors
DAMPING = 1e-2
TRUST = 1e-3  # root mean square of the change over the root of the loss


class Trainer(keras.Model):
    """Wraps a network for `loop.fit`; to be compiled without a loss, with SGD and momentum.

    Args:
        network: keras.Model from a dict of tensors to one output. Its only trainable layers are Conv2D with a bias, stride and
            dilation 1 and no activation of their own.
        loss: function of the output and the batch's truth (of its inputs if it has none) that returns the scalar to minimise.
        transform: the curvature is that of the mean of (transform(output) - truth)**2.
        seed: of the noise and the positions.
    """

    def __init__(self, network: keras.Model, loss: Callable, transform: Callable = lambda values: values, seed: int = 0):
        super().__init__(name="kfac")
        self.network, self.minimised, self.transform, self.seed = network, loss, transform, seed
        if keras.config.dtype_policy().name != "float32" or tf.distribute.has_strategy():
            raise ValueError(f"{network.name}: natural gradient needs float32 and one accelerator; leave --optimizer=kfac out")
        self.convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
        for conv in self.convolutions:
            if (*conv.strides, *conv.dilation_rate, conv.use_bias, conv.activation) != (1, 1, 1, 1, True, linear):
                raise ValueError(f"{conv.name}: expected stride and dilation 1, a bias and no activation")
        if len(network.trainable_variables) != 2 * len(self.convolutions):
            raise ValueError(f"{network.name}: expected a network of convolutions, found other variables to train")
        values = [[getattr(conv, side) for conv in self.convolutions] for side in ("input", "output")]
        self.probe = keras.Model(network.input, [*values, network.output])
        self.factors, self.inverses = ([_matrices(conv, kind) for conv in self.convolutions] for kind in ("factor", "inverse"))
        self.error = keras.Variable(0.0, trainable=False, name="running_error")
        self.loss_mean = keras.metrics.Mean("loss")

    @property
    def metrics(self):
        return [self.loss_mean]

    def call(self, batch, training=False):
        return self.network({name: batch[name] for name in self.network.input}, training=training)

    def train_step(self, batch):
        inputs, truth, _ = keras.utils.unpack_x_y_sample_weight(batch)
        truth = inputs if truth is None else truth
        step = self.optimizer.iterations.value
        variables = [variable for conv in self.convolutions for variable in (conv.kernel, conv.bias)]
        with tf.GradientTape() as tape:
            (output,) = keras.tree.flatten(self(inputs, training=True))
            loss = ops.cast(self.minimised(output, truth), "float32")
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self.error.assign(ops.where(step == 0, loss, 0.99 * self.error + 0.01 * loss))
        self.loss_mean.update_state(loss)
        first = step < INVERT_EVERY
        tf.cond(first | (step % MEASURE_EVERY == 0), lambda: self._measure(inputs, step), lambda: None)
        due = ~first & (step % INVERT_EVERY == 0) & ops.isfinite(self.error)  # a diverged run ends in `fit`
        tf.cond(due, self._invert, lambda: None)

        directions, decrease = [], 0.0
        for kernel, bias, (left, right) in zip(gradients[::2], gradients[1::2], self.inverses, strict=True):
            gradient = ops.concatenate([ops.reshape(kernel, (-1, kernel.shape[-1])), bias[None]], axis=0)
            # The mean is over positions and channels of the output, the factors' over positions only.
            direction = output.shape[-1] / 2 * (left @ gradient @ right)
            decrease += ops.sum(direction * gradient)
            directions += [ops.reshape(direction[:-1], kernel.shape), direction[-1]]
        # A step of this length in the direction changes the outputs' mean square by length**2 * decrease / 2.
        length = ops.sqrt(2 * TRUST**2 * self.error / (decrease + keras.config.epsilon() ** 2))
        shorter = ops.minimum(1, length / self.optimizer.learning_rate)
        self.optimizer.apply([shorter * direction for direction in directions], variables)
        return {"loss": self.loss_mean.result()}

    def _measure(self, inputs, step):
        seeds = tf.random.split(tf.stack([np.int32(self.seed), tf.cast(step, tf.int32)]), len(self.convolutions) + 1)
        with tf.GradientTape() as tape:
            befores, afters, outputs = self.probe({name: inputs[name] for name in self.network.input}, training=True)
            (output,) = keras.tree.flatten(outputs)
            output = self.transform(output)
            total = ops.sum(output * tf.random.stateless_normal(tf.shape(output), seeds[-1]))
        derivatives = tape.gradient(total, afters)
        number = tf.cast(step, tf.float32)
        old = ops.minimum(DECAY, number / (number + 1))
        for conv, before, derivative, seed, factors in zip(
            self.convolutions, befores, derivatives, tf.unstack(seeds[:-1]), self.factors, strict=True
        ):
            patches = tf.image.extract_patches(before, [1, *conv.kernel_size, 1], [1] * 4, [1] * 4, conv.padding.upper())
            patches = ops.reshape(patches, (-1, patches.shape[-1]))
            patches = tf.gather(patches, tf.random.stateless_uniform([POSITIONS], seed, 0, tf.shape(patches)[0], tf.int32))
            patches = ops.concatenate([patches, ops.ones((POSITIONS, 1))], axis=1)
            for factor, rows in zip(factors, (patches, ops.reshape(derivative, (-1, conv.filters))), strict=True):
                moments = tf.matmul(rows, rows, transpose_a=True) / tf.cast(tf.shape(rows)[0], rows.dtype)
                factor.assign(old * factor + (1 - old) * moments)

    def _invert(self):
        for factors, inverses in zip(self.factors, self.inverses, strict=True):
            for factor, inverse in zip(factors, inverses, strict=True):
                size = factor.shape[0]
                damping = DAMPING * ops.trace(factor) / size + 1e-12  # a dead channel has moments of 0
                inverse.assign(tf.linalg.inv(factor + damping * ops.eye(size)))


def _matrices(conv, kind):
    sizes = int(np.prod(conv.kernel.shape[:-1])) + 1, conv.filters
    zeros = (np.zeros((size, size), np.float32) for size in sizes)
    return [keras.Variable(matrix, trainable=False, name=f"{conv.name}_{kind}{i}") for i, matrix in enumerate(zeros)]
