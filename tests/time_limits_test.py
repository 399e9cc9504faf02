"""Tests of limits of CPU time: the error, and limits inside of limits."""

import contextlib
import signal
import time

import pytest

from data_prep.base import time_limits


def _work(seconds: float) -> None:
  """Takes CPU time in Python code, where a signal is handled at once."""
  began = time.process_time()
  while time.process_time() < began + seconds:
    pass


def test_work_that_takes_too_long_ends_and_shorter_work_does_not() -> None:
  with time_limits.limited(5.0):
    _work(0.02)
  began = time.process_time()
  with pytest.raises(time_limits.TooLongError), time_limits.limited(0.02):
    _work(5.0)
  assert time.process_time() - began < 2.0
  assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


@pytest.mark.parametrize("inner", [0.02, 5.0])
def test_an_inner_limit_leaves_the_outer_one_in_force(inner: float) -> None:
  ended = False
  with pytest.raises(time_limits.TooLongError), time_limits.limited(0.05):
    with (
      contextlib.suppress(time_limits.TooLongError),
      time_limits.limited(inner),
    ):
      _work(0.03)
    ended = True
    _work(5.0)
  assert ended
  assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
