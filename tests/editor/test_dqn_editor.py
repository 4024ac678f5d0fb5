"""The editor without TF-Agents: its Q network against the original, policies in files, fusing, export."""

import logging
import re

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import hdr_tf
from hdr_tf import losses, systems, weights
from hdr_tf.editor import edits, pair_statistics
from hdr_tf.editor import policy as editor_policy
from hdr_tf.editor.features import Features
from hdr_tf.image import exposure_fusion
from hdr_tf.io import image_files
from hdr_tf.models import dqn_editor as models_dqn_editor
from hdr_tf.models.dqn_editor import FEATURES, dqn_editor, original_names
from hdr_tf.serving import export as serving_export
from tests import helpers
from tools import convert_checkpoint, export, fuse

LENGTH = Features(["tiny"]).length


def policy(q_values, parts=("tiny",), history=False):
    """Returns a policy with the same Q values for every image."""
    features = Features(list(parts), history)
    network = dqn_editor(features.length, (2,))
    for variable in network.weights:
        variable.assign(np.zeros(variable.shape))
    network.get_layer("fc2").bias.assign(q_values)
    return editor_policy.Policy(network, features)


def always(action):
    return policy(np.eye(6)[action] / 2 - 0.1)


@pytest.fixture
def brighter(tmp_path):
    """The file of a policy that always makes brighter."""
    editor_policy.save_policy(always(5), tmp_path / "brighter.weights.h5")
    return str(tmp_path / "brighter.weights.h5")


def pair():
    return helpers.bracket(gains=(0.3, 1.7))


def small_pair():
    """The pair at 224 x 224, without edits."""
    return edits.start(*map(edits.shrink, pair()))


# Q network


@helpers.golden_cases("rl_q_network")
@pytest.mark.parametrize("duel", [False, True])
def test_q_network_is_the_originals(golden, golden_case, duel):
    """float32 sums over 4,096 values in another order: TensorFlow 1.14 and 2.21 differ by 1.1e-6 themselves."""
    names, parameters = original_names(duel), golden.parameters(golden_case)
    network = dqn_editor(300, duel=duel)
    weights.assign(network, {name: parameters[name] for name in names.values()}, names, "keras")
    q_values = np.asarray(network(golden.inputs(golden_case)["state"]))
    expected = golden.outputs(golden_case)
    np.testing.assert_allclose(q_values, expected["q_duel" if duel else "q"], rtol=0, atol=5e-6)
    if not duel:
        np.testing.assert_array_equal(q_values.argmax(axis=1), expected["q_action"])


def test_q_network_starts_as_the_originals():
    assert FEATURES == 4096 + 8000
    network = dqn_editor(300)
    assert [layer.units for layer in network.layers[1:]] == [4096, 4096, 512, 6]
    for layer, deviation in zip(network.layers[1:], (4096, 4096, 4096, 512), strict=True):
        # A normal distribution cut at two deviations has 0.88 of the deviation.
        assert np.std(layer.kernel) == pytest.approx(0.88 * deviation**-0.5, rel=0.05), layer.name
        assert np.abs(layer.bias).max() <= 2 * layer.units**-0.5


def test_duel_is_value_and_advantage():
    network = dqn_editor(3, (4,), duel=True)
    x = np.float32([[1, 2, 3]])
    parts = {
        name: np.maximum(x @ network.get_layer(f"{name}1").kernel + network.get_layer(f"{name}1").bias, 0)
        @ network.get_layer(f"{name}2").kernel
        + network.get_layer(f"{name}2").bias
        for name in ("fc", "v_fc")
    }
    expected = parts["v_fc"] + parts["fc"] - np.mean(parts["fc"])
    np.testing.assert_allclose(network(x), expected, atol=1e-6)


@pytest.mark.parametrize("arguments", [{"hidden": ()}, {"hidden": (8, 0)}, {"features": 0}])
def test_impossible_networks_are_refused(arguments):
    with pytest.raises(ValueError, match=helpers.mentions("features hidden 1")):
        dqn_editor(**{"features": 8, "hidden": (8,)} | arguments)


