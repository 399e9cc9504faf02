"""Masks examples during training, anew at each step, as the records are masked.

A mask is a function of (seed, step, row of the batch), so a resumed run sees
the masks of an uninterrupted run. The function runs in numpy on the host: a TPU
that gets its input from other machines needs records with masks.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from data_prep.encoding import tokenization
from data_prep.files import records
from data_prep.pretraining import masking

if TYPE_CHECKING:
  import tensorflow as tf


def mask(
  features: dict[str, np.ndarray],
  step: int,
  rows: np.ndarray,
  how: masking.Settings,
  tokenizer: tokenization.Tokenizer,
) -> masking.Masked:
  """Masks a batch of examples, or one device's part of a batch.

  [CLS], [SEP] and padding are never masked. `features` is not changed; the
  masked ids and the targets are in the result.

  Args:
    features: input_ids, input_mask, segment_ids and token_boundary, int [rows,
      length].
    step: the training step; step and row make the random key.
    rows: int [rows], each example's index in the whole batch.
    how: how much is masked, and in which units.
    tokenizer: the tokenizer of the records, which knows the special ids.
  """
  ids = features[records.INPUT_IDS].astype(np.int64)
  ends = (tokenizer.cls_id, tokenizer.sep_id)
  number = features[records.INPUT_MASK].astype(np.int64)
  text = (number > 0) & ~np.isin(ids, ends)
  keys = np.zeros((len(ids), 3), np.uint64)
  keys[:, 0], keys[:, 1] = step, rows
  return masking.mask(
    ids,
    text,
    masking.segments(number, features[records.SEGMENT_IDS]),
    features[records.TOKEN_BOUNDARY] == 1,
    keys,
    how,
    mask_id=tokenizer.mask_id,
    ordinary_ids=np.nonzero(~tokenizer.special)[0],
  )


def masker(
  how: masking.Settings, tokenizer: tokenization.Tokenizer
) -> (
  "Callable[[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]], dict[str, tf.Tensor]]"
):
  """Returns a function for tf.data that masks parsed records.

  The function takes the step, the rows' indices in the whole batch (int32
  [rows]) and the features of the records. It returns features with the names
  and shapes of statically masked records.

  Args:
    how: how much is masked, and in which units.
    tokenizer: the tokenizer of the records, which knows the special ids.
  """
  import tensorflow as tf

  inputs = (
    records.INPUT_IDS,
    records.INPUT_MASK,
    records.SEGMENT_IDS,
    records.TOKEN_BOUNDARY,
  )
  names = (
    records.INPUT_IDS,
    records.MASKED_LM_POSITIONS,
    records.MASKED_LM_IDS,
    records.MASKED_LM_WEIGHTS,
  )

  def in_numpy(
    step: np.ndarray, rows: np.ndarray, *values: np.ndarray
  ) -> tuple[np.ndarray, ...]:
    features = dict(zip(inputs, values, strict=True))
    masked = mask(features, int(step), rows, how, tokenizer)
    return (
      masked.ids.astype(np.int32),
      masked.positions.astype(np.int32),
      masked.targets.astype(np.int32),
      masked.weights,
    )

  def mask_batch(
    step: tf.Tensor, rows: tf.Tensor, features: dict[str, tf.Tensor]
  ) -> dict[str, tf.Tensor]:
    arrays = tf.numpy_function(
      in_numpy,
      [step, rows, *(features[name] for name in inputs)],
      (tf.int32, tf.int32, tf.int32, tf.float32),
      stateful=False,
    )
    length = features[records.INPUT_IDS].shape
    shapes = (length, *3 * ([length[0], how.width()],))
    masked = {
      name: tf.ensure_shape(value, shape)
      for name, value, shape in zip(names, arrays, shapes, strict=True)
    }
    kept = {n: v for n, v in features.items() if n != records.TOKEN_BOUNDARY}
    return kept | masked

  return mask_batch
