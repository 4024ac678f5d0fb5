"""Reading original checkpoints, hostile ones too, and writing and reading our own weights."""

import pathlib
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import models, weights
from tools import convert_checkpoint

BOTH = pytest.mark.parametrize("kind", ["zip", "legacy"])


@pytest.fixture(scope="module")
def torch_files(golden):
    folder = golden.FOLDER / "torch_files"
    if not folder.exists():
        pytest.skip(f"{golden.FOLDER} holds no torch_files")
    return folder


def _torch_zip(path, *, kind="FloatStorage", offset=0, shape=(4,), strides=(1,), content=bytes(16), text=None) -> pathlib.Path:
    """Writes {"w": one tensor} as torch.save does, with a pickle by hand that may say anything."""

    def numbers(values):
        return "".join(f"I{value}\n" for value in values)

    tensor = (
        f"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\n{kind}\nS'0'\nS'cpu'\nI4\ntQ"
        f"I{offset}\n({numbers(shape)}t({numbers(strides)}tI00\n(dtR"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", (text or "(dS'w'\n{tensor}s.").replace("{tensor}", tensor))
        archive.writestr("archive/data/0", content)
    return path


@BOTH
@pytest.mark.parametrize("name", ["state_dict", "nested"])
def test_torch_files(torch_files, name, kind):
    found = weights.read_checkpoint(torch_files / f"{name}_{kind}.pth")
    with np.load(torch_files / "expected.npz") as expected:
        assert set(found) == set(expected.files)
        for key in expected.files:
            assert found[key].dtype == expected[key].dtype, key
            np.testing.assert_array_equal(found[key], expected[key], err_msg=key)


@BOTH
def test_other_classes_are_refused_by_name(torch_files, kind, capsys):
    with pytest.raises(ValueError, match=f"refuse_me_{kind}.pth: .* an object of class __builtin__.print"):
        weights.read_checkpoint(torch_files / f"refuse_me_{kind}.pth")
    assert not capsys.readouterr().out  # the object's function was not called


def test_bfloat16(tmp_path):
    content = np.array([0x3F80, 0xC000, 0x3FC0, 0x0000], "<u2").tobytes()
    found = weights.read_checkpoint(_torch_zip(tmp_path / "b.pth", kind="BFloat16Storage", content=content))
    np.testing.assert_array_equal(found["w"], np.array([1, -2, 1.5, 0], "float32"))


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": (5,)},
        {"shape": (2**40, 2**40), "strides": (0, 0)},
        {"shape": (4,), "strides": (0,), "content": bytes(4)},
        {"offset": 1},
        {"offset": -1},
        {"strides": (2,)},
        {"strides": (-1,)},
        {"shape": (-4,)},
        {"strides": (1, 1)},
        {"shape": (2**70,)},
        {"content": bytes(15)},
        {"content": b""},
    ],
    ids=str,
)
def test_tensors_beyond_their_storage(tmp_path, tensor):
    with pytest.raises(ValueError, match=r"h.pth: expected a checkpoint .*, found .+") as caught:
        weights.read_checkpoint(_torch_zip(tmp_path / "h.pth", **tensor))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cos\nsystem\n(S'true'\ntR.", "an object of class os.system"),
        ("ctorch\nComplexFloatStorage\n.", "an object of class torch.ComplexFloatStorage"),
        ("(lI1\na.", "without a state dict"),
        ("(dS'epoch'\nI3\ns.", "without a state dict"),
        ("(dS'a'\n(dS'w'\n{tensor}ssS'b'\n(dS'w'\n{tensor}ss.", r"several state dicts: a, b"),
        ("(dS'w'\n{tensor}", "damaged file"),
        ("\x96\xff\xff\xff\xff\xff\x00\x00\x00.", "damaged file"),  # a byte array of a terabyte
    ],
)
def test_pickles_that_are_no_state_dict(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        weights.read_checkpoint(_torch_zip(tmp_path / "p.pth", text=text))


def test_model_is_taken_from_several_state_dicts(tmp_path):
    text = "(dS'model'\n(dS'w'\n{tensor}ssS'average'\n(dS'v'\n{tensor}ss."
    assert set(weights.read_checkpoint(_torch_zip(tmp_path / "p.pth", text=text))) == {"w"}


@pytest.mark.parametrize("name", ["state_dict_zip.pth", "state_dict_legacy.pth", "expected.npz"])
def test_damaged_files(torch_files, tmp_path, name):
    data = (torch_files / name).read_bytes()
    path = tmp_path / name
    for length in np.linspace(0, len(data) - 1, 40, dtype=int):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=f"{name}: expected a checkpoint"):
            weights.read_checkpoint(path)
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(data), 200):
        flipped = bytearray(data)
        flipped[place] ^= 1 << generator.integers(8)
        path.write_bytes(flipped)
        try:
            weights.read_checkpoint(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: expected a checkpoint")


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_is_no_checkpoint(path):
    with pytest.raises(IsADirectoryError):
        weights.read_checkpoint(path)


def test_archive_that_unpacks_to_far_more(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", bytes(10_000_000))
    with pytest.raises(ValueError, match="more than a hundred times its size"):
        weights.read_checkpoint(tmp_path / "bomb.npz")


def test_pickled_npz_is_refused(tmp_path):
    np.savez(tmp_path / "object.npz", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        weights.read_checkpoint(tmp_path / "object.npz")


def test_tensorflow_checkpoint(tmp_path):
    prefix = str(tmp_path / "model.ckpt-7")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["conv/w"], shape_and_slices=[""], tensors=[tf.range(6.0)])
    np.testing.assert_array_equal(weights.read_checkpoint(prefix)["conv/w"], np.arange(6, dtype="float32"))


def test_damaged_tensorflow_checkpoint(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"no index")
    with pytest.raises(ValueError, match="model.ckpt: expected a TensorFlow checkpoint"):
        weights.read_checkpoint(tmp_path / "model.ckpt")


def _save_as_tensorflow_1(prefix, arrays):
    """Saves variables as the scripts of ESBN do, after a step of Adam: with its slots and powers."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        moving = ("moving_mean", "moving_variance")
        variables = [
            v1.get_variable(name, initializer=array, trainable=not name.endswith(moving), use_resource=False)
            for name, array in arrays.items()
        ]
        loss = tf.add_n([0 * tf.reduce_sum(variable) for variable in variables])
        train = v1.train.AdamOptimizer(1e-4, beta1=0.9, epsilon=1e-8).minimize(loss)
        session.run(v1.global_variables_initializer())
        session.run(train)
        v1.train.Saver(v1.global_variables()).save(session, str(prefix), write_meta_graph=False)
    kept = {name for name, _ in tf.train.list_variables(str(prefix))}
    assert {"beta1_power", "beta2_power"} < kept and len(kept) > 2 * len(arrays)


def test_tensorflow_1_checkpoint_of_the_alignment(tmp_path):
    model, names, arrays = _original("esbn_align", filters=2)
    _save_as_tensorflow_1(tmp_path / "iter_300000", arrays)
    found = weights.read_checkpoint(tmp_path / "iter_300000")
    assert set(found) == set(arrays)
    weights.assign(model, found, names, "keras")
    for variable in model.weights:
        np.testing.assert_array_equal(variable.numpy(), arrays[names[variable.path]], err_msg=variable.path)


@pytest.mark.parametrize("golden_case", ["esbn_fusion"], indirect=True)
def test_convert_tensorflow_1_checkpoint(golden, golden_case, tmp_path):
    _save_as_tensorflow_1(tmp_path / "iter_300000", golden.parameters(golden_case))
    for checkpoint in ("iter_300000", "iter_300000.index"):
        output = tmp_path / "esbn_fusion.weights.h5"
        convert_checkpoint.main(convert_checkpoint.Config(golden_case, str(tmp_path / checkpoint), str(output)))
        model = models.build(golden_case)
        weights.load_weights(model, output)
        inputs = golden.inputs(golden_case)
        found = model({name: inputs[f"input_{name[:3].upper()}{name[3:]}"] for name in model.input})["hdr"]
        np.testing.assert_allclose(found, golden.outputs(golden_case)["output_hdr"], rtol=0, atol=4e-6)  # see test_parity
        output.unlink()


def test_tensorflow_1_checkpoint_of_another_network_is_refused(tmp_path):
    _, _, arrays = _original("esbn_align", filters=2)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "low"),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )
    with pytest.raises(ValueError, match=r"low: does not fit esbn_fusion: missing: .* and 14 more; unexpected: .*") as caught:
        convert_checkpoint.main(
            convert_checkpoint.Config("esbn_fusion", str(tmp_path / "low"), str(tmp_path / "out.weights.h5"))
        )
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    assert not (tmp_path / "out.weights.h5").exists()


def test_only_what_training_keeps_is_left_out(tmp_path):
    names = [
        "a/w",
        "a/w/Adam",
        "a/w/Adam_1",
        "b/Adam",
        "beta1_power",
        "beta2_power",
        "global_step",
        "c/beta1_power",
        "w/Momentum",
    ]
    prefix = str(tmp_path / "model")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=[tf.zeros(1)] * len(names))
    assert set(weights.read_checkpoint(prefix)) == {"a/w", "b/Adam", "c/beta1_power", "w/Momentum"}


def test_long_lists_are_cut():
    model, names, arrays = _original("densefuse_gray")
    with pytest.raises(ValueError) as caught:
        weights.assign(model, {}, names, "torch")
    assert str(caught.value).endswith(f"{list(names.values())[9]} and {len(arrays) - 10} more")


def _original(name, **arguments):
    """Arrays that fit a model, in its original's names and layout."""
    generator = np.random.default_rng(1)
    model = models.build(name, **arguments)
    names, layout = models.original_names(name)
    names = {variable.path: names[variable.path] for variable in model.weights}  # fewer of a shallower network
    shapes = {names[variable.path]: tuple(variable.shape) for variable in model.weights}
    if layout != "keras":
        shapes = {key: (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape for key, shape in shapes.items()}
    if layout == "torch":
        shapes = {key: shape[::-1] if key.endswith("weight") and len(shape) == 2 else shape for key, shape in shapes.items()}
    return model, names, {key: generator.normal(size=shape).astype("float32") for key, shape in shapes.items()}


def test_assign_lists_every_problem_and_assigns_nothing():
    model, names, arrays = _original("densefuse_gray")
    del arrays["conv1.conv2d.bias"]
    arrays["conv3.conv2d.weight"] = np.zeros((32, 64, 5, 5), "float32")
    arrays["conv9.conv2d.weight"] = arrays["conv4.conv2d.weight"]
    before = model.get_weights()
    with pytest.raises(ValueError) as caught:
        weights.assign(model, arrays, names, "torch")
    assert str(caught.value) == (
        "checkpoint: does not fit densefuse_gray: missing: conv1.conv2d.bias; unexpected: conv9.conv2d.weight; "
        "wrongly shaped (in Keras' layout): conv3.conv2d.weight (5, 5, 64, 32) instead of (3, 3, 64, 32)"
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_counters_of_batches_are_ignored():
    model, names, arrays = _original("deepfuse_sunnerli")
    arrays["layer1.main.1.num_batches_tracked"] = np.array(7)
    weights.assign(model, arrays, names, "torch")
    np.testing.assert_array_equal(model.get_layer("layer1_norm").gamma, arrays["layer1.main.1.weight"])


def test_dense_kernels_are_transposed_and_what_attention_derives_is_ignored():
    model, names, arrays = _original("hdr_transformer", depths=(2,))
    attention = "layers.0.residual_group.blocks.1.attn"
    arrays[f"{attention}.relative_position_index"] = np.zeros((64, 64), "int64")
    arrays["layers.0.residual_group.blocks.1.attn_mask"] = np.zeros((256, 64, 64), "float32")
    weights.assign(model, arrays, names, "torch")
    np.testing.assert_array_equal(model.get_layer("group1_block2_qkv").kernel, arrays[f"{attention}.qkv.weight"].T)
    table = model.get_layer("group1_block2_attention").position_bias
    np.testing.assert_array_equal(table, arrays[f"{attention}.relative_position_bias_table"])


def _save_as_torch(path, arrays):
    """Writes {"state_dict": float32 arrays} as torch.save does."""
    text = "(dS'state_dict'\n(d"
    with zipfile.ZipFile(path, "w") as archive:
        for key, (name, array) in enumerate(arrays.items()):
            shape, strides = ("".join(f"I{n}\n" for n in numbers) for numbers in (array.shape, np.array(array.strides) // 4))
            storage = f"(S'storage'\nctorch\nFloatStorage\nS'{key}'\nS'cpu'\nI{array.size}\ntQ"
            text += f"S'{name}'\nctorch._utils\n_rebuild_tensor_v2\n({storage}I0\n({shape}t({strides}tI00\n(dtRs"
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/data.pkl", text + "s.")


@pytest.mark.parametrize("golden_case", ["ahdrnet"], indirect=True)
def test_convert_checkpoint_of_selfhdr(golden, golden_case, tmp_path):
    arrays, output = golden.parameters(golden_case), tmp_path / "ahdrnet.weights.h5"
    _save_as_torch(tmp_path / "SelfHDR_model_150.pth", arrays)
    convert_checkpoint.main(convert_checkpoint.Config(golden_case, str(tmp_path / "SelfHDR_model_150.pth"), str(output)))
    model = models.build(golden_case)
    weights.load_weights(model, output)
    for path, name in models.original_names(golden_case)[0].items():
        array = arrays[name].transpose(2, 3, 1, 0) if arrays[name].ndim == 4 else arrays[name]
        if path == "features/kernel":  # the original's channels are blue, green, red
            array = array[:, :, [2, 1, 0, 5, 4, 3]]
        if path.startswith("output/"):
            array = array[..., [2, 1, 0]]
        np.testing.assert_array_equal({v.path: v for v in model.weights}[path], array, err_msg=name)


def test_kernels_are_transposed_and_lasagnes_flipped():
    model, names, arrays = _original("deepfuse_official")
    kernel = arrays["l_conv11.W"]  # [out, in, height, width]
    weights.assign(model, arrays, names, "torch")
    assert model.get_layer("conv2").kernel[0, 1, 2, 3] == kernel[3, 2, 0, 1]
    weights.assign(model, arrays, names, "lasagne")
    assert model.get_layer("conv2").kernel[0, 1, 2, 3] == kernel[3, 2, 4, 3]


def test_convert_npz_of_lasagne(tmp_path, capsys):
    model, names, arrays = _original("deepfuse_official")
    np.savez(tmp_path / "model.npz", *(arrays[name] for name in names.values()))
    output = tmp_path / "model.weights.h5"
    convert_checkpoint.main(convert_checkpoint.Config("deepfuse_official", str(tmp_path / "model.npz"), str(output)))
    assert capsys.readouterr().out == f"{output}: 6 arrays, 316,976 numbers for deepfuse_official\n"
    weights.load_weights(model, output)
    for path, name in names.items():
        flipped = arrays[name][:, :, ::-1, ::-1].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(model.get_layer(path.split("/")[0]).kernel, flipped)


@pytest.mark.parametrize("count", [5, 7])
def test_convert_writes_nothing_where_arrays_are_left_over(tmp_path, count):
    _, names, arrays = _original("deepfuse_official")
    arrays = [*arrays.values(), np.zeros(3)][:count]
    np.savez(tmp_path / "model.npz", *arrays)
    with pytest.raises(ValueError, match="model.npz: does not fit deepfuse_official: (missing: l_conv5.W|unexpected: arr_6)$"):
        convert_checkpoint.main(
            convert_checkpoint.Config("deepfuse_official", str(tmp_path / "model.npz"), str(tmp_path / "out.weights.h5"))
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_weights_round_trip(tmp_path):
    model, other = models.build("densefuse_gray"), models.build("densefuse_gray", exposures=3)
    weights.save_weights(model, tmp_path / "gray.weights.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["gray.weights.h5"]
    weights.load_weights(other, tmp_path / "gray.weights.h5")
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "gray.weights.h5"
    weights.save_weights(models.build("densefuse_gray"), path)
    with pytest.raises(ValueError) as caught:
        weights.load_weights(models.build("hyperp_mb"), path)
    message = str(caught.value)
    assert message.startswith(f"{path} (weights of densefuse_gray): does not fit hyperp_mb: missing: under_conv1/kernel, ")
    assert message.endswith(
        "; unexpected: conv1/bias, conv1/kernel, dense1/bias, dense1/kernel, dense2/bias, "
        "dense2/kernel, dense3/bias, dense3/kernel"
    )


def test_weights_of_a_network_within_another(tmp_path):
    joined = models.build("esbn_end_to_end", align_filters=2, filters=2, growth=1)
    alone = models.build("esbn_align", filters=2)
    path = tmp_path / "esbn_align_high.weights.h5"
    weights.save_weights(joined.get_layer("esbn_align_high"), path)
    weights.load_weights(alone, path)
    for ours, theirs in zip(joined.get_layer("esbn_align_high").get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert weights.read_shapes(path)["decoder_conv3/kernel"] == (5, 5, 8, 8)
    weights.load_weights(joined.get_layer("esbn_align_low"), path)
    with pytest.raises(ValueError, match="does not fit esbn_fusion"):
        weights.load_weights(joined.get_layer("esbn_fusion"), path)


def test_shapes_of_no_weights(tmp_path):
    (tmp_path / "a.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="a.weights.h5: expected weights"):
        weights.read_shapes(tmp_path / "a.weights.h5")
    with pytest.raises(FileNotFoundError, match="b.weights.h5"):
        weights.read_shapes(tmp_path / "b.weights.h5")


@pytest.mark.parametrize(("exposures", "levels"), [(3, 4), (9, 8)])
def test_weights_do_not_depend_on_the_order_of_the_graph(tmp_path, exposures, levels):
    path = tmp_path / "pyramid.weights.h5"
    model, other = models.build("pyramid"), models.build("pyramid", exposures=exposures, levels=levels)
    weights.save_weights(model, path)
    weights.load_weights(other, path)
    values = {variable.path: variable.numpy() for variable in model.weights}
    for variable in other.weights:
        np.testing.assert_array_equal(variable.numpy(), values[variable.path], err_msg=variable.path)


def test_weights_of_keras_are_refused(tmp_path):
    model = models.build("deepfuse_official")
    model.save_weights(tmp_path / "keras.weights.h5")
    with pytest.raises(ValueError, match=r"keras.weights.h5 \(weights of another program\): does not fit deepfuse_official"):
        weights.load_weights(model, tmp_path / "keras.weights.h5")


@pytest.mark.parametrize("length", [0, 7, 3000, 100_000, -1])
def test_truncated_weights(tmp_path, length):
    path = tmp_path / "gray.weights.h5"
    model = models.build("densefuse_gray")
    weights.save_weights(model, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="gray.weights.h5: expected weights of densefuse_gray") as caught:
        weights.load_weights(model, path)
    assert "\n" not in str(caught.value)


def test_missing_and_misnamed_weights(tmp_path):
    model = models.build("densefuse_gray")
    with pytest.raises(FileNotFoundError, match="gray.weights.h5"):
        weights.load_weights(model, tmp_path / "gray.weights.h5")
    with pytest.raises(ValueError, match=r"gray.h5: expected a name that ends in \.weights\.h5"):
        weights.save_weights(model, tmp_path / "gray.h5")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        weights.save_weights(model, tmp_path / "file" / "gray.weights.h5")
    weights.save_weights(model, tmp_path / "new" / "gray.weights.h5")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["gray.weights.h5"]


def test_some_networks_come_without_weights():
    assert weights.pretrained("deepfuse_sunnerli") is None