def test_original_checkpoint_is_converted(tmp_path, monkeypatch, capsys):
    """A TensorFlow 1 checkpoint as the original's Saver writes it, with its counter of steps."""
    monkeypatch.setattr(models_dqn_editor, "dqn_editor", lambda: dqn_editor(LENGTH, (3, 4, 5)))
    names = original_names()
    network = systems.build("dqn_editor")
    arrays = {names[variable.path]: np.asarray(variable) + 1 for variable in network.weights}
    prefix = str(tmp_path / "test_run.ckpt-700")
    saved = {**arrays, "step/step": np.int32(700)}
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(saved), shape_and_slices=[""] * len(saved), tensors=list(saved.values()))
    output = tmp_path / "converted.weights.h5"
    config = convert_checkpoint.Config(model="dqn_editor", checkpoint=prefix, output=str(output))
    convert_checkpoint.main(config)
    loaded = editor_policy.load_network(output)
    for variable in loaded.weights:
        np.testing.assert_array_equal(variable, arrays[names[variable.path]], err_msg=variable.path)
    # The file names no features, so they are assumed to be the original's, which are longer.
    monkeypatch.setattr(editor_policy, "ORIGINAL_FEATURES", "quality")
    with pytest.raises(ValueError, match=helpers.mentions(f"8000 quality {LENGTH}")):
        editor_policy.load_policy(output)


# Policies


@pytest.mark.parametrize(
    ("parts", "history", "duel"), [(["tiny"], True, False), (["lab", "rgbl"], False, True), (["pair"], True, False)]
)
def test_a_file_holds_network_and_features(parts, history, duel, tmp_path):
    features = Features(parts, history)
    saved = editor_policy.Policy(dqn_editor(features.length, (5, 4), duel), features)
    editor_policy.save_policy(saved, tmp_path / "a.weights.h5")
    loaded = editor_policy.load_policy(tmp_path / "a.weights.h5")
    assert (loaded.features.parts, loaded.features.history) == (tuple(parts), history)
    state = small_pair().edit(3)
    np.testing.assert_array_equal(loaded.q_values(state), saved.q_values(state))


