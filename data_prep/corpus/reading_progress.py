"""Logs how much of a corpus's input has been read, and the time that is left.

    with reading_progress.Progress(paths, count) as progress:
      for path in paths:
        progress.begin(path)
        end = progress.made(last=True, kept=False)
        ...  # do the work
        progress.finish(end)

A thread logs the lines at regular times, so that they appear also while all
text is dropped, or while a long file gives no document.
"""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Sequence

from absl import logging

from data_prep.files import archives, open_files, storage

_FIRST_SECONDS, _SECONDS = 2.0, 10.0


class Progress:
  """Logs the share of the input that has been read, from a thread.

  Args:
    paths: the files of the input, in the order in which they are read.
    kept: function without arguments that returns the number of documents kept
      so far.
  """

  def __init__(self, paths: Sequence[str], kept: Callable[[], int]) -> None:
    # Threads: of a bucket, each size takes a request.
    with concurrent.futures.ThreadPoolExecutor() as threads:
      sizes = [size or 0 for size in threads.map(storage.size, paths)]
    self._sizes = dict(zip(paths, sizes, strict=True))
    self._total = sum(sizes)
    self._kept = kept
    self._path = ""  # the file that is being read
    self._before = 0  # bytes of the files before it
    self._read = 0  # bytes that were read when the last task was made
    self._done = 0  # bytes of the tasks that are done
    self._shown = 0
    self._start = (time.monotonic(), 0)  # of the work whose speed is measured
    self._paused = False
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self) -> "Progress":
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._ended.set()
    self._thread.join()

  def begin(self, path: str) -> None:
    """Notes that the reading of the file `path` begins.

    The file before it counts as read.
    """
    self._before += self._sizes.get(self._path, 0)
    self._path = path

  def made(self, last: bool, kept: bool) -> int:
    """Notes that a task was made of the text that was read last.

    Args:
      last: whether the task is the last one of the file.
      kept: whether an earlier run has done the task; such tasks do not count
        for the speed.

    Returns:
      the number of bytes of the input up to the end of the task, for `finish`.
    """
    end = self._before + self._sizes[self._path]
    if self._paused and not kept:
      self._start = (time.monotonic(), self._read)
    self._paused = kept
    self._read = end if last else self._bytes()
    return self._read

  def finish(self, end: int) -> None:
    """Notes that the work on the input up to the end of a task is done.

    Args:
      end: the number of bytes of the input up to there, which `made` returned.
    """
    self._done = end

  def _bytes(self) -> int:
    """Returns how many bytes of the input have been read.

    The bytes read of the present file count only while the file is open.
    """
    path = self._path
    if not path:
      return 0
    return self._before + open_files.bytes_read(path, archives.is_archive(path))

  def _watch(self) -> None:
    """Logs a line at regular times until the work is ended, in a thread."""
    seconds = _FIRST_SECONDS
    while not self._ended.wait(seconds):
      seconds = _SECONDS
      # What is read without a task for it, such as text that is dropped, counts
      # as done, but what was read for tasks does not.
      beyond = max(0, self._bytes() - self._read)
      self._shown = max(self._shown, self._done + beyond)
      logging.info("%s", self._line(self._shown))

  def _line(self, done: int) -> str:
    """Returns the line for the log: share read, speed, time left, documents.

    Args:
      done: the bytes of the input of which the work is done.
    """
    began, before = self._start
    seconds = max(time.monotonic() - began, 1e-3)
    speed = max(0, done - before) / seconds  # earlier work may not be done yet
    left = (
      f"{_duration((self._total - done) / speed)} left"
      if speed > 0
      else "time left unknown"
    )
    return (
      f"{done / max(self._total, 1):.1%} of {self._total / 1e6:,.1f} MB read, "
      f"{speed / 1e6:.2f} MB a second, {left}; {self._kept():,} documents kept"
    )


def _duration(seconds: float) -> str:
  """Returns a time such as `40 s`, `12 min` or `3 h 5 min`."""
  if seconds < 120:
    return f"{seconds:.0f} s"
  hours, minutes = divmod(round(seconds / 60), 60)
  return f"{hours} h {minutes} min" if hours else f"{minutes} min"
