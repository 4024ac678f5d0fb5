"""The registry: one frozen record per system; the first is the default of `fuse`.

Help texts, error messages, the choices of every tool, `evaluate --model=all`, the signatures of exported models and the table
in README come from these records. A new system needs a model file in hdr_tf/models, a record here, a training script, a page in
docs/ and a golden case.

Nothing here imports Keras or TensorFlow: builders, runners and the like are named as "module:attribute" and loaded on use.
"""

import dataclasses
import functools
import importlib
import inspect
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, overload

PRETRAINED = pathlib.Path(__file__).parent / "pretrained"
Task = Literal["fusion", "radiance"]
MIN_SIDE = 8  # pixels; a smaller image is mostly padding for every network here


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of a system."""

    builder: str
    """builds the keras.Model"""
    original_names: str | None = None
    """returns the weight map {variable path: name in the original's checkpoint}; None: there is no original"""
    layout: Literal["torch", "lasagne", "keras"] | None = None
    """how the original stores kernels, see `weights.assign`"""
    blue_first: bool = False
    """whether the original takes and returns the channels blue, green, red; converted weights use red, green, blue"""
    sizes: str | None = None
    """turns the shapes in a weights file, {variable path: shape}, into arguments of the builder; None: none are needed"""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a network that processes a large image in its own way."""

    layer: str | None = None
    """name of the sub-model; None: the network as a whole"""
    halo: int | None = None
    """receptive-field radius in pixels of its result: the stage runs tile by tile; None: it runs once on the stitched result"""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class System:
    """What both tasks have in common."""

    task: ClassVar[Task]
    verb: ClassVar[str]

    name: str
    description: str
    """one line for help texts and tables"""
    paper: str
    networks: Mapping[str, Network]
    """by name"""
    weight_files: tuple[str, ...]
    """names without .weights.h5; if there are several, --weights is the folder that holds them"""
    runner: str
    """module:function from (system, weights path, **options) to the runner: `fusion.compiled` and `radiance.pipeline` describe
    the methods that their tasks need"""
    exposures: tuple[int, int | None]
    """smallest and largest number of exposures; None: any number"""
    options: tuple[str, ...] = ()
    """names of the further arguments that the runner takes, which are flags of `hdr-tf fuse`"""
    stages: tuple[Stage, ...] = ()
    """how a large image passes through the network; none: as a whole"""
    endpoints: str | None
    """module:function that makes the signatures of the exported model, see `serving.endpoints`; None: there is no network"""
    client: str | None = "hdr_tf.serving.client:Client"
    """module:class of the runner that lets a server run it; None: no server can"""

    @property
    def bundled(self) -> bool:
        """Whether weights come with the software (or none are needed)."""
        return all((PRETRAINED / f"{name}.weights.h5").exists() for name in self.weight_files)

    def weights_path(self, weights: str | os.PathLike | None = None) -> pathlib.Path | None:
        """Returns the weights file, or the folder of several; None if the system has no weights.

        Args:
            weights: a file, or a folder that holds the files; None for the bundled weights. ValueError if a file is missing, or
                the system has no weights.
        """
        if not self.weight_files:
            if weights is not None:
                raise ValueError(f"{weights}: {self.name} has no weights; leave them out")
            return None
        names = [f"{name}.weights.h5" for name in self.weight_files]
        place = PRETRAINED if weights is None else pathlib.Path(weights)
        is_file = len(names) == 1 and weights is not None and not place.is_dir()
        paths = [place] if is_file else [place / name for name in names]
        missing = [path.name for path in paths if not path.is_file()]
        if not missing:
            return paths[0] if len(names) == 1 else place
        if weights is None:
            name, network = next(iter(self.networks.items()))
            command = f"hdr-tf convert --model={name} --checkpoint=FILE --output={names[0]}"
            convert = f", or convert the authors' checkpoint ({command})," if network.original_names else ""
            target = names[0] if len(names) == 1 else "FOLDER"
            train = f"{self.name} has no bundled weights: train it (train/ in the repository)"
            raise ValueError(f"{train}{convert} and pass --weights={target}")
        raise ValueError(f"{weights}: expected weights of {self.name}, found no {', '.join(missing)}")

    def set_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the options that do not have their default, None, False or ""; ValueError for one that the system lacks."""
        options = {name: value for name, value in options.items() if value not in (None, False, "")}
        for name in options:
            if name not in self.options:
                having = ", ".join(other for other in names() if name in SYSTEMS[other].options) or "no system"
                raise ValueError(f"{name}: belongs to {having}, not to {self.name}")
        return options

    def check_exposures(self, count: int) -> None:
        """Raises ValueError if the system does not take so many exposures."""
        least, most = self.exposures
        if count < least or count > (most or count):
            expected = least if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            raise ValueError(f"{self.name}: expected {expected} images to {self.verb}, found {count}")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FusionSystem(System):
    """Exposure fusion: a bracket of a still scene to one image for display."""

    task = "fusion"
    verb = "fuse"
    moving = False

    runner: str = "hdr_tf.fusion.compiled:load"
    exposures: tuple[int, int | None] = (2, None)
    endpoints: str = "hdr_tf.serving.endpoints:fusion"
    size_arguments: str | None = None
    """module:function from number of exposures, height and width to the builder's arguments; None: {"exposures": number}"""
    lite_arguments: str | None = None
    """module:function that returns the builder's arguments for a LiteRT model, see `serving.litert`, by stage (None: the whole
    network) and by the smallest short side in pixels that they are for; None: there is no such model"""
    color: str | None = None
    """module:attribute of the colour rule, see `image.color`: the network takes the luminance; None: it takes RGB"""
    encode: Callable = lambda values: values
    """from 0..255, float32, to the network's range"""
    decode: Callable = lambda values: values
    """from the network's range to 0..255"""
    to_8_bit: Literal["truncate", "round", "stretch"] = "truncate"
    """0..255 to uint8 as in the original; "stretch" (scipy.misc.bytescale) maps minimum and maximum to 0 and 255 first"""
    keeps_color: bool = True
    """one gray and one colour image: the luminances are fused and the colour is kept, rather than both passed through as RGB"""
    tile_scale: int = 1
    """side of a tile in units of 512 pixels"""
    steps: bool = False
    """whether it works in steps, which --trace shows"""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RadianceSystem(System):
    """HDR merging: a bracket of known exposures to linear radiance."""

    task = "radiance"
    verb = "merge"

    runner: str = "hdr_tf.radiance.selfhdr:load"
    exposures: tuple[int, int | None] = (3, 3)
    moving: bool = True
    """whether things may move between the exposures"""
    options: tuple[str, ...] = ("mixed_precision",)
    endpoints: str | None = "hdr_tf.serving.endpoints:radiance"
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """arguments of the network's builder when it is used, not trained"""
    aligned: bool = False
    """whether the network takes exposures that optical flow has aligned"""


def _network(
    module: str,
    builder: str,
    names: str,
    layout: Literal["torch", "lasagne", "keras"] = "torch",
    sizes: str | None = None,
    **others,
) -> Network:
    """The record of a network in hdr_tf/models/<module>.py."""
    place = f"hdr_tf.models.{module}:"
    return Network(place + builder, place + names, layout, sizes=sizes and place + sizes, **others)


def _selfhdr_network(name: str) -> Network:
    return _network(name, name, "original_names", sizes="sizes", blue_first=True)


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        FusionSystem(
            name="pyramid",
            description="Laplacian pyramid blend with learned weights",
            paper="this project",
            networks={"pyramid": Network("hdr_tf.models.pyramid:pyramid")},
            weight_files=("pyramid",),
            runner="hdr_tf.fusion.lite:load",
            exposures=(2, 9),
            size_arguments="hdr_tf.models.pyramid:size_arguments",
            lite_arguments="hdr_tf.models.pyramid:lite_arguments",
            encode=lambda values: values / 255,
            decode=lambda values: values * 255,
            to_8_bit="round",
            stages=(
                Stage("encoder", halo=0),
                Stage("context_predictor"),
                Stage("weight_predictor", halo=32),
                Stage("blend", halo=8),
            ),
            tile_scale=2,  # its many small operations cost more than the memory of a larger tile
        ),
        FusionSystem(
            name="deepfuse_official",
            description="DeepFuse, the authors' release: luminance through a Y-shaped network",
            paper="Prabhakar et al., ICCV 2017",
            networks={"deepfuse_official": _network("deepfuse", "deepfuse_official", "official_names", "lasagne")},
            weight_files=("deepfuse_official",),
            color="hdr_tf.image.color:DEEPFUSE_OFFICIAL",
            to_8_bit="stretch",
            stages=(Stage("convolutions", halo=13), Stage("stretch")),
        ),
        FusionSystem(
            name="deepfuse_sunnerli",
            description="DeepFuse, SunnerLi's re-implementation",
            paper="Prabhakar et al., ICCV 2017",
            networks={"deepfuse_sunnerli": _network("deepfuse", "deepfuse_sunnerli", "sunnerli_names")},
            weight_files=("deepfuse_sunnerli",),
            color="hdr_tf.image.color:DEEPFUSE_SUNNERLI",
            encode=lambda values: (values - 127.5) / 127.5,
            decode=lambda values: (values + 1) * 127.5,
            stages=(Stage(halo=12),),
        ),
        FusionSystem(
            name="densefuse_gray",
            description="DenseFuse on luminance, with the mean chroma put back",
            paper="Li, Wu, TIP 2019",
            networks={"densefuse_gray": _network("densefuse", "densefuse_gray", "original_names")},
            weight_files=("densefuse_gray",),
            options=("strategy",),
            color="hdr_tf.image.color:DENSEFUSE_GRAY",
            stages=(Stage(halo=8),),
        ),
        FusionSystem(
            name="densefuse_rgb",
            description="DenseFuse on all three channels",
            paper="Li, Wu, TIP 2019",
            networks={"densefuse_rgb": _network("densefuse", "densefuse_rgb", "original_names")},
            weight_files=("densefuse_rgb",),
            options=("strategy",),
            encode=lambda values: values / 255 * 255,  # as ToTensor and test_image.py do: the last bit may change
            keeps_color=False,  # the published program passes the infrared image through as RGB too
            stages=(Stage(halo=8),),
        ),
        FusionSystem(
            name="hyperp_mb",
            description="HyperP_MB: an encoder each for under- and over-exposed images, on Lab lightness",
            paper="Im et al., Mathematics 2023",
            networks={"hyperp_mb": _network("hyperp_mb", "hyperp_mb", "original_names")},
            weight_files=("hyperp_mb",),
            color="hdr_tf.image.color:HYPERP_MB",
            stages=(Stage(halo=8),),
        ),
        FusionSystem(
            name="dqn_editor",
            description="an agent edits a virtual exposure between two, step by step; the three are fused",
            paper="Yin et al., TNNLS 2022",
            networks={"dqn_editor": _network("dqn_editor", "dqn_editor", "original_names", "keras")},
            weight_files=("dqn_editor",),
            runner="hdr_tf.fusion.editor:load",
            exposures=(2, 2),
            options=("vgg_weights", "policy", "fuse_with"),
            steps=True,
            endpoints="hdr_tf.serving.endpoints:policy",
            client=None,  # OpenCV edits the images, outside the network
        ),
        RadianceSystem(
            name="merge",
            description="optical flow, then a network that weighs two to nine exposures; the default for radiance",
            paper="this project",
            networks={"merge": Network("hdr_tf.models.merge:merge")},
            weight_files=("merge",),
            runner="hdr_tf.radiance.merge:load",
            exposures=(2, 9),
            options=(),
            # Weights: six convolutions at an eighth of the size, four at a quarter, six at half, 48 + 16 + 12 pixels, and the
            # resizing. Noise: four at a quarter, three at half, 16 + 6 pixels, resizing, and two means.
            stages=(Stage("fill"), Stage("weigh", halo=88), Stage("denoise", halo=40)),
            endpoints="hdr_tf.serving.endpoints:merge",
            client="hdr_tf.serving.client:MergeClient",
        ),
        RadianceSystem(
            name="merge_classical",
            description="optical flow, then a weighted mean of what agrees with the reference; no network",
            paper="this project",
            networks={},
            weight_files=(),
            runner="hdr_tf.radiance.merge_classical:load",
            exposures=(2, 9),
            options=(),
            endpoints=None,
            client=None,
        ),
        RadianceSystem(
            name="esbn",
            description="ESBN: two networks align the low and the high exposure, a third merges the three",
            paper="Lee, Chung, Cho, IEEE Access 2020",
            networks={
                "esbn_align": _network("esbn", "esbn_align", "align_names", "keras", "align_sizes"),
                "esbn_fusion": _network("esbn", "esbn_fusion", "fusion_names", "keras", "fusion_sizes"),
                "esbn_end_to_end": Network("hdr_tf.models.esbn:esbn_end_to_end"),
            },
            weight_files=("esbn_align_low", "esbn_align_high", "esbn_fusion"),
            runner="hdr_tf.radiance.esbn:load",
            # Alignment: at most 14 in the encoder, 8 in each of 18 convolutions of the residual blocks, 23 in the decoder.
            # Merging: nine 3x3 convolutions. Both are rounded up to a multiple of 8, by which the networks pad.
            stages=(Stage("esbn_align", halo=184), Stage("esbn_fusion", halo=16)),
        ),
        RadianceSystem(
            name="ahdrnet",
            description="AHDRNet, trained by SelfHDR: attention to the reference, then dilated dense blocks",
            paper="Yan et al., CVPR 2019; Zhang et al., ICLR 2024",
            networks={"ahdrnet": _selfhdr_network("ahdrnet")},
            weight_files=("ahdrnet",),
            stages=(Stage(halo=37),),
        ),
        RadianceSystem(
            name="fshdr",
            description="FSHDR, trained by SelfHDR: parallel streams on exposures that optical flow has aligned",
            paper="Prabhakar et al., CVPR 2021; Zhang et al., ICLR 2024",
            networks={"fshdr": _selfhdr_network("fshdr")},
            weight_files=("fshdr",),
            stages=(Stage(halo=11),),
            aligned=True,
            client=None,  # OpenCV aligns the images, outside the network
        ),
        RadianceSystem(
            name="hdr_transformer",
            description="HDR-Transformer, trained by SelfHDR: window attention with local context",
            paper="Liu et al., ECCV 2022; Zhang et al., ICLR 2024",
            networks={"hdr_transformer": _selfhdr_network("hdr_transformer")},
            weight_files=("hdr_transformer",),
            arguments={"test_padding": True},
        ),
        RadianceSystem(
            name="sctnet",
            description="SCTNet, trained by SelfHDR: window attention, and attention among channels",
            paper="Tel et al., ICCV 2023; Zhang et al., ICLR 2024",
            networks={"sctnet": _selfhdr_network("sctnet")},
            weight_files=("sctnet",),
            arguments={"test_padding": True},
        ),
    )
}


