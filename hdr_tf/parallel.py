"""Jobs in several processes, whose results arrive in any order."""

import concurrent.futures
import itertools
import logging.handlers
import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

import cv2

from hdr_tf import quiet


def in_processes(function: Callable, jobs: Iterable[tuple], num_processes: int | Callable | None = None) -> Iterator:
    """Yields `function(*job)` for every job, in any order. An error ends all work: jobs that have not begun are dropped. What a
    job logs is logged when its result arrives.

    Args:
        function: can be imported by other processes; arguments and results are picklable.
        num_processes: None or 0 for one process per CPU; with 1 everything runs in the caller's process. Or a function of
            `function` and `jobs` that does the jobs elsewhere, such as `hdr_tf.batch_beam.Cluster`.
    """
    if callable(num_processes) or num_processes == 1:
        yield from num_processes(function, jobs) if callable(num_processes) else itertools.starmap(function, jobs)
        return
    # Not fork: a process with TensorFlow's threads in it must not be copied.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(num_processes or os.cpu_count(), mp_context=context, initializer=_begin)
    try:
        for job in concurrent.futures.as_completed([pool.submit(_logged, function, job) for job in jobs]):
            result, records = job.result()
            for record in records:
                logging.getLogger().handle(record)
            yield result
    except concurrent.futures.process.BrokenProcessPool as error:
        raise OSError("a process was killed (out of memory?): start again with a smaller --num_processes") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _logged(function, job):
    """The result and the records of the log. A child process cannot show them: the script has silenced its stderr."""
    records = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    logging.getLogger().addHandler(handler)
    try:
        result = function(*job)
    finally:
        logging.getLogger().removeHandler(handler)
    return result, [records.get() for _ in range(records.qsize())]


def _begin():
    """Gives the process one thread, and ends it when its parent is killed: it would wait forever."""
    cv2.setNumThreads(1)
    sys.stdout = quiet.Output(sys.stdout)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
