"""Reading original checkpoints, hostile ones too, and writing and reading our own weights."""

import copy
import io
import pathlib
import re
import resource
import struct
import time
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import checkpoints, systems, weights
from hdr_tf.editor import policy
from tests import helpers
from tools import convert_checkpoint

BOTH = pytest.mark.parametrize("kind", ["zip", "legacy"])


@pytest.fixture(scope="module")
def torch_files(golden):
    folder = golden.FOLDER / "torch_files"
    if not folder.exists():
        pytest.skip(f"{golden.FOLDER} holds no torch_files")
    return folder


def _convert(name, checkpoint, output):
    convert_checkpoint.main(convert_checkpoint.Config(model=name, checkpoint=str(checkpoint), output=str(output)))


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
    actual = checkpoints.read_checkpoint(torch_files / f"{name}_{kind}.pth")
    with np.load(torch_files / "expected.npz") as expected:
        assert set(actual) == set(expected.files)
        for key in expected.files:
            assert actual[key].dtype == expected[key].dtype, key
            np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)


@BOTH
def test_other_classes_are_refused_by_name(torch_files, kind, capsys):
    with pytest.raises(ValueError, match=helpers.mentions(f"refuse_me_{kind}.pth __builtin__.print")):
        checkpoints.read_checkpoint(torch_files / f"refuse_me_{kind}.pth")
    assert not capsys.readouterr().out  # the object's function was not called


