"""Kinds of prediction: one label a text, several labels, or a number.

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
from data_prep.files import json_files

CLASS, MULTI_LABEL, REGRESSION = "class", "multi_label", "regression"
ENTITIES = "entities"  # the tags of pieces, by tagging.Tagging


@dataclasses.dataclass(frozen=True)
class Examples:
  """The training rows as inputs of the model.

  Attributes:
    encoded: the ids of each input; several inputs may be windows of one row.
    second_starts: [inputs], the start of the second text of a pair.
    targets: [inputs, …], as `problems.Problem.targets` returns them.
    weights: float32 [inputs], the weight of each input in the loss.
    pad_id: the id of padding.
  """

  encoded: list[np.ndarray]
  second_starts: np.ndarray
  targets: np.ndarray
  weights: np.ndarray
  pad_id: int


def text_of(row: classifier_data.Row) -> framing.Text:
  """Returns a row's text, or the pair of its two texts."""
  return (row.text, row.text_pair) if row.text_pair else row.text


@dataclasses.dataclass(frozen=True)
class Problem:
  """A kind of prediction; subclasses define targets, loss, score and answers.

  Outputs of the model are called logits here, also in a regression.

  Attributes:
    names: names of the outputs, in their order.
  """

  names: tuple[str, ...]

  TYPE = ""
  DTYPE, RANK = "float32", 1  # type and rank of the targets
  SCORE = ""  # name of the measure that `score` returns
  RIGHT = ""  # name of the measure that `right` returns
  UNIT = "rows"  # each of which has a loss

  @classmethod
  def of(cls, rows: Sequence[classifier_data.Row]) -> "Problem":
    """Returns the problem with the labels or numbers of the training rows.

    Raises:
      options.InputError: when the rows are too few or too much alike to learn
        from.
    """
    raise NotImplementedError

  def parameters(self) -> dict[str, Any]:
    """Returns the parameters for a model's manifest, without the names."""
    return {"label_type": self.TYPE}

  def check(self, rows: Sequence[classifier_data.Row]) -> None:
    """Raises InputError for the first row with a label that was not trained."""
    self.targets(rows)

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    """Returns the targets of rows, [rows] or [rows, outputs], for `losses`.

    Raises:
      options.InputError: for a label that was not trained.
    """
    raise NotImplementedError

  def examples(
    self, framer: framing.Framer, rows: Sequence[classifier_data.Row]
  ) -> tuple[framing.Framed, Examples]:
    """Returns the inputs of training rows, and the examples made from them."""
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
    """Returns the targets of a batch.

    Args:
      targets: targets of all inputs.
      rows: indices of the batch's inputs.
      shape: shape of the batch's ids, [rows, length].
    """
    del shape  # of use to targets of words
    return targets[rows]

  def losses(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the loss of each row, [rows], from logits [rows, outputs]."""
    raise NotImplementedError

  def mean_loss(
    self,
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
  ) -> float:
    """Returns the mean of `losses` over all rows, computed in float64.

    The rows are computed in blocks, to bound the memory.

    Args:
      logits: [rows, outputs].
      targets: [rows, …].
      weights: [rows] with a mean of 1; None weighs every row as 1.
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
    """Returns the probabilities of logits, float64 [rows, outputs].

    For a regression these are the predicted numbers.
    """
    raise NotImplementedError

  def affine(self, temperature: float) -> tuple[float, float]:
    """Returns (factor, shift): exported logits are logits · factor + shift.

    With both in the weights of the head, a model needs no manifest: softmax or
    sigmoid of its outputs are the `probabilities`, or the outputs are the
    numbers.
    """
    return 1 / temperature, 0.0

  def answers(self, told: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the answers of an exported model, as named tensors.

    Each has one row for each text.

    Args:
      told: [rows, outputs], logits after `affine`.
    """
    raise NotImplementedError

  def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> str:
    """Returns, as text, how well the outputs of two models agree.

    Args:
      outputs, expected: [rows, outputs], logits after `affine`.
    """
    raise NotImplementedError

  def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns the score of logits, which decides which weights are kept."""
    raise NotImplementedError

  def mean_recall(self, logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns the share of correct rows, weighing each class the same."""
    raise NotImplementedError

  def weights(self, targets: np.ndarray) -> np.ndarray:
    """Returns row weights, float32 [rows], that weigh each class the same.

    Raises:
      options.InputError: for a problem without classes.
    """
    del targets  # of use to problems with classes
    raise options.InputError(
      "--class_weights=none", "balanced", f"leave it out for {self.TYPE}"
    )

  def entropy(
    self, targets: np.ndarray, weights: np.ndarray | None = None
  ) -> float:
    """Returns the mean loss of the best answer that ignores the text."""
    raise NotImplementedError

  def right(
    self,
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
  ) -> tuple[float, float]:
    """Returns (share of correct answers, share if all texts got one answer).

    A regression has R² in place of the share.

    Args:
      logits: [rows, outputs].
      targets: [rows, …].
      weights: [rows], as in `mean_loss`.
    """
    raise NotImplementedError

  def is_constant(self, logits: np.ndarray) -> bool:
    """Returns whether all rows get the same answer."""
    raise NotImplementedError


class SingleLabel(Problem):
  """Exactly one label a row: softmax, as in the BERT paper."""

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

  def answers(self, told: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns labels [rows], probabilities and logits [rows, outputs]."""
    best = tf.gather(tf.constant(self.names), tf.argmax(told, axis=-1))
    shares = tf.nn.softmax(told)
    return {"labels": best, "probabilities": shares, "logits": told}

  def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> str:
    same = int((outputs.argmax(axis=1) == expected.argmax(axis=1)).sum())
    apart = np.exp(log_softmax(outputs)) - np.exp(log_softmax(expected))
    return _same_labels(same, len(outputs), apart)

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
  """Any number of labels a row: a sigmoid for each label, threshold 0.5."""

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

  def answers(self, told: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns labels, probabilities and logits, all [rows, outputs].

    `labels` has a label's name where the text has that label, else "".
    TensorFlow Serving cannot return ragged rows.
    """
    labels = tf.where(told > 0, tf.constant(self.names), "")
    shares = tf.nn.sigmoid(told)
    return {"labels": labels, "probabilities": shares, "logits": told}

  def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> str:
    same = int(((outputs > 0) == (expected > 0)).sum())
    apart = self.probabilities(outputs) - self.probabilities(expected)
    return _same_labels(same, outputs.size, apart)

  def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns micro F1."""
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
  """One number a row. The model predicts its standardised value.

  Attributes:
    mean, deviation: mean and standard deviation of the training rows.
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
    return super().parameters() | {"standardised_by": numbers}

  def targets(self, rows: Sequence[classifier_data.Row]) -> np.ndarray:
    values = np.array([float(row.label) for row in rows])
    return ((values - self.mean) / self.deviation).astype(np.float32)

  def losses(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return tf.square(logits[:, 0] - targets)

  def probabilities(self, logits: np.ndarray) -> np.ndarray:
    """Returns the predicted numbers in the unit of the rows, [rows, 1]."""
    return logits.astype(np.float64) * self.deviation + self.mean

  def affine(self, temperature: float) -> tuple[float, float]:
    del temperature  # a regression has none
    return self.deviation, self.mean

  def answers(self, told: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns values [rows], in the unit of the rows."""
    return {"values": told[:, 0]}

  def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> str:
    apart = np.abs(outputs - expected).max()
    return (
      f"values: {apart:.3g} apart at most; the training rows' deviation is "
      f"{self.deviation:.3g}"
    )

  def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns R², the share of the variance that is explained."""
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
  """Returns the problem of a label type, with the labels of training rows."""
  return _KINDS[label_type].of(rows)


def of_model(names: Sequence[str], parameters: Mapping[str, Any]) -> Problem:
  """Returns the problem of a model directory, from its names and manifest.

  Raises:
    options.InputError: when the manifest's label type is unknown or its numbers
      are damaged.
  """
  label_type = parameters.get("label_type", CLASS)
  if label_type not in _KINDS:
    raise options.InputError(
      f"label_type in a manifest to be one of {', '.join(_KINDS)}",
      repr(label_type),
      "copy the model again",
    )
  origin = "standardised_by in a manifest"
  numbers = {**parameters.get("standardised_by", {}), "names": list(names)}
  return json_files.made(_KINDS[label_type], numbers, origin)


def rows_at_once(outputs: int) -> int:
  """Returns the number of rows to compute at a time.

  Enough rows to find texts of similar length; fewer if there are very many
  outputs, so that a float64 for each row and output takes at most 32 MB.
  """
  return min(2048, max(32, (4 << 20) // outputs))


def known(names: Sequence[str]) -> str:
  """Returns a list of names for a message; at most the first 20 of them."""
  shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in names[:20])
  return shown + (f" … {len(names)} in all" if len(names) > 20 else "")


def _same_labels(same: int, of: int, apart: np.ndarray) -> str:
  return (
    f"labels: {same} of {of} as the original's; probabilities: "
    f"{np.abs(apart).max():.3f} apart at most"
  )


def untrained(
  names: Sequence[str], label: str, line: int, noun: str = "label"
) -> options.InputError:
  """Returns the error for a label that the model was not trained on.

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
  """Returns the logarithms of the probabilities, float64 [rows, labels]."""
  shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
