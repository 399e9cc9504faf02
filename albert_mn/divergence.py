"""When training goes wrong: seen in the step itself, and what the run does.

A loss or gradient that is not finite, or a spike of the loss, is seen before
the weights move; from that step on no step changes them. The run then stops,
or goes back to a checkpoint, with a smaller rate and past the batches that it
had taken, as PaLM's did (Chowdhery et al. 2022, arXiv 2204.02311, section 5.1).

rollbacks.json   in the run directory: each time it went back, so that a run
                 that is killed and started again goes the same way
"""

import dataclasses
import json
import math
import os
import shlex
from collections.abc import Sequence

import tensorflow as tf
from absl import logging

from albert_mn import checkpoints
from data_prep import json_files, options, storage

INTERVAL = 50  # steps whose losses are averaged; their noise is not a spike

# A spike is an interval whose mean loss is above that of the last _MEMORY ones
# by more than _DEVIATIONS of their standard deviations, and by more than _RISE
# of their mean: after a long calm the deviation is next to nothing. Guesses,
# on the side of silence; early on, where the loss falls, they are wide.
_MEMORY, _LEAST = 20, 5
_DEVIATIONS, _RISE = 6.0, 0.2

_FILE = "rollbacks.json"


@dataclasses.dataclass(frozen=True)
class Policy:
  """What to do about a divergence.

  Attributes:
    rolls_back: else the run stops.
    factor: of the learning rate, each time.
    most: how often, before the run stops after all.
    every: steps from one regular checkpoint to the next.
  """

  rolls_back: bool
  factor: float
  most: int
  every: int


class Diverged(Exception):  # noqa: N818  a course of things, like Stopped
  """A step from which training must not go on.

  Args:
    at: its number, from 1: so many batches were taken.
    expected, got: as in options.InputError.
  """

  def __init__(self, at: int, expected: str, got: str):
    super().__init__(f"expected {expected}; got {got}")
    self.at, self.expected, self.got = at, expected, got


