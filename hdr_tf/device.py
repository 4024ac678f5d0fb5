"""What TensorFlow computes on, set up when this module is imported: before TensorFlow computes anything.

    TF32      off. Since Ampere, NVIDIA's GPUs round the factors of float32 products to 10 bits unless they are told not to.
              Results would be off by 1e-3 from the published networks, and tiles would differ from the whole image. The
              environment variable HDR_TF_TF32=1 allows it, in training the flag `--tf32`.
    memory    taken as it is needed. TensorFlow would take all memory of a GPU at once, and nothing else could use it.

Nothing here has been run on a GPU.
"""

import os
import pathlib
import shutil
import subprocess

import tensorflow as tf

_PCI, _DRIVER = pathlib.Path("/sys/bus/pci/devices"), pathlib.Path("/proc/driver/nvidia/gpus")
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # vendor, and the first digits of the class: display controllers
_FIRST_GPU = "/GPU:0"
_BFLOAT16 = (8, 0)  # compute capability of Ampere, the first with products of bfloat16


def allow_tf32(allow: bool) -> None:
    """Lets NVIDIA's GPUs round the factors of float32 products to 10 bits, or forbids it."""
    tf.config.experimental.enable_tensor_float_32_execution(allow)


def _set_up():
    allow_tf32(os.environ.get("HDR_TF_TF32") == "1")
    for gpu in gpus():
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError):  # the program has used TensorFlow, or divided the GPU, before it imported this
            return


def gpus() -> list:
    """Returns the GPUs that TensorFlow can use and that no program has hidden from it."""
    return tf.config.get_visible_devices("GPU")


def tile_scale() -> int:
    """Returns how many times as wide a tile of an image may be as on a CPU: a small one leaves most of a GPU idle."""
    return 2 if gpus() else 1


def hide_gpus() -> None:
    """Lets this process compute on the CPU alone; to be called before TensorFlow computes anything."""
    tf.config.set_visible_devices([], "GPU")


def half_precision() -> str:
    """Returns the Keras policy that computes with 16 bits: bfloat16 on a CPU and where every GPU has it, else float16, for
    which Keras scales the loss. On a CPU float16 is several times slower than float32."""
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus()]
    return "mixed_bfloat16" if all(capability >= _BFLOAT16 for capability in capabilities) else "mixed_float16"


def describe(policy: str, xla: bool, deterministic: bool) -> str:
    """Returns a line about a training run: devices, Keras policy, and what is on."""
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    switches = {"TF32": tf32, "XLA": xla, "deterministic operations": deterministic}
    states = ", ".join(f"{name} {'on' if state else 'off'}" for name, state in switches.items())
    return f"computes on {_devices()}: {policy}, {states}"


def prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns batches that wait in the memory of the GPU; without a GPU the same batches."""
    if not tf.config.list_logical_devices("GPU"):
        return batches
    return batches.apply(tf.data.experimental.prefetch_to_device(_FIRST_GPU, 2))


def _devices():
    """What TensorFlow computes on, in a few words; also says that a GPU is there which it cannot use."""
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus()]
    if names:
        return " and ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    cpu = f"{os.cpu_count()} CPU cores"
    if not (found := unused_gpu()):
        return cpu
    remedy = "pip install 'tensorflow[and-cuda]', or read what TensorFlow writes with --verbosity=1"
    return f"{cpu}, although there is a GPU ({found}) that TensorFlow {tf.__version__} cannot use ({remedy})"


def unused_gpu() -> str | None:
    """Returns a description of an NVIDIA GPU that this machine has, None if there is none, TensorFlow uses it, or the user or
    the program has hidden it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or tf.config.list_physical_devices("GPU"):
        return None
    if tool := shutil.which("nvidia-smi"):
        try:
            listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30).stdout
        except (OSError, subprocess.SubprocessError):
            listed = ""
        if listed.startswith("GPU"):
            return listed.splitlines()[0].partition(" (UUID")[0]
    if _DRIVER.is_dir() and any(_DRIVER.iterdir()):
        return f"{_DRIVER} lists it"
    for device in sorted(_PCI.glob("*")):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith(_DISPLAY):
            return f"NVIDIA's on the PCI bus, at {device.name}"
    return None


_set_up()
