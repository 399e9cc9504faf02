"""The best weights of a run by its validation rows, and when to stop."""

from collections.abc import Sequence

import tensorflow as tf


class Best(tf.Module):
  """A copy of the weights that did best so far; part of every checkpoint.

  So a run that was killed goes on with the same best weights, and stops where
  an uninterrupted one does.

  Args:
    variables: what is copied.
    patience: epochs without a better score after which to stop; 0: never.

  Attributes:
    epochs, since: how many there were, and since the best one.
  """

  def __init__(self, variables: Sequence[tf.Variable], patience: int):
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
    """Notes an epoch; copies the weights if none was better.

    Args:
      score: on the validation rows; higher is better.
      loss: theirs; of equal scores the lower one is better.
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
    """Says whether more epochs are not worth their time."""
    return bool(self._patience) and int(self.since) >= self._patience

  def restore(self) -> None:
    """Puts the best weights in the place of the last ones."""
    for copy, source in zip(self.copies, self._sources, strict=True):
      source.assign(copy)
