"""A network and the TF-IDF baseline answer together, as far as it pays.

The answer's scores are network · its logits + baseline · its scores; softmax or
sigmoid makes probabilities of them, so that of one label a text this is a sum
of log-probabilities. The two factors have the least loss on validation rows
which neither has trained on; where one of the two alone does as well, the
other's factor is 0.

ngrams.json          the n-grams of words and of parts of words
ngrams.safetensors   how rare each is, and its weight for each label, float32
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import optimize

from albert_mn import (
  baseline,
  model_directory,
  ngrams,
  problems,
  tensor_files,
)
from data_prep import framing, json_files, options, storage

AUTO, OFF = MODES = ("auto", "off")
# The name of the factors in the parameters of a manifest.
PARAMETER = "blended"
GRAMS, WEIGHTS = model_directory.NGRAMS

NETWORK, BASELINE, BOTH = "the network", "the baseline", "both"

# Of fewer validation rows nothing is learnt but chance (guess).
FEWEST_ROWS = 10
_LARGEST = 100.0  # of a factor: beyond it all rows are right, or few
_ADVICE = "copy the model again"


@dataclasses.dataclass(frozen=True)
class Factors:
  """What each of the two counts for in the answer, and why.

  Attributes:
    network, baseline: the factors, at least 0; at least one of them is not 0.
    rows: how many validation rows they come from.
    losses: the mean loss on these of the network, the baseline, and both.
  """

  network: float
  baseline: float
  rows: int
  losses: dict[str, float]

  def __post_init__(self) -> None:
    if (
      min(self.network, self.baseline) < 0 or self.network + self.baseline == 0
    ):
      raise options.InputError(
        "factors of a blend of at least 0, and not both 0",
        f"{self.network} and {self.baseline}",
        _ADVICE,
      )

  @property
  def answers(self) -> str:
    """Who answers: NETWORK, BASELINE or BOTH."""
    if self.network and self.baseline:
      return BOTH
    return NETWORK if self.network else BASELINE

  def said(self) -> str:
    """Says who answers, and on what evidence."""
    who = {
      NETWORK: "the network alone, without the TF-IDF baseline",
      BASELINE: "the TF-IDF baseline alone, without the network",
      BOTH: f"both: {self.network:.3g} times the network's logits plus "
      f"{self.baseline:.3g} times the TF-IDF baseline's scores",
    }
    losses = ", ".join(f"{n} {loss:.3f}" for n, loss in self.losses.items())
    return (
      f"what answers in the model directory is {who[self.answers]}, as chosen on "
      f"{self.rows} validation rows (mean loss: {losses})"
    )

  def logits(self, network: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns [rows, outputs] float64 of the answer, from those of the two."""
    return self.network * network.astype(np.float64) + self.baseline * scores


def chosen(
  problem: problems.Problem,
  network: np.ndarray,
  scores: np.ndarray,
  targets: np.ndarray,
  temperature: float = 1.0,
  weights: np.ndarray | None = None,
) -> Factors:
  """Finds the factors of least loss.

  Both answer only where that is worth a parameter: by Akaike's criterion the
  sum of the losses of all rows must be less by more than 1.

  Args:
    problem: what is predicted.
    network: [rows, outputs] logits of rows that it was not trained on.
    scores: [rows, outputs] of the baseline, likewise.
    targets: of the rows.
    temperature: divides the network's logits where it answers alone.
    weights: [rows], of each row in the loss; None: all weigh the same.
  """

  def loss(factors: Sequence[float]) -> float:
    logits = factors[0] * network + factors[1] * scores
    if weights is None:
      return problem.mean_loss(logits, targets)
    losses = problem.losses(tf.constant(logits), tf.constant(targets))
    return float(np.average(losses.numpy(), weights=weights))

  def least(which: Sequence[bool]) -> tuple[tuple[float, float], float]:
    """Returns the factors of least loss, 0 where `which` says so."""
    least_loss = optimize.minimize(
      loss,
      [float(part) for part in which],
      method="L-BFGS-B",
      bounds=[(0.0, _LARGEST if part else 0.0) for part in which],
    )
    first, second = map(float, least_loss.x)
    return (first, second), float(least_loss.fun)

  _, network_loss = least([True, False])
  baseline_alone, baseline_loss = least([False, True])
  both, loss_of_both = least([True, True])
  losses = {NETWORK: network_loss, BASELINE: baseline_loss, BOTH: loss_of_both}
  best = min(network_loss, baseline_loss)
  factors = both
  alone = (1 / temperature, 0.0)
  if not all(both) or len(targets) * (best - loss_of_both) <= 1:
    factors = alone if network_loss <= baseline_loss else baseline_alone
  if not any(factors):  # neither knows anything of these rows
    factors = alone
  return Factors(*factors, len(targets), losses)


