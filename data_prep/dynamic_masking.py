"""Masks made in training, others at each step: the same function as in records.

A mask is a function of (seed, step, row of the batch), so a resumed run sees
those of an uninterrupted one. It runs in numpy on the host: a TPU that is
fed by other machines takes static records.
"""

from typing import TYPE_CHECKING

import numpy as np

from data_prep import masking, records, tokenization

if TYPE_CHECKING:
  import tensorflow as tf


def mask(
  features: dict[str, np.ndarray],
  step: int,
  how: masking.Settings,
  tokenizer: tokenization.Tokenizer,
) -> masking.Masked:
  """Masks a batch.

  Args:
    features: input_ids, input_mask, segment_ids and token_boundary, int
      [rows, length].
    step: of training; with the row it keys the chance.
    how: how much and in which units.
    tokenizer: for the special ids.
  """
  ids = features[records.INPUT_IDS].astype(np.int64)
  ends = (tokenizer.cls_id, tokenizer.sep_id)
  text = (features[records.INPUT_MASK] == 1) & ~np.isin(ids, ends)
  keys = np.zeros((len(ids), 3), np.uint64)
  keys[:, 0], keys[:, 1] = step, np.arange(len(ids))
  return masking.mask(
    ids,
    text,
    features[records.SEGMENT_IDS].astype(np.int64),
    features[records.TOKEN_BOUNDARY] == 1,
    keys,
    how,
    mask_id=tokenizer.mask_id,
    ordinary_ids=np.nonzero(~tokenizer.special)[0],
  )


def masked_batches(
  batches: "tf.data.Dataset",
  first_step: int,
  how: masking.Settings,
  tokenizer: tokenization.Tokenizer,
) -> "tf.data.Dataset":
  """Masks batches of parsed records, the first one for `first_step`."""
  import tensorflow as tf

  inputs = (
    records.INPUT_IDS,
    records.INPUT_MASK,
    records.SEGMENT_IDS,
    records.TOKEN_BOUNDARY,
  )

  def in_numpy(step: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    found = mask(
      dict(zip(inputs, values, strict=True)), int(step), how, tokenizer
    )
    return (
      found.ids.astype(np.int32),
      found.positions.astype(np.int32),
      found.targets.astype(np.int32),
      found.weights,
    )

  def one(step: "tf.Tensor", features: "dict[str, tf.Tensor]") -> object:
    found = tf.numpy_function(
      in_numpy,
      [step, *(features[name] for name in inputs)],
      (tf.int32, tf.int32, tf.int32, tf.float32),
      stateful=False,
    )
    names = (
      records.INPUT_IDS,
      records.MASKED_LM_POSITIONS,
      records.MASKED_LM_IDS,
      records.MASKED_LM_WEIGHTS,
    )
    length = features[records.INPUT_IDS].shape
    shapes = (length, *3 * ([length[0], how.width()],))
    masked = {
      name: tf.ensure_shape(value, shape)
      for name, value, shape in zip(names, found, shapes, strict=True)
    }
    kept = {n: v for n, v in features.items() if n != records.TOKEN_BOUNDARY}
    return kept | masked

  return batches.enumerate(first_step).map(
    one, num_parallel_calls=2, deterministic=True
  )
