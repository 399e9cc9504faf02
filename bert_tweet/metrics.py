"""Counts the requests and texts of a server, in Prometheus's text format."""

import bisect
import threading
from collections.abc import Mapping, Sequence

_PREFIX = "bert_tweet_"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class _Histogram:
  """A Prometheus histogram: for each limit, the number of values up to it.

  Args:
    limits: the limits, ascending.
  """

  def __init__(self, limits: Sequence[float]) -> None:
    self._limits = limits
    self._counts = [0] * (len(limits) + 1)
    self._sum = 0.0

  def add(self, value: float) -> None:
    """Adds a value to the histogram."""
    self._counts[bisect.bisect_left(self._limits, value)] += 1
    self._sum += value

  def lines(self, name: str) -> list[str]:
    """Returns the histogram as lines in Prometheus's text format.

    The lines are the counts of the limits, the sum of all values and their
    number.

    Args:
      name: the name of the metric.
    """
    lines, total = [], 0
    names = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
    for limit, count in zip(names, self._counts, strict=True):
      total += count
      lines.append(f'{name}_bucket{{le="{limit}"}} {total}')
    return [*lines, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]


class Metrics:
  """Counts requests, texts and batches; safe in all threads."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._requests: dict[tuple[str, int], int] = {}
    self._texts = 0
    self._seconds = _Histogram(_SECONDS)
    self._sizes = _Histogram(_SIZES)

  def add_request(self, path: str, status: int, seconds: float) -> None:
    """Counts an answered request.

    Args:
      path: the route of the application; not the path that a caller sent.
      status: the answer's HTTP status.
      seconds: the time from the request to the answer.
    """
    with self._lock:
      key = (path, status)
      self._requests[key] = self._requests.get(key, 0) + 1
      self._seconds.add(seconds)

  def add_texts(self, count: int) -> None:
    """Counts texts that were predicted for a caller."""
    with self._lock:
      self._texts += count

  def add_batch(self, size: int) -> None:
    """Counts a call of the model with `size` texts."""
    with self._lock:
      self._sizes.add(size)

  def text(self, gauges: Mapping[str, float]) -> str:
    """Returns all counts in Prometheus's text format.

    Args:
      gauges: name → the current value, printed after the counts.
    """
    with self._lock:
      parts = [
        (
          "requests_total",
          "counter",
          "requests by route and status",
          [
            f'{_PREFIX}requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(self._requests.items())
          ],
        ),
        (
          "texts_total",
          "counter",
          "texts predicted",
          [f"{_PREFIX}texts_total {self._texts}"],
        ),
        (
          "request_seconds",
          "histogram",
          "from request to answer",
          self._seconds.lines(f"{_PREFIX}request_seconds"),
        ),
        (
          "batch_size",
          "histogram",
          "texts of a call of the model",
          self._sizes.lines(f"{_PREFIX}batch_size"),
        ),
        *(
          (
            name,
            "gauge",
            name.replace("_", " "),
            [f"{_PREFIX}{name} {value:g}"],
          )
          for name, value in gauges.items()
        ),
      ]
    return "".join(
      f"# HELP {_PREFIX}{name} {about}\n# TYPE {_PREFIX}{name} {kind}\n"
      + "".join(f"{line}\n" for line in lines)
      for name, kind, about, lines in parts
    )
