"""Pooling: one vector of a text from the vectors of its positions.

The BERT and ALBERT papers take the vector at [CLS], through a pooler. The mean
over all positions does not depend on how well [CLS] was trained.
"""

from collections.abc import Callable

import tensorflow as tf

CLS, MEAN, MAX = KINDS = ("cls", "mean", "max")


def vector(
  kind: str,
  hidden: tf.Tensor,
  mask: tf.Tensor,
  pooler: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
  """Returns the pooled vectors that a classifier's head reads, [batch, hidden].

  Args:
    kind: CLS takes the first position, through the pooler. MEAN and MAX take
      the mean or the largest value of each unit over all positions but padding,
      including [CLS] and [SEP]; in float32, without the pooler.
    hidden: [batch, length, hidden], the encoder's last layer.
    mask: int32 [batch, length], 1 on pieces; each row has at least one, except
      rows that pad the batch: these get the mean 0 and the maximum -1e9.
    pooler: the encoder's pooler.
  """
  if kind == CLS:
    return pooler(hidden[:, 0])
  values = tf.cast(hidden, tf.float32)
  real = tf.cast(mask, tf.float32)[:, :, None]
  if kind == MAX:
    return tf.reduce_max(values * real + (real - 1) * _FAR, axis=1)
  assert kind == MEAN, "there are three kinds"
  # A row that pads the batch has no piece.
  return tf.math.divide_no_nan(
    tf.reduce_sum(values * real, axis=1), tf.reduce_sum(real, axis=1)
  )


_FAR = 1e9  # values of a normalised layer are far above -1e9
