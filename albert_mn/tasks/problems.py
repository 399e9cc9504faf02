"""Kinds of prediction: one label per text, several labels, or a number.

A problem defines the meaning of the model's outputs: the targets and the loss,
the score, and the probabilities or numbers that people see.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data_prep.base import options
from data_prep.classification import classifier_data, label_names
from data_prep.encoding import framing
from data_prep.files import json_files, manifest_fields

CLASS, MULTI_LABEL, REGRESSION = "class", "multi_label", "regression"
ENTITIES = "entities"  # the tags of pieces, by tagging.Tagging


@dataclasses.dataclass(frozen=True)
class Examples:
  """Training rows as arrays: inputs for the model, targets and weights.

  Attributes:
    encoded: the piece ids of each input, with [CLS] and [SEP]; several inputs
      may be windows of one row.
    second_starts: int32 [inputs], the position where the second text of a pair
      starts.
    targets: [inputs, …], as `problems.Problem.targets` returns them; for
      tagging.Tagging an object array of int32 arrays, one tag for each id.
    weights: float32 [inputs], the weight of each input in the loss.
    pad_id: the id of the padding piece.
  """

  encoded: list[np.ndarray]
  second_starts: np.ndarray
  targets: np.ndarray
  weights: np.ndarray
  pad_id: int


def text_of(row: classifier_data.Row) -> framing.Text:
  """Returns a row's text, or (text, second text) if it is a pair of texts."""
  return (row.text, row.text_pair) if row.text_pair else row.text


