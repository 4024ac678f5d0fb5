"""The editor at work, without TF-Agents: its Q network against the original, policies in files, fusing, export."""

import logging
import os
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import hdr_tf
from hdr_tf import editor, models, serving, weights
from hdr_tf.features import Features
from hdr_tf.image import editing, files
from hdr_tf.models.dqn_editor import FEATURES, dqn_editor, original_names
from tools import convert_checkpoint, export, fuse

LENGTH = Features(["tiny"]).length


def policy(q_values, parts=("tiny",), history=False):
    """One that finds the same values in every picture."""
    features = Features(list(parts), history)
    network = dqn_editor(features.length, (2,))
    for variable in network.weights:
        variable.assign(np.zeros(variable.shape))
    network.get_layer("fc2").bias.assign(q_values)
    return editor.Policy(network, features)


def always(action):
    return policy(np.eye(6)[action] / 2 - 0.1)


@pytest.fixture
def brighter(tmp_path):
    """The file of a policy that always makes brighter."""
    editor.save_policy(always(5), tmp_path / "brighter.weights.h5")
    return str(tmp_path / "brighter.weights.h5")


def pair(height=37, width=53, dtype=np.uint8):
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    scene = np.stack([(1 + np.sin(7 * x + 3 * y + 2 * i) * np.cos(5 * y - i * x)) / 2 for i in range(3)], axis=-1)
    top = np.iinfo(dtype).max
    return [np.clip(scene * gain * top, 0, top).astype(dtype) for gain in (0.3, 1.7)]


# Q network


@pytest.mark.parametrize("golden_case", ["rl_q_network"], indirect=True)
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
    with pytest.raises(ValueError, match="expected features and hidden layers of 1 and more values"):
        dqn_editor(**{"features": 8, "hidden": (8,)} | arguments)


def test_original_checkpoint_is_converted(tmp_path, monkeypatch, capsys):
    """A TensorFlow 1 checkpoint as the original's Saver writes it, with its counter of steps."""
    monkeypatch.setitem(models.MODELS, "dqn_editor", lambda: dqn_editor(LENGTH, (3, 4, 5)))
    names = original_names()
    network = models.build("dqn_editor")
    arrays = {names[variable.path]: np.asarray(variable) + 1 for variable in network.weights}
    prefix = str(tmp_path / "test_run.ckpt-700")
    saved = {**arrays, "step/step": np.int32(700)}
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(saved), shape_and_slices=[""] * len(saved), tensors=list(saved.values()))
    output = tmp_path / "converted.weights.h5"
    config = convert_checkpoint.Config(model="dqn_editor", checkpoint=prefix, output=str(output))
    convert_checkpoint.main(config)
    loaded = editor.load_network(output)
    for variable in loaded.weights:
        np.testing.assert_array_equal(variable, arrays[names[variable.path]], err_msg=variable.path)
    # It does not say what its features are: they count as the original's, of which there are more.
    monkeypatch.setattr(editor, "ORIGINAL_FEATURES", "quality")
    with pytest.raises(ValueError, match=f"expected a policy for the 8000 values of quality, found one for {LENGTH}"):
        editor.load_policy(output)


# Policies


@pytest.mark.parametrize(("parts", "history", "duel"), [(["tiny"], True, False), (["lab", "rgbl"], False, True)])
def test_a_file_holds_network_and_features(parts, history, duel, tmp_path):
    features = Features(parts, history)
    saved = editor.Policy(dqn_editor(features.length, (5, 4), duel), features)
    editor.save_policy(saved, tmp_path / "a.weights.h5")
    loaded = editor.load_policy(tmp_path / "a.weights.h5")
    assert (loaded.features.parts, loaded.features.history) == (tuple(parts), history)
    state = editing.start(*(editing.shrink(picture) for picture in pair())).edit(3)
    np.testing.assert_array_equal(loaded.q_values(state), saved.q_values(state))


