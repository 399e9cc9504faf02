"""Models that run without this project: SavedModels of strings, and TFLite.

A SavedModel holds its tokenizer: TensorFlow and tensorflow-text are all that it
takes to load it. TFLite has no SentencePiece, so it takes ids.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text

from data_prep import options, records, storage, tokenization

TFLITE = "model.tflite"
LABEL_NAMES = "label_names"  # a SavedModel's second signature


class TextToIds(tf.Module):
  """Strings to `[CLS] text [SEP]`, in TensorFlow's operations.

  Args:
    tokenizer: with its settings.
    model_file: its file.
    length: ids of a text; what is longer loses its end.

  Raises:
    options.InputError: for WordPiece, which no operation gives exactly.
  """

  def __init__(
    self, tokenizer: tokenization.Tokenizer, model_file: str, length: int
  ):
    super().__init__()
    if tokenization.is_wordpiece(model_file):
      raise options.InputError(
        "a SentencePiece model, for an export that takes strings",
        f"{os.path.basename(model_file)}, of WordPiece",
        "export it as tflite or huggingface",
      )
    self._settings, self._length = tokenizer.settings, length
    self._cls, self._sep = tokenizer.cls_id, tokenizer.sep_id
    self._pad = tokenizer.pad_id
    self._divided = (
      tf.ragged.constant(
        [tokenizer.divided.get(i, [i]) for i in range(tokenizer.vocab_size)],
        tf.int32,
      )
      if tokenizer.divided
      else None
    )
    self._pieces = tensorflow_text.SentencepieceTokenizer(
      model=storage.read_bytes(model_file)
    )

  def __call__(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns ids and mask, int32 [batch, length], of strings [batch]."""
    pieces = self._pieces.tokenize(self._prepared(texts))
    if self._divided is not None:
      pieces = tf.gather(self._divided, pieces).merge_dims(1, 2)
    pieces = tf.cast(pieces[:, : self._length - 2], tf.int32)
    ends = tf.ones([pieces.nrows(), 1], tf.int32)
    framed = tf.concat([self._cls * ends, pieces, self._sep * ends], axis=1)
    ids = framed.to_tensor(self._pad, shape=[None, self._length])
    return ids, tf.sequence_mask(framed.row_lengths(), self._length, tf.int32)

  def _prepared(self, texts: tf.Tensor) -> tf.Tensor:
    """As tokenization.Settings.apply."""
    if self._settings.replace_quotes:
      texts = tf.strings.regex_replace(texts, "``|''", '"')
    if self._settings.strip_accents:
      texts = tensorflow_text.normalize_utf8(texts, "NFKD")
      marks = tokenization.combining_marks()
      texts = tf.strings.regex_replace(texts, f"[{marks}]", "")
    if self._settings.do_lower_case:
      texts = tf.strings.lower(texts, encoding="utf-8")
    return texts


