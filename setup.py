"""Packaging of hdr_tf: the two packages, what they need, and the extras."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "hdr_tf" / "__init__.py").read_text()).group(1)
SERVING = "tensorflow-serving-api>=2.21"  # messages of TensorFlow Serving: export and tools/fuse.py --server
FORMATS = ["pillow-heif>=1", "imagecodecs>=2024.12.30"]  # HEIC; JPEG XL, AVIF of 10 and 12 bit, further TIFF codecs

setup(
    name="hdr_tf",
    version=VERSION,
    description="Exposure fusion for display and HDR merging to radiance, with published networks re-implemented in Keras 3.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["hdr_tf", "hdr_tf.*", "tfrecords"]),
    package_data={"hdr_tf": ["py.typed", "pretrained/*"], "hdr_tf.evaluation": ["report.html"]},
    entry_points={"console_scripts": ["hdr-tf=hdr_tf.commands:run"]},
    install_requires=[
        "tensorflow>=2.21",
        "ai-edge-litert>=2.3",
        # From these on, Keras itself refuses hostile weights files (HDF5 links, external and virtual arrays, bombs): the patch
        # releases of its two lines, of which 3.12 is the last for Python 3.10.
        "keras>=3.12.4; python_version < '3.11'",
        "keras>=3.15.1; python_version >= '3.11'",
        "numpy>=2",
        "scipy>=1.13",
        "h5py>=3.11",
        "opencv-python-headless>=4.14",  # the same cv2 as opencv-python, without the windows that a server lacks
        "scikit-image>=0.25",
        "imageio>=2.37",
        "OpenEXR>=3.4.14",
        "pillow>=12.3",
        "tifffile>=2024.8",
        "tifftools>=1.7",
        "absl-py>=2.1",
        "simple-parsing>=0.1.9",
        "rich>=13",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "tensorboard>=2.20",
    ],
    extras_require={
        "raw": ["rawpy>=0.27"],
        "formats": FORMATS,
        # TF-Agents pins typing-extensions 4.5.0, which rules out torch and others: training the editor only.
        "rl": ["tf-agents==0.19.0", "tf-keras>=2.21"],
        "serve": [SERVING],
        # Many machines. Wants protobuf below 7 and pillow below 13.
        "beam": ["apache-beam>=2.77"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6",
            "ruff>=0.8",
            SERVING,
            "openvino>=2025.4",
            "rawpy>=0.27",
            *FORMATS,
        ],
    },
)
