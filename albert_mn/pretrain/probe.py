"""The probe of pretraining: a linear classifier on the encoder's features.

The feature of a text is the mean of the last layer's vectors. Logistic
regression on these features is cross-validated on a small labelled set. The
encoder is frozen, so the accuracy measures the encoder only.
"""

import collections
import dataclasses
import hashlib
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from sklearn import linear_model, model_selection, pipeline, preprocessing

from albert_mn.models import encoders
from data_prep.base import options
from data_prep.classification import classifier_data, label_names
from data_prep.encoding import length_buckets, tokenization

FOLDS = 5
_BATCH = 32  # texts a batch
# scikit-learn's C, the inverse of the regularisation. On SIB-200 with the
# features of albert_tiny, untrained and after 100 steps, values from 0.01 to 10
# change the accuracy by less than its deviation, and 0.1 takes a third of the
# time of 1. With 0.01 the most frequent label hides small differences.
_C = 0.1


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options of the probe: a labelled set, and when to probe."""

  probe_file: str = options.option(
    "",
    "Labelled texts (.tsv or .csv). From time to time during training, "
    "logistic regression on the features of the encoder is "
    "cross-validated on these texts. By default nothing is probed.",
  )
  probe_interval: int = options.option(
    0,
    "Number of steps from one probe to the next. 0 probes whenever the "
    "held-out records are evaluated.",
    minimum=0,
  )
  probe_rows: int = options.option(
    1000,
    "Largest number of texts of --probe_file that a probe uses, but at "
    f"least {FOLDS} texts of each label.",
    minimum=FOLDS,
  )
  text_column: str = options.option(
    "text",
    "Header of the column with the texts in --probe_file.",
  )
  label_column: str = options.option(
    "label",
    "Header of the column with the labels in --probe_file.",
  )


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of a probe.

  Attributes:
    accuracy: mean over the folds.
    deviation: standard deviation over the folds.
    majority: share of the most frequent label, the accuracy without an encoder.
    rows: number of texts.
  """

  accuracy: float
  deviation: float
  majority: float
  rows: int

  def metrics(self) -> dict[str, float]:
    """Returns metric name → value of the result, for TensorBoard."""
    return {
      "probe_accuracy": self.accuracy,
      "probe_deviation": self.deviation,
      "probe_majority": self.majority,
    }

  def __str__(self) -> str:
    return (
      f"accuracy {self.accuracy:.3f} ± {self.deviation:.3f} over {FOLDS} "
      f"folds of {self.rows} texts; the commonest label's share is "
      f"{self.majority:.3f}"
    )


def rows(settings: Options) -> list[classifier_data.Row]:
  """Returns the labelled texts of --probe_file, at most --probe_rows of them.

  If five rows of every label (FOLDS) are more than --probe_rows, these are
  returned. The rows are in the order of the file.

  Raises:
    options.InputError: when a column is missing, a row has no text or label, or
      there are too few rows or labels to cross-validate.
  """
  path = settings.probe_file
  labelled_rows = classifier_data.read(
    path, settings.text_column, settings.label_column
  )
  names = classifier_data.label_names(labelled_rows)
  if len(names) < 2:
    raise options.InputError(
      f"at least two labels in {path}",
      f"only {names[0]!r}",
      "check --label_column, or give another --probe_file",
    )
  labels = [row.label for row in labelled_rows]
  rare = [name for name in names if labels.count(name) < FOLDS]
  if rare:
    raise options.InputError(
      f"at least {FOLDS} rows of every label in {path}, one for each fold",
      f"{labels.count(rare[0])} of {rare[0]!r}",
      "remove or merge the label, or give more rows",
    )
  label_names.warn_of_alike(
    classifier_data.label_counts(labelled_rows, "class")
  )
  return _chosen(labelled_rows, settings.probe_rows)


def _chosen(
  labelled_rows: Sequence[classifier_data.Row], most: int
) -> list[classifier_data.Row]:
  """Chooses rows by the hashes of their texts; returns them in the given order.

  First the five rows (FOLDS) of every label with the lowest hashes are chosen,
  even if these are more than `most`; then further rows with the lowest hashes,
  until there are `most`. If there are fewer rows than `most`, all are returned.

  Args:
    labelled_rows: the rows to choose from.
    most: the wanted number of rows.
  """

  def place(row: classifier_data.Row) -> bytes:
    return hashlib.sha256(row.text.encode()).digest()

  ordered = sorted(labelled_rows, key=place)
  taken: collections.Counter[str] = collections.Counter()
  first: list[classifier_data.Row] = []
  further: list[classifier_data.Row] = []
  for row in ordered:
    taken[row.label] += 1
    (first if taken[row.label] <= FOLDS else further).append(row)
  kept = {id(row) for row in (first + further)[: max(most, len(first))]}
  return [row for row in labelled_rows if id(row) in kept]