def test_bfloat16(tmp_path):
    content = np.array([0x3F80, 0xC000, 0x3FC0, 0x0000], "<u2").tobytes()
    actual = checkpoints.read_checkpoint(_torch_zip(tmp_path / "b.pth", kind="BFloat16Storage", content=content))
    np.testing.assert_array_equal(actual["w"], np.array([1, -2, 1.5, 0], "float32"))


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
    with pytest.raises(ValueError, match=helpers.mentions("h.pth")) as caught:
        checkpoints.read_checkpoint(_torch_zip(tmp_path / "h.pth", **tensor))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cos\nsystem\n(S'true'\ntR.", "p.pth os.system"),
        ("ctorch\nComplexFloatStorage\n.", "p.pth torch.ComplexFloatStorage"),
        ("(lI1\na.", "p.pth state dict"),
        ("(dS'epoch'\nI3\ns.", "p.pth state dict"),
        ("(dS'a'\n(dS'w'\n{tensor}ssS'b'\n(dS'w'\n{tensor}ss.", "p.pth a, b"),
        ("(dS'w'\n{tensor}", "p.pth"),
        ("\x96\xff\xff\xff\xff\xff\x00\x00\x00.", "p.pth"),  # a byte array of a terabyte
    ],
)
def test_pickles_that_are_no_state_dict(tmp_path, text, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        checkpoints.read_checkpoint(_torch_zip(tmp_path / "p.pth", text=text))


def test_model_is_chosen_from_several_state_dicts(tmp_path):
    text = "(dS'model'\n(dS'w'\n{tensor}ssS'average'\n(dS'v'\n{tensor}ss."
    assert set(checkpoints.read_checkpoint(_torch_zip(tmp_path / "p.pth", text=text))) == {"w"}


@pytest.mark.parametrize("name", ["state_dict_zip.pth", "state_dict_legacy.pth", "expected.npz"])
def test_damaged_files(torch_files, tmp_path, name):
    data = (torch_files / name).read_bytes()
    path = tmp_path / name
    for length in np.linspace(0, len(data) - 1, 40, dtype=int):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=helpers.mentions(name)):
            checkpoints.read_checkpoint(path)
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(data), 200):
        flipped = bytearray(data)
        flipped[place] ^= 1 << generator.integers(8)
        path.write_bytes(flipped)
        try:
            checkpoints.read_checkpoint(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_is_no_checkpoint(path):
    with pytest.raises(IsADirectoryError):
        checkpoints.read_checkpoint(path)


def test_archive_that_unpacks_to_far_more(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", bytes(10_000_000))
    with pytest.raises(ValueError, match=helpers.mentions("bomb.npz")):
        checkpoints.read_checkpoint(tmp_path / "bomb.npz")


def _nested(depth):
    """Opcodes that put a tuple on the stack which holds the same tuple twice, and so on: 2**depth texts, in a few bytes."""
    numbers = range(depth)
    return b")q\x000" + b"".join(b"h%ch%c\x86q%c0" % (i, i, i + 1) for i in numbers) + b"h%c" % depth


def _nested_pickles():
    stored = b"(S'storage'\nctorch\nFloatStorage\n%sS'cpu'\nI4\ntQ"
    key, tensor = stored % b"S'0'\n", b"ctorch._utils\n_rebuild_tensor_v2\n(%sI0\n%s(I1\nt\x89NtR"
    yield "key", b"}" + _nested(60) + b"K\x01s."
    yield "keys", b"}(" + _nested(60) + b"K\x01u."
    yield "dict", b"(" + _nested(60) + b"K\x01d."
    yield "ordered", b"ccollections\nOrderedDict\n(](" + _nested(60) + b"K\x01\x86etR."
    yield "set", b"\x8f(" + _nested(60) + b"\x90."
    yield "frozen set", b"(" + _nested(60) + b"\x91."
    yield "state", b"ccollections\nOrderedDict\n)R}" + _nested(60) + b"K\x01sb."
    yield "attribute", b"ctorch._utils\n_rebuild_tensor_v2\nN}S'x'\n" + _nested(60) + b"s\x86b."
    yield "shape", b"}(S'w'\n" + tensor % (key, b"(" + _nested(26) + b"I1\nt") + b"u."
    yield "strides", b"}(S'w'\n" + tensor.replace(b"(I1\nt", b"(" + _nested(26) + b"t") % (key, b"(I1\nt") + b"u."
    yield "offset", b"}(S'w'\n" + tensor.replace(b"I0\n", _nested(26)) % (key, b"(I1\nt") + b"u."
    yield "storage", b"}(S'w'\n" + tensor % (stored % _nested(60), b"(I1\nt") + b"u."
    yield "type", b"}(S'w'\n" + tensor % (key.replace(b"ctorch\nFloatStorage\n", _nested(60)), b"(I1\nt") + b"u."
    yield "class", b"c" + b"x" * 1_000_000 + b"\ny\n."
    yield "root", _nested(60) + b"."


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in _nested_pickles()])
def test_nested_tuples_take_no_time_and_give_a_short_message(tmp_path, text):
    path = _torch_zip(tmp_path / "n.pth", text="")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + text)
        archive.writestr("a/data/0", bytes(16))
    start = time.process_time()
    with pytest.raises(ValueError, match=helpers.mentions("n.pth")) as caught:
        checkpoints.read_checkpoint(path)
    assert time.process_time() - start < 5 and len(str(caught.value)) < 1000


@pytest.mark.parametrize("kind", ["types", "overlapping", "unpacked", "lying"])
def test_archives_that_take_more_than_they_hold(tmp_path, kind):
    """One member as storages of many types or under many names; and members that unpack to more than the directory says."""
    path, content = tmp_path / "bomb.pth", bytes(1_000_000)
    kinds = list(checkpoints.STORAGES) if kind == "types" else ["ByteStorage"]
    names = range(200) if kind == "overlapping" else range(1)
    entries = "".join(
        f"S'{storage}{name}'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\n{storage}\nS'{name}'\nS'cpu'\nI4\nt"
        "QI0\n(I1\nt(I1\ntI00\nNtRs"
        for storage in kinds
        for name in names
    )
    packed = zipfile.ZIP_DEFLATED if kind in ("unpacked", "lying") else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("a/data.pkl", f"(d{entries}.")
        archive.writestr("a/data/0", content)
        if kind == "overlapping":
            for name in names[1:]:
                archive.filelist.append(info := copy.copy(archive.NameToInfo["a/data/0"]))
                info.filename = f"a/data/{name}"
    if kind == "lying":
        path.write_bytes(path.read_bytes().replace(struct.pack("<I", len(content)), struct.pack("<I", 16)))
    tracemalloc.start()
    with pytest.raises(ValueError, match=helpers.mentions("bomb.pth")):
        checkpoints.read_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


