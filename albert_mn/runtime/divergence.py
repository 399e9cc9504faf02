"""Detection of a divergence inside the step, and the rollback after it.

A loss or gradient that is not finite, or a spike of the loss, is detected
before the weights change; from that step on no step changes the weights. The
run then stops, or rolls back: it restores a checkpoint, lowers the learning
rate, and skips the batches that it had taken, as PaLM's training did (Chowdhery
et al. 2022, arXiv 2204.02311, section 5.1).

rollbacks.json   in the run directory: all rollbacks, so that a run that is
                 killed and restarted rolls back in the same way
"""

import dataclasses
import json
import math
import os
import shlex
from collections.abc import Sequence

import tensorflow as tf
from absl import logging

from albert_mn.runtime import checkpoints
from data_prep.base import options
from data_prep.files import json_files, storage

INTERVAL = 50  # steps of one mean loss, so that noise is no spike

# A spike is an interval whose mean loss exceeds the mean of the last _MEMORY
# intervals by more than _DEVIATIONS standard deviations, and by more than the
# share _RISE of it: in a calm run the deviation is close to 0. There are no
# spikes before _LEAST intervals. The numbers are guesses that rather miss a
# spike; early, while the loss falls, the deviation is wide.
_MEMORY, _LEAST = 20, 5
_DEVIATIONS, _RISE = 6.0, 0.2

_FILE = "rollbacks.json"


@dataclasses.dataclass(frozen=True)
class Policy:
  """How a run reacts to a divergence.

  Attributes:
    rolls_back: whether the run rolls back; if not, it stops.
    factor: number by which each rollback multiplies the learning rate.
    most: largest number of rollbacks; the next divergence stops the run.
    every: steps from one regular checkpoint to the next.
  """

  rolls_back: bool
  factor: float
  most: int
  every: int


class Diverged(Exception):  # noqa: N818  not always an error, like Stopped
  """Raised when training diverged at a step and must not continue from there.

  Args:
    at: number of the step that diverged, from 1.
    expected: the finite or usual values, as text for the error message.
    got: the values of the step, as text for the error message.
  """

  def __init__(self, at: int, expected: str, got: str) -> None:
    super().__init__(f"expected {expected}; got {got}")
    self.at, self.expected, self.got = at, expected, got


