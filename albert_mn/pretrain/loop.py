"""The loop of a pretraining run: steps, evaluations, probes, checkpoints.

orbit's controller runs the steps between two stops; checkpoints.py, not orbit,
saves the model.
"""

import contextlib
import dataclasses
import io
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn, TextIO

import orbit
import tensorflow as tf
from absl import logging

from albert_mn.pretrain import (
  examination,
  history,
  inputs,
  outputs,
  trainer,
  training_report,
)
from albert_mn.runtime import (
  distribution,
  divergence,
  runs,
  throughput,
)
from data_prep.base import options


@dataclasses.dataclass(frozen=True)
class Parts(trainer.Learner):
  """The model that a run trains, and the objects that train it.

  Attributes:
    model: computes logits from features.
    optimizer: updates the weights; its `iterations` is the global step.
    watch: detects divergences.
    steps: computes the training steps and the evaluations.
  """

  steps: trainer.Trainer

  def step(self) -> int:
    """Returns the global step: the number of training steps taken."""
    return int(self.optimizer.iterations.numpy())


class Loop:
  """Trains a run to its last step, with evaluations and probes on the way.

  Args:
    work: the run, whose weights have been set.
    parts: the model to train and the objects that train it.
    guard: saves checkpoints, and restores them after a divergence.
  """

  def __init__(
    self, work: examination.Run, parts: Parts, guard: divergence.Guard
  ) -> None:
    self._work, self._parts, self._guard = work, parts, guard
    self._controller = _controller(work, parts)

  def train(self) -> dict[str, float]:
    """Trains to the last step; returns the last held-out metrics.

    The result is {} without held-out records. After each divergence the run
    goes back to a checkpoint and trains on from it.

    Raises:
      options.InputError: when a divergence ends the run, by the policy or after
        its last rollback; when there are no training examples; and when a file
        of the records is damaged.
      SystemExit, KeyboardInterrupt: after a signal, when all is saved.
    """
    with self._parts.steps.stop:
      try:
        return self._train_through()
      except runs.Stopped as stopped:
        step = self._guard.leave()
        distribution.wait_for_all(self._work.strategy)
        _leave(stopped, step, distribution.processes(self._work.strategy))

  def _train_through(self) -> dict[str, float]:
    """Trains to the last step, with a rollback after each divergence.

    Returns the last held-out metrics; {} without held-out records.

    A rollback restores an earlier checkpoint.

    Raises:
      options.InputError: when a divergence ends the run, by the policy or after
        its last rollback, and when there are no training examples.
      runs.Stopped: after a signal.
    """
    while True:
      try:
        return self._train_once()
      except divergence.Diverged as diverged:
        self._guard.answer(diverged)
        distribution.wait_for_all(self._work.strategy)
        with self._work.strategy.scope():
          self._guard.go_back(diverged)
        self._controller.step_timer = None  # the step went back: time anew

  def _train_once(self) -> dict[str, float]:
    """Trains until the last step or the first divergence.

    Returns the last held-out metrics; {} without held-out records.

    Raises:
      divergence.Diverged: when a step diverged.
      runs.Stopped: after a signal.
      options.InputError: when there are no training examples, or a file of the
        records is damaged.
    """
    work = self._work
    training = work.training
    assert training is not None
    step, total = self._parts.step(), work.recipe.num_train_steps
    self._begin(training, step)
    kept = work.settings.save_checkpoints_steps
    # A kill may have come after this step's checkpoint, and before its
    # evaluation.
    metrics = self._look(step)
    while step < total:
      stops = (kept, *work.looks())
      until = min(total, *(step + every - step % every for every in stops))
      with _without_orbits_lines(), training.reading():
        self._controller.train(until)
      step = self._parts.step()
      if step % kept == 0 or step == total:
        self._guard.save()
      metrics = self._look(step) or metrics
    return metrics

  def _begin(self, training: inputs.RecordSet, step: int) -> None:
    """Sets the input pipeline from a step on; logs the number of steps to come.

    At the last step no input is set, and the log says that nothing is left.

    Args:
      training: the training records.
      step: the number of steps taken.

    Raises:
      options.InputError: when the records hold no example.
    """
    work, count = self._work, training.count()
    total = work.recipe.num_train_steps
    if not count:
      raise options.InputError(
        "training examples",
        f"none in {work.settings.input_file}",
        "make the records",
      )
    if step >= total:
      logging.info("already at step %d of %d: nothing to train", step, total)
      return
    logging.info(
      "training from step %d to %d on %d examples: %.1f epochs in all",
      step,
      total,
      count,
      total * work.settings.train_batch_size / count,
    )
    feed(work, self._parts.steps, count, step + self._guard.skipped)

  def _look(self, step: int) -> dict[str, float]:
    """Probes and evaluates when due at `step`; returns the held-out metrics.

    An evaluation is due at the multiples of eval_interval above 0 and at the
    last step; a probe at the multiples of probe_interval, also at 0, and at the
    last step. The result is {} if no evaluation is due, or without held-out
    records. An evaluation writes best/ if the loss is the lowest so far, and
    the training report. A run that resumes at the same step evaluates again,
    with the same result.
    """
    work, model = self._work, self._parts.model
    evaluated, probed = work.looks()
    last = step == work.recipe.num_train_steps
    metrics: dict[str, float] = {}
    if step % probed == 0 or last:
      self._probe()
    if step and (step % evaluated == 0 or last):
      if work.held_out:
        metrics = self.evaluated()
        outputs.keep_best(work, model, step, metrics)
      if work.chief:
        training_report.write(work.settings.output_dir)
    return metrics

  def evaluated(self) -> dict[str, float]:
    """Returns the metrics of the held-out records, and logs them.

    --max_eval_steps limits the number of batches.

    Raises:
      options.InputError: when a file of the records is damaged.
    """
    work = self._work
    assert work.held_out is not None
    with _without_orbits_lines(), work.held_out.reading():
      metrics = dict(
        self._controller.evaluate(work.settings.max_eval_steps or -1)
      )
    metrics.pop("steps_per_second", None)  # orbit adds it
    logging.info(
      "held out: %s", ", ".join(f"{n} {v:.4g}" for n, v in metrics.items())
    )
    if math.isnan(metrics["sentence_order_accuracy"]):
      logging.warning("the held-out records have no sentence pairs")
    return metrics

  def _probe(self) -> None:
    """Logs the accuracy of a linear classifier on the encoder's frozen features.

    The score also goes to the TensorBoard events of the evaluation. Without
    --probe_file, and in processes other than the chief, nothing is done.
    """
    work = self._work
    if not (work.probe and work.chief):
      return
    encoder = self._parts.model.encoder
    score = work.probe.score(work.probe.features(encoder, work.strategy))
    logging.info("probe: %s", score)
    self._controller.eval_summary_manager.write_summaries(score.metrics())