class Watch(tf.Module):
  """What is seen of the losses, on the devices; a part of each checkpoint.

  Make it in the strategy's scope. No step waits for the host: it asks in
  `heed`, which finds the step that diverged however many were taken since.

  Attributes:
    scale: what the learning rate is multiplied by; 0 from that step on.
  """

  def __init__(self) -> None:
    super().__init__(name="watch")
    self.scale = _variable(1.0)
    self._total = _variable(0.0)  # of the interval's losses up to now
    self._means = _variable([0.0] * _MEMORY)  # of the last ones, newest last
    self._halted = _variable(tf.constant(-1, tf.int64))  # −1: none
    self._found = _variable([0.0, 0.0])  # what is told of that step

  def look(
    self, step: tf.Tensor, loss: tf.Tensor, norm: tf.Tensor
  ) -> tf.Tensor:
    """Says whether a step may change the weights, a bool scalar.

    To be called in each replica, with the same values.

    Args:
      step: int64 scalar, how many were taken before.
      loss: float32 scalar, of the whole batch.
      norm: float32 scalar, of the whole batch's gradient.
    """
    place = step % INTERVAL
    total = tf.where(place == 0, loss, self._total + loss)
    mean, ends = total / INTERVAL, place == INTERVAL - 1
    usual, bound = self._usual(step)
    finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
    spike = ends & (step >= _LEAST * INTERVAL) & (mean > bound)
    now = ~finite | spike
    earlier = self._halted >= 0
    values = tf.where(finite, [mean, usual], [loss, norm])
    self._found.assign(tf.where(now & ~earlier, values, self._found))
    self._halted.assign(tf.where(now & ~earlier, step, self._halted))
    self._total.assign(total)
    shifted = tf.concat([self._means[1:], [mean]], 0)
    self._means.assign(tf.where(ends & finite, shifted, self._means))
    good = ~(now | earlier)
    self.scale.assign(tf.where(good, self.scale, 0.0))
    return good

  def _usual(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the last intervals' mean, and what is a spike above it."""
    known = tf.minimum(step // INTERVAL, _MEMORY)
    counted = tf.range(_MEMORY, dtype=tf.int64) >= _MEMORY - known
    weights = tf.cast(counted, tf.float32) / tf.cast(
      tf.maximum(known, 1), tf.float32
    )
    mean = tf.reduce_sum(weights * self._means)
    deviation = tf.sqrt(tf.reduce_sum(weights * (self._means - mean) ** 2))
    return mean, mean + tf.maximum(_DEVIATIONS * deviation, _RISE * mean)

  def heed(self) -> None:
    """Raises Diverged where a step was not taken."""
    step = int(self._halted.numpy())
    if step < 0:
      return
    first, second = map(float, self._found.numpy())
    if math.isfinite(first) and math.isfinite(second):
      raise Diverged(
        step + 1,
        f"a mean loss near the usual {second:.4g}",
        f"{first:.4g} in the {INTERVAL} steps up to step {step + 1}",
      )
    name, value = ("loss", first)
    if math.isfinite(first):
      name, value = ("gradient norm", second)
    raise Diverged(step + 1, f"a finite {name}", f"{value} in step {step + 1}")


def _variable(initial: object) -> tf.Variable:
  """Makes a variable that each replica assigns for itself."""
  return tf.Variable(
    initial,
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
  )


@dataclasses.dataclass(frozen=True)
class Rollback:
  """One time that the run went back.

  Attributes:
    at: the step that diverged: so many batches were taken.
    to: the step of the checkpoint.
    factor: of the learning rate from there on.
    why: for a person.
  """

  at: int
  to: int
  factor: float
  why: str


class Guard:
  """Keeps a run on its course, and remembers where it left it.

  Args:
    watch: what the steps report to.
    saved: the run's checkpoints.
    weights: no checkpoint is made of what is not finite.
    policy: what to do about a divergence.
    output_dir: the run directory.
    writes: whether this process writes there.
  """

  def __init__(
    self,
    watch: Watch,
    saved: checkpoints.Checkpoints,
    weights: Sequence[tf.Variable],
    policy: Policy,
    output_dir: str,
    writes: bool,
  ):
    self._watch, self._saved, self._weights = watch, saved, weights
    self._policy, self._writes = policy, writes
    self._path = os.path.join(output_dir, _FILE)
    self._rollbacks: list[Rollback] = []

  @property
  def skipped(self) -> int:
    """How many batches the run is ahead of its steps."""
    return sum(r.at - r.to for r in self._rollbacks)

  def begin(self, step: int | None) -> None:
    """Takes up the course of a run that was restored at a step; None: new."""
    rollbacks = [] if step is None else _read(self._path)
    # What was decided later than what is there will be decided again.
    while rollbacks and step is not None and rollbacks[-1].to > step:
      rollbacks.pop()
    self._rollbacks = rollbacks
    self._set_rate()
    if step is None and self._policy.rolls_back:
      self._saved.save()  # a beginning to go back to

  def save(self) -> None:
    """Saves a checkpoint.

    Raises:
      Diverged: where the last step made a weight infinite or no number; the
        next one, which would say so, may be after the end.
    """
    finite = [tf.reduce_all(tf.math.is_finite(w)) for w in self._weights]
    if not all(finite):
      at = self._saved.step() + 1
      raise Diverged(at, "finite weights", f"others before step {at}")
    self._saved.save()

  def leave(self) -> int:
    """Saves what is good on leaving; returns where the next start goes on."""
    try:
      self.save()
    except Diverged as diverged:
      logging.warning("not saved: %s", diverged)
    return max(self._saved.steps(), default=0)

  def answer(self, diverged: Diverged) -> None:
    """Decides about a divergence, and clears the way back.

    Newer checkpoints are deleted first: they are of the course that is left.
    The others of several workers wait for that before they `go_back`.

    Raises:
      options.InputError: where the run stops.
    """
    policy, steps = self._policy, self._saved.steps()
    to = _target(steps, diverged.at, policy.every) if steps else None
    if (
      not policy.rolls_back or len(self._rollbacks) >= policy.most or to is None
    ):
      raise options.InputError(
        diverged.expected, diverged.got, self._advice(to)
      )
    if self._writes:
      self._saved.discard_after(to)

  def go_back(self, diverged: Diverged) -> None:
    """Restores the checkpoint, and says and records it."""
    step = self._saved.restore()
    assert step is not None, "a checkpoint was chosen"
    now = Rollback(diverged.at, step, self._policy.factor, str(diverged))
    self._rollbacks.append(now)
    if self._writes:
      entries = [dataclasses.asdict(r) for r in self._rollbacks]
      with storage.writing(self._path) as file:
        file.write(json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
    self._set_rate()
    logging.warning("DIVERGED: %s", diverged)
    logging.warning(
      "rolled back to step %d (%d of at most %d times): from here the learning "
      "rate is %g of the schedule's, and %d batches are skipped in all",
      step,
      len(self._rollbacks),
      self._policy.most,
      float(self._watch.scale.numpy()),
      self.skipped,
    )

  def _set_rate(self) -> None:
    factors = [r.factor for r in self._rollbacks]
    self._watch.scale.assign(math.prod(factors, start=1.0))

  def _advice(self, to: int | None) -> str:
    """Says what a person can do, and from which checkpoint."""
    if to is None:
      return (
        "nothing was saved; start in another --output_dir with a smaller "
        "--learning_rate, or with --on_divergence=rollback"
      )
    good = self._saved.prefix(to)
    elsewhere = (
      "start in another --output_dir with a smaller --learning_rate and "
      + shlex.quote(f"--init_checkpoint={good}")
    )
    if self._policy.rolls_back:
      return (
        f"after {len(self._rollbacks)} rollbacks, {good} is the last good "
        f"checkpoint; raise --max_rollbacks, or {elsewhere}"
      )
    return (
      f"{good} is the last good checkpoint; start the same command with "
      f"--on_divergence=rollback to go on from it, or {elsewhere}"
    )


def _target(steps: Sequence[int], at: int, every: int) -> int:
  """Chooses the newest checkpoint that is an interval before a step.

  What is newer may have been saved on the way up. Where all are, the oldest.
  One that a signal made is passed over: a run without the signal lacks it.
  """
  regular = [s for s in steps if s % every == 0] or list(steps)
  early = [s for s in regular if s <= at - INTERVAL]
  return max(early) if early else min(regular)


def _read(path: str) -> list[Rollback]:
  """Returns the rollbacks that a run noted; [] where it noted none.

  Raises:
    options.InputError: when the file does not hold a list of them.
  """
  if not storage.exists(path):
    return []
  advice = "copy the file back"
  entries = json_files.read(path, advice)
  json_files.require_type(entries, list, f"the content of {path}", advice)
  return [
    json_files.made(Rollback, entry, f"a rollback in {path}", advice)
    for entry in entries
  ]