def names(task: Task | None = None) -> tuple[str, ...]:
    """Returns the names of all systems, or of those of one task."""
    return tuple(name for name, system in SYSTEMS.items() if task in (None, system.task))


@overload
def find(name: str, task: Literal["fusion"]) -> FusionSystem: ...


@overload
def find(name: str, task: Literal["radiance"]) -> RadianceSystem: ...


@overload
def find(name: str, task: Task | None = None) -> System: ...


def find(name: str, task: Task | None = None) -> System:
    """Returns the record of a system; ValueError, which lists the choices, if there is none or it has another task."""
    if name not in names(task):
        fusion, radiance = (", ".join(names(kind)) for kind in ("fusion", "radiance"))
        choices = {"fusion": fusion, "radiance": radiance, None: f"{fusion} (fusion), {radiance} (radiance)"}[task]
        raise ValueError(f"unknown model {name!r}: expected one of {choices}")
    return SYSTEMS[name]


def help_text(task: Task | None = None) -> str:
    """Returns the names of the systems with their descriptions, as the help text of a flag --model."""
    return "; ".join(f"{name} ({SYSTEMS[name].description})" for name in names(task))


def options(task: Task | None = None) -> tuple[str, ...]:
    """Returns the names of all options of the systems."""
    return tuple(dict.fromkeys(option for name in names(task) for option in SYSTEMS[name].options))