def test_a_policy_for_other_features_is_refused(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("768 tiny 8000")):
        editor_policy.Policy(dqn_editor(8000, (2,)), Features(["tiny"]))
    path = tmp_path / "a.weights.h5"
    weights.save_weights(dqn_editor(LENGTH, (2,)), path, features="tiny,history")
    with pytest.raises(ValueError, match=helpers.mentions("a.weights.h5 888 tiny,history 768")):
        hdr_tf.fuse(pair(), "dqn_editor", path)
    weights.save_weights(dqn_editor(LENGTH, (2,)), path, features="smell")
    with pytest.raises(ValueError, match=helpers.mentions("a.weights.h5 vgg smell")):
        hdr_tf.fuse(pair(), "dqn_editor", path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "a.weights.h5"
    weights.save_weights(systems.build("densefuse_gray"), path)
    with pytest.raises(ValueError, match=helpers.mentions("a.weights.h5 dqn_editor densefuse_gray")):
        hdr_tf.fuse(pair(), "dqn_editor", path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=helpers.mentions("a.weights.h5")):
        hdr_tf.fuse(pair(), "dqn_editor", path)


@pytest.mark.parametrize(("q_values", "actions"), [([-1, -2, -3, -4, -5, 0], ()), ([-1, 0.5, 1e-6, 0, 0, 0.4], (1,) * 20)])
def test_it_stops_without_a_positive_value_and_after_20_edits(q_values, actions):
    small = small_pair()
    steps = list(policy(q_values).run(small))
    assert steps[-1][0].actions == actions and len(steps) == len(actions) + 1
    assert all(np.allclose(values, q_values) for _, values in steps[:20])
    assert (steps[-1][1] is None) == (len(actions) == 20)


def test_it_decides_by_its_features():
    """It stops after two edits: the second edit's row of the history counts -1 for every edit, more than the bias."""
    chosen = policy(np.full(6, 0.1), parts=(), history=True)
    kernel = np.zeros((120, 2), "float32")
    kernel[6:12, 0] = 1  # row of the second edit
    chosen.network.get_layer("fc1").kernel.assign(kernel)
    chosen.network.get_layer("fc2").kernel.assign([[-1] * 6, [0] * 6])
    small = small_pair()
    *_, (last, _) = chosen.run(small)
    assert last.actions == (0, 0)


def test_it_looks_ahead_by_mef_ssim():
    looking, small = editor_policy.LookAhead(), small_pair()
    pair_of_small = [edits.shrink(image) for image in pair()]

    def score(state):
        return 100 * losses.mef_ssim_score(pair_of_small, 255 * state.fused)

    state, steps = small.edit(4), list(looking.run(small))
    expected = [score(state.edit(action)) - score(state) for action in range(6)]
    np.testing.assert_allclose(looking.q_values(state), expected, atol=1e-6)
    assert score(steps[-1][0]) > score(small) and 0 < len(steps[-1][0].actions) <= 20


def test_statistics_of_the_pair_by_hand():
    image = np.float32([[[1, 0.98, 1]] * 4, [[0.04, 0.02, 0.05]] * 4]).repeat(4, axis=0)
    numbers = pair_statistics.numbers(image)
    gray = [0.299 + 0.587 * 0.98 + 0.114, 0.299 * 0.04 + 0.587 * 0.02 + 0.114 * 0.05]
    assert numbers.shape == (13,) and numbers.dtype == np.float32
    np.testing.assert_allclose(numbers[:2], [np.mean(gray), np.ptp(gray) / 2], atol=1e-5)
    np.testing.assert_allclose(numbers[2:5], [0.5, 0.5, 0.5])
    np.testing.assert_allclose(numbers[5], exposure_fusion.saturation(image).mean(), atol=1e-6)
    np.testing.assert_allclose(numbers[6:10], [0.52, 0.5, 0.525, 0.525], atol=1e-6)
    np.testing.assert_allclose(numbers[12], exposure_fusion.well_exposedness(image).mean(), atol=1e-6)
    flat = pair_statistics.numbers(np.full((16, 16, 3), 0.5, np.float32))
    np.testing.assert_allclose(flat[[1, 2, 3, 4, 5, 11]], 0, atol=1e-3)
    np.testing.assert_allclose(flat[12], 1, atol=1e-6)


def test_the_features_of_the_pair_see_the_pair():
    features = Features(["pair"])
    first = small_pair()
    other = edits.EditedPair(edits.start(*(edits.shrink(255 - image) for image in pair()[::-1])).fuse, first.virtual)
    values, others, edited = features(first), features(other), features(first.edit(5))
    assert features.length == 39 and values.dtype == np.float32 and np.abs(values).max() < 10
    np.testing.assert_array_equal(values[26:], others[26:])  # the virtual exposure is the same
    assert np.abs(values[:26] - others[:26]).max() > 0.5
    np.testing.assert_array_equal(values[:26], edited[:26])
    means, deviations = pair_statistics.MEANS.ravel(), pair_statistics.DEVIATIONS.ravel()
    under = pair_statistics.numbers(np.float32(edits.shrink(pair()[0]) / 255))
    np.testing.assert_allclose(values[:13] * deviations[:13] + means[:13], under, atol=1e-5)


# Fusing


def test_another_fusion_and_another_policy(brighter, tmp_path):
    published = hdr_tf.fuse(pair(), "dqn_editor", brighter)
    repaired = hdr_tf.fuse(pair(), "dqn_editor", brighter, fuse_with="pyramid")
    looking = hdr_tf.fuse(pair(), "dqn_editor", brighter, policy="look_ahead")
    assert repaired.shape == published.shape and repaired.dtype == np.uint8
    assert all(np.abs(image.astype(int) - published).mean() > 2 for image in (repaired, looking))
    # The virtual exposure is bright, so the result is brighter than that of the two exposures alone, but similar.
    assert np.corrcoef(repaired.ravel(), hdr_tf.fuse(pair(), "pyramid").ravel())[0, 1] > 0.9
    deep = hdr_tf.fuse([image.astype(np.uint16) * 257 for image in pair()], "dqn_editor", brighter, fuse_with="pyramid")
    assert deep.dtype == np.uint16 and np.abs(deep / 257 - repaired).max() < 1
    gray = hdr_tf.fuse([image[..., 1] for image in pair()], "dqn_editor", brighter, fuse_with="pyramid")
    assert gray.shape == (37, 53)


@pytest.mark.parametrize(
    ("options", "message"), [({"policy": "luck"}, "look_ahead luck"), ({"fuse_with": "glue"}, "pyramid glue")]
)
def test_unknown_choices(options, message, brighter):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        hdr_tf.fuse(pair(), "dqn_editor", brighter, **options)


@pytest.mark.parametrize("number", [3, pytest.param(0, marks=pytest.mark.slow)])
def test_published_results_by_a_policy_that_always_makes_brighter(number, reference, brighter, tmp_path):
    path = reference / "rl_hdr" / f"T{number:04}.JPG"
    fused = hdr_tf.fuse([path], "dqn_editor", brighter)
    difference = np.abs(fused.astype(int) - cv2.imread(f"{path}_retouched.png")[..., ::-1])
    assert difference.mean() < 0.05 and difference.max() <= 5


def test_the_tool_writes_image_and_trace(brighter, tmp_path, capsys):
    for name, image in zip(("under", "over"), pair(), strict=True):
        image_files.write_image(tmp_path / f"{name}.png", image)
    output, trace = tmp_path / "new" / "fused.png", tmp_path / "new" / "steps.png"
    images = [str(tmp_path / "under.png"), str(tmp_path / "over.png")]
    config = fuse.Config(images=images, output=str(output), model="dqn_editor", weights=brighter, trace=str(trace))
    assert fuse.main(config) == 0
    assert helpers.mentioned(f"{output} 53 x 37 8", capsys.readouterr().out)
    *_, state = edits.run(*pair(), [5] * 20)  # at full size
    np.testing.assert_array_equal(image_files.read_image(output).pixels, np.uint8(state.fused * 255))
    sheet = image_files.read_image(trace).pixels
    assert sheet.shape == (3 * (224 + 110), 7 * 224, 3)  # 21 tiles
    *_, (last, _) = always(5).run(small_pair())
    np.testing.assert_array_equal(sheet[-334:-110, -224:], np.uint8(last.fused * 255))
    assert helpers.names(output.parent) == {"fused.png", "steps.png"}


def test_order_does_not_matter_and_is_logged(brighter, caplog):
    under, over = pair()
    with caplog.at_level(logging.INFO, "absl"):
        straight = hdr_tf.fuse([under, over], "dqn_editor", brighter)
        quiet = len(caplog.messages)
        swapped = hdr_tf.fuse([over, under], "dqn_editor", brighter)
    assert len(caplog.messages) == 2 * quiet + 1 and re.search(r"\b2\b.*\b1\b", caplog.messages[-1])
    np.testing.assert_array_equal(straight, swapped)


@pytest.mark.parametrize("axis", [0, 1])
def test_an_image_of_two_halves(axis, brighter, tmp_path):
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.random((24, 32, 3)), (256, 192), interpolation=cv2.INTER_LINEAR)
    under, over = (np.uint8(np.clip(scene * gain, 0, 1) * 255) for gain in (0.4, 1.5))
    path = tmp_path / "stacked.png"
    image_files.write_image(path, np.concatenate([over, under], axis))
    np.testing.assert_array_equal(
        hdr_tf.fuse([path], "dqn_editor", brighter), hdr_tf.fuse([under, over], "dqn_editor", brighter)
    )


