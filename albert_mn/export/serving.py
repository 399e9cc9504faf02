"""SavedModels that take strings and run without this project.

Loading them needs only TensorFlow and tensorflow-text.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from albert_mn.export import text_graph
from albert_mn.models import pooling
from albert_mn.tasks import ensembles, problems
from data_prep.files import records

LABEL_NAMES = "label_names"  # a SavedModel's second signature


class TextClassifier(tf.Module):
  """A classifier of strings, for a SavedModel.

  Args:
    parts: encoder and classifier, of each network of an ensemble; the logits of
      a classifier are already scaled as `Problem.affine` says.
    text_to_ids: the tokenizer as a graph.
    problem: the meaning of the outputs.
    pooled_by: the kind of pooling, one of `pooling.KINDS`.
  """

  def __init__(
    self,
    parts: Mapping[str, Any],
    text_to_ids: text_graph.TextToIds,
    problem: problems.Problem,
    pooled_by: str,
  ) -> None:
    super().__init__()
    self._parts = list(parts.values())
    self._forward = logits_of(parts, pooled_by)
    self._text_to_ids, self._problem = text_to_ids, problem

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
  def classify(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns `Problem.answers` for texts [batch]: output name → [batch, …].

    The names are labels, probabilities and logits; for a regression, values.
    """
    return self._answers(self._text_to_ids.inputs(texts))

  def _answers(self, inputs: text_graph.Inputs) -> dict[str, tf.Tensor]:
    logits = self._forward(inputs.ids, inputs.mask, inputs.segments)
    if inputs.owners is not None:
      logits = tf.math.segment_mean(logits, inputs.owners)
    return self._problem.answers(logits)

  @tf.function(input_signature=[])
  def label_names(self) -> dict[str, tf.Tensor]:
    """Returns "label_names" → the labels in the order of the outputs."""
    return {LABEL_NAMES: tf.constant(self._problem.names)}


class PairClassifier(TextClassifier):
  """A classifier of pairs of strings, for a SavedModel."""

  @tf.function(
    input_signature=[
      tf.TensorSpec([None], tf.string, name=name)
      for name in ("texts", "text_pairs")
    ]
  )
  def classify(
    self, texts: tf.Tensor, text_pairs: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Returns `Problem.answers` for pairs of texts: output name → [batch, …].

    Args:
      texts, text_pairs: the first and the second texts, [batch] each.
    """
    return self._answers(self._text_to_ids.pairs(texts, text_pairs))


def logits_of(
  parts: Mapping[str, Any], pooled_by: str = pooling.CLS
) -> Callable[..., tf.Tensor]:
  """Returns a function from (ids, mask, segments) to a classifier's logits.

  The inputs are int32 [batch, length], the logits [batch, outputs]. For an
  ensemble they are the mean over its networks.

  Args:
    parts: encoder and classifier, of each network of an ensemble.
    pooled_by: the kind of pooling, one of `pooling.KINDS`.
  """

  def forward(
    ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor
  ) -> tf.Tensor:
    logits = []
    for network in ensembles.divided(parts):
      encoder = network["encoder"]
      hidden = encoder(ids, mask, segments).sequence_output
      vector = pooling.vector(pooled_by, hidden, mask, encoder.pooler)
      logits.append(network["classifier"](vector))
    return ensembles.mean(logits)

  return forward


def save_classifier(
  folder: str,
  parts: Mapping[str, Any],
  text_to_ids: text_graph.TextToIds,
  problem: problems.Problem,
  pairs: bool,
  pooled_by: str = pooling.CLS,
) -> None:
  """Writes a SavedModel whose `serving_default` takes strings or pairs.

  Args:
    folder: the folder to write.
    parts: encoder and classifier, of each network of an ensemble; the logits of
      a classifier are already scaled as `Problem.affine` says.
    text_to_ids: the tokenizer as a graph.
    problem: the meaning of the outputs.
    pairs: whether the signature takes pairs of strings.
    pooled_by: the kind of pooling, one of `pooling.KINDS`.
  """
  kind = PairClassifier if pairs else TextClassifier
  module = kind(parts, text_to_ids, problem, pooled_by)
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

  The encoder is called with strings [batch], or with a dictionary of
  input_word_ids, input_mask and input_type_ids, int32 [batch, length].

  Args:
    encoder: the encoder.
    length: number of ids of an input.
    text_to_ids: the tokenizer as a graph; None accepts ids only.
  """

  def __init__(
    self, encoder: Any, length: int, text_to_ids: text_graph.TextToIds | None
  ) -> None:
    super().__init__()
    self._encoder, self._text_to_ids = encoder, text_to_ids
    ids = tf.TensorSpec([None, length], tf.int32)
    self._inputs: dict[str, Any] = dict.fromkeys(ENCODER_INPUTS, ids)
    self.__call__.get_concrete_function(self._inputs)
    if text_to_ids:
      self.__call__.get_concrete_function(_TEXTS)

  @tf.function
  def __call__(self, inputs: Any) -> dict[str, Any]:
    """Returns pooled_output, sequence_output, encoder_outputs and default.

    pooled_output is [batch, hidden_size], and so is `default`, which equals it.
    sequence_output is [batch, length, hidden_size]; encoder_outputs is a list
    of such outputs, one for each layer.

    Args:
      inputs: strings [batch], or name → int32 [batch, length].
    """
    if not isinstance(inputs, Mapping):
      assert self._text_to_ids, "it was made without a tokenizer"
      framed = self._text_to_ids.inputs(inputs)
      given = (framed.ids, framed.mask, framed.segments)
      inputs = dict(zip(ENCODER_INPUTS, given, strict=True))
    encoded = self._encoder(*(inputs[name] for name in ENCODER_INPUTS))
    return {
      "pooled_output": encoded.pooled_output,
      "sequence_output": encoded.sequence_output,
      "encoder_outputs": encoded.layer_outputs,
      "default": encoded.pooled_output,
    }

  def signatures(self) -> dict[str, Any]:
    """Returns the signatures of the SavedModel by name.

    `serving_default` takes strings, and `ids` takes ids; without a tokenizer
    `serving_default` takes ids. The outputs of a signature must be tensors, so
    encoder_outputs are stacked.
    """

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
  folder: str,
  encoder: Any,
  length: int,
  text_to_ids: text_graph.TextToIds | None,
) -> None:
  """Writes a SavedModel of an encoder, with TF Hub's inputs and outputs.

  Args:
    folder: the folder to write.
    encoder: the encoder layer.
    length: number of ids of an input.
    text_to_ids: the tokenizer as a graph; None accepts ids only.
  """
  module = TextEncoder(encoder, length, text_to_ids)
  tf.saved_model.save(module, folder, signatures=module.signatures())
