"""Runs that learn nothing, however good the recipe: seen, so as to try again.

Some seeds of a fine-tuning end where they began: one answer for every text, at
the loss of the labels' distribution (Mosbach et al. 2021, arXiv 2006.04884).
Another seed mostly does.
"""

import numpy as np

from albert_mn import problems

# Of the training rows, to judge by.
ROWS = 512
# Too few steps to have learnt anything (guess).
FEWEST_STEPS = 50
# Share of the loss without looking at the text that a run must get below.
_LEARNT = 0.95


def fault(
  problem: problems.Problem, logits: np.ndarray, targets: np.ndarray
) -> str:
  """Says in what a run is degenerate; "" where it is not.

  Args:
    problem: what is predicted.
    logits: [rows, outputs] of training rows, nothing dropped.
    targets: [rows, …] theirs.
  """
  chance = problem.entropy(targets)
  loss = problem.mean_loss(logits, targets)
  if not chance or loss < _LEARNT * chance or not problem.is_constant(logits):
    return ""
  return (
    f"one answer for all of {len(logits)} training rows, at a loss of "
    f"{loss:.3f}, where {chance:.3f} needs no look at the text"
  )
