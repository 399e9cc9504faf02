"""The shapes of an encoder's weights, computed from its config alone.

A downloaded config may claim a model of any size. A checkpoint's shapes are
compared with those of `Encoder`, which allocates no weight. The attributes of
`Encoder` have the names of encoders.AlbertEncoder's, because the tables of
weight names in other formats read them.
"""

import dataclasses
import types

from albert_mn.models import configs


@dataclasses.dataclass(frozen=True)
class Weight:
  """Stands for a weight of a model, without allocating it.

  Attributes:
    shape: the shape that the weight's tf.Variable would have.
  """

  shape: tuple[int, ...]


def _dense(*shape: int, outputs: int = 1) -> types.SimpleNamespace:
  """Returns the shapes of a dense layer's weights.

  The result has the attributes `kernel` and `bias`, each a `Weight`.

  Args:
    *shape: shape of the kernel.
    outputs: number of the kernel's last dimensions that the bias has too.
  """
  return types.SimpleNamespace(
    kernel=Weight(shape), bias=Weight(shape[-outputs:])
  )


def _norm(width: int) -> types.SimpleNamespace:
  return types.SimpleNamespace(gamma=Weight((width,)), beta=Weight((width,)))


class Block:
  """The shapes of the weights of an encoders.EncoderBlock.

  They are computed from the config, without building a block.

  Args:
    config: the model's shape.
  """

  def __init__(self, config: configs.AlbertConfig) -> None:
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
    """Returns layer name → object with the layer's `Weight`s as attributes.

    The names are those of EncoderBlock.parts.
    """
    return self._parts


class Encoder:
  """The weight shapes of an encoders.AlbertEncoder.

  Args:
    config: the model's shape.

  Attributes:
    config, embedding_table, projection, groups, pooler: as the attributes of
      AlbertEncoder, with a `Weight` in place of each variable. `projection` is
      None for a model without a projection. `groups` has a list for each
      hidden group, and all these lists hold the same `Block`.
  """

  def __init__(self, config: configs.AlbertConfig) -> None:
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
    """Returns name → `Weight` of the embeddings except those of words.

    These are the position embeddings, the segment embeddings, and gamma and
    beta of the embeddings' layer norm. The names are those of
    AlbertEncoder.embedding_variables.
    """
    narrow = self.config.embedding_size
    return {
      "position_embeddings": Weight(
        (self.config.max_position_embeddings, narrow)
      ),
      "token_type_embeddings": Weight((self.config.type_vocab_size, narrow)),
      "LayerNorm/gamma": Weight((narrow,)),
      "LayerNorm/beta": Weight((narrow,)),
    }
