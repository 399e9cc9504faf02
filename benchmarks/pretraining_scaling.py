"""Measures the held-out loss of three sizes of ALBERT at three budgets.

    ALBERT_MN_SHARED=../shared taskset -c 0 python -m benchmarks.pretraining_scaling

Without --input_file the program makes records of the texts in
$ALBERT_MN_SHARED/data/pretrain, or of the sample, as benchmarks.pretraining_start does. All
runs start from corpus statistics and use Muon. Each budget is a separate run:
its learning rate falls to 0 at the end of the budget. A budget is the CPU time
of the steps alone; the number of steps follows from a short measurement of each
size. The counts, the tracing of the graph and the evaluation come on top, and
are printed separately.

The rows are what albert_mn/runtime/scaling.py fits. The runs of --unseen are
kept out of the fit and check its prediction.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from albert_mn.models import configs
from albert_mn.pretrain import corpus_start, trainer
from albert_mn.runtime import throughput
from benchmarks import pretraining_arms as arms
from data_prep.base import options

# Steps that trace the graph, and steps that are timed afterwards.
_FIRST_STEPS, _TIMED_STEPS = 2, 6

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the sizes and the lengths of the runs."""

  sizes: str = options.option(
    "albert_tiny,albert_mini,albert_small",
    "Names of configs in the folder configs, separated by commas.",
  )
  budgets: str = options.option(
    "25,75,225",
    "CPU-seconds of training steps of the runs of each size, separated by "
    "commas.",
  )
  unseen: str = options.option(
    "albert_mn_tiny:150",
    "Runs that are kept out of the fit, as CONFIG:SECONDS, separated by commas.",
  )
  seeds: int = options.option(1, "Number of seeds of each run.", minimum=1)


def main(settings: Options, data_options: arms.Options) -> None:
  """Trains each config for each budget and seed; prints a row for each run."""
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  with tempfile.TemporaryDirectory() as folder:
    data = arms.records_of(data_options, folder)
    print(
      f"{data.training.count():,} sequences to train, "
      f"{data.held_out.count():,} held out, "
      f"{data.tokenizer.vocab_size:,} pieces"
    )
    print(
      f"{'config':16} {'budget':>6} {'weights':>10} {'FLOPs/step':>10} "
      f"{'steps':>6} {'CPU-s':>7} {'seq/s':>7} {'before':>7} {'eval':>6} "
      f"{'loss':>7}"
    )
    for name, budgets in _plan(settings).items():
      _runs_of(name, budgets, data, settings)


def _plan(settings: Options) -> dict[str, list[float]]:
  """Returns name of a config → the budgets of its runs, in CPU seconds."""
  budgets = [float(text) for text in settings.budgets.split(",")]
  plan = {name: list(budgets) for name in settings.sizes.split(",")}
  for text in filter(None, settings.unseen.split(",")):
    name, seconds = text.split(":")
    plan.setdefault(name, []).append(float(seconds))
  return plan


def _runs_of(
  name: str,
  budgets: list[float],
  data: arms.Data,
  settings: Options,
) -> None:
  """Trains a config for each budget and seed; prints a row for each run.

  Args:
    name: the name of the config.
    budgets: CPU seconds of the steps of each run.
    data: the records.
    settings: the sizes and the lengths of the runs.
  """
  config = data.config(name)
  began = time.process_time()
  statistics = corpus_start.of_records(data.training, data.tokenizer, config, 1)
  counting = time.process_time() - began
  pace = _seconds_a_step(config, data)
  for budget in budgets:
    steps = max(10, round(budget / pace))
    for seed in range(settings.seeds):
      row = _run(steps, config, statistics, data, seed)
      print(
        f"{name:16} {budget:>6g} {config.encoder_weights:>10,} "
        f"{row.flops:>10.3g} {steps:>6} {row.seconds:>7.1f} "
        f"{steps * data.batch_size / row.seconds:>7.1f} "
        f"{counting + row.before:>7.1f} {row.evaluating:>6.1f} "
        f"{row.loss:>7.3f}",
        flush=True,
      )


@dataclasses.dataclass(frozen=True)
class Row:
  """The result of one run.

  Attributes:
    flops: floating-point operations of a step.
    seconds: CPU-seconds of the steps after the graph was traced, extrapolated
      to all steps.
    before: CPU-seconds of making and tracing the model.
    evaluating: CPU-seconds of the evaluation.
    loss: held-out masked-LM loss.
  """

  flops: float
  seconds: float
  before: float
  evaluating: float
  loss: float


def _arm(steps: int) -> arms.Arm:
  """Returns the arm of all runs: random weights, trained by Muon.

  The caller replaces the random weights by weights from corpus statistics.
  """
  arm = arms.counted("muon", steps)
  return dataclasses.replace(arm, initialization="random")


def _seconds_a_step(config: configs.AlbertConfig, data: arms.Data) -> float:
  """Measures the CPU seconds of a training step of a config."""
  _, steps = arms.prepared(_arm(1000), data, config, 0)
  steps.train(tf.constant(_FIRST_STEPS))
  began = time.process_time()
  steps.train(tf.constant(_TIMED_STEPS))
  return (time.process_time() - began) / _TIMED_STEPS


def _run(
  total: int,
  config: configs.AlbertConfig,
  statistics: corpus_start.Statistics,
  data: arms.Data,
  seed: int,
) -> Row:
  """Trains a new model for a number of steps, and evaluates it at the end.

  Args:
    total: number of steps.
    config: the shape of the model.
    statistics: the corpus statistics that the initial weights are made of.
    data: the records.
    seed: the random seed.
  """

  def begin() -> trainer.Trainer:
    model, steps = arms.prepared(_arm(total), data, config, seed)
    corpus_start.assign(model, statistics, data.tokenizer.special, seed)
    steps.train(tf.constant(_FIRST_STEPS))
    return steps

  steps, before = _timed(begin)
  rest = tf.constant(total - _FIRST_STEPS)
  _, seconds = _timed(lambda: steps.train(rest))
  metrics, evaluating = _timed(lambda: steps.evaluate(tf.constant(-1)))
  records = data.training
  return Row(
    flops=throughput.step_flops(
      config,
      data.batch_size,
      records.shape.max_seq_length,
      records.predictions(),
    ),
    seconds=seconds * total / (total - _FIRST_STEPS),
    before=before,
    evaluating=evaluating,
    loss=float(metrics["masked_lm_loss"]),
  )


def _timed(act: Callable[[], _Result]) -> tuple[_Result, float]:
  """Returns (the result of a call, its CPU-seconds)."""
  began = time.process_time()
  result = act()
  return result, time.process_time() - began


if __name__ == "__main__":
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  options.run(main, Options, arms.Options)
