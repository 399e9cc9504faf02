"""Ensembles: several networks in one model directory; the mean is the answer.

The networks differ by the seeds of their training. Their logits are averaged;
with one label per text this is the normalised geometric mean of their
probabilities. In the checkpoint the layers of the first network have the same
names as in a model with one network, so programs that read one encoder read
that of the first network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from data_prep.base import options

# Key of the number of networks in the parameters of a manifest.
PARAMETER = "networks"
MOST = 64  # networks


def size(parameters: Mapping[str, Any]) -> int:
  """Returns the number of networks that a manifest states; 1 if it states none.

  Args:
    parameters: the parameters in the manifest of a model directory.

  Raises:
    options.InputError: when the number is not a whole number from 1 to MOST.
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
  """Returns the name, in an ensemble's checkpoint, of a layer of one network.

  The encoders are called encoder, encoder_1, encoder_2 and so on.

  Args:
    part: name of the layer in its network, such as "encoder".
    number: number of the network, from 0.
  """
  return f"{part}_{number}" if number else part


def names(networks: int) -> list[str]:
  """Returns the names of the encoders of an ensemble in its checkpoint.

  For 2 networks they are encoder and encoder_1.

  Args:
    networks: number of networks.
  """
  return [name("encoder", number) for number in range(networks)]


def merged(networks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns name in a checkpoint → layer, for the layers of all networks.

  Args:
    networks: for each network, name → layer, as `Classifier.parts` returns it.
  """
  return {
    name(part, number): layer
    for number, parts in enumerate(networks)
    for part, layer in parts.items()
  }


def divided(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns {"encoder": layer, "classifier": layer} of each network, in order.

  Args:
    parts: the layers of all networks, as `merged` returns them.
  """
  return [
    {part: parts[name(part, number)] for part in ("encoder", "classifier")}
    for number in range(MOST)
    if name("classifier", number) in parts
  ]


class Ensemble:
  """Networks of one shape whose mean logits are the answer.

  Args:
    members: at least one classifier.Classifier or tagging.Tagger.

  Attributes:
    members: the argument of the constructor.
    encoder, pooled_by: the encoder and the kind of pooling of the first
      network.
  """

  def __init__(self, members: Sequence[Any]) -> None:
    self.members = tuple(members)
    self.encoder, self.pooled_by = members[0].encoder, members[0].pooled_by

  def call(self, *inputs: tf.Tensor | None) -> tf.Tensor:
    """Returns the mean of the networks' logits.

    Args:
      *inputs: the arguments of the networks' own `call`.

    Returns:
      a tensor of the shape of one network's logits.
    """
    return mean([member.call(*inputs) for member in self.members])

  def parts(self) -> dict[str, Any]:
    """Returns name → layer, for the layers of all networks.

    `model_directory` saves and restores the layers under these names.
    """
    return merged([member.parts() for member in self.members])


def members(model: Any) -> tuple[Any, ...]:
  """Returns the networks of a model: several for an ensemble, else one.

  Args:
    model: an Ensemble or a single network.
  """
  return model.members if isinstance(model, Ensemble) else (model,)


def mean(logits: Sequence[tf.Tensor]) -> tf.Tensor:
  """Returns the element-wise mean of tensors of one shape."""
  return logits[0] if len(logits) == 1 else tf.add_n(logits) / len(logits)
