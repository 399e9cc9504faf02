"""Degenerate fine-tuning runs, which learn nothing: detection and advice.

With some seeds fine-tuning ends where it began: the model gives the same answer
for every text, and its loss is the entropy of the labels (Mosbach et al. 2021,
arXiv 2006.04884). Another seed usually helps. If the learning rate is too
small, no seed helps: the answers to different texts differ, but are correct no
more often than one constant answer.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from albert_mn.tasks import problems
from data_prep.files import json_files

# Number of training rows used for the judgement.
ROWS = 512
# Runs with fewer steps are not judged (guess).
FEWEST_STEPS = 50
# A run has learnt if its loss is below this share of the best loss of a model
# that ignores the text.
_LEARNT = 0.95

_NAME = "learnt_nothing"  # key in the manifest of a model

TOO_LITTLE, DIVERGED, UNCLEAR = "learnt too little", "diverged", "unclear"

# Thresholds of the relative change of all weights (docs/log.md, 2026-11-30).
# Measured: 0.0004 to 0.01 at rates that taught nothing, 0.016 to 0.29 at good
# rates, 0.34 to 2.3 at rates at which training collapsed.
_STILL, _APART, _GOOD = 0.02, 0.4, 0.1
# After a collapse the outputs of all texts agree to 0.0005; at small rates they
# differ by 0.02. So a run has collapsed if its weights changed by more than
# _FAR and its outputs differ by less than _ALIKE. Both are guesses between the
# measured values.
_FAR, _ALIKE = 0.1, 0.01
# Ratio of the loss to the best loss without the text. A model that knows
# nothing has about 1; a model that is confident and wrong has more (guess).
_WILD = 2.0
# Highest rates to advise. AdamW from a pretrained encoder learnt at 0.001, and
# not above 0.003. LAMB's steps are relative to the weights, about a third as
# far at that rate.
_HIGHEST_RATES = {"adamw": 1e-3, "lamb": 5e-3}
# Below this rate a head on a frozen encoder hardly learns.
_LOWEST_HEAD_RATE = 0.01


@dataclasses.dataclass(frozen=True)
class Finding:
  """The evidence that a run has learnt nothing.

  Attributes:
    words: a phrase that describes the fault in the run's answers.
    excess: loss divided by the loss of the best answer that ignores the text;
      infinite if an output is not finite.
    spread: the largest standard deviation of an output over the rows; 0 if an
      output is not finite.
  """

  words: str
  excess: float
  spread: float


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Fault, cause and advice for a run that has learnt nothing.

  Attributes:
    fault: a phrase that describes the fault in the run's answers.
    cause: TOO_LITTLE if the weights changed too little, DIVERGED if they
      changed too much, otherwise UNCLEAR.
    advice: the options to change, without a full stop.
  """

  fault: str
  cause: str
  advice: str

  @property
  def another_seed_may_do(self) -> bool:
    """Whether a training with another seed may help.

    The value is False if the cause is TOO_LITTLE.
    """
    return self.cause != TOO_LITTLE

  @property
  def summary(self) -> str:
    """Fault and advice, each with a full stop, for the log and the reports."""
    return f"{self.fault}. {self.advice}."

  def parameters(self) -> dict[str, Any]:
    """Returns the entry that records this verdict in a model's manifest.

    The entry is {name of the parameter: fault, cause and advice}.
    """
    return {_NAME: dataclasses.asdict(self)}

  @classmethod
  def of(cls, parameters: Mapping[str, Any]) -> "Verdict | None":
    """Returns the verdict that a manifest's parameters record, or None.

    Raises:
      options.InputError: when the entry is damaged.
    """
    if _NAME not in parameters:
      return None
    return json_files.made(cls, parameters[_NAME], f"{_NAME} in a manifest")


def finding(
  problem: problems.Problem,
  logits: np.ndarray,
  targets: np.ndarray,
  weights: np.ndarray | None = None,
) -> Finding | None:
  """Returns the evidence that a run has learnt nothing; None if it has learnt.

  A run has learnt nothing if two conditions hold at once. Its loss is at least
  95 % of the loss of the best constant answer, which ignores the text. And its
  answers are all the same, are not finite, or are right more often than the
  constant answer by at most two standard errors. The result is also None if the
  constant answer has a loss of 0, because all rows have the same target.

  Args:
    problem: the kind of prediction.
    logits: [rows, outputs] of training rows, computed without dropout.
    targets: [rows, …] of the same rows.
    weights: [rows], the weights of a training with class weights; None weighs
      every row as 1.
  """
  chance = problem.entropy(targets, weights)
  loss = problem.mean_loss(logits, targets, weights)
  if not chance or loss < _LEARNT * chance:
    return None
  rows_text = f"{len(logits)} training {problem.UNIT}"
  if not np.isfinite(logits).all():
    return Finding(
      f"answers that are no numbers, on {rows_text}", math.inf, 0.0
    )
  spread = float(logits.std(axis=0).max())
  if problem.is_constant(logits):
    words = (
      f"one answer for all of {rows_text}, at a loss of {loss:.3f}, where "
      f"{chance:.3f} needs no look at the text"
    )
    return Finding(words, loss / chance, spread)
  right, guessed = problem.right(logits, targets, weights)
  # Two standard errors of a share.
  if right > guessed + 2 * math.sqrt(guessed * (1 - guessed) / len(logits)):
    return None
  words = (
    f"a loss of {loss:.3f} and {problem.RIGHT} {right:.3f} on {rows_text}, hardly "
    "better than one answer for all, without a look at the text: "
    f"{chance:.3f} and {guessed:.3f}"
  )
  return Finding(words, loss / chance, spread)


