"""K-FAC: its factors and steps by hand, and what it is for, a badly conditioned network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf.training import kfac
from tests import helpers


def squared_error(output, truth):
    return keras.ops.mean((output - truth["out"]) ** 2)


def network(size=1, filters=2, hidden=0, **arguments):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((None, None, 2), name="image")
    if hidden:
        x = keras.ops.tanh(keras.layers.Conv2D(hidden, size, padding="same", name="hidden")(x))
    x = keras.layers.Conv2D(filters, size, **{"padding": "same", "name": "output"} | arguments)(x)
    return keras.Model({"image": inputs}, {"out": x})


def trainer(model, rate, momentum=0.0):
    made = kfac.Trainer(model, squared_error)
    made.compile(keras.optimizers.SGD(rate, momentum=momentum))
    return made


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_factors_of_a_constant_image(padding):
    """Under a 3 x 3 kernel lie two values nine times, or zeros, and the 1 of the bias; the derivatives are the noise itself."""
    made = trainer(network(3, padding=padding), 0.1)
    inputs = {"image": np.broadcast_to(np.float32([2, -1]), (1, 32, 32, 2))}
    made._measure(inputs, tf.constant(0))
    left, right = (np.asarray(factor) for factor in made.factors[0])
    assert left.shape == (19, 19) and right.shape == (2, 2)
    middle, bias = slice(8, 10), 18
    np.testing.assert_allclose(left[middle, middle], [[4, -2], [-2, 1]])
    np.testing.assert_allclose(left[bias, [8, 9, 18]], [2, -1, 1])
    # With zeros around it 31**2 of 32**2 places have a neighbour up on the left; the positions are random.
    assert 3.7 < left[0, 0] < 4 if padding == "same" else left[0, 0] == 4
    np.testing.assert_allclose(right, np.eye(2), atol=0.15)  # 1024 draws
    made._measure(inputs, tf.constant(1))  # the mean of two measurements
    np.testing.assert_allclose(np.asarray(made.factors[0][0])[middle, middle], [[4, -2], [-2, 1]])


def test_a_step_on_a_linear_network_is_newton_s(monkeypatch):
    """Least squares of one convolution: the first step of length 1 ends at the solution, whatever the scale of the inputs."""
    monkeypatch.setattr(kfac, "INVERT_EVERY", 1)
    monkeypatch.setattr(kfac, "TRUST", 1e6)
    monkeypatch.setattr(kfac, "DAMPING", 1e-6)
    monkeypatch.setattr(kfac, "POSITIONS", 1 << 16)
    model = network()
    made = trainer(model, 1.0)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 64, 64, 2)).astype(np.float32) * np.float32([1, 0.01])
    truth = image @ np.float32([[1, -2], [300, 50]]) + np.float32([0.5, -0.25])
    before = [np.asarray(variable) for variable in model.variables]
    made.train_on_batch({"image": image}, {"out": truth})
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)  # the first step measures
    made.train_on_batch({"image": image}, {"out": truth})
    output = model({"image": image})["out"]
    # An error remains since the factors of random positions are some percent off.
    assert np.mean((output - truth) ** 2) < 0.02 * np.var(truth)


def test_a_step_is_no_longer_than_trust_allows(monkeypatch):
    monkeypatch.setattr(kfac, "INVERT_EVERY", 1)
    monkeypatch.setattr(kfac, "TRUST", 1e-2)
    model = network(3, hidden=4)
    made = trainer(model, 1.0)
    rng = np.random.default_rng(1)
    image, truth = rng.normal(size=(2, 4, 32, 32, 2)).astype(np.float32)
    before = model({"image": image})["out"]
    for _ in range(2):
        error = made.train_on_batch({"image": image}, {"out": truth})
    change = np.mean(np.square(model({"image": image})["out"] - before))
    # The factors are an estimate of the curvature, so the change is within a factor of 2 of what is asked.
    assert 0.5 < np.sqrt(change / np.mean(error)) / kfac.TRUST < 2


def test_learns_what_defeats_adam(monkeypatch):
    """Inputs of very different size, as dark and bright pixels are."""
    monkeypatch.setattr(kfac, "INVERT_EVERY", 5)
    monkeypatch.setattr(kfac, "TRUST", 0.1)
    rng = np.random.default_rng(2)
    image = rng.normal(size=(1, 64, 64, 2)).astype(np.float32) * np.float32([1, 0.01])
    truth = np.tanh(image @ np.float32([[1, -1], [50, 50]]))
    losses = []
    for kind in ("kfac", "adam"):
        model = network(hidden=8)
        if kind == "kfac":
            model = trainer(model, 0.5)
        else:
            model.compile(keras.optimizers.Adam(1e-2), "mse")
        for _ in range(100):
            loss = model.train_on_batch({"image": image}, {"out": truth})
        losses.append(float(np.mean(loss)))
    assert losses[0] < 0.2 * losses[1]


@pytest.mark.parametrize(
    "arguments",
    [{"strides": 2}, {"dilation_rate": 2}, {"activation": "relu"}, {"use_bias": False}],
    ids=lambda given: str(given),
)
def test_other_convolutions_are_refused(arguments):
    with pytest.raises(ValueError, match=helpers.mentions("output 1")):
        kfac.Trainer(network(3, **arguments), squared_error)


def test_other_layers_are_refused():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(2, 3, padding="same")(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization()(x), name="net")
    with pytest.raises(ValueError, match=helpers.mentions("net")):
        kfac.Trainer(model, squared_error)