def test_depths_and_gray(brighter):
    shallow = hdr_tf.fuse(pair(), "dqn_editor", brighter)
    deep = hdr_tf.fuse([image.astype(np.uint16) * 257 for image in pair()], "dqn_editor", brighter)
    assert (shallow.dtype, deep.dtype) == (np.uint8, np.uint16)
    # 8 bit is truncated, and the weights differ where the contrast is only rounding.
    assert np.abs(shallow - deep / 257).mean() < 0.6
    gray = hdr_tf.fuse([image[..., 1] for image in pair()], "dqn_editor", brighter)
    assert gray.shape == (37, 53) and gray.std() > 10


@pytest.mark.parametrize("levels", [(0, 0), (255, 255), (0, 255), (128, 128)])
@pytest.mark.filterwarnings("error:invalid value", "error:divide by zero")
def test_flat_images(levels, tmp_path):
    """With a policy that uses the quality histogram, which may be empty."""
    features = Features(["quality"])
    editor_policy.save_policy(editor_policy.Policy(dqn_editor(features.length, (3,)), features), tmp_path / "a.weights.h5")
    flat = [np.full((16, 19, 3), level, np.uint8) for level in levels]
    fused = hdr_tf.fuse(flat, "dqn_editor", tmp_path / "a.weights.h5")
    assert fused.shape == (16, 19) and np.ptp(fused.astype(int)) <= 255 and fused.dtype == np.uint8


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (pair()[:1], {}, "2 1"),
        ([*pair(), pair()[0]], {}, "dqn_editor 2 3"),
        ([pair()[0], pair()[1][1:]], {}, "2 53 x 36 1 53 x 37"),
        ([image[:7] for image in pair()], {}, "8 x 8 53 x 7"),
        (pair(), {"model": "pyramid", "trace": "steps.png"}, "trace dqn_editor"),
        (pair(), {"trace": "steps.gif"}, "steps.gif .png"),
        (pair(), {"trace": "fused.png"}, "fused.png"),
    ],
)
def test_bad_input_leaves_nothing(images, arguments, message, brighter, tmp_path):
    arguments = {name: tmp_path / "out" / value if name == "trace" else value for name, value in arguments.items()}
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        hdr_tf.fusion.pipeline.fuse_files(
            images, tmp_path / "out/fused.png", **{"model": "dqn_editor", "weights": brighter} | arguments
        )
    assert not (tmp_path / "out").exists()


