"""Runs tasks on all cores, with ordered results and bounded memory.

The processes end with their parent, even if it is killed.
"""

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Enough that no worker waits for a task, and few enough to fit in memory.
_TASKS_A_WORKER = 4


def _pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
  """Returns a pool of processes that end when this process is killed.

  Args:
    workers: number of processes.
  """
  # spawn: a forked child would share the parent's threads' locks.
  return concurrent.futures.ProcessPoolExecutor(
    workers,
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_end_with_parent,
  )


def _end_with_parent() -> None:
  """Makes this worker process end when its parent process is killed."""
  parent = multiprocessing.parent_process()
  assert parent is not None, "an initializer runs in a worker"

  def watch() -> None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def count(workers: int) -> int:
  """Returns the number of processes: `workers`; for 0 the number of cores."""
  return workers or os.cpu_count() or 1


class Workers:
  """A pool of processes for several rounds of work, started when needed.

  With one worker, all tasks run in this process. A single task runs in this
  process too, because a process takes longer to start than most tasks take.

  Args:
    workers: number of processes; 0 means one for each core.
  """

  def __init__(self, workers: int) -> None:
    self._count = count(workers)
    self._processes: concurrent.futures.ProcessPoolExecutor | None = None

  def __enter__(self) -> "Workers":
    return self

  def __exit__(self, *_: object) -> None:
    if self._processes:
      self._processes.shutdown(cancel_futures=True)

  def start(self) -> None:
    """Starts the processes early, so that later work need not wait for them.

    With one worker, or if they have been started, nothing happens.
    """
    if self._count > 1 and not self._processes:
      self._processes = _pool(self._count)
      for _ in range(self._count):
        self._processes.submit(os.getpid)

  def beside(self, function: Callable[[T], R], task: T) -> Callable[[], R]:
    """Begins function(task) in a process; returns a function for its result.

    The returned function takes no arguments. It waits for the result and
    returns it, or raises the task's error. If no processes have been started,
    nothing is begun: the returned function calls function(task) in this
    process.
    """
    if self._processes:
      return self._processes.submit(function, task).result
    return functools.partial(function, task)

  def ordered(
    self, function: Callable[[T], R], tasks: Iterable[T]
  ) -> Generator[R, None, None]:
    """Yields function(task) for each task, in the order of the tasks.

    At most four tasks for each process are running or waiting, or have results
    that were not taken yet. The error of a task is raised in place of its
    result. Tasks that are not yet running are cancelled when the generator is
    closed.

    Args:
      function: picklable: a function of a module, or an instance of a small
        dataclass that can be called.
      tasks: picklable.
    """
    tasks = iter(tasks)
    first = list(itertools.islice(tasks, 2))
    if self._count == 1 or len(first) < 2:
      yield from map(function, first)
      yield from map(function, tasks)
      return
    self._processes = self._processes or _pool(self._count)
    waiting = collections.deque(
      self._processes.submit(function, t) for t in first
    )
    try:
      for task in tasks:
        waiting.append(self._processes.submit(function, task))
        if len(waiting) >= _TASKS_A_WORKER * self._count:
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:  # some are left if the caller stops early
        future.cancel()


def ordered(
  function: Callable[[T], R], tasks: Iterable[T], workers: int
) -> Generator[R, None, None]:
  """Yields function(task) for each task in order, with a new pool of processes.

  The caller must close the generator (contextlib.closing), so that the
  processes end.

  Args:
    function: picklable function of a task.
    tasks: picklable.
    workers: number of processes; 0 means one for each core.
  """
  with Workers(workers) as processes:
    yield from processes.ordered(function, tasks)