def test_npz_whose_array_is_larger_than_its_file(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.writestr("w.npy", header.getvalue())
    with pytest.raises(ValueError, match=helpers.mentions("large.npz")):
        checkpoints.read_checkpoint(tmp_path / "large.npz")


@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001"])
def test_tensorflow_checkpoint_cut_short(tmp_path, part):
    prefix = tmp_path / "model.ckpt-7"
    names = [f"conv{number}/w" for number in range(20)]
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * 20, tensors=[tf.range(500.0)] * 20)
    path = tmp_path / f"{prefix.name}{part}"
    data = path.read_bytes()
    for length in {0, 1, 30, len(data) // 2, len(data) - 60, len(data) - 1}:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=helpers.mentions("model.ckpt-7")) as caught:
            checkpoints.read_checkpoint(f"{prefix}.index")
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=helpers.mentions("model.ckpt-7")):
        checkpoints.read_checkpoint(prefix)


def test_pickled_npz_is_refused(tmp_path):
    np.savez(tmp_path / "object.npz", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        checkpoints.read_checkpoint(tmp_path / "object.npz")


def test_tensorflow_checkpoint(tmp_path):
    prefix = str(tmp_path / "model.ckpt-7")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["conv/w"], shape_and_slices=[""], tensors=[tf.range(6.0)])
    np.testing.assert_array_equal(checkpoints.read_checkpoint(prefix)["conv/w"], np.arange(6, dtype="float32"))


def test_damaged_tensorflow_checkpoint(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"no index")
    with pytest.raises(ValueError, match=helpers.mentions("model.ckpt TensorFlow")):
        checkpoints.read_checkpoint(tmp_path / "model.ckpt")


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
    actual = checkpoints.read_checkpoint(tmp_path / "iter_300000")
    assert set(actual) == set(arrays)
    weights.assign(model, actual, names, "keras")
    for variable in model.weights:
        np.testing.assert_array_equal(variable.numpy(), arrays[names[variable.path]], err_msg=variable.path)


@helpers.golden_cases("esbn_fusion")
def test_convert_tensorflow_1_checkpoint(golden, golden_case, tmp_path):
    _save_as_tensorflow_1(tmp_path / "iter_300000", golden.parameters(golden_case))
    for checkpoint in ("iter_300000", "iter_300000.index"):
        output = tmp_path / "esbn_fusion.weights.h5"
        _convert(golden_case, tmp_path / checkpoint, output)
        model = systems.build(golden_case)
        weights.load_weights(model, output)
        inputs = golden.inputs(golden_case)
        actual = model({name: inputs[f"input_{name[:3].upper()}{name[3:]}"] for name in model.input})["hdr"]
        np.testing.assert_allclose(actual, golden.outputs(golden_case)["output_hdr"], rtol=0, atol=4e-6)  # see test_parity
        output.unlink()


def test_tensorflow_1_checkpoint_of_another_network_is_refused(tmp_path):
    _, _, arrays = _original("esbn_align", filters=2)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "low"),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )
    with pytest.raises(ValueError, match=r"\blow\b.*\besbn_fusion\b.*\b14\b") as caught:
        _convert("esbn_fusion", tmp_path / "low", tmp_path / "out.weights.h5")
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
    assert set(checkpoints.read_checkpoint(prefix)) == {"a/w", "b/Adam", "c/beta1_power", "w/Momentum"}


def test_long_lists_are_cut():
    model, names, arrays = _original("densefuse_gray")
    with pytest.raises(ValueError) as caught:
        weights.assign(model, {}, names, "torch")
    assert re.search(rf"{re.escape(list(names.values())[9])}\D*\b{len(arrays) - 10}\b\D*$", str(caught.value))


def _original(name, **arguments):
    """Arrays that fit a model, in its original's names and layout."""
    generator = np.random.default_rng(1)
    model = systems.build(name, **arguments)
    network = systems.networks()[name]
    names, layout = systems.resolve(network.original_names)(), network.layout
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
    named = "checkpoint densefuse_gray conv1.conv2d.bias conv9.conv2d.weight conv3.conv2d.weight 5, 5, 64, 32 3, 3, 64, 32"
    with pytest.raises(ValueError, match=helpers.mentions(named)):
        weights.assign(model, arrays, names, "torch")
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


