"""An encoder's weights as shapes, known from its config before it is built.

A config from elsewhere may claim any size. `Encoder` has the attributes of
encoders.AlbertEncoder that the tables of names in other formats read, so that a
checkpoint's shapes are held against it without memory for a single weight.
"""

import dataclasses
import types

from albert_mn.models import configs


@dataclasses.dataclass(frozen=True)
class Weight:
  """A weight's shape, as its variable has it."""

  shape: tuple[int, ...]


def _dense(*shape: int, outputs: int = 1) -> types.SimpleNamespace:
  """Returns a dense layer.

  Args:
    *shape: of the kernel.
    outputs: number of the last dimensions that the bias has.
  """
  return types.SimpleNamespace(
    kernel=Weight(shape), bias=Weight(shape[-outputs:])
  )


def _norm(width: int) -> types.SimpleNamespace:
  return types.SimpleNamespace(gamma=Weight((width,)), beta=Weight((width,)))


class Block:
  """The layers of an encoders.EncoderBlock.

  Args:
    config: the model's shape.
  """

  def __init__(self, config: configs.AlbertConfig):
    width, heads = config.hidden_size, config.num_attention_heads
    split = (width, heads, width // heads)
    wide = config.intermediate_size
    self._parts = {
      **{n: _dense(*split, outputs=2) for n in ("query", "key", "value")},
      "attention_output": _dense(*split[1:], width),
      "attention_norm": _norm(width),
      "intermediate": _dense(width, wide),
      "output": _dense(wide, width),
      "output_norm": _norm(width),
    }

  def parts(self) -> dict[str, types.SimpleNamespace]:
    """Returns name → layer, with the names of EncoderBlock.parts."""
    return self._parts


class Encoder:
  """The layers of an encoders.AlbertEncoder.

  Args:
    config: the model's shape.

  Attributes:
    config, embedding_table, projection, groups, pooler: as AlbertEncoder's.
  """

  def __init__(self, config: configs.AlbertConfig):
    width, narrow = config.hidden_size, config.embedding_size
    self.config = config
    self.embedding_table = Weight((config.vocab_size, narrow))
    self.projection = (
      _dense(narrow, width) if config.projects_embeddings else None
    )
    block = Block(config)  # all have the same shapes
    self.groups = [
      [block] * config.inner_group_num for _ in range(config.num_hidden_groups)
    ]
    self.pooler = _dense(width, width)

  def embedding_variables(self) -> dict[str, Weight]:
    """Returns name → weight, as AlbertEncoder.embedding_variables does."""
    narrow = self.config.embedding_size
    return {
      "position_embeddings": Weight(
        (self.config.max_position_embeddings, narrow)
      ),
      "token_type_embeddings": Weight((self.config.type_vocab_size, narrow)),
      "LayerNorm/gamma": Weight((narrow,)),
      "LayerNorm/beta": Weight((narrow,)),
    }
