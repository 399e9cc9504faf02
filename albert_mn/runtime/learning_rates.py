"""The learning rate of a run: scaled to the batch, and shown as a table."""

import dataclasses
import math

import tensorflow as tf
from absl import logging

from albert_mn.runtime import optimization

# The batch size for which google-research/albert's default rate is made.
RECIPE_BATCH = 4096

_RECIPE_RATE = optimization.OptimizerOptions.learning_rate
_BARS = "▁▂▃▄▅▆▇█"
_ROWS, _WIDTH = 20, 60  # rows of the table, characters of the line of bars


def for_batch(
  recipe: optimization.OptimizerOptions, batch_size: int, scale: bool
) -> optimization.OptimizerOptions:
  """Returns the optimizer options with the learning rate for a batch size.

  The scaled rate is proportional to the square root of the batch size (You et
  al. 2020, arXiv 1904.00962). The rate in use is logged.

  Args:
    recipe: the optimizer options; if `scale` is set, their rate is meant for
      batches of 4,096 sequences.
    batch_size: sequences per step.
    scale: whether to scale the rate. If not, `recipe` is returned unchanged,
      and the default rate with a smaller batch logs a warning.
  """
  rate = recipe.learning_rate
  scaled = rate * math.sqrt(batch_size / RECIPE_BATCH)
  if scale:
    logging.info(
      "learning rate %.3g: %.3g x √(%d / %d)",
      scaled,
      rate,
      batch_size,
      RECIPE_BATCH,
    )
    return dataclasses.replace(recipe, learning_rate=scaled)
  if rate == _RECIPE_RATE and batch_size < RECIPE_BATCH:
    logging.warning(
      "learning rate %.3g is for batches of %d; for %d the square-root rule "
      "gives %.3g: --scale_learning_rate takes it",
      rate,
      RECIPE_BATCH,
      batch_size,
      scaled,
    )
  else:
    logging.info("learning rate %.3g", rate)
  return recipe


def table(recipe: optimization.OptimizerOptions) -> str:
  """Returns the learning rate at up to 22 steps, and its curve in 60 bars.

  The steps are evenly spaced; the step with the highest rate and the first step
  of the warm-up are among them. The highest bar is the highest rate.

    step          rate
       0             0
      50       0.00176  highest
     100             0
  ▁▃▅▇█▇▇▆▆▅▅▄▄▃▃▂▂▁
  """
  last = recipe.num_train_steps
  rates = optimization.Schedule(recipe)(tf.range(last + 1)).numpy()
  highest = int(rates.argmax())
  shown = {last * row // (_ROWS - 1) for row in range(_ROWS)}
  lines = [f"{'step':>10}  {'rate':>12}"]
  lines += [
    f"{step:>10,}  {rates[step]:>12.4g}"
    + ("  highest" if step == highest else "")
    for step in sorted(shown | {highest, recipe.start_warmup_step})
  ]
  bars = [rates[last * place // (_WIDTH - 1)] for place in range(_WIDTH)]
  top = max(float(rates[highest]), 1e-30)  # all rates may be 0
  lines.append(
    "".join(_BARS[round(bar / top * (len(_BARS) - 1))] for bar in bars)
  )
  return "\n".join(lines)