def test_a_policy_for_other_features_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a policy for the 768 values of tiny, found one for 8000 values"):
        editor.Policy(dqn_editor(8000, (2,)), Features(["tiny"]))
    path = tmp_path / "a.weights.h5"
    weights.save_weights(dqn_editor(LENGTH, (2,)), path, features="tiny,history")
    with pytest.raises(
        ValueError, match=r"a.weights.h5: expected a policy for the 888 values of tiny,history, found one for 768"
    ):
        hdr_tf.fuse(pair(), "dqn_editor", path)
    weights.save_weights(dqn_editor(LENGTH, (2,)), path, features="smell")
    with pytest.raises(ValueError, match="a.weights.h5: expected features out of vgg, .* found smell"):
        hdr_tf.fuse(pair(), "dqn_editor", path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "a.weights.h5"
    weights.save_weights(models.build("densefuse_gray"), path)
    with pytest.raises(ValueError, match="a.weights.h5: expected weights of dqn_editor, found those of densefuse_gray"):
        hdr_tf.fuse(pair(), "dqn_editor", path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"a.weights.h5: expected weights \(.weights.h5\), found another kind of file"):
        hdr_tf.fuse(pair(), "dqn_editor", path)


@pytest.mark.parametrize(("q_values", "actions"), [([-1, -2, -3, -4, -5, 0], ()), ([-1, 0.5, 1e-6, 0, 0, 0.4], (1,) * 20)])
def test_it_stops_without_a_positive_value_and_after_20_edits(q_values, actions):
    small = editing.start(*(editing.shrink(picture) for picture in pair()))
    steps = list(policy(q_values).run(small))
    assert steps[-1][0].actions == actions and len(steps) == len(actions) + 1
    assert all(np.allclose(values, q_values) for _, values in steps[:20])
    assert (steps[-1][1] is None) == (len(actions) == 20)


def test_it_decides_by_what_it_sees():
    """Stops as soon as the history has two edits: the two first rows of 6, each worth -1, behind a positive bias."""
    chosen = policy(np.full(6, 0.1), parts=(), history=True)
    kernel = np.zeros((120, 2), "float32")
    kernel[6:12, 0] = 1  # row of the second edit
    chosen.network.get_layer("fc1").kernel.assign(kernel)
    chosen.network.get_layer("fc2").kernel.assign([[-1] * 6, [0] * 6])
    small = editing.start(*(editing.shrink(picture) for picture in pair()))
    *_, (last, _) = chosen.run(small)
    assert last.actions == (0, 0)


# Fusing


@pytest.mark.parametrize("number", [3, pytest.param(0, marks=pytest.mark.slow)])
def test_published_results_by_a_policy_that_always_makes_brighter(number, reference, brighter, tmp_path):
    path = reference / "rl_hdr" / f"T{number:04}.JPG"
    fused = hdr_tf.fuse([path], "dqn_editor", brighter)
    difference = np.abs(fused.astype(int) - cv2.imread(f"{path}_retouched.png")[..., ::-1])
    assert difference.mean() < 0.05 and difference.max() <= 5


def test_the_tool_writes_picture_and_trace(brighter, tmp_path, capsys):
    for name, picture in zip(("under", "over"), pair(), strict=True):
        files.write_picture(tmp_path / f"{name}.png", picture)
    output, trace = tmp_path / "made" / "fused.png", tmp_path / "made" / "steps.png"
    pictures = [str(tmp_path / "under.png"), str(tmp_path / "over.png")]
    config = fuse.Config(pictures=pictures, output=str(output), model="dqn_editor", weights=brighter, trace=str(trace))
    assert fuse.main(config) == 0
    assert capsys.readouterr().out == f"fused: {output} (53 x 37, 8 bit)\n"
    *_, state = editing.run(*pair(), [5] * 20)  # at full size
    np.testing.assert_array_equal(files.read_picture(output).pixels, np.uint8(state.fused * 255))
    sheet = files.read_picture(trace).pixels
    assert sheet.shape == (3 * (224 + 110), 7 * 224, 3)  # 21 tiles
    *_, (last, _) = always(5).run(editing.start(*(editing.shrink(picture) for picture in pair())))
    np.testing.assert_array_equal(sheet[-334:-110, -224:], np.uint8(last.fused * 255))
    assert sorted(path.name for path in output.parent.iterdir()) == ["fused.png", "steps.png"]


def test_order_does_not_matter_and_is_told(brighter, caplog):
    under, over = pair()
    with caplog.at_level(logging.INFO, "absl"):
        straight = hdr_tf.fuse([under, over], "dqn_editor", brighter)
        assert "swapped" not in caplog.text
        swapped = hdr_tf.fuse([over, under], "dqn_editor", brighter)
    assert "swapped: picture 2 is the under-exposed picture, picture 1 the over-exposed one" in caplog.text
    np.testing.assert_array_equal(straight, swapped)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_picture_of_two_halves(axis, brighter, tmp_path):
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.random((24, 32, 3)), (256, 192), interpolation=cv2.INTER_LINEAR)
    under, over = (np.uint8(np.clip(scene * gain, 0, 1) * 255) for gain in (0.4, 1.5))
    path = tmp_path / "stacked.png"
    files.write_picture(path, np.concatenate([over, under], axis))
    np.testing.assert_array_equal(
        hdr_tf.fuse([path], "dqn_editor", brighter), hdr_tf.fuse([under, over], "dqn_editor", brighter)
    )


def test_depths_and_gray(brighter):
    shallow = hdr_tf.fuse(pair(), "dqn_editor", brighter)
    deep = hdr_tf.fuse([picture.astype(np.uint16) * 257 for picture in pair()], "dqn_editor", brighter)
    assert (shallow.dtype, deep.dtype) == (np.uint8, np.uint16)
    # Truncated in 8 bit; and weights, where the contrast is rounding, differ.
    assert np.abs(shallow - deep / 257).mean() < 0.6
    gray = hdr_tf.fuse([picture[..., 1] for picture in pair()], "dqn_editor", brighter)
    assert gray.shape == (37, 53) and gray.std() > 10


