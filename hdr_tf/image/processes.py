"""Work in several processes, results in the order in which they come, and a bar that tells how far it is."""

import concurrent.futures
import logging.handlers
import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

import cv2
import rich.console
import rich.progress

from hdr_tf import quiet


def track(results: Iterable, description: str, total: int | None = None) -> Iterable:
    """Yields results, `total` of them or as many as their length tells, behind a progress bar on stderr if it is a terminal."""
    console = rich.console.Console(stderr=True)
    return rich.progress.track(results, description, total, console=console, disable=total == 0 or not console.is_terminal)


def in_processes(function: Callable, jobs: Iterable[tuple], workers: int | Callable | None = None) -> Iterator:
    """Yields `function(*job)` of every job, in any order; an error ends the whole, jobs not yet begun are dropped. What a job
    writes to the log comes with its result.

    Args:
        function: a function of a module, which other processes can import.
        jobs: arguments; they and the results must be picklable.
        workers: processes; None or 0 for one per CPU, 1 stays in this one; or what does the jobs elsewhere, a function of these
            two such as `hdr_tf.beam.Cluster`.

    Raises:
        OSError: a process was killed.
    """
    if callable(workers):
        yield from workers(function, jobs)
        return
    if workers == 1:
        yield from (function(*job) for job in jobs)
        return
    # Not fork: a process with TensorFlow's threads in it must not be copied.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context, initializer=_begin)
    try:
        for job in concurrent.futures.as_completed([pool.submit(_logged, function, job) for job in jobs]):
            result, records = job.result()
            for record in records:
                logging.getLogger().handle(record)
            yield result
    except concurrent.futures.process.BrokenProcessPool as error:
        raise OSError("a process was killed (out of memory?): start again with fewer workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _logged(function, job):
    """The result, and the records of the log, for which a process of its own has no place: scripts have silenced its stderr."""
    records = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    logging.getLogger().addHandler(handler)
    try:
        result = function(*job)
    finally:
        logging.getLogger().removeHandler(handler)
    return result, [records.get() for _ in range(records.qsize())]


def _begin():
    """One thread a process, and a worker ends when the process that started it is killed: it would wait for ever."""
    cv2.setNumThreads(1)
    sys.stdout = quiet.Output(sys.stdout)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