@dataclasses.dataclass(frozen=True)
class Blend:
  """The baseline of a model directory, and what it counts for.

  Attributes:
    linear: the baseline.
    factors: of the answer.
  """

  linear: baseline.Linear
  factors: Factors

  def scores(self, texts: Sequence[framing.Text]) -> np.ndarray:
    """Returns the baseline's scores, [texts, outputs], of texts or pairs."""
    return self.linear.scores(joined(texts))

  def logits(
    self, network: np.ndarray, texts: Sequence[framing.Text]
  ) -> np.ndarray:
    """Returns the answer's [texts, outputs] float64, from the network's."""
    if not self.factors.baseline:
      return self.factors.network * network.astype(np.float64)
    return self.factors.logits(network, self.scores(texts))

  def parameters(self) -> dict[str, Any]:
    """Returns what the manifest of a model holds of it."""
    return {PARAMETER: dataclasses.asdict(self.factors)}

  def write(self, folder: str) -> None:
    """Writes the n-grams and their weights into a folder."""
    grams = self.linear.grams
    with storage.writing(os.path.join(folder, GRAMS)) as file:
      content = {"words": grams.words, "parts": grams.parts}
      json.dump(content, file, ensure_ascii=False, separators=(",", ":"))
      file.write("\n")
    tensor_files.write(
      os.path.join(folder, WEIGHTS),
      {
        "idf": grams.idf,
        "weights": self.linear.weights,
        "shift": self.linear.shift,
      },
    )


def joined(texts: Sequence[framing.Text]) -> list[str]:
  """Returns texts as the baseline reads them: pairs one after the other."""
  return [text if isinstance(text, str) else " ".join(text) for text in texts]


def read(
  folder: str, parameters: Mapping[str, Any], outputs: int
) -> Blend | None:
  """Reads the baseline of a model directory.

  Args:
    folder: the model directory, whose manifest was checked.
    parameters: of the manifest.
    outputs: of the model.

  Returns:
    None where the model directory has none, such as one of an earlier version.

  Raises:
    options.InputError: for files that are damaged or do not fit each other.
  """
  if PARAMETER not in parameters:
    return None
  origin = f"{PARAMETER} in a manifest"
  factors = json_files.made(Factors, parameters[PARAMETER], origin, _ADVICE)
  path = os.path.join(folder, GRAMS)
  content = json_files.read_object(path, _ADVICE)
  kinds = []
  for kind in ("words", "parts"):
    grams = content.get(kind)
    json_files.require_type(grams, list[str], f"{kind} in {path}", _ADVICE)
    kinds.append(tuple(grams or ()))
  size = sum(map(len, kinds))
  tensors = tensor_files.read(os.path.join(folder, WEIGHTS))
  expected = {"idf": (size,), "weights": (outputs, size), "shift": (outputs,)}
  for name, shape in expected.items():
    array = tensors.get(name, np.zeros(0, bool))
    if (
      array.shape != shape
      or array.dtype != np.float32
      or not np.isfinite(array).all()
    ):
      raise options.InputError(
        f"{name} in {os.path.join(folder, WEIGHTS)} as finite float32 of the "
        f"shape {shape}",
        f"{array.dtype} of {array.shape}" if name in tensors else "none",
        _ADVICE,
      )
  grams = ngrams.NGrams(kinds[0], kinds[1], tensors["idf"])
  return Blend(
    baseline.Linear(grams, tensors["weights"], tensors["shift"]), factors
  )
