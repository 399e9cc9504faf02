"""Compares the loss per CPU time of initial weights and optimizers.

    ALBERT_MN_SHARED=../shared taskset -c 0 python -m benchmarks.pretraining_start

Without --input_file the program makes records of the texts in
$ALBERT_MN_SHARED/data/pretrain, or of the sample. First it trains ALBERT-tiny
by the recipe in use until 2026-11-30: from random weights, by LAMB, for 3,000
steps. Then it trains the same model on the same records from weights computed
from corpus statistics, for far fewer steps: by Muon for each number of
--new_steps, by AdamW and LAMB for the largest number. All runs are evaluated on
the same held-out examples. The CPU time includes the statistics and the tracing
of the graph, and excludes the evaluations.

The last lines state, for each kind of run, at what share of the old recipe's
CPU time the fastest run ended that reached the old recipe's loss.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator

import tensorflow as tf

from albert_mn.models import configs
from albert_mn.runtime import optimization
from benchmarks import pretraining_arms as arms
from data_prep.base import options

_STEPS_OF_OLD_RECIPE = 3000


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the model and the length of the runs."""

  model: str = options.option(
    "albert_tiny",
    "Name of a config in the folder configs.",
  )
  steps: int = options.option(
    _STEPS_OF_OLD_RECIPE,
    "Number of steps of the old recipe. 0 leaves the old recipe out.",
    minimum=0,
  )
  new_steps: str = options.option(
    "100,200,400",
    "Numbers of steps of the runs from corpus statistics. Each number is a "
    "separate run with a separate schedule. AdamW and LAMB only run for the "
    "largest number.",
  )
  seeds: int = options.option(
    1, "Number of seeds of each run from corpus statistics.", minimum=1
  )


@dataclasses.dataclass(frozen=True)
class Point:
  """One evaluation of a run.

  Attributes:
    step: number of steps taken.
    seconds: CPU seconds so far, without those of the evaluations.
    loss: held-out masked-LM loss.
  """

  step: int
  seconds: float
  loss: float


def old_recipe(steps: int) -> arms.Arm:
  """Returns the recipe of ALBERT-tiny until 2026-11-30: random start, LAMB.

  Args:
    steps: number of steps.
  """
  recipe = optimization.OptimizerOptions(
    optimizer="lamb",
    learning_rate=0.02,
    num_train_steps=steps,
    num_warmup_steps=min(100, steps // 10),
  )
  return arms.Arm("random, lamb 0.02 (old)", "random", recipe)


def main(settings: Options, data_options: arms.Options) -> None:
  """Trains all arms; prints their losses, and the ratios of their CPU times."""
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  with tempfile.TemporaryDirectory() as folder:
    data = arms.records_of(data_options, folder)
    config = data.config(settings.model)
    print(f"{'run':28} {'seed':>4} {'step':>6} {'CPU-s':>7} {'loss':>7}")
    old = None
    if settings.steps:
      old = list(run(old_recipe(settings.steps), data, config, 0))[-1]
    reached = _new_runs(data, config, settings)
  if old:
    _print_ratios(old, reached)


def _new_runs(
  data: arms.Data, config: configs.AlbertConfig, settings: Options
) -> dict[str, list[Point]]:
  """Trains all arms that start from corpus statistics.

  Returns:
    name of an arm → the last point of each of its runs.
  """
  ends: dict[str, list[Point]] = {}
  lengths = sorted(map(int, settings.new_steps.split(",")))
  for optimizer in arms.COUNTED:
    for steps in lengths if optimizer == "muon" else lengths[-1:]:
      arm = arms.counted(optimizer, steps)
      for seed in range(settings.seeds):
        *_, last = run(arm, data, config, seed)
        ends.setdefault(arm.name, []).append(last)
  return ends


def _print_ratios(old: Point, ends: dict[str, list[Point]]) -> None:
  """Prints, for each arm, the fastest run that ends at the old recipe's loss.

  If no run ends at that loss or a lower one, "not reached" is printed.

  Args:
    old: the last point of the old recipe.
    ends: name → the last points of the runs of an arm.
  """
  print(f"the old recipe: loss {old.loss:.3f} after {old.seconds:.0f} CPU-s")
  for name, points in ends.items():
    good = [p for p in points if p.loss <= old.loss]
    if not good:
      print(f"{name}: not reached")
      continue
    best = min(good, key=lambda p: p.seconds)
    print(
      f"{name}: loss {best.loss:.3f} after {best.seconds:.0f} CPU-s, "
      f"1/{old.seconds / best.seconds:.1f} of the time "
      "(at least 1/6, aim 1/15)"
    )


def run(
  arm: arms.Arm, data: arms.Data, config: configs.AlbertConfig, seed: int
) -> Iterator[Point]:
  """Trains an arm; prints and yields a Point at each quarter of the steps."""
  total = arm.recipe.num_train_steps
  spent, began = 0.0, time.process_time()
  _model, steps = arms.prepared(arm, data, config, seed)
  step = 0
  for until in sorted({total * quarter // 4 for quarter in (1, 2, 3, 4)}):
    if until > step:
      steps.train(tf.constant(until - step))
      step = until
    spent += time.process_time() - began
    metrics = steps.evaluate(tf.constant(-1))
    point = Point(step, spent, float(metrics["masked_lm_loss"]))
    print(
      f"{arm.name:28} {seed:>4} {step:>6} {spent:>7.1f} {point.loss:>7.3f}",
      flush=True,
    )
    yield point
    began = time.process_time()


if __name__ == "__main__":
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  options.run(main, Options, arms.Options)
