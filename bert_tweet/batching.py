"""Predicts the texts of several callers together, by a queue and one thread.

While the model works on a batch, the next batch gathers. So a busy server works
in large batches, and an idle server answers at once.
"""

import asyncio
import collections
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

Predict = Callable[[Sequence[str]], np.ndarray]


class QueueFullError(Exception):
  """Raised when the queue has no room for all texts of a request."""


class _Request:
  """The texts of one caller, and the future with which the caller waits.

  Args:
    texts: the texts.

  Attributes:
    future: an asyncio future whose result is the scores, [texts, labels].
  """

  def __init__(self, texts: Sequence[str]) -> None:
    self._loop = asyncio.get_running_loop()
    self._rows = [np.empty(0)] * len(texts)
    self._missing = len(texts)
    self.future: asyncio.Future[np.ndarray] = self._loop.create_future()

  def deliver(self, place: int, row: np.ndarray) -> None:
    """Stores the scores of one text; called in the worker's thread.

    With the last text's scores the future gets its result.

    Args:
      place: the index of the text in the request.
      row: [labels], the scores.
    """
    self._rows[place] = row
    self._missing -= 1
    if not self._missing:
      self._end(lambda: self.future.set_result(np.stack(self._rows)))

  def fail(self, error: Exception) -> None:
    """Passes an error to the caller; called in the worker's thread.

    After a result or an earlier error, nothing happens.
    """
    self._end(lambda: self.future.set_exception(error))

  def _end(self, settle: Callable[[], None]) -> None:
    """Calls `settle` in the caller's event loop, unless the future is done.

    Args:
      settle: sets the future's result or error.
    """

    def unless_done() -> None:
      if not self.future.done():  # failed before, or its caller is gone
        settle()

    self._loop.call_soon_threadsafe(unless_done)


class _Waiting(NamedTuple):
  """A text in the queue.

  Attributes:
    text: the text.
    place: the index of the text in the request.
    request: the request.
    since: the time at which the text was queued, in seconds.
  """

  text: str
  place: int
  request: _Request
  since: float


class Batcher:
  """Predicts queued texts in batches, in a single thread with the model.

    batcher = Batcher(predictor.probabilities, 32, 0.002, 512)
    scores = await batcher.submit(["сайн байна уу"])  # [1, labels]

  Args:
    predict: maps texts to scores, [texts, labels].
    max_batch_size: largest number of texts in a call of `predict`.
    max_wait: seconds that the first text of a batch waits for more texts.
    max_queue: largest number of texts that wait; further texts are refused.
    observe: called with the size of each batch, in the worker's thread.
  """

  def __init__(
    self,
    predict: Predict,
    max_batch_size: int,
    max_wait: float,
    max_queue: int,
    observe: Callable[[int], None] = lambda _size: None,
  ) -> None:
    self._predict, self._observe = predict, observe
    self._max_batch_size, self._max_wait = max_batch_size, max_wait
    self._max_queue = max_queue
    self._queue: collections.deque[_Waiting] = collections.deque()
    self._changed = threading.Condition()
    self._closed = False
    self._thread = threading.Thread(
      target=self._work, name="model", daemon=True
    )
    self._thread.start()

  @property
  def waiting(self) -> int:
    """The number of texts in the queue."""
    return len(self._queue)

  @property
  def alive(self) -> bool:
    """Whether the worker's thread runs."""
    return self._thread.is_alive()

  async def submit(self, texts: Sequence[str]) -> np.ndarray:
    """Returns the scores of texts, [texts, labels]; for no texts [0, 0].

    Raises:
      QueueFullError: at once, when the queue has no room for all the texts, or
        after `close`.
      Exception: the error of `predict`, when it failed.
    """
    if not texts:
      return np.empty((0, 0))  # without a text, the future would never end
    request, now = _Request(texts), time.monotonic()
    with self._changed:
      if len(self._queue) + len(texts) > self._max_queue or self._closed:
        raise QueueFullError
      self._queue.extend(
        _Waiting(text, place, request, now) for place, text in enumerate(texts)
      )
      self._changed.notify()
    return await request.future

  def close(self) -> None:
    """Accepts no more texts; returns when the queued texts are predicted."""
    with self._changed:
      self._closed = True
      self._changed.notify()
    self._thread.join()

  def _work(self) -> None:
    """Predicts batch after batch until `close`; runs in the worker's thread.

    An error of `predict` goes to the callers of the batch, and the thread goes
    on.
    """
    while batch := self._next():
      try:
        rows = self._predict([waiting.text for waiting in batch])
        self._observe(len(batch))
        for waiting, row in zip(batch, rows, strict=True):
          waiting.request.deliver(waiting.place, row)
      # The callers get the error; the thread goes on for later callers.
      except Exception as error:  # noqa: BLE001
        logging.exception("a batch of %d texts failed", len(batch))
        for waiting in batch:
          waiting.request.fail(error)

  def _next(self) -> list[_Waiting]:
    """Waits for a batch of queued texts; returns it.

    The result is [] after `close`, if no text is queued.
    """
    with self._changed:
      self._changed.wait_for(lambda: self._queue or self._closed)
      if not self._queue:
        return []
      rest = self._queue[0].since + self._max_wait - time.monotonic()
      self._changed.wait_for(
        lambda: len(self._queue) >= self._max_batch_size or self._closed,
        timeout=max(0.0, rest),
      )
      size = min(self._max_batch_size, len(self._queue))
      return [self._queue.popleft() for _ in range(size)]


def of_like_length(predict: Callable[..., np.ndarray], most: int) -> Predict:
  """Returns a function that predicts texts of similar length in one call.

  The function takes texts and returns their scores in order. No short text is
  padded to the length of a long one: in a call, all texts have less than 64
  letters, or the longest has less than twice the letters of the shortest.

  Args:
    predict: a function of (texts, rows of a call), such as
      `Predictor.probabilities`.
    most: largest number of rows that the model reads at once.
  """

  def predicted(texts: Sequence[str]) -> np.ndarray:
    if not texts:
      return predict(texts, most)
    groups = collections.defaultdict(list)
    for place, text in enumerate(texts):
      groups[(len(text) // 64).bit_length()].append(place)
    rows: list[np.ndarray] = [np.empty(0)] * len(texts)
    for places in groups.values():
      size = min(most, len(places))
      predictions = predict([texts[place] for place in places], size)
      for place, row in zip(places, predictions, strict=True):
        rows[place] = row
    return np.stack(rows)

  return predicted