@dataclasses.dataclass(frozen=True)
class Problem:
  """A kind of prediction; subclasses define targets, loss, score and answers.

  In this class the outputs of the model are called logits, also for a
  regression. If a method has no meaning for a kind of prediction, it raises
  NotImplementedError.

  Attributes:
    names: the names of the outputs, in their order: the labels, or "value".
  """

  names: tuple[str, ...]

  TYPE = ""
  DTYPE, RANK = "float32", 1  # type and rank of the targets
  SCORE = ""  # name of the measure that `score` returns
  RIGHT = ""  # name of the measure that `right` returns
  UNIT = "rows"  # what `losses` returns a loss for

  @classmethod
  def of(cls, rows: Sequence[classifier_data.Row]) -> "Problem":
    """Makes the problem whose labels or numbers are those of training rows.

    Labels are sorted by name.

    Raises:
      options.InputError: for one label per row, when fewer than two labels
        occur; for several labels per row, when none occurs; for a regression,
        when all numbers are equal.
    """
    raise NotImplementedError

  def parameters(self) -> dict[str, Any]:
    """Returns the problem as parameters for a model's manifest.

    The parameters are the label type and, for a regression, mean and deviation,
    but not the names. `of_model` reads them back.
    """
    return manifest_fields.Parameters(label_type=self.TYPE).stated()

  def check(self, rows: Sequence[classifier_data.Row]) -> None:
    """Raises InputError for the first row with a label that was not trained.

    Such a label does not occur in the training rows of the model.
    """
    self.targets(rows)

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    """Returns the targets of rows, for `losses`.

    The targets are int32 [rows], indices in `names`; for several labels per
    row, float32 [rows, labels] of 0 and 1; for a regression, float32 [rows],
    (number - mean) / deviation.

    Raises:
      options.InputError: for a row with a label that is not in `names`.
    """
    raise NotImplementedError

  def examples(
    self, framer: framing.Framer, rows: Sequence[classifier_data.Row]
  ) -> tuple[framing.Framed, Examples]:
    """Returns (framed inputs of training rows, inputs as Examples).

    The inputs of one row that is cut into windows share its weight, 1.

    Args:
      framer: cuts and encodes the texts.
      rows: the training rows.
    """
    framed = framer.frame([text_of(row) for row in rows])
    return framed, Examples(
      framed.ids,
      framed.second_starts,
      self.targets(rows)[framed.owners],
      framed.shares(),
      framer.tokenizer.pad_id,
    )

  def filled(
    self, targets: np.ndarray, rows: np.ndarray, shape: tuple[int, ...]
  ) -> np.ndarray:
    """Returns the targets of the inputs in one batch.

    For a tagger (tagging.Tagging) the tags of each input are padded with -1 to
    the length of the batch.

    Args:
      targets: the targets of all inputs.
      rows: the indices of the batch's inputs.
      shape: the shape of the batch's ids, [rows, length].
    """
    del shape  # only tagging.Tagging needs it
    return targets[rows]

  def losses(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the loss of each row, [rows].

    Args:
      logits: [rows, outputs].
      targets: the targets of the same rows, as `targets` returns them.

    Returns:
      the cross-entropy in nats; for several labels per row, the mean of the
        labels' cross-entropies; for a regression, the squared error of the
        standardised number.
    """
    raise NotImplementedError

  def mean_loss(
    self,
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
  ) -> float:
    """Returns the mean of `losses` over all rows, computed in float64.

    The result is 0.0 without rows. The rows are computed in blocks, so that
    memory does not grow with their number.

    Args:
      logits: [rows, outputs].
      targets: [rows, …].
      weights: [rows] with a mean of 1; None gives every row the weight 1.
    """
    total, step = 0.0, rows_at_once(len(self.names))
    for first in range(0, len(logits), step):
      block = targets[first : first + step]
      if block.dtype.kind == "f":
        block = block.astype(np.float64)
      losses = self.losses(
        tf.constant(logits[first : first + step], tf.float64),
        tf.constant(block),
      )
      if weights is not None:
        losses *= tf.constant(weights[first : first + step], losses.dtype)
      total += float(tf.reduce_sum(losses))
    return total / max(1, len(logits))

  def probabilities(self, logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities that logits mean, float64 [rows, outputs].

    For a regression the values are the predicted numbers.
    """
    raise NotImplementedError

  def affine(self, temperature: float) -> tuple[float, float]:
    """Returns (factor, shift) of exports, which output logits · factor + shift.

    The two numbers are 1 / temperature and 0; for a regression, deviation and
    mean.

    The exporters fold both numbers into the weights of the head. Softmax or
    sigmoid of an exported model's outputs then gives the `probabilities`, and
    the outputs of a regression are the predicted numbers. So a program that
    reads an export does not need the manifest.

    Args:
      temperature: the number by which calibration divides the logits.
    """
    return 1 / temperature, 0.0

  def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the outputs of an exported model: name → tensor [rows, …].

    The names are labels, probabilities and logits, or values for a regression.

    Args:
      logits: [rows, outputs], logits after `affine`.
    """
    raise NotImplementedError

  def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> str:
    """Returns a sentence on how closely the outputs of two models agree.

    Args:
      outputs: [rows, outputs], logits of the first model after `affine`.
      expected: [rows, outputs], logits of the original model for the same
        texts.
    """
    same = self.equal_answers(outputs, expected)
    differences = self.probabilities(outputs) - self.probabilities(expected)
    return (
      f"labels: {int(same.sum())} of {same.size} as the original's; "
      f"probabilities: {np.abs(differences).max():.3f} apart at most"
    )

  def equal_answers(
    self, outputs: np.ndarray, expected: np.ndarray
  ) -> np.ndarray:
    """Returns whether two models give the same answers, bool [rows].

    For several labels per row the result is bool [rows, labels]. For a
    regression, answers are the same if the numbers differ by at most a tenth of
    the standard deviation of the training rows' numbers.

    Args:
      outputs: [rows, outputs], logits of the first model after `affine`.
      expected: [rows, outputs], logits of the second model for the same texts.
    """
    raise NotImplementedError

  def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns the score of logits by the measure that SCORE names.

    A higher score is better. A training keeps the weights with the highest
    score on validation rows.

    Args:
      logits: [rows, outputs].
      targets: [rows, …], as `targets` returns them.
    """
    raise NotImplementedError

  def mean_recall(self, logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean over labels of the recall.

    The recall of a label is the share of its rows that are predicted correctly.
    The mean is over the labels that occur in `targets`.

    Args:
      logits: [rows, outputs].
      targets: [rows], label numbers.

    Raises:
      NotImplementedError: for a problem that has not one label per row.
    """
    raise NotImplementedError

  def weights(self, targets: np.ndarray) -> np.ndarray:
    """Returns weights of rows by which each label has the same total weight.

    The weights are float32 [rows] with a mean of 1. Labels that do not occur in
    `targets` do not count.

    Args:
      targets: [rows], label numbers.

    Raises:
      options.InputError: for a problem whose rows do not have exactly one
        class.
    """
    del targets  # only SingleLabel needs them
    raise options.InputError(
      "--class_weights=none", "balanced", f"leave it out for {self.TYPE}"
    )

  def entropy(
    self, targets: np.ndarray, weights: np.ndarray | None = None
  ) -> float:
    """Returns the lowest mean loss of any model that ignores the text.

    This loss is the entropy of the labels, in nats; for several labels per row,
    the mean of the labels' entropies; for a regression, the variance of the
    targets.

    Args:
      targets: [rows, …].
      weights: [rows] with a mean of 1; None gives every row the weight 1.
    """
    raise NotImplementedError

  def right(
    self,
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
  ) -> tuple[float, float]:
    """Returns the share of correct answers, and that of a constant answer.

    The constant answer is the best answer that is the same for all texts. With
    several labels per row, each label of each row is an answer. For a
    regression both numbers are values of R²; the second is 0.

    Args:
      logits: [rows, outputs].
      targets: [rows, …].
      weights: [rows] with a mean of 1; None gives every row the weight 1.
    """
    raise NotImplementedError

  def is_constant(self, logits: np.ndarray) -> bool:
    """Returns whether all rows get the same answer, as after a failed training.

    For a regression the result is whether the logits' standard deviation is
    below 0.05.
    """
    raise NotImplementedError


class SingleLabel(Problem):
  """Exactly one label per row: softmax, as in the BERT paper."""

  TYPE, DTYPE, SCORE, RIGHT = CLASS, "int32", "accuracy", "accuracy"

  @classmethod
  def of(cls, rows: Sequence[classifier_data.Row]) -> "SingleLabel":
    classifier_data.check_several_labels(rows)
    return cls(tuple(classifier_data.label_names(rows)))

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    number = {name: index for index, name in enumerate(self.names)}
    for row in rows:
      if row.label not in number:
        raise untrained(self.names, row.label, row.line)
    return np.array([number[row.label] for row in rows], np.int32)

  def losses(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)

  def probabilities(self, logits: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(logits))

  def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns labels [rows], probabilities and logits [rows, outputs].

    `labels` has the name of the most probable label.
    """
    best = tf.gather(tf.constant(self.names), tf.argmax(logits, axis=-1))
    shares = tf.nn.softmax(logits)
    return {"labels": best, "probabilities": shares, "logits": logits}

  def equal_answers(
    self, outputs: np.ndarray, expected: np.ndarray
  ) -> np.ndarray:
    return outputs.argmax(axis=1) == expected.argmax(axis=1)

  def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == targets).mean())

  def mean_recall(self, logits: np.ndarray, targets: np.ndarray) -> float:
    right = logits.argmax(axis=1) == targets
    return float(np.average(right, weights=self.weights(targets)))

  def weights(self, targets: np.ndarray) -> np.ndarray:
    # scikit-learn's "balanced": rows / (labels · rows of the label).
    counts = np.bincount(targets, minlength=len(self.names))
    present = np.count_nonzero(counts)
    return (len(targets) / (present * counts[targets])).astype(np.float32)

  def entropy(
    self, targets: np.ndarray, weights: np.ndarray | None = None
  ) -> float:
    shares = np.bincount(targets, weights) / len(targets)
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())

  def right(
    self,
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
  ) -> tuple[float, float]:
    right = np.average(logits.argmax(axis=1) == targets, weights=weights)
    shares = np.bincount(targets, weights) / len(targets)
    return float(right), float(shares.max())

  def is_constant(self, logits: np.ndarray) -> bool:
    return len(np.unique(logits.argmax(axis=1))) == 1