@pytest.mark.parametrize("levels", [(0, 0), (255, 255), (0, 255), (128, 128)])
@pytest.mark.filterwarnings("error:invalid value", "error:divide by zero")
def test_flat_pictures(levels, tmp_path):
    """With a policy that looks: of the quality histogram, which is empty in places."""
    features = Features(["quality"])
    editor.save_policy(editor.Policy(dqn_editor(features.length, (3,)), features), tmp_path / "a.weights.h5")
    flat = [np.full((16, 19, 3), level, np.uint8) for level in levels]
    fused = hdr_tf.fuse(flat, "dqn_editor", tmp_path / "a.weights.h5")
    assert fused.shape == (16, 19) and np.ptp(fused.astype(int)) <= 255 and fused.dtype == np.uint8


@pytest.mark.parametrize(
    ("pictures", "arguments", "message"),
    [
        (pair()[:1], {}, "expected at least 2 pictures to fuse, found 1"),
        ([*pair(), pair()[0]], {}, "dqn_editor: expected 2 pictures to fuse, found 3"),
        ([pair()[0], pair()[1][1:]], {}, "picture 2 is 53 x 36 pixels and picture 1 53 x 37: expected pictures of one size"),
        ([picture[:7] for picture in pair()], {}, "expected at least 8 x 8 pixels, found 53 x 7"),
        (pair(), {"model": "pyramid", "trace": "steps.png"}, "trace: expected the model dqn_editor"),
        (pair(), {"trace": "steps.gif"}, "expected an output ending in .*, found '.gif'"),
        (pair(), {"trace": "fused.png"}, "fused.png: is one of the pictures"),
    ],
)
def test_bad_input_leaves_nothing(pictures, arguments, message, brighter, tmp_path):
    arguments = {name: tmp_path / "out" / value if name == "trace" else value for name, value in arguments.items()}
    with pytest.raises(ValueError, match=message):
        hdr_tf.fusing.fuse_files(
            pictures, tmp_path / "out/fused.png", **{"model": "dqn_editor", "weights": brighter} | arguments
        )
    assert not (tmp_path / "out").exists()


def test_one_picture_without_halves(brighter, tmp_path):
    files.write_picture(tmp_path / "alone.png", pair()[0])
    with pytest.raises(
        ValueError, match=r"expected at least 2 pictures to fuse, found 1; .*alone.png: expected .* two exposures"
    ):
        hdr_tf.fuse([tmp_path / "alone.png"], "dqn_editor", brighter)


def test_export_is_the_policy(brighter, tmp_path, capsys):
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)  # of other networks all values may have one sign
    saved = editor.Policy(dqn_editor(LENGTH, (8, 4)), Features(["tiny"]))
    saved.network.get_layer("fc3").bias.assign([-2, -2, -2, -2, -2, 0])
    editor.save_policy(saved, tmp_path / "a.weights.h5")
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
    """Here, as nothing is exported faster than a small policy."""
    (tmp_path / "models.config").write_text(
        'model_config_list { config { name: "other" base_path: "/elsewhere" model_platform: "tensorflow" } }'
    )
    config = export.Config(model="dqn_editor", weights=brighter, output=str(tmp_path / "policy"))
    export.main(config)
    assert capsys.readouterr().out == f"exported: {tmp_path / 'policy' / '1'} (dqn_editor)\n"
    listed = (tmp_path / "models.config").read_text()
    assert [word for word in ("other", "/elsewhere", "policy", "/models/policy") if f'"{word}"' not in listed] == []
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None)
    export.main(config)
    assert "policy/2: no warm-up requests and no models.config: they need pip install 'hdr_tf[serve]'" in caplog.text
    assert (tmp_path / "models.config").read_text() == listed
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("policy/*/*.pb")) == [
        f"policy/{version}/{name}.pb" for version in (1, 2) for name in ("fingerprint", "saved_model")
    ]
    assert [path.parent.parent.name for path in tmp_path.rglob("tf_serving_warmup_requests")] == ["1"]


def test_fusing_needs_no_tf_agents(brighter):
    program = (
        "import sys, hdr_tf, numpy as np\n"
        "pictures = [np.full((9, 9, 3), level, np.uint8) for level in (20, 200)]\n"
        f"hdr_tf.fuse(pictures, 'dqn_editor', {brighter!r})\n"
        "print([name for name in ('tf_agents', 'tf_keras', 'hdr_tf.rl') if name in sys.modules])"
    )
    unset = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}  # other tests may have set it
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=unset)
    assert found.stdout.strip() == "[]", found.stderr


def test_sheet_of_a_short_episode():
    steps = list(policy([-1] * 6).run(editing.start(*(editing.shrink(picture) for picture in pair()))))
    assert editor.sheet(steps).shape == (334, 224, 3)


def test_gradient_reaches_every_variable():
    network = dqn_editor(20, (16, 8), duel=True)
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(network(np.random.default_rng(0).normal(size=(32, 20)).astype("float32"))[:, :5] ** 2)
    for variable, gradient in zip(network.weights, tape.gradient(loss, network.weights), strict=True):
        assert np.abs(gradient).max() > 0, variable.path
