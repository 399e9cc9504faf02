"""A classifier on the encoder, and texts in, label scores out.

As in the BERT and ALBERT papers: one dense layer on the pooled `[CLS]`
position; or on what else `pooling` makes of all positions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from albert_mn import (
  blend,
  configs,
  encoders,
  lean,
  model_directory,
  pooling,
  problems,
)
from data_prep import (
  alignment,
  classifier_data,
  framing,
  json_files,
  length_buckets,
  manifest,
  options,
  tokenization,
  tweets,
)

KIND = "classifier"

# The head's place in dropout's seed; the encoder's are 0 to 3 and from 16.
_HEAD = 4

Text = framing.Text


class Classifier(tf_keras.layers.Layer):
  """The encoder, dropout, and one dense layer on one vector of the text.

  Args:
    config: the encoder's shape; its hidden_dropout_prob is the head's too.
    num_labels: outputs.
    seed: of the initial weights.
    lean_step: whether lean.LeanEncoder computes it; None: where it can.
    pooled_by: one of `pooling.KINDS`, how that vector comes about.

  Attributes:
    encoder, classifier: its two parts.
    pooled_by: of the constructor.
  """

  def __init__(
    self,
    config: configs.AlbertConfig,
    num_labels: int,
    seed: int,
    lean_step: bool | None = None,
    pooled_by: str = pooling.CLS,
  ):
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
      if (is_plain_cpu() if lean_step is None else lean_step)
      else None
    )

  def call(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    dropout_seeds: tf.Tensor | None = None,
    segment_ids: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Gives logits.

    Args:
      input_ids: [batch, length] int32.
      input_mask: [batch, length] int32, 1 on pieces.
      dropout_seeds: of `encoders.example_seeds`; None drops nothing.
      segment_ids: [batch, length] int32, 1 on the second text of a pair;
        None: 0.

    Returns:
      [batch, num_labels] float32.
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
    """Returns what the head reads, [batch, hidden]."""
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
    """Returns the encoder's last layer, [batch, length, hidden]."""
    given = (input_ids, input_mask, segment_ids, dropout_seeds)
    if self._lean:
      return self._lean.sequence_output(*given)
    return self.encoder(*given).sequence_output

  def head(
    self, features: tf.Tensor, dropout_seeds: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Returns the logits of features, float32 whatever layers compute in."""
    self._dropout.set_seed(dropout_seeds)
    return tf.cast(self.classifier(self._dropout(features)), tf.float32)

  def parts(self) -> dict[str, Any]:
    """What a model directory holds, under the names `restore` asks for."""
    return {"encoder": self.encoder, "classifier": self.classifier}


def is_plain_cpu() -> bool:
  """Says whether a CPU computes in float32."""
  return tf_keras.mixed_precision.global_policy().name == "float32" and not (
    tf.config.list_physical_devices("GPU")
    or tf.config.list_physical_devices("TPU")
  )


def compiled(
  function: Callable[..., Any], signature: Sequence[tf.TensorSpec]
) -> Any:
  """Makes one graph of a function for all shapes, or one for each.

  On a CPU one trace serves all lengths: a trace takes seconds, and compiling
  gains nothing (docs/log.md). Elsewhere XLA compiles each static shape, of
  which length_buckets has a few.
  """
  if is_plain_cpu():
    return tf.function(function, input_signature=list(signature))
  return tf.function(function, jit_compile=True)


def fitted(
  batch: length_buckets.Batch,
) -> Iterator[tuple[int, length_buckets.Batch]]:
  """Cuts a batch to its lengths where `compiled` made one graph for all."""
  if is_plain_cpu():
    yield from length_buckets.fitted(batch)
  else:
    yield 0, batch


# input_ids, input_mask, segment_ids
INPUTS = tuple(tf.TensorSpec([None, None], tf.int32) for _ in range(3))


class Predictor:
  """Texts in, label scores out.

    predictor = Predictor.load("runs/tweets/model")
    predictor.probabilities(["сайн байна уу"])  # [[0.93, 0.07]]

  A text may be a pair: ("сайн байна уу", "сайн, та сайн уу"). What it tells is
  the network's answer, the TF-IDF baseline's, or that of both, as the blend of
  the model directory says.

  Args:
    model: with its weights.
    framer: of the model's tokenizer.
    problem: what the outputs mean.
    described: the manifest of the model directory.
    beside: the baseline that answers beside the network; None for none.

  Attributes:
    names: the labels, in the order of the scores.
    manifest: the model directory's.
    model, framer, problem: what it computes with.
    tokenizer, max_seq_length: the framer's.
    temperature: divides the network's logits, where it answers alone, before
      they become probabilities.
    blend: of the constructor.
  """

  KIND = KIND
  MODEL = Classifier

  def __init__(
    self,
    model: Classifier,
    framer: framing.Framer,
    problem: problems.Problem,
    described: dict[str, Any] | None = None,
    beside: blend.Blend | None = None,
  ):
    self.model, self.framer, self.problem = model, framer, problem
    self.blend = beside
    self.names = list(problem.names)
    self.manifest = described or {}
    self.tokenizer, self.max_seq_length = (
      framer.tokenizer,
      framer.max_seq_length,
    )
    parameters = self.manifest.get("parameters", {})
    self.temperature = float(parameters.get("temperature", 1.0))
    if self.temperature <= 0:
      raise options.InputError(
        "temperature in a manifest to be above 0", f"{self.temperature}",
        "copy the model again",
      )  # fmt: skip
    cleaning = parameters.get("cleaning")
    origin = "cleaning in a classifier's manifest"
    self._cleaning = (
      json_files.made(tweets.Options, cleaning, origin) if cleaning else None
    )
    self._forward = compiled(
      lambda ids, mask, segments: model.call(ids, mask, None, segments), INPUTS
    )

  @classmethod
  def load(cls, folder: str) -> "Predictor":
    """Reads a classifier's model directory; nothing else is needed."""
    described = manifest.check(folder, cls.KIND)
    names = model_directory.labels(folder)
    how = pooled_by(described["parameters"])
    model = cls.MODEL(_config(folder), len(names), seed=0, pooled_by=how)
    model_directory.restore(folder, **model.parts())
    problem = cls.read_problem(names, described["parameters"])
    beside = blend.read(folder, described["parameters"], len(names))
    framer = _framer(folder, described, model.encoder.config)
    return cls(model, framer, problem, described, beside)

  @staticmethod
  def read_problem(
    names: Sequence[str], parameters: Mapping[str, Any]
  ) -> problems.Problem:
    """Returns what the outputs of a model directory mean."""
    return problems.of_model(names, parameters)

  def logits(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
    """Returns the network's [texts, labels] float32, in the texts' order.

    Those of a text in several windows are the mean of the windows'.
    """
    framed = self.framer.frame(self.cleaned(texts))
    input_logits = np.zeros((len(framed.ids), len(self.names)), np.float32)
    for batch, scores in outputs(
      self._forward, self.framer, framed, batch_size
    ):
      input_logits[batch.rows] = scores[: len(batch.rows)]
    return framed.pooled(input_logits)

  def cleaned(self, texts: Sequence[Text]) -> Sequence[Text]:
    """Does to texts what was done to the training rows, as to tweets."""
    if not self._cleaning:
      return texts

    def clean(text: str) -> str:
      return self.traced(text).text

    return [
      clean(text) if isinstance(text, str) else (clean(text[0]), clean(text[1]))
      for text in texts
    ]

  def traced(self, text: str) -> alignment.Traced:
    """Returns a text as the model reads it, and where each letter came from."""
    marked = text.startswith(f"{tweets.MARK} ")  # twice would be too often
    if marked or not self._cleaning:
      return alignment.Traced.of(text)
    return tweets.traced(text, self._cleaning.latin_mongolian)

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    """Returns what the losses of the logits of rows compare with."""
    return self.problem.targets(rows)

  def score(
    self, logits: np.ndarray, rows: Sequence[classifier_data.Row]
  ) -> float:
    """Returns the measure that decides which weights are the best."""
    return self.problem.score(logits, self.problem.targets(rows))

  def features(self, texts: Sequence[Text]) -> np.ndarray:
    """Returns what the head reads, [texts, hidden] float32.

    The mean of a text's windows: the head is linear, so its logits are the
    mean of theirs.
    """
    framed = self.framer.frame(texts)
    return framed.pooled(self.features_of(framed))

  def features_of(
    self, framed: framing.Framed, batch_size: int = 32
  ) -> np.ndarray:
    """Returns what the head reads of each input, [inputs, hidden] float32."""
    forward = compiled(
      lambda *given: tf.cast(self.model.features(*given), tf.float32), INPUTS
    )
    width = self.model.encoder.config.hidden_size
    input_features = np.zeros((len(framed.ids), width), np.float32)
    for batch, features in outputs(forward, self.framer, framed, batch_size):
      input_features[batch.rows] = features[: len(batch.rows)]
    return input_features

  def best(self, texts: Sequence[Text], batch_size: int = 32) -> list[str]:
    """Returns the likeliest label of each text."""
    scores = self.probabilities(texts, batch_size)
    return [self.names[index] for index in scores.argmax(axis=1)]

  def answered(self, network: np.ndarray, texts: Sequence[Text]) -> np.ndarray:
    """Returns the logits of what is told, [texts, labels].

    Args:
      network: of `logits`.
      texts: the same.
    """
    if not self.blend:
      return network / self.temperature
    return self.blend.logits(network, self.cleaned(texts))

  def probabilities(
    self, texts: Sequence[Text], batch_size: int = 32
  ) -> np.ndarray:
    """Returns [texts, labels] float64.

    Of one label a text the rows sum to 1; of several labels each stands for
    itself; a regression's is the number.
    """
    if self.blend and not self.blend.factors.network:  # it need not run
      network = np.zeros((len(texts), len(self.names)), np.float32)
    else:
      network = self.logits(texts, batch_size)
    return self.problem.probabilities(self.answered(network, texts))


def _framer(
  folder: str, described: dict[str, Any], config: configs.AlbertConfig
) -> framing.Framer:
  """Returns what frames texts for the model in a model directory.

  Raises:
    options.InputError: for a length that the model cannot read, or that has no
      room for a piece.
  """
  parameters = described["parameters"]
  longest = config.max_position_embeddings
  length = parameters.get("max_seq_length", min(framing.USUAL_LENGTH, longest))
  if not 3 <= length <= longest:
    raise options.InputError(
      f"max_seq_length in a manifest to be from 3 to {longest}, the model's "
      "max_position_embeddings",
      f"{length}",
      "copy the manifest again",
    )
  tokenizer = tokenization.Tokenizer.with_settings(
    model_directory.tokenizer_file(folder),
    tokenization.Settings.of(parameters),
  )
  return framing.Framer(
    tokenizer,
    length,
    long_text(parameters),
  )


def long_text(parameters: Mapping[str, Any]) -> str:
  """Returns what a model's manifest says is read of a longer text.

  Raises:
    options.InputError: when it is none of `framing.LONG_TEXTS`.
  """
  method = str(parameters.get("long_text", framing.HEAD))
  if method not in framing.LONG_TEXTS:
    raise options.InputError(
      f"long_text in a manifest to be one of {', '.join(framing.LONG_TEXTS)}",
      repr(method),
      "use the release that wrote the model",
    )
  return method


def pooled_by(parameters: Mapping[str, Any]) -> str:
  """Returns what a model's manifest says of how texts become one vector.

  Raises:
    options.InputError: when it is none of `pooling.KINDS`.
  """
  kind = str(parameters.get("pooling", pooling.CLS))
  if kind not in pooling.KINDS:
    raise options.InputError(
      f"pooling in a manifest to be one of {', '.join(pooling.KINDS)}",
      repr(kind),
      "use the release that wrote the model",
    )
  return kind


def _config(folder: str) -> configs.AlbertConfig:
  """Returns the shape of a model directory's model.

  Raises:
    options.InputError: when the directory has no config.
  """
  config = model_directory.config(folder)
  if not config:
    raise options.InputError(
      f"albert_config.json or bert_config.json in {folder}", "neither",
      "copy the model again",
    )  # fmt: skip
  return config


def outputs(
  forward: Callable[..., tf.Tensor],
  framer: framing.Framer,
  framed: framing.Framed,
  batch_size: int,
) -> Iterator[tuple[length_buckets.Batch, np.ndarray]]:
  """Yields batches of like lengths, each with what the model gives for it.

  Args:
    forward: of input_ids, input_mask and segment_ids.
    framer: that framed the inputs.
    framed: the inputs.
    batch_size: inputs a batch; fewer where there are fewer in all.
  """
  # One text alone need not cost a whole batch; powers of two stay few shapes.
  fitting = 1 << max(len(framed.ids) - 1, 0).bit_length()
  for batch in length_buckets.batches(
    framed.ids,
    min(batch_size, fitting),
    framer.max_seq_length,
    framer.tokenizer.pad_id,
    seconds=framed.seconds,
  ):
    for _, part in fitted(batch):
      scores = forward(
        tf.constant(part.input_ids),
        tf.constant(part.input_mask),
        tf.constant(part.segment_ids),
      )
      yield part, scores.numpy()
