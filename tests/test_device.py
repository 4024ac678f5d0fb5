"""What TensorFlow computes on, by configuration: no GPU is needed, and none of this has been run on one."""

import keras
import pytest
import tensorflow as tf

from hdr_tf import device, weights
from tests import helpers


@pytest.fixture
def gpus(monkeypatch):
    """gpus((8, 0), ...) gives TensorFlow GPUs of these compute capabilities."""

    def give(*capabilities):
        found = [tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in range(len(capabilities))]
        details = {
            gpu.name: {"device_name": "Test GPU", "compute_capability": capability}
            for gpu, capability in zip(found, capabilities, strict=True)
        }
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: found)
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: found)
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details[gpu.name])
        return found

    return give


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """The root of a machine without any GPU: its PCI bus, its driver, and its programs."""
    monkeypatch.setattr(device, "_PCI", tmp_path / "pci")
    monkeypatch.setattr(device, "_DRIVER", tmp_path / "driver")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("pci", "bin"):
        (tmp_path / name).mkdir()
    return tmp_path


def card(machine, vendor="0x10de", kind="0x030200"):
    folder = machine / "pci" / "0000:17:00.0"
    folder.mkdir()
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")


def test_the_environment_allows_tf32(monkeypatch):
    try:
        for value, expected in (("1", True), ("", False)):
            monkeypatch.setenv("HDR_TF_TF32", value)
            device._set_up()
            assert tf.config.experimental.tensor_float_32_execution_enabled() == expected
    finally:
        device.allow_tf32(False)


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([], "mixed_bfloat16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (8, 9)], "mixed_bfloat16"),
        ([(7, 5)], "mixed_float16"),
        ([(8, 0), (7, 0)], "mixed_float16"),
    ],
)
def test_half_precision_is_bfloat16_where_the_device_has_it(capabilities, policy, gpus):
    gpus(*capabilities)
    assert device.half_precision() == policy
    with weights.precision(True):
        assert keras.config.dtype_policy().name == policy


def test_gpus_take_memory_as_they_need_it(gpus, monkeypatch):
    grown = []
    found = gpus((8, 0), (8, 0))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, grows: grown.append((gpu, grows)))
    device._set_up()
    assert grown == [(gpu, True) for gpu in found]


def test_a_program_that_has_used_tensorflow_keeps_its_settings(gpus, monkeypatch):
    def refuse(gpu, grows):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    gpus((8, 0))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    device._set_up()


def test_the_line_about_a_run_names_the_gpus(gpus):
    gpus((8, 0), (8, 0))
    line = device.describe("mixed_bfloat16", xla=True, deterministic=False)
    assert helpers.mentioned("2 x Test GPU mixed_bfloat16 TF32 off XLA on deterministic off", line) and "\n" not in line


def test_a_machine_without_a_gpu_says_nothing_about_one(machine):
    card(machine, vendor="0x8086")
    assert device.unused_gpu() is None
    assert "tensorflow[and-cuda]" not in device.describe("float32", xla=False, deterministic=True)


@pytest.mark.parametrize("kind", ["pci", "driver", "nvidia-smi"])
def test_a_gpu_that_tensorflow_cannot_use_is_named(kind, machine):
    if kind == "pci":
        card(machine)
        expected = "0000:17:00.0"
    elif kind == "driver":
        (machine / "driver" / "0000:17:00.0").mkdir(parents=True)
        expected = "driver"
    else:
        tool = machine / "bin" / "nvidia-smi"
        tool.write_text("#!/bin/sh\necho 'GPU 0: Test GPU (UUID: GPU-1)'\n")
        tool.chmod(0o755)
        expected = "GPU 0: Test GPU"
    line = device.describe("float32", xla=False, deterministic=True)
    assert helpers.mentioned(f"{expected} tensorflow[and-cuda]", line) and "UUID" not in line and "\n" not in line


def test_a_broken_nvidia_smi_is_no_gpu(machine):
    tool = machine / "bin" / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    tool.chmod(0o755)
    assert device.unused_gpu() is None


def test_a_gpu_that_the_user_hides_is_not_missed(machine, monkeypatch):
    card(machine)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert device.unused_gpu() is None


def test_a_new_process():
    """TF32 is off as soon as what fuses is imported; batches wait on the GPU, for which a second device of the CPU stands."""
    script = """
import tensorflow as tf
assert tf.config.experimental.tensor_float_32_execution_enabled()
import hdr_tf.fusion.compiled
assert not tf.config.experimental.tensor_float_32_execution_enabled()
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from hdr_tf import device
batches = tf.data.Dataset.range(3).map(lambda x: {"x": x})
assert device.prefetched(batches) is batches
devices = tf.config.list_logical_devices
tf.config.list_logical_devices = lambda kind: devices("CPU")[1:]
device._FIRST_GPU = "/CPU:1"
ahead = device.prefetched(batches)
assert ahead.element_spec == batches.element_spec
found = list(ahead)
print([int(batch["x"]) for batch in found], {batch["x"].device[-5:] for batch in found})
"""
    done = helpers.run_python("-c", script, env={"HDR_TF_TF32": ""}, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 1, 2] {'CPU:1'}"