class MultiLabel(Problem):
  """Any number of labels per row: a sigmoid for each label, threshold 0.5."""

  TYPE, RANK, SCORE = MULTI_LABEL, 2, "micro F1"
  RIGHT = "accuracy label by label"

  @classmethod
  def of(cls, rows: Sequence[classifier_data.Row]) -> "MultiLabel":
    names = sorted({name for row in rows for name in row.labels})
    if not names:
      raise options.InputError(
        "at least one label in the training rows",
        "none",
        "check --label_column",
      )
    return cls(tuple(names))

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    number = {name: index for index, name in enumerate(self.names)}
    indicators = np.zeros([len(rows), len(self.names)], np.float32)
    for place, row in enumerate(rows):
      for name in row.labels:
        if name not in number:
          raise untrained(self.names, name, row.line)
        indicators[place, number[name]] = 1
    return indicators

  def losses(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    label_losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    return tf.reduce_mean(label_losses, axis=1)

  def probabilities(self, logits: np.ndarray) -> np.ndarray:
    # Written with tanh, which does not overflow.
    return 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2))

  def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns labels, probabilities and logits, all [rows, outputs].

    An element of `labels` is the label's name if the text has the label, and
    otherwise "". TensorFlow Serving cannot return rows of different lengths.
    """
    labels = tf.where(logits > 0, tf.constant(self.names), "")
    shares = tf.nn.sigmoid(logits)
    return {"labels": labels, "probabilities": shares, "logits": logits}

  def equal_answers(
    self, outputs: np.ndarray, expected: np.ndarray
  ) -> np.ndarray:
    return (outputs > 0) == (expected > 0)

  def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns micro F1; 1 when no row has a label and none is predicted."""
    predicted, true = logits > 0, targets > 0
    chosen = int(predicted.sum() + true.sum())
    return 2 * int((predicted & true).sum()) / chosen if chosen else 1.0

  def entropy(
    self, targets: np.ndarray, weights: np.ndarray | None = None
  ) -> float:
    share = np.average(targets.astype(np.float64), axis=0, weights=weights)
    share = np.clip(share, 1e-12, 1 - 1e-12)
    each = share * np.log(share) + (1 - share) * np.log1p(-share)
    return float(-each.mean())

  def right(
    self,
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
  ) -> tuple[float, float]:
    same = ((logits > 0) == (targets > 0)).mean(axis=1)
    share = np.average(targets, axis=0, weights=weights)
    return (
      float(np.average(same, weights=weights)),
      float(np.maximum(share, 1 - share).mean()),
    )

  def is_constant(self, logits: np.ndarray) -> bool:
    return len(np.unique(logits > 0, axis=0)) == 1