class Probe:
  """The labelled set of a probe, and the computation of features and accuracy.

  Args:
    labelled_rows: the labelled texts.
    tokenizer: the encoder's tokenizer.
    max_seq_length: largest number of pieces to read of a text, including
      special pieces.
    seed: seed of the folds.
    interval: steps between two probes; 0 probes whenever the run evaluates.
  """

  def __init__(
    self,
    labelled_rows: Sequence[classifier_data.Row],
    tokenizer: tokenization.Tokenizer,
    max_seq_length: int,
    seed: int,
    interval: int = 0,
  ) -> None:
    self.interval = interval
    self._labels = np.array([row.label for row in labelled_rows])
    encoded, _ = length_buckets.encode(
      tokenizer, [row.text for row in labelled_rows], max_seq_length
    )
    self._batches = list(
      length_buckets.batches(encoded, _BATCH, max_seq_length, tokenizer.pad_id)
    )
    self._frames = [tokenizer.cls_id, tokenizer.sep_id]
    self._seed = seed
    self._forward: Callable[..., tf.Tensor] | None = None

  def features(
    self, encoder: encoders.AlbertEncoder, strategy: tf.distribute.Strategy
  ) -> np.ndarray:
    """Returns the mean vector of each text, float32 [rows, hidden].

    [CLS], [SEP] and padding are not in the mean. The encoder runs without
    dropout, and no variable or random generator changes, so training continues
    as without a probe.
    """
    forward = self._forward = self._forward or tf.function(
      lambda ids, mask: strategy.run(
        mean_vectors, args=(encoder, ids, mask, self._frames)
      )
    )
    means = np.zeros((len(self._labels), encoder.config.hidden_size), "f4")
    for batch in self._batches:
      # Each device computes the whole batch, which is small; the devices'
      # weights are equal, so one result is enough.
      (vectors, *_) = strategy.experimental_local_results(
        forward(tf.constant(batch.input_ids), tf.constant(batch.input_mask))
      )
      means[batch.rows] = vectors.numpy()[: len(batch.rows)]
    return means

  def score(self, features: np.ndarray) -> Result:
    """Returns the cross-validated accuracy of a linear classifier on features.

    Args:
      features: [rows, hidden].
    """
    folds = model_selection.StratifiedKFold(
      FOLDS, shuffle=True, random_state=self._seed
    )
    model = pipeline.make_pipeline(
      preprocessing.StandardScaler(),
      linear_model.LogisticRegression(C=_C, max_iter=1000),
    )
    accuracies = model_selection.cross_val_score(
      model, features.astype("f8"), self._labels, cv=folds
    )
    _, counts = np.unique(self._labels, return_counts=True)
    return Result(
      float(accuracies.mean()),
      statistics.stdev(map(float, accuracies)),
      float(counts.max() / counts.sum()),
      len(self._labels),
    )


def mean_vectors(
  encoder: encoders.AlbertEncoder,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  frames: Sequence[int],
) -> tf.Tensor:
  """Returns the mean of the last layer's vectors over the pieces of each text.

  Args:
    encoder: the encoder.
    input_ids, input_mask: int32 [batch, length].
    frames: ids to leave out of the mean, such as those of [CLS] and [SEP].

  Returns:
    float32 [batch, hidden]; zeros for a text without pieces.
  """
  outputs = encoder(input_ids, input_mask, tf.zeros_like(input_ids))
  vectors = tf.cast(outputs.sequence_output, tf.float32)
  own = tf.cast(input_mask, tf.float32)  # [batch, length]
  for frame in frames:
    own *= tf.cast(input_ids != frame, tf.float32)
  total = tf.reduce_sum(vectors * own[:, :, None], 1)  # [batch, hidden]
  return tf.math.divide_no_nan(total, tf.reduce_sum(own, 1, keepdims=True))