class Watch(tf.Module):
  """The state of the divergence detection, on the devices and in checkpoints.

  A Watch must be made in the strategy's scope. A step does not wait for the
  host: the host calls `heed` later, and learns the step that diverged even if
  more steps have run since.

  Attributes:
    scale: factor of the learning rate; 0 after a divergence.
  """

  def __init__(self) -> None:
    super().__init__(name="watch")
    self.scale = _variable(1.0)
    self._total = _variable(0.0)  # sum of the interval's losses so far
    self._means = _variable([0.0] * _MEMORY)  # newest last
    self._halted = _variable(tf.constant(-1, tf.int64))  # −1: none
    self._found = _variable([0.0, 0.0])  # values for the message

  def look(
    self, step: tf.Tensor, loss: tf.Tensor, norm: tf.Tensor
  ) -> tf.Tensor:
    """Returns whether a step may change the weights, a bool scalar.

    The result is False at the first loss or norm that is not finite or at the
    first spike, and at all steps after it. A spike (see `_usual`) is detected
    only at the end of an interval of 50 steps, after the first 250. Each
    replica must call the function once per step, with the same values.

    Args:
      step: int64 scalar, the number of steps before this one.
      loss: float32 scalar, the loss of the whole batch.
      norm: float32 scalar, the gradient norm of the whole batch.
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
    """Returns (usual loss, threshold of a spike), float32 scalars.

    The usual loss is the mean over the last 20 intervals of 50 steps, or over
    fewer at the start. The threshold is the usual loss plus the larger of 6
    standard deviations and a fifth of the usual loss.

    Args:
      step: int64 scalar, the number of steps before this one.
    """
    known = tf.minimum(step // INTERVAL, _MEMORY)
    counted = tf.range(_MEMORY, dtype=tf.int64) >= _MEMORY - known
    weights = tf.cast(counted, tf.float32) / tf.cast(
      tf.maximum(known, 1), tf.float32
    )
    mean = tf.reduce_sum(weights * self._means)
    deviation = tf.sqrt(tf.reduce_sum(weights * (self._means - mean) ** 2))
    return mean, mean + tf.maximum(_DEVIATIONS * deviation, _RISE * mean)

  def heed(self) -> None:
    """Raises Diverged for the first step that `look` refused, if any."""
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
  """Returns a variable whose copies each replica updates by itself.

  A checkpoint holds the copy of the first replica.

  Args:
    initial: the initial value.
  """
  return tf.Variable(
    initial,
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
  )


@dataclasses.dataclass(frozen=True)
class Rollback:
  """One rollback of a run.

  Attributes:
    at: number of the step that diverged, from 1.
    to: the step of the restored checkpoint.
    factor: factor of the learning rate after this rollback.
    why: the divergence, as text for a person.
  """

  at: int
  to: int
  factor: float
  why: str


class Guard:
  """Saves checkpoints, and stops or rolls back the run after a divergence.

  Args:
    watch: detects divergences.
    saved: the run's checkpoints.
    weights: the weights; if any is not finite, no checkpoint is saved.
    policy: the reaction to a divergence.
    output_dir: the run directory.
    writes: whether this process writes files in the run directory.
  """

  def __init__(
    self,
    watch: Watch,
    saved: checkpoints.Checkpoints,
    weights: Sequence[tf.Variable],
    policy: Policy,
    output_dir: str,
    writes: bool,
  ) -> None:
    self._watch, self._saved, self._weights = watch, saved, weights
    self._policy, self._writes = policy, writes
    self._path = os.path.join(output_dir, _FILE)
    self._rollbacks: list[Rollback] = []

  @property
  def skipped(self) -> int:
    """Number of batches that all rollbacks together have skipped."""
    return sum(r.at - r.to for r in self._rollbacks)

  def begin(self, step: int | None) -> None:
    """Reads the rollbacks of the run and sets the learning rate's factor.

    A new run whose policy is to roll back saves its first checkpoint here.

    Args:
      step: step of the restored checkpoint; None for a new run.

    Raises:
      options.InputError: when rollbacks.json is damaged, or the checkpoint
        cannot be written.
    """
    rollbacks = [] if step is None else _read(self._path)
    # Rollbacks to later steps than the restored one will happen again.
    while rollbacks and step is not None and rollbacks[-1].to > step:
      rollbacks.pop()
    self._rollbacks = rollbacks
    self._set_rate()
    if step is None and self._policy.rolls_back:
      self._saved.save()  # a first checkpoint for a rollback

  def save(self) -> None:
    """Saves a checkpoint.

    Raises:
      Diverged: when a weight is not finite. The next step's loss would also
        show this, but there may be no next step.
      options.InputError: when the checkpoint cannot be written.
    """
    finite = [tf.reduce_all(tf.math.is_finite(w)) for w in self._weights]
    if not all(finite):
      at = self._saved.step() + 1
      raise Diverged(at, "finite weights", f"others before step {at}")
    self._saved.save()

  def leave(self) -> int:
    """Saves a checkpoint at the end, unless a weight is not finite.

    In that case it logs a warning. Returns the step of the newest checkpoint; 0
    without a checkpoint.

    Raises:
      options.InputError: when the checkpoint cannot be written.
    """
    try:
      self.save()
    except Diverged as diverged:
      logging.warning("not saved: %s", diverged)
    return max(self._saved.steps(), default=0)

  def answer(self, diverged: Diverged) -> None:
    """Prepares a rollback, or raises the error that stops the run.

    The preparation deletes the checkpoints after the one to restore: they
    belong to the abandoned part of the run. Other workers wait for the deletion
    before they call `go_back`.

    Raises:
      options.InputError: when the policy is to stop, when there were already
        `most` rollbacks, or when there is no checkpoint.
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
    """Restores the newest checkpoint, records the rollback, lowers the rate.

    Call it after `answer`, which deletes the later checkpoints.

    Raises:
      options.InputError: when no checkpoint can be read.
    """
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
    """Sets the learning rate's factor to the product of all rollbacks' factors.

    The factor is Watch.scale.
    """
    factors = [r.factor for r in self._rollbacks]
    self._watch.scale.assign(math.prod(factors, start=1.0))

  def _advice(self, to: int | None) -> str:
    """Returns the advice of the error message that ends the run.

    Args:
      to: step of the last good checkpoint; None if there is none.
    """
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
  """Returns the step to roll back to, of the newest safe regular checkpoint.

  A checkpoint is safe if its step is at least 50 before `at`: a later
  checkpoint may have been saved while the loss already rose. If no checkpoint
  is safe, the oldest is taken. A checkpoint is regular if its step is a
  multiple of `every`; other checkpoints are made when a signal stops the run,
  and a run without the signal would lack them. Without a regular checkpoint all
  checkpoints count.

  Args:
    steps: the steps of the checkpoints; at least one.
    at: the step that diverged.
    every: steps from one regular checkpoint to the next.
  """
  regular = [s for s in steps if s % every == 0] or list(steps)
  early = [s for s in regular if s <= at - INTERVAL]
  return max(early) if early else min(regular)


def _read(path: str) -> list[Rollback]:
  """Returns the rollbacks recorded in a file; [] if the file does not exist.

  Raises:
    options.InputError: when the file is not JSON, or no list of rollbacks.
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
