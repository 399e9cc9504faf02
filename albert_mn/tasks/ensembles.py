"""Ensembles: several networks in one model directory, whose mean answers.

The networks differ by the seeds of their training. Their logits are averaged;
for one label a text this is the normalised geometric mean of their
probabilities. The first network has the names of a single network in the
checkpoint, so that its encoder can be read as that of any model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from data_prep.base import options

# Key of the number of networks in the parameters of a manifest.
PARAMETER = "networks"
MOST = 64  # networks


def size(parameters: Mapping[str, Any]) -> int:
  """Returns the manifest's number of networks.

  Raises:
    options.InputError: when it is not from 1 to MOST.
  """
  number = parameters.get(PARAMETER, 1)
  if type(number) is not int or not 1 <= number <= MOST:
    raise options.InputError(
      f"{PARAMETER} in a manifest to be from 1 to {MOST}",
      repr(number),
      "copy the model again",
    )
  return number


def name(part: str, number: int) -> str:
  """Returns the name of a network's part in a checkpoint: encoder, encoder_1, …."""
  return f"{part}_{number}" if number else part


def names(networks: int) -> list[str]:
  """Returns the names of the networks' encoders in a checkpoint."""
  return [name("encoder", number) for number in range(networks)]


def joined(networks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the parts of all networks, under their names in a checkpoint."""
  return {
    name(part, number): layer
    for number, parts in enumerate(networks)
    for part, layer in parts.items()
  }


def divided(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns the encoder and the classifier of each network in `parts`."""
  return [
    {part: parts[name(part, number)] for part in ("encoder", "classifier")}
    for number in range(MOST)
    if name("classifier", number) in parts
  ]


class Ensemble:
  """Networks of one shape that answer together.

  Args:
    members: at least one classifier.Classifier, or tagger.

  Attributes:
    members: the argument.
    encoder, pooled_by: those of the first network.
  """

  def __init__(self, members: Sequence[Any]) -> None:
    self.members = tuple(members)
    self.encoder, self.pooled_by = members[0].encoder, members[0].pooled_by

  def call(self, *inputs: tf.Tensor | None) -> tf.Tensor:
    """Returns the mean of the networks' logits, as `Classifier.call`."""
    return mean([member.call(*inputs) for member in self.members])

  def parts(self) -> dict[str, Any]:
    """Returns name → part, as `model_directory` saves and restores them."""
    return joined([member.parts() for member in self.members])


def members(model: Any) -> tuple[Any, ...]:
  """Returns the networks of an ensemble, or the only network of a model."""
  return model.members if isinstance(model, Ensemble) else (model,)


def mean(logits: Sequence[tf.Tensor]) -> tf.Tensor:
  """Returns the mean of tensors of one shape."""
  return logits[0] if len(logits) == 1 else tf.add_n(logits) / len(logits)
