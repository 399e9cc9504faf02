"""Runs that learn nothing, however good the recipe: seen, and told why.

Some seeds of a fine-tuning end where they began: one answer for every text, at
the loss of the labels' distribution (Mosbach et al. 2021, arXiv 2006.04884).
Another seed mostly does. At too small a learning rate no seed does: the answers
vary, and are no better than one answer for all.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from albert_mn import problems
from data_prep import json_files

# Of the training rows, to judge by.
ROWS = 512
# Too few steps to have learnt anything (guess).
FEWEST_STEPS = 50
# Share of the loss without looking at the text that a run must get below.
_LEARNT = 0.95

_NAME = "learnt_nothing"  # in the manifest of a model

TOO_LITTLE, DIVERGED, UNCLEAR = "learnt too little", "diverged", "unclear"

# How far all weights moved, as a share of where they began (docs/log.md,
# 2026-11-30): 0.0004 to 0.01 at rates at which nothing was learnt, 0.016 to 0.29
# at good ones, 0.34 to 2.3 at rates at which training fell apart.
_STILL, _APART, _GOOD = 0.02, 0.4, 0.1
# Where training fell apart, the outputs were alike for all texts to 0.0005; at
# small rates they differ by 0.02. So weights that moved far, and outputs that
# do not tell texts apart, are a collapse. Both are guesses between those.
_FAR, _ALIKE = 0.1, 0.01
# Loss, in multiples of the best that needs no look at the text. A model that
# knows nothing has about 1; one that is sure, and wrong, has more (guess).
_WILD = 2.0
# AdamW from a pretrained encoder learnt at 0.001, and beyond 0.003 no more.
# LAMB's steps are shares of the weights, about a third as far at that rate.
_HIGHEST_RATES = {"adamw": 1e-3, "lamb": 5e-3}
# A head on a frozen encoder hardly learns below.
_LOWEST_HEAD_RATE = 0.01


@dataclasses.dataclass(frozen=True)
class Finding:
  """By what a run is seen to have learnt nothing.

  Attributes:
    words: what is wrong with its answers.
    excess: the loss, as a multiple of that of one answer for all.
    spread: how far the outputs for different texts are apart: the largest
      standard deviation of an output over the rows.
  """

  words: str
  excess: float
  spread: float


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What is wrong with a run that learnt nothing, and what to do.

  Attributes:
    fault: what is wrong with its answers.
    cause: one of TOO_LITTLE, DIVERGED, UNCLEAR.
    advice: what to do about it.
  """

  fault: str
  cause: str
  advice: str

  @property
  def another_seed_may_do(self) -> bool:
    """Whether to begin again: the same small steps lead nowhere else."""
    return self.cause != TOO_LITTLE

  @property
  def said(self) -> str:
    """Both, as sentences."""
    return f"{self.fault}. {self.advice}."

  def parameters(self) -> dict[str, Any]:
    """Returns what the manifest of the model holds."""
    return {_NAME: dataclasses.asdict(self)}

  @classmethod
  def of(cls, parameters: Mapping[str, Any]) -> "Verdict | None":
    """Reads it from the manifest of a model; None where nothing was wrong."""
    if _NAME not in parameters:
      return None
    return json_files.made(cls, parameters[_NAME], f"{_NAME} in a manifest")


def finding(
  problem: problems.Problem,
  logits: np.ndarray,
  targets: np.ndarray,
  weights: np.ndarray | None = None,
) -> Finding | None:
  """Says by what a run learnt nothing; None where it learnt something.

  It learnt nothing where its loss is about that of the best answer which does
  not look at the text, or above, and its answers are all the same, or not more
  often right than that answer, but for chance.

  Args:
    problem: what is predicted.
    logits: [rows, outputs] of training rows, nothing dropped.
    targets: [rows, …] theirs.
    weights: [rows] of a training that weighs labels; None: all weigh 1.
  """
  chance = problem.entropy(targets, weights)
  loss = problem.mean_loss(logits, targets, weights)
  if not chance or loss < _LEARNT * chance:
    return None
  told = f"{len(logits)} training {problem.UNIT}"
  if not np.isfinite(logits).all():
    return Finding(f"answers that are no numbers, on {told}", math.inf, 0.0)
  spread = float(logits.std(axis=0).max())
  if problem.is_constant(logits):
    words = (
      f"one answer for all of {told}, at a loss of {loss:.3f}, where "
      f"{chance:.3f} needs no look at the text"
    )
    return Finding(words, loss / chance, spread)
  right, guessed = problem.right(logits, targets, weights)
  # Two standard errors of a share.
  if right > guessed + 2 * math.sqrt(guessed * (1 - guessed) / len(logits)):
    return None
  words = (
    f"a loss of {loss:.3f} and {problem.RIGHT} {right:.3f} on {told}, hardly "
    "better than one answer for all, without a look at the text: "
    f"{chance:.3f} and {guessed:.3f}"
  )
  return Finding(words, loss / chance, spread)


def movement(begun: Sequence[np.ndarray], ended: Sequence[np.ndarray]) -> float:
  """Returns how far weights moved, as a share of their norm at the start."""
  pairs = list(zip(begun, ended, strict=True))
  moved = sum(_square(last.astype(np.float64) - first) for first, last in pairs)
  return math.sqrt(moved / max(1e-12, sum(_square(first) for first in begun)))


def _square(values: np.ndarray) -> float:
  return float(np.square(values, dtype=np.float64).sum())


@dataclasses.dataclass(frozen=True)
class Steps:
  """How a run trained.

  Attributes:
    learning_rate: the peak.
    optimizer: "adamw" or "lamb".
    head_only: whether the encoder is frozen. A head of small random weights
      moves far in good runs too, but cannot get stuck: its loss is convex.
  """

  learning_rate: float
  optimizer: str = "adamw"
  head_only: bool = False


def verdict(seen: Finding, moved: float, steps: Steps) -> Verdict:
  """Tells a run that learnt too little from one that diverged.

  Args:
    seen: by what it learnt nothing.
    moved: `movement` of the trained weights, from the start to the last step.
    steps: how it trained.
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
  if not math.isfinite(moved) or seen.excess > _WILD:
    return DIVERGED
  alike = seen.spread < _ALIKE
  if head_only or moved <= _STILL or (moved < _FAR and not alike):
    return TOO_LITTLE
  return DIVERGED if moved >= _APART or (moved >= _FAR and alike) else UNCLEAR


def _more(moved: float, steps: Steps) -> str:
  """Advises larger steps, by as much as the weights moved too little."""
  rate, times = steps.learning_rate, max(2.0, _GOOD / max(moved, 1e-6))
  if steps.head_only:  # any rate may do: there is no encoder to spoil
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
  """Advises a smaller rate, by as much as the weights moved too far."""
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
  """Returns the value to one digit."""
  return float(f"{value:.0e}")
