# %% [markdown]
# # For engineers: from an export to a client under load
#
# This tutorial exports the default network, serves it by TensorFlow Serving, and sends it images from a program of your own,
# one and many at a time. It needs the extra `serve` (`pip install 'hdr_tf[serve]'`) and Docker.
# [Serving](../serving.md) has the details.

# %%
import concurrent.futures
import pathlib
import shlex
import subprocess
import time

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

SERVER = "localhost:8500"


def run(command):
    subprocess.run(shlex.split(command), check=True)


# %% [markdown]
# ## Export
#
# An export has a fixed number of exposures, here two.

# %%
run("hdr-tf export --output=exported/pyramid")
run("hdr-tf fuse --sample -o garage.png")

# %% [markdown]
# ## Serve
#
# In another terminal:
#
#     docker run -p 8500:8500 -v "$PWD/exported:/models" tensorflow/serving --model_config_file=/models/models.config
#
# The server runs the requests in `assets.extra/tf_serving_warmup_requests` before it answers. That takes seconds and
# makes the first request as quick as the others.
#
# ## A client
#
# `encoded` takes files, dark to bright, and returns a PNG file. The channel needs larger messages than gRPC's default.

# %%
limits = [("grpc.max_send_message_length", 2**31 - 1), ("grpc.max_receive_message_length", 2**31 - 1)]
channel = grpc.insecure_channel(SERVER, limits)
grpc.channel_ready_future(channel).result(30)
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)


def fused(dark, bright):
    """Returns the PNG file of two exposures, given as the content of JPEG or PNG files."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "pyramid", "encoded"
    request.inputs["exposure_1"].CopyFrom(tf.make_tensor_proto([dark]))
    request.inputs["exposure_2"].CopyFrom(tf.make_tensor_proto([bright]))
    return stub.Predict(request, timeout=600).outputs["fused_bytes"].string_val[0]


pair = [pathlib.Path(f"garage_exposure_{number}.png").read_bytes() for number in (1, 3)]
pathlib.Path("served.png").write_bytes(fused(*pair))

# %% [markdown]
# A bad request is refused with one line, and the server continues:

# %%
try:
    fused(pair[0], b"no image")
except grpc.RpcError as error:
    print(error.code().name, (error.details() or "").splitlines()[0])

# %% [markdown]
# ## Load
#
# Several requests at a time keep all cores busy. More than the server has cores only make each of them wait.

# %%
REQUESTS, AT_A_TIME = 8, 4


def seconds(_):
    began = time.monotonic()
    fused(*pair)
    return time.monotonic() - began


began = time.monotonic()
with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
    times = sorted(pool.map(seconds, range(REQUESTS)))
print(
    f"{REQUESTS / (time.monotonic() - began):.1f} requests/s, median {times[len(times) // 2]:.2f} s, slowest {times[-1]:.2f} s"
)