def _controller(work: examination.Run, parts: Parts) -> orbit.Controller:
  """Returns orbit's controller, which runs the training steps and evaluations.

  The controller also writes TensorBoard events. It does not save the model:
  checkpoints.py does.
  """
  settings, global_step = work.settings, parts.optimizer.iterations

  def steps_per_loop(step: int) -> int:
    """Returns the number of steps from `step` to the next log line.

    One compiled loop serves all numbers of steps.
    """
    return settings.iterations_per_loop - step % settings.iterations_per_loop

  def events(name: str) -> history.Events:
    folder = os.path.join(settings.output_dir, "events", name)
    return history.Events(folder if work.chief else None, global_step)

  with _without_orbits_lines():
    return orbit.Controller(
      global_step=global_step,
      trainer=parts.steps if settings.do_train else None,
      evaluator=parts.steps if settings.do_eval else None,
      strategy=work.strategy,
      steps_per_loop=steps_per_loop,
      summary_manager=events("train"),
      # orbit uses one summary manager for both unless this folder has another
      # name.
      eval_summary_dir="eval",
      eval_summary_manager=events("eval"),
    )


class _NotOrbits(io.TextIOBase):
  """A standard output that drops the lines which orbit prints."""

  def __init__(self, stdout: TextIO) -> None:
    self._stdout = stdout

  def write(self, text: str) -> int:
    """Writes a text, unless a module of orbit prints it; returns its length.

    Args:
      text: the text.
    """
    printing = sys._getframe(1).f_globals.get("__name__", "")
    if printing.partition(".")[0] == "orbit":
      return len(text)
    return self._stdout.write(text)

  def flush(self) -> None:
    self._stdout.flush()

  def isatty(self) -> bool:
    return self._stdout.isatty()

  def fileno(self) -> int:
    return self._stdout.fileno()


