"""Ends work that takes too much CPU time.

  try:
    with time_limits.limited(20.0):
      ...
  except time_limits.TooLongError:
    ...  # 20 s were not enough

The result depends on the speed of the machine. So this limit is the last
resort, behind limits of sizes, which are the same everywhere.
"""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Iterator

# Seconds until the exception is raised again: code may have swallowed it.
_AGAIN = 1.0
_AT_ONCE = 0.001  # a timer of 0 s would be off


class TooLongError(Exception):
  """Raised inside a `with limited(…)` block whose CPU time is used up."""


class _Limit:
  """State of this module.

  Attributes:
    active: whether the program is inside a `with limited(…)` block.
  """

  active = False


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
  """Raises TooLongError in the block when its time is over.

  The error is raised again each second of CPU time until the block ends, since
  code may have swallowed it. A call into C code is not interrupted; the error
  is raised when it returns. Outside of the main thread, which alone receives
  signals, there is no limit. A block inside another one also ends when the
  outer block's time is over; the error is then raised again in the outer block.

  Args:
    seconds: the limit, in seconds of CPU time of this process in user code.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  outer, began = signal.getitimer(signal.ITIMER_VIRTUAL)[0], os.times().user
  earlier = signal.signal(signal.SIGVTALRM, _raise)
  _Limit.active = True
  first = min(seconds, outer or seconds)
  signal.setitimer(signal.ITIMER_VIRTUAL, first, _AGAIN)
  try:
    yield
  finally:
    _Limit.active = False
    left = max(outer - (os.times().user - began), _AT_ONCE) if outer else 0.0
    signal.setitimer(signal.ITIMER_VIRTUAL, left, _AGAIN if outer else 0.0)
    signal.signal(signal.SIGVTALRM, earlier)
    _Limit.active = bool(outer)


def _raise(_number: int, _frame: types.FrameType | None) -> None:
  if _Limit.active:
    raise TooLongError