def test_one_image_without_halves(brighter, tmp_path):
    image_files.write_image(tmp_path / "alone.png", pair()[0])
    with pytest.raises(ValueError, match=helpers.mentions("2 1 alone.png")):
        hdr_tf.fuse([tmp_path / "alone.png"], "dqn_editor", brighter)


def test_export_is_the_policy(brighter, tmp_path, capsys):
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)  # with other seeds all values may have one sign
    saved = editor_policy.Policy(dqn_editor(LENGTH, (8, 4)), Features(["tiny"]))
    saved.network.get_layer("fc3").bias.assign([-2, -2, -2, -2, -2, 0])
    editor_policy.save_policy(saved, tmp_path / "a.weights.h5")
    config = export.Config(model="dqn_editor", weights=str(tmp_path / "a.weights.h5"), output=str(tmp_path / "exported"))
    export.main(config)
    serve = tf.saved_model.load(str(tmp_path / "exported" / "1")).signatures["serving_default"]
    features = rng.normal(0, 0.03, (50, LENGTH)).astype("float32")
    served = serve(features=tf.constant(features))
    q_values = np.asarray(saved.network(features))
    np.testing.assert_allclose(served["q"], q_values, atol=1e-6)
    expected = [-1 if row.max() <= 0 else row.argmax() for row in served["q"].numpy()]
    np.testing.assert_array_equal(served["edit"], expected)
    assert {-1, 5} <= set(expected)


def test_versions(brighter, tmp_path, monkeypatch, caplog, capsys):
    """This test is here because nothing is exported faster than a small policy."""
    (tmp_path / "models.config").write_text(
        'model_config_list { config { name: "other" base_path: "/elsewhere" model_platform: "tensorflow" } }'
    )
    config = export.Config(model="dqn_editor", weights=brighter, output=str(tmp_path / "policy"))
    export.main(config)
    assert helpers.mentioned(f"{tmp_path / 'policy' / '1'} dqn_editor", capsys.readouterr().out)
    listed = (tmp_path / "models.config").read_text()
    assert [word for word in ("other", "/elsewhere", "policy", "/models/policy") if f'"{word}"' not in listed] == []
    monkeypatch.setattr(serving_export, "prediction_log_pb2", None)
    export.main(config)
    assert helpers.mentioned("policy/2 models.config hdr_tf[serve]", caplog.text)
    assert (tmp_path / "models.config").read_text() == listed
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("policy/*/*.pb")) == [
        f"policy/{version}/{name}.pb" for version in (1, 2) for name in ("fingerprint", "saved_model")
    ]
    assert [path.parent.parent.name for path in tmp_path.rglob("tf_serving_warmup_requests")] == ["1"]


def test_fusing_needs_no_tf_agents(brighter):
    program = (
        "import sys, hdr_tf, numpy as np\n"
        "images = [np.full((9, 9, 3), level, np.uint8) for level in (20, 200)]\n"
        f"hdr_tf.fuse(images, 'dqn_editor', {brighter!r})\n"
        "print([name for name in ('tf_agents', 'tf_keras', 'hdr_tf.rl') if name in sys.modules])"
    )
    finished = helpers.run_python("-c", program)
    assert finished.stdout.strip() == "[]", finished.stderr


def test_contact_sheet_of_a_short_episode():
    steps = list(policy([-1] * 6).run(small_pair()))
    assert editor_policy.contact_sheet(steps).shape == (334, 224, 3)


def test_gradient_reaches_every_variable():
    network = dqn_editor(20, (16, 8), duel=True)
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(network(np.random.default_rng(0).normal(size=(32, 20)).astype("float32"))[:, :5] ** 2)
    for variable, gradient in zip(network.weights, tape.gradient(loss, network.weights), strict=True):
        assert np.abs(gradient).max() > 0, variable.path
