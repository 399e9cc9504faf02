"""The classifier model, and the predictor that turns texts into label scores.

The head is one dense layer on the pooled `[CLS]` position, as in the BERT and
ALBERT papers, or on another pooling of all positions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf
import tf_keras

from albert_mn.models import (
  configs,
  encoders,
  lean,
  model_directory,
  number_format,
  pooling,
)
from albert_mn.tasks import blend, ensembles, problems, text_cleaning
from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.encoding import framing, length_buckets, tokenization
from data_prep.files import manifest_fields
from data_prep.text import alignment

KIND = "classifier"

# The head's dropout site; the encoder uses 0 to 3 and numbers from 16.
_HEAD = 4

Text = framing.Text


class Classifier(tf_keras.layers.Layer):
  """The encoder, dropout, and one dense layer on the pooled vector of a text.

  Args:
    config: the encoder's shape; its hidden_dropout_prob is also the head's.
    num_labels: number of outputs.
    seed: seed of the initial weights.
    lean_step: whether lean.LeanEncoder computes the encoder; None means yes on
      a CPU in float32, otherwise no.
    pooled_by: how the vectors of all positions become one vector: a value of
      `pooling.KINDS`.

  Attributes:
    encoder: the encoder layer.
    classifier: the dense layer.
    pooled_by: the argument of the constructor.
  """

  def __init__(
    self,
    config: configs.AlbertConfig,
    num_labels: int,
    seed: int,
    lean_step: bool | None = None,
    pooled_by: str = pooling.CLS,
  ) -> None:
    super().__init__(name="classifier_model")
    self.encoder = encoders.AlbertEncoder(config, seed)
    self.pooled_by = pooled_by
    self.classifier = tf_keras.layers.Dense(
      num_labels,
      # google-research/albert's run_classifier: truncated normal of 0.02.
      kernel_initializer=tf_keras.initializers.TruncatedNormal(
        stddev=0.02, seed=seed
      ),
      name="classifier",
    )
    self.classifier.build([None, config.hidden_size])
    self._dropout = encoders.StatelessDropout(config.hidden_dropout_prob, _HEAD)
    self._lean = (
      lean.LeanEncoder(self.encoder, jit_compile=False)
      if (number_format.is_plain_cpu() if lean_step is None else lean_step)
      else None
    )

  def call(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    dropout_seeds: tf.Tensor | None = None,
    segment_ids: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Returns the logits, float32 [batch, num_labels].

    Args:
      input_ids: int32 [batch, length].
      input_mask: int32 [batch, length], 1 on pieces, 0 on padding.
      dropout_seeds: result of `encoders.example_seeds`; None turns dropout off.
      segment_ids: int32 [batch, length], 1 on the second text of a pair; None
        means 0 everywhere.
    """
    if segment_ids is None:
      segment_ids = tf.zeros_like(input_ids)
    features = self.features(input_ids, input_mask, segment_ids, dropout_seeds)
    return self.head(features, dropout_seeds)

  def features(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
    dropout_seeds: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Returns the pooled vectors that the head reads, [batch, hidden].

    Args:
      input_ids: int32 [batch, length].
      input_mask: int32 [batch, length], 1 on pieces, 0 on padding.
      segment_ids: int32 [batch, length], 1 on the second text of a pair.
      dropout_seeds: result of `encoders.example_seeds`; None turns dropout off.
    """
    hidden = self.hidden(input_ids, input_mask, segment_ids, dropout_seeds)
    return pooling.vector(
      self.pooled_by, hidden, input_mask, self.encoder.pooler
    )

  def hidden(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
    dropout_seeds: tf.Tensor | None,
  ) -> tf.Tensor:
    """Returns the output of the encoder's last layer, [batch, length, hidden].

    Args:
      input_ids: int32 [batch, length].
      input_mask: int32 [batch, length], 1 on pieces, 0 on padding.
      segment_ids: int32 [batch, length], 1 on the second text of a pair.
      dropout_seeds: result of `encoders.example_seeds`; None turns dropout off.
    """
    given = (input_ids, input_mask, segment_ids, dropout_seeds)
    if self._lean:
      return self._lean.sequence_output(*given)
    return self.encoder(*given).sequence_output

  def head(
    self, features: tf.Tensor, dropout_seeds: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Returns the logits for pooled vectors, float32 [batch, num_labels].

    Args:
      features: [batch, hidden], the result of `features`.
      dropout_seeds: result of `encoders.example_seeds`; None turns dropout off.
    """
    self._dropout.set_seed(dropout_seeds)
    return tf.cast(self.classifier(self._dropout(features)), tf.float32)

  def parts(self) -> dict[str, Any]:
    """Returns {"encoder": layer, "classifier": layer}.

    `model_directory` saves and restores the layers under these names.
    """
    return {"encoder": self.encoder, "classifier": self.classifier}


def compiled(
  function: Callable[..., Any], signature: Sequence[tf.TensorSpec]
) -> Any:
  """Returns a function compiled by TensorFlow, for batches of any shape.

  On a CPU the function is traced once for all shapes, because a trace takes
  seconds and XLA gains nothing (docs/log.md). On other devices it is traced for
  each shape, and XLA compiles it; length_buckets makes few shapes.

  Args:
    function: the function of tensors.
    signature: the tensors that `function` takes, with any number of rows and
      positions.
  """
  if number_format.is_plain_cpu():
    return tf.function(function, input_signature=list(signature))
  return tf.function(function, jit_compile=True)


def fitted(
  batch: length_buckets.Batch,
) -> Iterator[tuple[int, length_buckets.Batch]]:
  """Divides a batch into parts without needless padding, on a CPU in float32.

  On other devices the batch stays whole, because each new shape would be
  compiled there.

  Args:
    batch: the batch.

  Yields:
    (index of the part's first row in the batch, part), in order.
  """
  if number_format.is_plain_cpu():
    yield from length_buckets.fitted(batch)
  else:
    yield 0, batch


# input_ids, input_mask, segment_ids
INPUTS = tuple(tf.TensorSpec([None, None], tf.int32) for _ in range(3))


class Predictor:
  """Computes label scores of texts with a classifier's model directory.

    predictor = Predictor.load("runs/tweets/model")
    predictor.probabilities(["сайн байна уу"])  # [[0.93, 0.07]]

  A text may be a pair: ("сайн байна уу", "сайн, та сайн уу"). The blend in the
  model directory decides whether the network answers, the TF-IDF baseline, or
  both combined.

  Args:
    model: the network with its weights, or an ensemble of networks.
    framer: makes inputs from texts with the model's tokenizer.
    problem: the meaning of the outputs.
    described: the content of the model directory's manifest; None means {}.
    tfidf_blend: the blend with the baseline; None if the network answers alone.

  Attributes:
    names: the labels, in the order of the scores.
    manifest: the manifest of the model directory.
    model, framer, problem: the arguments of the constructor.
    tokenizer, max_seq_length: the framer's tokenizer and largest number of
      pieces of an input.
    temperature: divides the network's logits before softmax or sigmoid, if
      there is no blend.
    blend: the argument `tfidf_blend`.

  Raises:
    options.InputError: when the manifest's temperature is not from 0.001 to
      1000, or its cleaning is damaged.
  """

  KIND = KIND
  MODEL = Classifier

  def __init__(
    self,
    model: "Classifier | ensembles.Ensemble",
    framer: framing.Framer,
    problem: problems.Problem,
    described: dict[str, Any] | None = None,
    tfidf_blend: blend.Blend | None = None,
  ) -> None:
    self.model, self.framer, self.problem = model, framer, problem
    self.blend = tfidf_blend
    self.names = list(problem.names)
    self.manifest = described or {}
    self.tokenizer, self.max_seq_length = (
      framer.tokenizer,
      framer.max_seq_length,
    )
    parameters = self.manifest.get("parameters", {})
    stated = manifest_fields.Parameters.of(parameters).temperature
    self.temperature = 1.0 if stated is None else float(stated)
    # Logits divided by 1e-320 are infinite, and their softmax is NaN.
    if not 1e-3 <= self.temperature <= 1e3:
      raise options.InputError(
        "temperature in a manifest from 0.001 to 1000",
        f"{self.temperature}",
        "copy the model again",
      )
    self._clean = text_cleaning.of_model(parameters)
    self._forward = compiled(
      lambda ids, mask, segments: model.call(ids, mask, None, segments), INPUTS
    )

  @classmethod
  def load(cls, folder: str) -> Self:
    """Returns the predictor of a classifier's model directory.

    Raises:
      options.InputError: when the directory is damaged or holds another kind of
        model.
    """
    directory = model_directory.opened(folder, cls.KIND)
    names, parameters = directory.labels, directory.parameters
    how = pooled_by(parameters)
    networks = ensembles.size(parameters)
    model_directory.require_fit(
      folder, directory.config, encoders=ensembles.names(networks)
    )
    members = [
      cls.MODEL(directory.config, len(names), seed=0, pooled_by=how)
      for _ in range(networks)
    ]
    model = members[0] if len(members) == 1 else ensembles.Ensemble(members)
    model_directory.restore(folder, model.parts())
    problem = cls.read_problem(names, parameters)
    tfidf_blend = blend.read(folder, parameters, len(names))
    return cls(
      model, _framer(directory), problem, directory.described, tfidf_blend
    )

  @staticmethod
  def read_problem(
    names: Sequence[str], parameters: Mapping[str, Any]
  ) -> problems.Problem:
    """Returns the problem, which defines the meaning of a model's outputs.

    Args:
      names: the labels of the model directory.
      parameters: the parameters in its manifest.

    Raises:
      options.InputError: when the parameters are damaged.
    """
    return problems.of_model(names, parameters)

  def logits(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
    """Returns the network's logits of texts, float32 [texts, labels].

    The texts are cleaned first, as the training rows were. The logits of a text
    in several windows are the mean over its windows.

    Args:
      texts: texts or pairs.
      batch_size: inputs a batch, at most.
    """
    framed = self.framer.frame(self.cleaned(texts))
    input_logits = np.zeros((len(framed.ids), len(self.names)), np.float32)
    for batch, scores in outputs(
      self._forward, self.framer, framed, batch_size
    ):
      input_logits[batch.rows] = scores[: len(batch.rows)]
    return framed.pooled(input_logits)

  def cleaned(self, texts: Sequence[Text]) -> Sequence[Text]:
    """Returns texts or pairs, cleaned as the training rows were.

    If the training rows were not cleaned, the texts are unchanged.
    """
    if not self._clean:
      return texts

    def clean(text: str) -> str:
      return self.traced(text).text

    return [
      clean(text) if isinstance(text, str) else (clean(text[0]), clean(text[1]))
      for text in texts
    ]

  def traced(self, text: str) -> alignment.Traced:
    """Returns a text, cleaned, with the origin of each character.

    The origin is a position in the given text. If the training rows were not
    cleaned, the text is unchanged.
    """
    return (self._clean or alignment.Traced.of)(text)

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    """Returns the targets of rows for the loss, [rows] or [rows, labels].

    The targets are label numbers; for several labels per row, 0 or 1 for each
    label; for a regression, standardised numbers.

    Raises:
      options.InputError: for a row with a label that was not trained.
    """
    return self.problem.targets(rows)

  def score(
    self, logits: np.ndarray, rows: Sequence[classifier_data.Row]
  ) -> float:
    """Returns the score by which a training chooses weights; higher is better.

    The score is the accuracy for one label per row, micro F1 for several
    labels, and R² for a regression.

    Args:
      logits: the result of `logits` for the texts of the rows.
      rows: the rows with their labels.
    """
    return self.problem.score(logits, self.problem.targets(rows))

  def features(self, texts: Sequence[Text]) -> np.ndarray:
    """Returns the pooled vector of each text, float32 [texts, hidden].

    The method does not clean the texts, and takes no ensemble. The vector
    of a text in several windows is the mean over its windows. Because the head
    is linear, its logits for this mean are the mean of the windows' logits.
    """
    framed = self.framer.frame(texts)
    return framed.pooled(self.features_of(framed))

  def features_of(
    self, framed: framing.Framed, batch_size: int = 32
  ) -> np.ndarray:
    """Returns the pooled vector of each framed input, float32 [inputs, hidden].

    Args:
      framed: the inputs; a text may have several.
      batch_size: inputs a batch, at most.

    Raises:
      AssertionError: for an ensemble, which has no single vector.
    """
    model = self.model
    assert isinstance(model, Classifier), "an ensemble has no single vector"
    forward = compiled(
      lambda *given: tf.cast(model.features(*given), tf.float32), INPUTS
    )
    width = self.model.encoder.config.hidden_size
    input_features = np.zeros((len(framed.ids), width), np.float32)
    for batch, features in outputs(forward, self.framer, framed, batch_size):
      input_features[batch.rows] = features[: len(batch.rows)]
    return input_features

  def best(self, texts: Sequence[Text], batch_size: int = 32) -> list[str]:
    """Returns the most probable label of each text.

    For several labels per text, too, one label is returned.

    Args:
      texts: texts or pairs, not cleaned.
      batch_size: inputs per batch, at most.
    """
    scores = self.probabilities(texts, batch_size)
    return [self.names[index] for index in scores.argmax(axis=1)]

  def answered(self, network: np.ndarray, texts: Sequence[Text]) -> np.ndarray:
    """Returns the logits of the answer, [texts, labels].

    The logits of the answer are the blend's logits; without a blend they are
    the network's logits divided by the temperature.

    Args:
      network: the result of `logits`.
      texts: the same texts, not cleaned.
    """
    if not self.blend:
      return network / self.temperature
    return self.blend.logits(network, self.cleaned(texts))

  def probabilities(
    self, texts: Sequence[Text], batch_size: int = 32
  ) -> np.ndarray:
    """Returns the probabilities, float64 [texts, labels].

    With one label per text, each row sums to 1. With several labels per text,
    each label has a probability of its own. For a regression the values are the
    predicted numbers.

    Args:
      texts: texts or pairs, not cleaned.
      batch_size: inputs a batch, at most.
    """
    if self.blend and not self.blend.factors.network:  # not needed
      network = np.zeros((len(texts), len(self.names)), np.float32)
    else:
      network = self.logits(texts, batch_size)
    return self.problem.probabilities(self.answered(network, texts))


def _framer(directory: model_directory.ModelDirectory) -> framing.Framer:
  """Returns the framer, which makes inputs from texts, of a model directory.

  Without max_seq_length in the manifest, inputs have 128 pieces, or the model's
  max_position_embeddings if that is less.

  Raises:
    options.InputError: for a max_seq_length below 3 or above the model's
      max_position_embeddings.
  """
  parameters = directory.parameters
  longest = directory.config.max_position_embeddings
  length = directory.fields.max_seq_length
  if length is None:
    length = min(framing.USUAL_LENGTH, longest)
  if not 3 <= length <= longest:
    raise options.InputError(
      f"max_seq_length in a manifest to be from 3 to {longest}, the model's "
      "max_position_embeddings",
      f"{length}",
      "copy the manifest again",
    )
  tokenizer = tokenization.Tokenizer.with_settings(
    directory.tokenizer_file, tokenization.Settings.of(parameters)
  )
  return framing.Framer(
    tokenizer,
    length,
    long_text(parameters),
  )


def long_text(parameters: Mapping[str, Any]) -> str:
  """Returns how a model reads a text longer than max_seq_length.

  The result is the manifest's long_text, or `framing.HEAD` if the manifest
  states none.

  Raises:
    options.InputError: when the value is not one of `framing.LONG_TEXTS`.
  """
  return _choice(parameters, "long_text", framing.LONG_TEXTS, framing.HEAD)


def pooled_by(parameters: Mapping[str, Any]) -> str:
  """Returns the kind of pooling that a manifest states; CLS if it states none.

  Raises:
    options.InputError: when the value is not one of `pooling.KINDS`.
  """
  return _choice(parameters, "pooling", pooling.KINDS, pooling.CLS)


def _choice(
  parameters: Mapping[str, Any], name: str, choices: Sequence[str], default: str
) -> str:
  """Returns the value of a manifest's parameter that has a fixed set of values.

  Args:
    parameters: the parameters in the manifest.
    name: the name of the parameter.
    choices: the allowed values.
    default: the result if the parameter is missing.

  Raises:
    options.InputError: when the value is not one of `choices`.
  """
  stated = getattr(manifest_fields.Parameters.of(parameters), name)
  value = default if stated is None else stated
  if value not in choices:
    raise options.InputError(
      f"{name} in a manifest to be one of {', '.join(choices)}",
      repr(value),
      "use the release that wrote the model",
    )
  return str(value)


def outputs(
  forward: Callable[..., tf.Tensor],
  framer: framing.Framer,
  framed: framing.Framed,
  batch_size: int,
) -> Iterator[tuple[length_buckets.Batch, np.ndarray]]:
  """Computes a model's outputs for inputs, in batches of similar lengths.

  Args:
    forward: computes outputs from input_ids, input_mask and segment_ids.
    framer: the framer that made the inputs.
    framed: the inputs.
    batch_size: inputs per batch, at most. With fewer inputs, it is their number
      rounded up to a power of two.

  Yields:
    (batch, output of the model). `batch.rows` are the indices of the batch's
      inputs in `framed`. The output may have more rows than `batch.rows`, for
      padding.
  """
  # A single text does not need a whole batch; powers of two keep the shapes
  # few.
  fitting = 1 << max(len(framed.ids) - 1, 0).bit_length()
  for batch in length_buckets.batches(
    framed.ids,
    min(batch_size, fitting),
    framer.max_seq_length,
    framer.tokenizer.pad_id,
    second_starts=framed.second_starts,
  ):
    for _, part in fitted(batch):
      scores = forward(
        tf.constant(part.input_ids),
        tf.constant(part.input_mask),
        tf.constant(part.segment_ids),
      )
      yield part, scores.numpy()