def networks() -> dict[str, Network]:
    """Returns the networks of all systems by name."""
    return {name: network for system in SYSTEMS.values() for name, network in system.networks.items()}


def resolve(reference: str) -> Any:
    """Returns what a reference "module:attribute" names; imports the module."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, /, **arguments):
    """Builds a network, a keras.Model, with arguments of its builder; ValueError if there is no network of this name."""
    if name not in networks():
        raise ValueError(f"unknown network {name!r}: expected one of {', '.join(networks())}")
    return resolve(networks()[name].builder)(**arguments)


def load_network(name: str, path: str | os.PathLike | None, /, **arguments):
    """Builds a network, a keras.Model as wide and deep as its weights are, and loads these.

    Args:
        name: of a network, see `networks`.
        path: a .weights.h5 file; None if the network has no weights. Larger than what it holds is only a network of the
            published size.
        **arguments: further arguments of its builder.
    """
    record = networks()[name]
    if record.sizes and path is not None:
        sizes = resolve(record.sizes)(resolve("hdr_tf.weights:read_shapes")(path))
        arguments = sizes | arguments
        usual = inspect.signature(resolve(record.builder)).parameters
        if any(value != usual[argument].default for argument, value in sizes.items()):
            resolve("hdr_tf.weights:check_size")(functools.partial(build, name, **arguments), path)
    network = build(name, **arguments)
    if path is not None:
        resolve("hdr_tf.weights:load_weights")(network, path)
    return network


def load_runner(
    name: str,
    weights: str | os.PathLike | None = None,
    task: Task | None = None,
    **arguments,
):
    """Loads a system with its weights.

    Args:
        name: of the system.
        weights: file or folder; None for the bundled weights.
        task: what the system has to do; None: either.
        **arguments: options of the system, see `System.options`; None stands for the default. ValueError for one that it does
            not have.

    Returns:
        A runner, see `System.runner`.
    """
    system = find(name, task)
    return resolve(system.runner)(system, system.weights_path(weights), **system.set_options(arguments))
