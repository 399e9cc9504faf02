"""TFLite: conversion of a classifier of ids, and a runner for it.

TFLite has no SentencePiece without TensorFlow's operations (Flex), so its input
is ids.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from albert_mn.export import serving
from albert_mn.models import pooling
from data_prep.files import records

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
  """Returns a TFLite file that computes logits from ids [batch_size, length].

  The file uses only built-in operations of TFLite. Positions with the pad id
  are masked.

  Args:
    parts: encoder and classifier, of each network of an ensemble.
    pad_id: the id of padding.
    batch_size, length: the fixed shape of the input.
    quantized: whether weights have 8 bits and activations are quantised at run
      time (dynamic range); if not, all is float32.
    pairs: whether segment ids are a second input; they are 1 from the second
      text on.
    pooled_by: the kind of pooling, one of `pooling.KINDS`.
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
  module.parts = list(parts.values())
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [logits.get_concrete_function()], module
  )
  converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
  if quantized:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
  return bytes(converter.convert())


class LiteClassifier:
  """Runs a TFLite classifier on one thread.

  Args:
    content: the bytes of the file.
  """

  def __init__(self, content: bytes) -> None:
    self._interpreter = tf.lite.Interpreter(
      model_content=content, num_threads=1
    )
    self._interpreter.allocate_tensors()
    self._inputs = self._interpreter.get_input_details()
    # Sorted by name, because the converter decides the order.
    self._inputs.sort(key=lambda given: records.INPUT_IDS not in given["name"])
    (self._output,) = self._interpreter.get_output_details()

  def logits(
    self, ids: np.ndarray, segments: np.ndarray | None = None
  ) -> np.ndarray:
    """Returns logits [rows, labels] for any number of rows.

    Args:
      ids: int [rows, length], `[CLS] text [SEP]`, padded.
      segments: segment ids of a classifier of pairs, of the same shape.
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