@helpers.golden_cases("ahdrnet")
def test_convert_checkpoint_of_selfhdr(golden, golden_case, tmp_path):
    arrays, output = golden.parameters(golden_case), tmp_path / "ahdrnet.weights.h5"
    _save_as_torch(tmp_path / "SelfHDR_model_150.pth", arrays)
    _convert(golden_case, tmp_path / "SelfHDR_model_150.pth", output)
    model = systems.build(golden_case)
    weights.load_weights(model, output)
    for path, name in systems.resolve(systems.networks()[golden_case].original_names)().items():
        array = arrays[name].transpose(2, 3, 1, 0) if arrays[name].ndim == 4 else arrays[name]
        if path == "features/kernel":  # the original's channels are blue, green, red
            array = array[:, :, [2, 1, 0, 5, 4, 3]]
        if path.startswith("output/"):
            array = array[..., [2, 1, 0]]
        np.testing.assert_array_equal({v.path: v for v in model.weights}[path], array, err_msg=name)


def _kernel(model, path):
    return {variable.path: variable for variable in model.weights}[path]


def test_kernels_are_transposed_and_lasagnes_flipped():
    model, names, arrays = _original("deepfuse_official")
    kernel = arrays["l_conv11.W"]  # [out, in, height, width]
    weights.assign(model, arrays, names, "torch")
    assert _kernel(model, "conv2/kernel")[0, 1, 2, 3] == kernel[3, 2, 0, 1]
    weights.assign(model, arrays, names, "lasagne")
    assert _kernel(model, "conv2/kernel")[0, 1, 2, 3] == kernel[3, 2, 4, 3]


def test_convert_npz_of_lasagne(tmp_path, capsys):
    model, names, arrays = _original("deepfuse_official")
    np.savez(tmp_path / "model.npz", *(arrays[name] for name in names.values()))
    output = tmp_path / "model.weights.h5"
    _convert("deepfuse_official", tmp_path / "model.npz", output)
    assert helpers.mentioned(f"{output} 6 316,976 deepfuse_official", capsys.readouterr().out)
    weights.load_weights(model, output)
    for path, name in names.items():
        flipped = arrays[name][:, :, ::-1, ::-1].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(_kernel(model, path), flipped)


@pytest.mark.parametrize("count", [5, 7])
def test_convert_writes_nothing_where_arrays_are_left_over(tmp_path, count):
    _, names, arrays = _original("deepfuse_official")
    arrays = [*arrays.values(), np.zeros(3)][:count]
    np.savez(tmp_path / "model.npz", *arrays)
    wrong = {5: "l_conv5.W", 7: "arr_6"}[count]
    with pytest.raises(ValueError, match=helpers.mentions(f"model.npz deepfuse_official {wrong}")):
        _convert("deepfuse_official", tmp_path / "model.npz", tmp_path / "out.weights.h5")
    assert helpers.names(tmp_path) == {"model.npz"}


def test_weights_round_trip(tmp_path):
    model, other = systems.build("densefuse_gray"), systems.build("densefuse_gray", exposures=3)
    weights.save_weights(model, tmp_path / "gray.weights.h5")
    assert helpers.names(tmp_path) == {"gray.weights.h5"}
    weights.load_weights(other, tmp_path / "gray.weights.h5")
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "gray.weights.h5"
    weights.save_weights(systems.build("densefuse_gray"), path)
    with pytest.raises(ValueError) as caught:
        weights.load_weights(systems.build("hyperp_mb"), path)
    message = str(caught.value)
    assert helpers.mentioned(f"{path} densefuse_gray hyperp_mb under_conv1/kernel", message)
    assert message.endswith(
        "conv1/bias, conv1/kernel, dense1/bias, dense1/kernel, dense2/bias, dense2/kernel, dense3/bias, dense3/kernel"
    )


