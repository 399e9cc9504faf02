"""TFLite: a classifier of ids, converted, and run.

TFLite has no SentencePiece without TensorFlow's operations (Flex), so ids go in.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from albert_mn import pooling, serving
from data_prep import records

NAME = "model.tflite"


def converted(
  parts: Mapping[str, Any],
  pad_id: int,
  batch_size: int,
  length: int,
  quantized: bool,
  pairs: bool = False,
  pooled_by: str = pooling.CLS,
) -> bytes:
  """Returns a TFLite file: ids, int32 [batch_size, length], to logits.

  Built-in operations alone; what is the pad id is not read.

  Args:
    parts: encoder and classifier.
    pad_id: fills up what is shorter than length.
    batch_size, length: fixed.
    quantized: weights of 8 bits, activations quantised as they come (dynamic
      range); otherwise all is float32.
    pairs: takes segment ids too, 1 from the second text on.
    pooled_by: one of `pooling.KINDS`.
  """
  forward = serving.logits_of(parts, pooled_by)
  names = (records.INPUT_IDS, *([records.SEGMENT_IDS] if pairs else []))
  shape = [batch_size, length]

  @tf.function(
    input_signature=[tf.TensorSpec(shape, tf.int32, name) for name in names]
  )
  def logits(
    pieces: tf.Tensor, segments: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    if segments is None:
      segments = tf.zeros_like(pieces)
    mask = tf.cast(pieces != pad_id, tf.int32)
    return {"logits": forward(pieces, mask, segments)}

  module = tf.Module()
  module.parts = [parts["encoder"], parts["classifier"]]
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [logits.get_concrete_function()], module
  )
  converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
  if quantized:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
  return bytes(converter.convert())


class LiteClassifier:
  """Runs a TFLite classifier, on one thread.

  Args:
    content: of the file.
  """

  def __init__(self, content: bytes):
    self._interpreter = tf.lite.Interpreter(
      model_content=content, num_threads=1
    )
    self._interpreter.allocate_tensors()
    self._inputs = self._interpreter.get_input_details()
    # By their names: their order is the converter's.
    self._inputs.sort(key=lambda given: records.INPUT_IDS not in given["name"])
    (self._output,) = self._interpreter.get_output_details()

  def logits(
    self, ids: np.ndarray, segments: np.ndarray | None = None
  ) -> np.ndarray:
    """Returns [rows, labels] of ids, [rows, length], for any number of rows.

    Args:
      ids: `[CLS] text [SEP]`, filled up.
      segments: of a classifier of pairs, of the same shape.
    """
    batch = self._inputs[0]["shape"][0]
    arrays = [ids] if segments is None else [ids, segments]
    outputs = []
    for begin in range(0, len(ids), batch):
      for given, values in zip(self._inputs, arrays, strict=True):
        rows = values[begin : begin + batch]
        rest = np.repeat(rows[:1], batch - len(rows), 0)
        self._interpreter.set_tensor(
          given["index"], np.concatenate([rows, rest])
        )
      self._interpreter.invoke()
      outputs.append(self._interpreter.get_tensor(self._output["index"]))
    return np.concatenate(outputs)[: len(ids)]
