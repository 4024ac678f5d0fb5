"""Brackets fused and records written on many machines, by Apache Beam (extra `beam`).

    python tools/fuse.py --brackets=brackets --output=fused --beam="--runner=FlinkRunner --flink_master=host:8081"
    python tools/make_tfrecord.py --scenes=scenes --output=data/train --beam="--runner=DirectRunner"

The jobs are those that processes of one machine do: a bracket, or a shard of records. They read and write files, so input and
output lie where all machines see them, and this software is installed on all. A job whose machine is lost is done again; its
half-written file goes when a process of that machine next writes there.
"""

import base64
import pathlib
import pickle
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from hdr_tf import fusing
from hdr_tf.image.brackets import Bracket

try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    raise ValueError("--beam: expected the package apache_beam, found none; pip install 'hdr_tf[beam]'") from error


class Cluster:
    """Does jobs by a pipeline; stands where a number of workers would, see `hdr_tf.image.processes.in_processes`."""

    def __init__(self, options: str, output: pathlib.Path):
        """Args: options of the pipeline, as on Beam's command line; the folder that the jobs write to."""
        self.options, self.output = options, output

    def __call__(self, function: Callable, jobs: Iterable[tuple]) -> Iterator:
        """Yields `function(*job)` of every job that succeeds, when all are done, then raises the first error."""
        jobs = [pickle.dumps((function, job)) for job in jobs]
        if not jobs:
            return
        folder = next(parent for parent in self.output.absolute().parents if parent.exists())
        with tempfile.TemporaryDirectory(prefix=".beam-", dir=folder) as scratch:
            with apache_beam.Pipeline(options=PipelineOptions(shlex.split(self.options))) as pipeline:
                results = pipeline | apache_beam.Create(jobs) | apache_beam.Reshuffle() | apache_beam.Map(_do)
                _ = results | apache_beam.io.WriteToText(f"{scratch}/results")
            lines = [line for path in pathlib.Path(scratch).iterdir() for line in path.read_text().splitlines()]
        found = [pickle.loads(base64.b64decode(line)) for line in lines]
        yield from (result for result, error in found if error is None)
        for _, error in found:
            if error is not None:
                raise error


def _do(job):
    function, arguments = pickle.loads(job)
    try:
        result = function(*arguments), None
    except (ValueError, OSError) as error:  # whatever else goes wrong, Beam tries again
        result = None, error
    return base64.b64encode(pickle.dumps(result)).decode()


def fuse_brackets(
    brackets: Sequence[pathlib.Path | Bracket], output: pathlib.Path, cluster: Cluster, **arguments
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception]]:
    """`fusing.fuse_brackets` by a cluster, in any order and without summary.json. The pixels stay in the files: zeros that take
    no memory stand for them."""
    jobs = fusing.bracket_jobs(brackets, output, ".png", 2)
    work = [(bracket, job.output, arguments) for bracket, job in zip(brackets, jobs, strict=True)]
    for target, found in cluster(_fuse, work):
        yield target, found if isinstance(found, Exception) else np.broadcast_to(np.zeros((), found[1]), found[0])


def _fuse(bracket, target, arguments):
    """Returns the file with the shape and the type of what is in it, or the error that took its place."""
    aligned = arguments["save_aligned"] and pathlib.Path(arguments["save_aligned"]) / target.stem
    try:
        (job,) = fusing.bracket_jobs([bracket], target.parent, target.suffix, 2)
        fused = fusing.fuse_files(job.inputs(), target, **arguments | {"save_aligned": aligned})
    except (ValueError, OSError) as error:  # some do not survive the way between processes
        return target, ValueError(" ".join(str(error).split()) or type(error).__name__)
    return target, (fused.shape, fused.dtype)
