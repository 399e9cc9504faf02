"""Keeps the weights with the best validation score, and stops early."""

from collections.abc import Sequence

import tensorflow as tf


class Best(tf.Module):
  """A copy of the weights with the best validation score, kept in checkpoints.

  A run that was killed and resumed therefore has the same best weights, and
  stops at the same epoch, as an uninterrupted run.

  Args:
    variables: the variables to copy.
    patience: number of epochs without a better score after which training
      stops; 0 never stops early.

  Attributes:
    copies: the best weights, in the order of `variables`.
    score, loss: variables, the score and the loss of the best epoch.
    epochs: variable, the number of epochs so far.
    since: variable, the number of epochs after the best epoch.
  """

  def __init__(self, variables: Sequence[tf.Variable], patience: int) -> None:
    super().__init__()
    self._sources, self._patience = tuple(variables), patience
    self.copies = [
      tf.Variable(variable, trainable=False, name=f"best_{place}")
      for place, variable in enumerate(variables)
    ]
    self.score, self.loss = (
      tf.Variable(0.0, trainable=False, name=f"best_{name}", dtype=tf.float64)
      for name in ("score", "loss")
    )
    self.epochs, self.since = (
      tf.Variable(0, trainable=False, name=name) for name in ("epochs", "since")
    )

  def take(self, score: float, loss: float) -> bool:
    """Records an epoch, and copies the weights if the epoch is the best so far.

    An epoch is better than another if its score is higher, or if the scores are
    equal and its loss is lower. The first epoch is the best so far; of epochs
    with equal score and loss, the earlier one is better.

    Args:
      score: the score on the validation rows; higher is better.
      loss: the loss on the validation rows.

    Returns:
      whether the epoch is the best so far.
    """
    self.epochs.assign_add(1)
    old = (float(self.score), -float(self.loss))
    better = int(self.epochs) == 1 or (score, -loss) > old
    if better:
      self.score.assign(score)
      self.loss.assign(loss)
      for copy, source in zip(self.copies, self._sources, strict=True):
        copy.assign(source)
    self.since.assign(0 if better else self.since + 1)
    return better

  def stops(self) -> bool:
    """Returns whether the last `patience` epochs, or more, were not better.

    Then training stops. With a patience of 0 the result is always False.
    """
    return bool(self._patience) and int(self.since) >= self._patience

  def restore(self) -> None:
    """Sets the variables to the copies that `take` made of the best weights."""
    for copy, source in zip(self.copies, self._sources, strict=True):
      source.assign(copy)