class TextClassifier(tf.Module):
  """A classifier of strings.

  Args:
    model: encoder and head.
    text_to_ids: its tokenizer.
    labels: in the order of its outputs.
    temperature: divides the logits before they become probabilities.
  """

  def __init__(
    self,
    model: Any,
    text_to_ids: TextToIds,
    labels: Sequence[str],
    temperature: float,
  ):
    super().__init__()
    self._parts = [model.encoder, model.classifier]
    self._forward = logits_of(model)
    self._text_to_ids, self._temperature = text_to_ids, temperature
    self._names = tf.constant(list(labels))

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
  def classify(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns labels [batch], probabilities and logits [batch, labels]."""
    logits = self._forward(*self._text_to_ids(texts))
    return {
      "labels": tf.gather(self._names, tf.argmax(logits, axis=1)),
      "probabilities": tf.nn.softmax(logits / self._temperature),
      "logits": logits,
    }

  @tf.function(input_signature=[])
  def label_names(self) -> dict[str, tf.Tensor]:
    """Returns the labels in the order of the probabilities."""
    return {LABEL_NAMES: self._names}


def logits_of(model: Any) -> Any:
  """Returns (ids, mask) → logits of a classifier, by its layers."""

  def forward(ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    encoded = model.encoder(ids, mask, tf.zeros_like(ids))
    return model.classifier(encoded.pooled_output)

  return forward


def save_classifier(
  folder: str,
  model: Any,
  text_to_ids: TextToIds,
  labels: Sequence[str],
  temperature: float,
) -> None:
  """Writes a SavedModel whose `serving_default` takes strings."""
  module = TextClassifier(model, text_to_ids, labels, temperature)
  tf.saved_model.save(
    module,
    folder,
    signatures={
      "serving_default": module.classify,
      LABEL_NAMES: module.label_names,
    },
  )


class TextEncoder(tf.Module):
  """An encoder with the inputs and outputs of TF Hub's text encoders.

  Called with strings [batch], or with a dictionary of input_word_ids,
  input_mask and input_type_ids, int32 [batch, length].

  Args:
    encoder: the encoder.
    length: of what it reads.
    text_to_ids: its tokenizer; None for ids alone.
  """

  def __init__(self, encoder: Any, length: int, text_to_ids: TextToIds | None):
    super().__init__()
    self._encoder, self._text_to_ids = encoder, text_to_ids
    ids = tf.TensorSpec([None, length], tf.int32)
    self._inputs: dict[str, Any] = dict.fromkeys(ENCODER_INPUTS, ids)
    self.__call__.get_concrete_function(self._inputs)
    if text_to_ids:
      self.__call__.get_concrete_function(_TEXTS)

  @tf.function
  def __call__(self, inputs: Any) -> dict[str, Any]:
    """Returns pooled_output, sequence_output, encoder_outputs and default."""
    if not isinstance(inputs, Mapping):
      assert self._text_to_ids, "it was made without a tokenizer"
      ids, mask = self._text_to_ids(inputs)
      given = (ids, mask, tf.zeros_like(ids))
      inputs = dict(zip(ENCODER_INPUTS, given, strict=True))
    encoded = self._encoder(*(inputs[name] for name in ENCODER_INPUTS))
    return {
      "pooled_output": encoded.pooled_output,
      "sequence_output": encoded.sequence_output,
      "encoder_outputs": encoded.layer_outputs,
      "default": encoded.pooled_output,
    }

  def signatures(self) -> dict[str, Any]:
    """Signatures, whose outputs are tensors: encoder_outputs are stacked."""

    def named(inputs: Any) -> dict[str, tf.Tensor]:
      outputs = self(inputs)
      layers = tf.stack(outputs["encoder_outputs"])
      return {**outputs, "encoder_outputs": layers}

    ids = tf.function(lambda **inputs: named(inputs)).get_concrete_function(
      **{
        name: tf.TensorSpec(spec.shape, spec.dtype, name)
        for name, spec in self._inputs.items()
      }
    )
    if not self._text_to_ids:
      return {"serving_default": ids}
    texts = tf.function(named, input_signature=[_TEXTS])
    return {"serving_default": texts, "ids": ids}


_TEXTS = tf.TensorSpec([None], tf.string, name="texts")
ENCODER_INPUTS = ("input_word_ids", records.INPUT_MASK, "input_type_ids")


def save_encoder(
  folder: str, encoder: Any, length: int, text_to_ids: TextToIds | None
) -> None:
  """Writes a SavedModel of an encoder, as TF Hub has them."""
  module = TextEncoder(encoder, length, text_to_ids)
  tf.saved_model.save(module, folder, signatures=module.signatures())


def tflite(
  model: Any, pad_id: int, batch_size: int, length: int, quantized: bool
) -> bytes:
  """Converts a classifier of ids, int32 [batch_size, length], to logits.

  Built-in operations alone; what is the pad id is not read.

  Args:
    model: encoder and head.
    pad_id: fills up what is shorter than length.
    batch_size, length: fixed.
    quantized: weights of 8 bits, activations quantised as they come (dynamic
      range); otherwise all is float32.
  """
  forward = logits_of(model)
  ids = tf.TensorSpec([batch_size, length], tf.int32, name=records.INPUT_IDS)

  @tf.function(input_signature=[ids])
  def logits(pieces: tf.Tensor) -> dict[str, tf.Tensor]:
    mask = tf.cast(pieces != pad_id, tf.int32)
    return {"logits": forward(pieces, mask)}

  module = tf.Module()
  module.parts = [model.encoder, model.classifier]
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
    (self._input,) = self._interpreter.get_input_details()
    (self._output,) = self._interpreter.get_output_details()

  def logits(self, ids: np.ndarray) -> np.ndarray:
    """Returns [rows, labels] of ids, [rows, length], for any number of rows."""
    batch = self._input["shape"][0]
    found = []
    for begin in range(0, len(ids), batch):
      rows = ids[begin : begin + batch]
      filled = np.concatenate([rows, np.repeat(rows[:1], batch - len(rows), 0)])
      self._interpreter.set_tensor(self._input["index"], filled)
      self._interpreter.invoke()
      found.append(self._interpreter.get_tensor(self._output["index"]))
    return np.concatenate(found)[: len(ids)]