@contextlib.contextmanager
def _without_orbits_lines() -> Iterator[None]:
  """Context manager that drops the lines which orbit prints to standard output.

  The log of this project says the same.
  """
  with contextlib.redirect_stdout(_NotOrbits(sys.stdout)):
    yield


def feed(
  work: examination.Run, steps: trainer.Trainer, count: int, first: int
) -> None:
  """Gives the trainer its input pipeline and the meter of its speed.

  Args:
    work: the run.
    steps: the trainer.
    count: number of training examples.
    first: number of the first batch to train on.
  """
  settings, training = work.settings, work.training
  assert training is not None

  def batches(share: inputs.Share, step: int) -> tf.data.Dataset:
    seed = settings.random_seed
    return inputs.train_dataset(training, count, share, seed, step)

  steps.train_dataset = work.strategy.distribute_datasets_from_function(
    lambda context: batches(
      inputs.Share.of(settings.train_batch_size, context), first
    )
  )
  steps.meter = throughput.Meter(_step_work(work, training, count, batches))


def _step_work(
  work: examination.Run,
  training: inputs.RecordSet,
  count: int,
  batches: Callable[[inputs.Share, int], tf.data.Dataset],
) -> throughput.Work:
  """Returns the work of a training step, for the meter of the run's speed.

  The peak speed of the devices and the time of the input pipeline are measured
  here.

  Args:
    work: the run.
    training: the training records.
    count: number of training examples.
    batches: a function from (share, step) to a process's batches from this step
      on.
  """
  batch, length = work.settings.train_batch_size, training.shape.max_seq_length
  replicas = work.strategy.num_replicas_in_sync
  local = replicas // distribution.processes(work.strategy)
  with training.reading():
    alone = throughput.input_seconds(
      # The batches start at step 0: to skip to a later step takes time.
      batches(inputs.Share(batch, replicas, 0, local), 0),
      local,
    )
  return throughput.Work(
    steps=work.recipe.num_train_steps,
    sequences=batch,
    positions=length,
    filled=training.filled,
    examples=count,
    flops=throughput.step_flops(
      work.config, batch, length, training.predictions()
    ),
    peak=throughput.peak(work.strategy),
    input_seconds=alone,
  )


def _leave(stopped: runs.Stopped, step: int, processes: int) -> NoReturn:
  """Logs the step at which the next start goes on, and ends the process.

  Raises:
    SystemExit: after SIGTERM, and after SIGINT where several processes train:
      with SystemExit, but not with KeyboardInterrupt, TensorFlow disconnects
      from the other workers first.
    KeyboardInterrupt: after SIGINT in a single process.
  """
  logging.warning(
    "%s: saved; the same command goes on from step %d", stopped, step
  )
  if stopped.number == signal.SIGTERM:
    raise SystemExit(options.TERMINATED)
  if processes > 1:
    raise SystemExit(options.INTERRUPTED)
  raise KeyboardInterrupt