def test_weights_of_a_network_within_another(tmp_path):
    joined = systems.build("esbn_end_to_end", align_filters=2, filters=2, growth=1)
    alone = systems.build("esbn_align", filters=2)
    path = tmp_path / "esbn_align_high.weights.h5"
    weights.save_weights(joined.get_layer("esbn_align_high"), path)
    weights.load_weights(alone, path)
    for ours, theirs in zip(joined.get_layer("esbn_align_high").get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert weights.read_shapes(path)["decoder_conv3/kernel"] == (5, 5, 8, 8)
    weights.load_weights(joined.get_layer("esbn_align_low"), path)
    with pytest.raises(ValueError, match=helpers.mentions(f"{path} esbn_align_high esbn_fusion")):
        weights.load_weights(joined.get_layer("esbn_fusion"), path)


def test_shapes_of_no_weights(tmp_path):
    (tmp_path / "a.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=helpers.mentions("a.weights.h5")):
        weights.read_shapes(tmp_path / "a.weights.h5")
    with pytest.raises(FileNotFoundError, match="b.weights.h5"):
        weights.read_shapes(tmp_path / "b.weights.h5")


@pytest.mark.parametrize(("exposures", "levels"), [(3, 4), (9, 8)])
def test_weights_do_not_depend_on_the_order_of_the_graph(tmp_path, exposures, levels):
    path = tmp_path / "pyramid.weights.h5"
    model, other = systems.build("pyramid"), systems.build("pyramid", exposures=exposures, levels=levels)
    weights.save_weights(model, path)
    weights.load_weights(other, path)
    values = {variable.path: variable.numpy() for variable in model.weights}
    for variable in other.weights:
        np.testing.assert_array_equal(variable.numpy(), values[variable.path], err_msg=variable.path)


def test_weights_of_keras_are_refused(tmp_path):
    model = systems.build("deepfuse_official")
    model.save_weights(tmp_path / "keras.weights.h5")
    with pytest.raises(ValueError, match=helpers.mentions("keras.weights.h5 deepfuse_official")):
        weights.load_weights(model, tmp_path / "keras.weights.h5")


@pytest.mark.parametrize("length", [0, 7, 3000, 100_000, -1])
def test_truncated_weights(tmp_path, length):
    path = tmp_path / "gray.weights.h5"
    model = systems.build("densefuse_gray")
    weights.save_weights(model, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=helpers.mentions("gray.weights.h5 densefuse_gray")) as caught:
        weights.load_weights(model, path)
    assert "\n" not in str(caught.value)


def test_missing_and_misnamed_weights(tmp_path):
    model = systems.build("densefuse_gray")
    with pytest.raises(FileNotFoundError, match="gray.weights.h5"):
        weights.load_weights(model, tmp_path / "gray.weights.h5")
    with pytest.raises(ValueError, match=helpers.mentions("gray.h5 .weights.h5")):
        weights.save_weights(model, tmp_path / "gray.h5")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        weights.save_weights(model, tmp_path / "file" / "gray.weights.h5")
    weights.save_weights(model, tmp_path / "new" / "gray.weights.h5")
    assert helpers.names(tmp_path / "new") == {"gray.weights.h5"}


def _small_file(folder) -> tuple:
    """A network, its file, and other weights for it."""
    model = systems.build("deepfuse_official")
    weights.save_weights(model, folder / "small.weights.h5")
    return model, folder / "small.weights.h5", [np.full(x.shape, 7, x.dtype) for x in model.get_weights()]


def _external(file, folder):
    (folder / "secret").write_bytes(np.arange(9 * 25 * 16, dtype="<f4").tobytes())
    file.create_dataset("conv1/kernel", (5, 5, 1, 16), "<f4", external=[(str(folder / "secret"), 0, 1600)])


def _virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.ones((5, 5, 1, 16), "<f4")
    layout = h5py.VirtualLayout((5, 5, 1, 16), "<f4")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "secret", (5, 5, 1, 16))
    file.create_virtual_dataset("conv1/kernel", layout)


def _linked(link):
    def link_to(file, folder):
        with h5py.File(folder / "other.h5", "w") as other:
            other["secret"] = np.ones((5, 5, 1, 16), "<f4")
        file["conv1/kernel"] = link(folder)

    return link_to


def _dataset(**options):
    return lambda file, folder: file.create_dataset("conv1/kernel", **options)


def _late(file, folder):
    """A petabyte that takes no byte of the file."""
    space, options = h5py.h5s.create_simple((1 << 47,)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    h5py.h5d.create(file["conv1"].id, b"kernel", h5py.h5t.IEEE_F64LE, space, options)


HOSTILE = {
    "external": _external,
    "virtual": _virtual,
    "soft link": _linked(lambda folder: h5py.SoftLink("/conv2/kernel")),
    "external link": _linked(lambda folder: h5py.ExternalLink(str(folder / "other.h5"), "secret")),
    "alias": lambda file, folder: file.__setitem__("conv1/kernel", file["conv2/kernel"]),
    "circle": lambda file, folder: file.__setitem__("conv1/kernel", file["/"]),
    "late": _late,
    "chunk": _dataset(shape=(1 << 16, 1 << 12), dtype="f8", chunks=(1 << 16, 1 << 12)),
    "compressed": _dataset(data=np.zeros((5, 5, 1, 4096), "<f4"), compression="gzip"),
    "resizable": _dataset(shape=(5, 5, 1, 16), dtype="<f4", maxshape=(None, 5, 1, 16)),
    "empty": _dataset(shape=(5, 5, 0, 1 << 40), dtype="<f4"),
    "nothing": lambda file, folder: file.__setitem__("conv1/kernel", h5py.Empty("f4")),
    "objects": _dataset(shape=(5, 5, 1, 16), dtype=h5py.string_dtype()),
    "references": _dataset(shape=(5, 5, 1, 16), dtype=h5py.ref_dtype),
    "pieces": _dataset(shape=(5, 5, 1, 16), dtype=[("a", "<f4"), ("b", "<f4")]),
    "texts": _dataset(data=np.full((5, 5, 1, 16), b"7")),
    "complex": _dataset(shape=(5, 5, 1, 16), dtype="c8"),
    "note": lambda file, folder: file.attrs.create("features", np.zeros(1000)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_weights_that_lie_elsewhere_or_take_more_than_the_file(tmp_path, kind):
    model, path, _ = _small_file(tmp_path)
    before = model.get_weights()
    with h5py.File(path, "a") as file:
        del file.attrs["sha256"], file["conv1/kernel"]
        HOSTILE[kind](file, tmp_path)
    expected = "small.weights.h5 " + ("features" if kind == "note" else "conv1/kernel")
    for read in (weights.read_shapes, weights.read_notes, lambda path: weights.load_weights(model, path)):
        with pytest.raises(ValueError, match=helpers.mentions(expected)) as caught:
            read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["conv1/kernel", "conv5/kernel"])
def test_weights_that_are_not_finite(tmp_path, name, value):
    model, path, other = _small_file(tmp_path)
    with h5py.File(path, "a") as file:
        del file.attrs["sha256"]
        file[name][0] = value
    model.set_weights(other)
    with pytest.raises(ValueError, match=helpers.mentions(f"small.weights.h5 {name}")):
        weights.load_weights(model, path)
    assert all((array == 7).all() for array in model.get_weights())


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<f2", np.longdouble, "<i2", "?"])
def test_other_types_of_numbers_are_converted(tmp_path, dtype):
    model, path, other = _small_file(tmp_path)
    with h5py.File(path, "a") as file:
        del file.attrs["sha256"], file["conv6/kernel"]
        file["conv6/kernel"] = np.ones(_kernel(model, "conv6/kernel").shape, dtype)
    model.set_weights(other)
    weights.load_weights(model, path)
    assert (_kernel(model, "conv6/kernel").numpy() == 1).all() and not (_kernel(model, "conv1/kernel").numpy() == 7).any()


def test_numbers_that_float32_does_not_hold_are_not_finite(tmp_path):
    model, path, other = _small_file(tmp_path)
    with h5py.File(path, "a") as file:
        del file.attrs["sha256"], file["conv6/kernel"]
        file["conv6/kernel"] = np.full(_kernel(model, "conv6/kernel").shape, 1e300)
    model.set_weights(other)
    with pytest.raises(ValueError, match=helpers.mentions("small.weights.h5 conv6/kernel")):
        weights.load_weights(model, path)
    assert all((array == 7).all() for array in model.get_weights())


def test_a_flipped_bit_changes_no_weights(tmp_path):
    model, path, other = _small_file(tmp_path)
    expected, data, refused = model.get_weights(), path.read_bytes(), 0
    generator = np.random.default_rng(0)
    for _ in range(100):
        flipped = bytearray(data)
        flipped[generator.integers(len(data))] ^= 1 << generator.integers(8)
        path.write_bytes(flipped)
        model.set_weights(other)
        try:
            weights.load_weights(model, path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            assert all((array == 7).all() for array in model.get_weights())
            refused += 1
        else:
            for old, new in zip(expected, model.get_weights(), strict=True):
                np.testing.assert_array_equal(old, new)
    assert refused > 90


def test_weights_without_a_checksum_load_with_a_line(tmp_path, caplog):
    model, path, other = _small_file(tmp_path)
    expected = model.get_weights()
    with caplog.at_level("WARNING", logger="absl"):
        weights.load_weights(model, path)
        assert not caplog.text
        with h5py.File(path, "a") as file:
            del file.attrs["sha256"]
        model.set_weights(other)
        weights.load_weights(model, path)
    assert helpers.mentioned(path.name, caplog.text)
    for old, new in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_weights_of_earlier_versions_have_texts_of_variable_length(tmp_path, caplog):
    """Where HDF5 keeps them, a damaged length makes it search for ever."""
    model, path, other = _small_file(tmp_path)
    expected = model.get_weights()
    with h5py.File(path, "a") as file:
        for name in [*file.attrs]:
            del file.attrs[name]
        file.attrs["model"], file.attrs["features"] = "a name", "x," * 300
    assert weights.read_notes(path) == {"model": "a name", "features": "x," * 300}
    model.set_weights(other)
    with caplog.at_level("WARNING", logger="absl"):
        weights.load_weights(model, path)
    assert helpers.mentioned(path.name, caplog.text)
    for old, new in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    data = path.read_bytes()
    heap = data.index(b"GCOL")
    empty = heap + 16 + 24 + 16 + 600  # behind the two texts, each with a head of 16 bytes
    assert not any(data[empty : empty + 8])
    for at, number in ((empty + 8, 0), (empty + 8, 8), (heap + 24, 2**64 - 16), (heap + 24, 5000), (heap + 8, 2**40)):
        path.write_bytes(data[:at] + struct.pack("<Q", number) + data[at + 8 :])
        with pytest.raises(ValueError, match=helpers.mentions(path.name)):
            weights.load_weights(model, path)


@pytest.mark.parametrize("path", sorted(systems.PRETRAINED.glob("*.weights.h5")), ids=lambda path: path.name)
def test_bundled_weights_have_a_checksum(path):
    assert len(weights.read_notes(path)["sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "array", "shape"),
    [
        ("ahdrnet", "features/kernel", (1, 1, 1, 30_000)),
        ("ahdrnet", "block1_conv1/kernel", (1, 1, 1, 30_000)),
        ("esbn_align", "low_encoder_conv1/kernel", (200_000,)),
        ("fshdr", "low_conv1/kernel", (1, 300, 300)),
        ("hdr_transformer", "groups_conv/kernel", (1, 6_000)),
        ("sctnet", "group1_block1_attention/position_bias", (1, 7)),
    ],
)
def test_a_small_file_builds_no_large_network(tmp_path, name, array, shape):
    path = tmp_path / "wide.weights.h5"
    with h5py.File(path, "w") as file:
        file[array] = np.zeros(shape, "<f4")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=helpers.mentions("wide.weights.h5")):
        systems.load_network(name, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_a_small_file_builds_no_large_policy(tmp_path):
    with h5py.File(tmp_path / "wide.weights.h5", "w") as file:
        for number in (1, 2, 3):
            file[f"fc{number}/kernel"] = np.zeros((1, 50_000), "<f4")
    with pytest.raises(ValueError, match=helpers.mentions("wide.weights.h5")):
        policy.load_network(tmp_path / "wide.weights.h5")