@dataclasses.dataclass(frozen=True)
class Regression(Problem):
  """One number per row; the model predicts the standardised number.

  Attributes:
    names: the only output, "value".
    mean: mean of the training rows' numbers.
    deviation: standard deviation of the training rows' numbers. The
      standardised number is (number - mean) / deviation.
  """

  names: tuple[str, ...] = ("value",)
  mean: float = 0.0
  deviation: float = 1.0

  TYPE, SCORE, RIGHT = REGRESSION, "R²", "R²"

  @classmethod
  def of(cls, rows: Sequence[classifier_data.Row]) -> "Regression":
    values = np.array([float(row.label) for row in rows])
    if not values.std():
      raise options.InputError(
        "at least two numbers in the training rows",
        f"only {rows[0].label}",
        "check --label_column",
      )
    return cls(mean=float(values.mean()), deviation=float(values.std()))

  def parameters(self) -> dict[str, Any]:
    numbers = {"mean": self.mean, "deviation": self.deviation}
    return (
      super().parameters()
      | manifest_fields.Parameters(standardised_by=numbers).stated()
    )

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    values = np.array([float(row.label) for row in rows])
    return ((values - self.mean) / self.deviation).astype(np.float32)

  def losses(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return tf.square(logits[:, 0] - targets)

  def probabilities(self, logits: np.ndarray) -> np.ndarray:
    """Returns the predicted numbers in the rows' unit, float64 [rows, 1]."""
    return logits.astype(np.float64) * self.deviation + self.mean

  def affine(self, temperature: float) -> tuple[float, float]:
    del temperature  # a regression has none
    return self.deviation, self.mean

  def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns {"values": the predictions in the rows' unit, [rows]}."""
    return {"values": logits[:, 0]}

  def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> str:
    difference = np.abs(outputs - expected).max()
    return (
      f"values: {difference:.3g} apart at most; the training rows' deviation "
      f"is {self.deviation:.3g}"
    )

  def equal_answers(
    self, outputs: np.ndarray, expected: np.ndarray
  ) -> np.ndarray:
    return np.abs(outputs - expected)[:, 0] <= 0.1 * self.deviation

  def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns R², the share of the targets' variance that the model explains.

    If all targets are equal, it returns the negative mean squared error.
    """
    left = np.square(logits[:, 0] - targets).mean()
    variance = targets.var()
    return float(1 - left / variance) if variance else float(-left)

  def entropy(
    self, targets: np.ndarray, weights: np.ndarray | None = None
  ) -> float:
    del weights  # a regression has none
    return float(targets.var())

  def right(
    self,
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
  ) -> tuple[float, float]:
    del weights  # a regression has none
    return self.score(logits, targets), 0.0

  def is_constant(self, logits: np.ndarray) -> bool:
    return bool(logits.std() < 0.05)  # guess


_KINDS: dict[str, type[Problem]] = {
  kind.TYPE: kind for kind in (SingleLabel, MultiLabel, Regression)
}


def of_rows(label_type: str, rows: Sequence[classifier_data.Row]) -> Problem:
  """Returns the problem of a label type, with the labels of training rows.

  Args:
    label_type: CLASS, MULTI_LABEL or REGRESSION.
    rows: the training rows.

  Raises:
    options.InputError: when the rows have too few labels, or when all numbers
      are equal.
  """
  return _KINDS[label_type].of(rows)


def of_model(names: Sequence[str], parameters: Mapping[str, Any]) -> Problem:
  """Returns the problem of a classifier's model directory.

  The label type is CLASS if the manifest states none.

  Args:
    names: the labels of the model directory.
    parameters: the parameters in its manifest.

  Raises:
    options.InputError: when the manifest's label type is unknown or its numbers
      are damaged.
  """
  known = manifest_fields.Parameters.of(parameters)
  label_type = CLASS if known.label_type is None else known.label_type
  if label_type not in _KINDS:
    raise options.InputError(
      f"label_type in a manifest to be one of {', '.join(_KINDS)}",
      repr(label_type),
      "copy the model again",
    )
  origin = "standardised_by in a manifest"
  numbers = {**(known.standardised_by or {}), "names": list(names)}
  return json_files.made(_KINDS[label_type], numbers, origin)


def rows_at_once(outputs: int) -> int:
  """Returns the number of rows to compute at a time, from 32 to 2,048.

  2,048 rows are enough to group texts of similar length. With more than 2,048
  outputs the result is smaller, so that a float64 for each row and output takes
  at most 32 MiB; but it is never below 32.

  Args:
    outputs: number of outputs of the model.
  """
  return min(2048, max(32, (4 << 20) // outputs))


def known(names: Sequence[str]) -> str:
  """Returns the first 20 names, quoted, for an error message.

  If there are more than 20 names, their number follows.
  """
  shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in names[:20])
  return shown + (f" … {len(names)} in all" if len(names) > 20 else "")


def untrained(
  names: Sequence[str], label: str, line: int, noun: str = "label"
) -> options.InputError:
  """Returns the InputError for a label that the model was not trained on.

  Args:
    names: the trained labels.
    label: the label of a row to evaluate.
    line: the row's line in its file.
    noun: "label" or "type", for the message.
  """
  action = f"train on rows of that {noun} too, or remove it"
  spelling = label_names.spelling(label)
  near = [name for name in names if label_names.spelling(name) == spelling]
  if near:
    shown = " or ".join(map(label_names.shown, near))
    action += f"; if it means {shown}, write it so"
  return options.InputError(
    f"{noun}s that were trained ({known(names)})",
    f"{label_names.shown(label)} on line {line} of the rows to judge by",
    action,
  )


def log_softmax(logits: np.ndarray) -> np.ndarray:
  """Returns the logarithms of the softmax of logits, float64 [rows, labels]."""
  shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