def movement(begun: Sequence[np.ndarray], ended: Sequence[np.ndarray]) -> float:
  """Returns the relative change of the weights: ‖ended − begun‖ / ‖begun‖.

  Args:
    begun, ended: the weights before and after the training, in the same order.
  """
  pairs = list(zip(begun, ended, strict=True))
  moved = sum(_square(last.astype(np.float64) - first) for first, last in pairs)
  return math.sqrt(moved / max(1e-12, sum(_square(first) for first in begun)))


def _square(values: np.ndarray) -> float:
  return float(np.square(values, dtype=np.float64).sum())


@dataclasses.dataclass(frozen=True)
class Steps:
  """The settings of a training from which `verdict` infers cause and advice.

  Attributes:
    learning_rate: the peak of the learning rate.
    optimizer: "adamw" or "lamb".
    head_only: whether the encoder is frozen. Then a large change of the weights
      is no sign of a divergence: a head's small random weights change much in
      good runs too, and its loss is convex.
  """

  learning_rate: float
  optimizer: str = "adamw"
  head_only: bool = False


def verdict(seen: Finding, moved: float, steps: Steps) -> Verdict:
  """Returns fault, cause and advice for a run that has learnt nothing.

  Args:
    seen: the evidence, from `finding`.
    moved: relative change of the trained weights from the start to the last
      step, the result of `movement`.
    steps: the settings of the training.
  """
  cause = _cause(seen, moved, steps.head_only)
  advice = {
    TOO_LITTLE: _more(moved, steps),
    DIVERGED: _less(moved, steps),
    UNCLEAR: (
      f"The weights moved by {moved:.2g} of their size, which tells no cause: "
      "if the training loss hardly changed, give a larger --learning_rate or "
      "more --num_train_epochs; if it fell and came back, or jumped, give a "
      "smaller --learning_rate or a longer --warmup_proportion; if neither "
      "helps, read some rows: their labels may not follow from the texts"
    ),
  }[cause]
  return Verdict(seen.words, cause, advice)


def _cause(seen: Finding, moved: float, head_only: bool) -> str:
  """Returns TOO_LITTLE, DIVERGED or UNCLEAR, by the change of the weights.

  DIVERGED is the result for a change that is not finite, and for a loss of more
  than twice that of the best constant answer. Otherwise a frozen encoder gives
  TOO_LITTLE. Otherwise the change decides: TOO_LITTLE up to 0.02, and below 0.1
  while the outputs differ between texts (a spread of 0.01 or more); DIVERGED
  from 0.4 on, and from 0.1 on while the outputs do not differ; UNCLEAR between
  these.

  Args:
    seen: the evidence that the run has learnt nothing.
    moved: relative change of the trained weights: ‖end − start‖ / ‖start‖.
    head_only: whether the encoder is frozen.
  """
  if not math.isfinite(moved) or seen.excess > _WILD:
    return DIVERGED
  alike = seen.spread < _ALIKE
  if head_only or moved <= _STILL or (moved < _FAR and not alike):
    return TOO_LITTLE
  return DIVERGED if moved >= _APART or (moved >= _FAR and alike) else UNCLEAR


def _more(moved: float, steps: Steps) -> str:
  """Returns the advice for weights that changed too little.

  It is a higher rate or, where the rate is that high already, more epochs
  alone. The rate is multiplied by 0.1 / `moved`, at least by 2, and is at most
  0.001 for AdamW and 0.005 for LAMB. With a frozen encoder it is multiplied by
  10, and is at least 0.01.

  Args:
    moved: relative change of the trained weights.
    steps: the settings of the training.
  """
  rate, times = steps.learning_rate, max(2.0, _GOOD / max(moved, 1e-6))
  if steps.head_only:  # a head cannot collapse
    times = 10.0
    larger = max(rate * times, _LOWEST_HEAD_RATE)
  else:
    larger = min(rate * times, _HIGHEST_RATES[steps.optimizer])
  how = (
    f"--learning_rate={_rounded(larger):g}, or more --num_train_epochs"
    if _rounded(larger) > rate
    else f"--num_train_epochs of {_rounded(times):g} times as many"
  )
  return (
    f"The run learnt too little, the weights moved by {moved:.2g} of their size: "
    f"give {how}; if that does not help, begin from an encoder that was "
    "pretrained for longer (--init_checkpoint)"
  )


def _less(moved: float, steps: Steps) -> str:
  """Returns the advice after a divergence: a lower rate or a longer warm-up.

  The rate is multiplied by 0.1 / `moved`, at most by 0.5, and is at most 0.001
  for AdamW and 0.005 for LAMB. With a frozen encoder, or if `moved` is not
  finite, it is multiplied by 0.1.

  Args:
    moved: relative change of the trained weights.
    steps: the settings of the training.
  """
  rate, known = steps.learning_rate, math.isfinite(moved)
  if steps.head_only or not known:
    smaller = 0.1 * rate
  else:
    share = min(_GOOD / max(moved, 1e-6), 0.5)
    smaller = min(rate * share, _HIGHEST_RATES[steps.optimizer])
  size = f"by {moved:.2g} of their size" if known else "to no numbers"
  return (
    f"The run diverged, the weights moved {size}: give --learning_rate="
    f"{_rounded(smaller):g}, or a longer warm-up (--warmup_proportion=0.3)"
  )


def _rounded(value: float) -> float:
  """Returns the value rounded to one significant digit."""
  return float(f"{value:.0e}")
