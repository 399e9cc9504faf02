"""The blend of a network's logits and the TF-IDF baseline's scores.

The blended logits are factor · the network's logits + factor · the baseline's
scores; softmax or sigmoid turns them into probabilities. For one label a text
this is a weighted sum of log-probabilities. The two factors minimise the loss
on validation rows on which neither model was trained. If one model alone is
about as good, the factor of the other model is 0.

ngrams.json          the word n-grams and letter n-grams
ngrams.safetensors   their idf, and their weight for each label, float32
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from albert_mn.models import model_directory, tensor_files
from albert_mn.tasks import baseline, ngrams, problems
from data_prep.base import options
from data_prep.encoding import framing
from data_prep.files import json_files, storage

AUTO, OFF = MODES = ("auto", "off")
# Key of the factors in the parameters of a manifest.
PARAMETER = "blended"
GRAMS, WEIGHTS = model_directory.NGRAMS

NETWORK, BASELINE, BOTH = "the network", "the baseline", "both"

# With fewer validation rows the choice is random (guess).
FEWEST_ROWS = 10
_LARGEST = 100.0  # largest factor
_ADVICE = "copy the model again"


@dataclasses.dataclass(frozen=True)
class Factors:
  """The factors of a blend, and the losses by which they were chosen.

  Attributes:
    network, baseline: the factors, at least 0; not both are 0.
    rows: number of validation rows used.
    losses: NETWORK, BASELINE and BOTH → the mean validation loss if this model,
      or both, answer with their best factors.

  Raises:
    options.InputError: when a factor is below 0, or both are 0.
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
    """The model that answers: NETWORK, BASELINE or BOTH."""
    if self.network and self.baseline:
      return BOTH
    return NETWORK if self.network else BASELINE

  def summary(self) -> str:
    """Returns a clause on the model that answers, and on the validation losses.

    The clause begins with "what answers in the model directory is".
    """
    who = {
      NETWORK: "the network alone, without the TF-IDF baseline",
      BASELINE: "the TF-IDF baseline alone, without the network",
      BOTH: f"both: {self.network:.3g} times the network's logits plus "
      f"{self.baseline:.3g} times the TF-IDF baseline's scores",
    }
    losses = ", ".join(f"{n} {loss:.3f}" for n, loss in self.losses.items())
    return (
      f"what answers in the model directory is {who[self.answers]}, as chosen "
      f"on {self.rows} validation rows (mean loss: {losses})"
    )

  def logits(self, network: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the blended logits, float64 [rows, outputs].

    Args:
      network: [rows, outputs], the network's logits.
      scores: [rows, outputs], the baseline's scores of the same rows.
    """
    return self.network * network.astype(np.float64) + self.baseline * scores


def chosen(
  problem: problems.Problem,
  network: np.ndarray,
  scores: np.ndarray,
  targets: np.ndarray,
  temperature: float = 1.0,
  weights: np.ndarray | None = None,
) -> Factors:
  """Returns the factors with the lowest validation loss, from 0 to 100.

  Both models are used only if this lowers the sum of the losses of all rows by
  more than 1, which is Akaike's criterion for one more parameter. Otherwise the
  better model answers alone, and the other factor is 0. A network that answers
  alone has the factor 1 / `temperature`. The network also answers alone if
  neither model helps, so that both of the best factors are 0.

  Args:
    problem: the kind of prediction.
    network: [rows, outputs], logits of rows on which the network was not
      trained.
    scores: [rows, outputs], the baseline's scores of the same rows, on which
      the baseline was not trained either.
    targets: the targets of the rows.
    temperature: divides the network's logits if the network answers alone.
    weights: [rows] with a mean of 1, the weights of the rows in the loss; None
      gives every row the weight 1.
  """

  def loss(factors: Sequence[float]) -> float:
    logits = factors[0] * network + factors[1] * scores
    return problem.mean_loss(logits, targets, weights)

  def least(which: Sequence[bool]) -> tuple[tuple[float, float], float]:
    """Returns (factors with the lowest loss, that loss).

    Args:
      which: for network and baseline, whether the factor may differ from 0.
    """
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
  if not any(factors):  # neither model helps on these rows
    factors = alone
  return Factors(*factors, len(targets), losses)


@dataclasses.dataclass(frozen=True)
class Blend:
  """The TF-IDF baseline of a model directory, and the factors of its blend.

  Attributes:
    linear: the baseline.
    factors: the factors of the network and the baseline.
  """

  linear: baseline.Linear
  factors: Factors

  def scores(self, texts: Sequence[framing.Text]) -> np.ndarray:
    """Returns the baseline's scores of texts or pairs, [texts, outputs].

    The texts must be cleaned already, as `Predictor.cleaned` does it.
    """
    return self.linear.scores(single_texts(texts))

  def logits(
    self, network: np.ndarray, texts: Sequence[framing.Text]
  ) -> np.ndarray:
    """Returns the blended logits, float64 [texts, outputs].

    Args:
      network: the network's logits, [texts, outputs].
      texts: the same texts or pairs, cleaned, from which the baseline's scores
        are computed.
    """
    if not self.factors.baseline:
      return self.factors.network * network.astype(np.float64)
    return self.factors.logits(network, self.scores(texts))

  def parameters(self) -> dict[str, Any]:
    """Returns {"blended": factors}, a parameter for a model's manifest."""
    return {PARAMETER: dataclasses.asdict(self.factors)}

  def write(self, folder: str) -> None:
    """Writes the baseline to ngrams.json and ngrams.safetensors in a folder."""
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


def single_texts(texts: Sequence[framing.Text]) -> list[str]:
  """Returns the texts; a pair becomes one text, with a space between the two."""
  return [text if isinstance(text, str) else " ".join(text) for text in texts]


def read(
  folder: str, parameters: Mapping[str, Any], outputs: int
) -> Blend | None:
  """Returns the blend of a model directory, or None if it has no blend.

  Model directories of earlier versions have no blend.

  Args:
    folder: the model directory, whose manifest was checked.
    parameters: the parameters in the manifest.
    outputs: number of outputs of the model.

  Raises:
    options.InputError: for files or factors that are damaged, or do not fit
      each other or `outputs`.
    FileNotFoundError: for a local file that is missing.
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
