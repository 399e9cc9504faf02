"""Work on all cores: in order, with bounded memory, gone with its parent."""

import collections
import concurrent.futures
import itertools
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Enough that no worker waits for the reader, and few enough to hold.
_TASKS_A_WORKER = 4


def pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
  """Returns a pool of processes that end when this one is killed.

  Args:
    workers: processes; 0 for one a core.
  """
  # spawn: a forked child would share the parent's threads' locks.
  return concurrent.futures.ProcessPoolExecutor(
    workers or os.cpu_count(),
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_end_with_parent,
  )


def _end_with_parent() -> None:
  """Ends this worker when its parent is killed; it would wait for ever."""
  parent = multiprocessing.parent_process()
  assert parent is not None, "an initializer runs in a worker"

  def watch() -> None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def ordered(
  function: Callable[[T], R], tasks: Iterable[T], workers: int
) -> Generator[R, None, None]:
  """Yields function(task) for each task, in the order of the tasks.

  Close it (contextlib.closing), so that its processes end with it. A bounded
  number of tasks is in work, however many there are. A single task
  is done here, since a process takes longer to start than most of them take.

  Args:
    function: of a module, so that a process can find it.
    tasks: picklable.
    workers: processes; 0 for one a core, 1 for none beside this one.
  """
  tasks = iter(tasks)
  first = list(itertools.islice(tasks, 2))
  if workers == 1 or len(first) < 2:
    yield from map(function, first)
    yield from map(function, tasks)
    return
  with pool(workers) as processes:
    most = _TASKS_A_WORKER * (workers or os.cpu_count() or 1)
    waiting = collections.deque(
      processes.submit(function, task) for task in first
    )
    try:
      for task in tasks:
        waiting.append(processes.submit(function, task))
        if len(waiting) >= most:
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:  # left over when the caller gives up
        future.cancel()
