"""Fuses brackets and writes records on many machines, by Apache Beam (extra `beam`).

    hdr-tf fuse --brackets=brackets --output=fused --beam="--runner=FlinkRunner --flink_master=host:8081"
    hdr-tf records --scenes=scenes --output=data/train --beam="--runner=DirectRunner"

A job is a bracket or a shard of records. Jobs read and write files, so all machines must see the input and the output folder,
and this software must be installed on each. If a machine is lost, its job is done again; the half-written file is removed when
a process of that machine next writes into the folder.
"""

import base64
import pathlib
import pickle
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator

try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    raise ValueError("--beam: expected the package apache_beam, found none; pip install 'hdr_tf[beam]'") from error


class Cluster:
    """Does jobs in a pipeline; takes the place of a number of processes, see `hdr_tf.parallel.in_processes`.

    `options` are those of the pipeline, as on Beam's command line; `output` is the folder that the jobs write to."""

    def __init__(self, options: str, output: pathlib.Path):
        self.options, self.output = options, output

    def __call__(self, function: Callable, jobs: Iterable[tuple]) -> Iterator:
        """Does all jobs, then yields `function(*job)` of those that succeeded, then raises the first error."""
        jobs = [pickle.dumps((function, job)) for job in jobs]
        if not jobs:
            return
        folder = next(parent for parent in self.output.absolute().parents if parent.exists())
        with tempfile.TemporaryDirectory(prefix=".beam-", dir=folder) as scratch:
            with apache_beam.Pipeline(options=PipelineOptions(shlex.split(self.options))) as pipeline:
                results = pipeline | apache_beam.Create(jobs) | apache_beam.Reshuffle() | apache_beam.Map(_do)
                _ = results | apache_beam.io.WriteToText(f"{scratch}/results")
            lines = [line for path in pathlib.Path(scratch).iterdir() for line in path.read_text().splitlines()]
        done = [pickle.loads(base64.b64decode(line)) for line in lines]
        yield from (result for result, error in done if error is None)
        for _, error in done:
            if error is not None:
                raise error


def _do(job):
    function, arguments = pickle.loads(job)
    try:
        result = function(*arguments), None
    except (ValueError, OSError) as error:  # after any other error Beam tries again
        result = None, error
    return base64.b64encode(pickle.dumps(result)).decode()
