"""One vector of a text from those of its positions, for a classifier's head.

The BERT and ALBERT papers take the position of [CLS], through a pooler. The mean
over all positions needs no position that has learnt to stand for the text.
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
  """Returns what a classifier's head reads, [batch, hidden].

  Args:
    kind: CLS: the first position, through the pooler. MEAN, MAX: the mean or the
      largest value of each unit over the positions that are not padding, those
      of [CLS] and [SEP] included, in float32 and without the pooler.
    hidden: [batch, length, hidden], of the encoder's last layer.
    mask: int32 [batch, length], 1 on pieces; at least one in each row.
    pooler: the encoder's.
  """
  if kind == CLS:
    return pooler(hidden[:, 0])
  values = tf.cast(hidden, tf.float32)
  real = tf.cast(mask, tf.float32)[:, :, None]
  if kind == MAX:
    return tf.reduce_max(values * real + (real - 1) * _FAR, axis=1)
  assert kind == MEAN, "there are three"
  # A row that fills up a batch has no piece.
  return tf.math.divide_no_nan(
    tf.reduce_sum(values * real, axis=1), tf.reduce_sum(real, axis=1)
  )


_FAR = 1e9  # below any value of a layer that is normalised
