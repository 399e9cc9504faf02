"""The ALBERT encoder, of tf-models' layers.

tf-models' own AlbertEncoder has neither hidden groups nor inner groups, and
its dropout draws from a generator that no checkpoint holds. Here the blocks
are put together as google-research/albert's modeling.py does, and dropout is
a function of a seed, the layer and the place in the layer.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras
from official.modeling import tf_utils
from official.nlp.modeling import layers

from albert_mn import configs
from data_prep import framing, options


class EncoderOutput(NamedTuple):
  """What the encoder gives.

  Attributes:
    embedding_output: [batch, length, embedding_size], after layer norm.
    layer_outputs: num_hidden_layers of [batch, length, hidden_size].
    sequence_output: [batch, length, hidden_size], the last of them.
    pooled_output: [batch, hidden_size], tanh of a dense layer on [CLS]; of
      packed records [batch, labels, hidden_size].
    attentions: of each block in the order of their use, where asked for:
      [batch, heads, from, to], what each position takes from which.
  """

  embedding_output: tf.Tensor
  layer_outputs: list[tf.Tensor]
  sequence_output: tf.Tensor
  pooled_output: tf.Tensor
  attentions: tuple[tf.Tensor, ...] = ()


# The places where a layer drops units, as google-research's modeling.py.
AFTER_ATTENTION, AFTER_FEED_FORWARD, ON_ATTENTION, ON_EMBEDDINGS = range(4)


class StatelessDropout(tf_keras.layers.Layer):
  """Dropout by a seed that the caller sets before each call.

  tf_keras' Dropout draws from a generator outside of checkpoints: a resumed
  run would drop other units than an uninterrupted one.

  Args:
    rate: share that is dropped.
    site: number of the place; places with one seed drop different units.
  """

  def __init__(self, rate: float, site: int):
    super().__init__()
    self._rate, self._site = rate, site
    self._seeds: tf.Tensor | None = None

  def set_seed(self, seeds: tf.Tensor | None) -> None:
    """Takes `example_seeds` for the next call; None drops nothing."""
    self._seeds = seeds

  def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """Drops; `training` is there because tf_keras passes it to dropout."""
    return dropout(inputs, self._seeds, self._site, self._rate)


# A place in an attention matrix is one of 2^32: 8 bits are for its head, 12 for
# its row and 12 for its column.
_MOST_HEADS = 256


def dropout(
  inputs: tf.Tensor, seeds: tf.Tensor | None, site: int, rate: float
) -> tf.Tensor:
  """Drops a share of the units, by `example_seeds`; None drops nothing."""
  if seeds is None or not rate:
    return inputs
  bits = random_bits(tf.shape(inputs), seeds, site)
  kept = bits >= tf.constant(round(rate * 2**32), tf.uint32)
  return tf.where(kept, inputs / (1 - rate), tf.zeros_like(inputs))


def example_seeds(seed: int, step: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
  """Returns what each example's dropout is keyed by.

  Args:
    seed: of the run.
    step: int32 scalar.
    rows: int32 [batch], each example's place in the whole batch of the step,
      so that a part of a batch, on another device, drops the same units.

  Returns:
    uint32 [batch, 2].
  """
  row = _mixed(
    tf.cast(rows, tf.uint32) ^ tf.constant(seed & 0xFFFFFFFF, tf.uint32)
  )
  return tf.stack([row, tf.fill(tf.shape(row), tf.cast(step, tf.uint32))], 1)


def fold_in(seeds: tf.Tensor, number: int) -> tf.Tensor:
  """Returns other seeds, uint32 [batch, 2], for each number."""
  first = _mixed(seeds[:, 0] ^ _mixed(tf.constant(number, tf.uint32)))
  return tf.stack([first, seeds[:, 1]], 1)


def random_bits(shape: tf.Tensor, seeds: tf.Tensor, site: int) -> tf.Tensor:
  """Hashes each place of a tensor with its example's seed, to uint32.

  tf.random.stateless_uniform gives other numbers when XLA compiles it, so a
  run could not move from one device to another. These are integer operations,
  the same everywhere, and XLA fuses them into what uses them.

  What is added at the end of a text, to fill it up, changes no other place.

  Args:
    shape: of the result: [batch, units], [batch, length, units], or [batch,
      heads, length, length].
    seeds: uint32 [batch, 2].
    site: tells apart the places that share seeds.
  """
  first = _mixed(seeds[:, :1] ^ _mixed(tf.constant(site, tf.uint32)))
  second = _mixed(seeds[:, 1:] ^ first)
  index = tf.cast(_places(shape), tf.uint32)[None]
  # Keyed twice: with one key, two seeds would give permuted equal bits.
  bits = _mixed(_mixed(index ^ first) + second)  # [batch, places]
  return tf.reshape(bits, shape)


def _places(shape: tf.Tensor) -> tf.Tensor:
  """Numbers the places of an example, [places] int32, all different.

  From the 129th head on the numbers are negative: they are used as uint32.

  Raises:
    options.InputError: for an attention matrix with more heads or positions
      than there are numbers for.
  """
  if shape.shape[0] < 4:
    return tf.range(tf.reduce_prod(shape[1:]))
  _check_places(tf.get_static_value(shape))
  heads, queries, keys = (tf.range(shape[axis]) for axis in (1, 2, 3))
  rows = (heads[:, None] * framing.LONGEST + queries)[:, :, None]
  return tf.reshape(rows * framing.LONGEST + keys, [-1])


def _check_places(shape: np.ndarray | None) -> None:
  """Refuses [batch, heads, length, length] in which places share a number.

  Beyond these bounds two rows would drop the same units. A shape that is not
  known while a graph is traced is None: options bound the length then.
  """
  if shape is None:
    return
  _, heads, *lengths = shape.tolist()
  if heads > _MOST_HEADS or max(lengths) > framing.LONGEST:
    raise options.InputError(
      f"at most {_MOST_HEADS} heads and {framing.LONGEST:,} pieces of an input, "
      "to train with dropout on attention",
      f"{heads} heads and {max(lengths):,} pieces",
      "train on shorter inputs (--max_seq_length), or set "
      "attention_probs_dropout_prob to 0 in the config",
    )


def _mixed(value: tf.Tensor) -> tf.Tensor:
  """MurmurHash3's finaliser (Appleby 2011), after adding the golden ratio."""
  value = value + tf.constant(0x9E3779B9, tf.uint32)  # 0 would stay 0
  value = (value ^ tf.bitwise.right_shift(value, 16)) * 0x85EBCA6B
  value = (value ^ tf.bitwise.right_shift(value, 13)) * 0xC2B2AE35
  return value ^ tf.bitwise.right_shift(value, 16)


class EncoderBlock(layers.TransformerEncoderBlock):
  """tf-models' block with dropout by seed.

  Args:
    config: the shape.
    name: of its variables.
  """

  def __init__(self, config: configs.AlbertConfig, name: str):
    super().__init__(
      num_attention_heads=config.num_attention_heads,
      inner_dim=config.intermediate_size,
      inner_activation=activation(config),
      norm_epsilon=config.layer_norm_eps,
      name=name,
    )
    with tf.init_scope():
      self([tf.zeros([1, 1, config.hidden_size]), tf.ones([1, 1, 1])])
    rate = config.hidden_dropout_prob
    self._attention_dropout = StatelessDropout(rate, AFTER_ATTENTION)
    self._output_dropout = StatelessDropout(rate, AFTER_FEED_FORWARD)
    self._attention_layer._dropout_layer = StatelessDropout(
      config.attention_probs_dropout_prob, ON_ATTENTION
    )

  def set_seed(self, seeds: tf.Tensor | None) -> None:
    """Takes the seeds of the next application of this block."""
    self._attention_dropout.set_seed(seeds)
    self._output_dropout.set_seed(seeds)
    self._attention_layer._dropout_layer.set_seed(seeds)

  def attention(self, hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns [batch, heads, from, to], each row of which sums to 1.

    Computed beside the block's output: a block that returned both would need
    a switch, which a second thread that traces would find in either position.

    Args:
      hidden: [batch, length, hidden_size], what the block is applied to.
      mask: of `attention_mask`.
    """
    _, shares = self._attention_layer(
      query=hidden,
      value=hidden,
      attention_mask=mask,
      return_attention_scores=True,
    )
    return shares

  def parts(self) -> dict[str, tf_keras.layers.Layer]:
    """The layers inside, for tables of names in other formats."""
    return {
      "query": self._attention_layer._query_dense,
      "key": self._attention_layer._key_dense,
      "value": self._attention_layer._value_dense,
      "attention_output": self._attention_layer._output_dense,
      "attention_norm": self._attention_layer_norm,
      "intermediate": self._intermediate_dense,
      "output": self._output_dense,
      "output_norm": self._output_layer_norm,
    }


class AlbertEncoder(tf_keras.layers.Layer):
  """ALBERT (Lan et al. 2020, arXiv 1909.11942): shared, factorised BERT.

  All variables exist after construction, and depend on the seed alone.

  Args:
    config: the shape.
    seed: of the initial weights.
    rematerialize: compute the layers' insides again for the gradient instead
      of keeping them (Chen et al. 2016): memory for a third more time.

  Attributes:
    config: the shape.
    projection: from the embeddings' width to the layers'; None where equal.
    groups: EncoderBlocks by group and inner group.
    pooler: the dense layer on [CLS].
  """

  def __init__(
    self, config: configs.AlbertConfig, seed: int, rematerialize: bool = False
  ):
    super().__init__(name="encoder")
    self.config, self._rematerialize = config, rematerialize
    self._words = layers.OnDeviceEmbedding(
      config.vocab_size, config.embedding_size, name="word_embeddings"
    )
    self._positions = layers.PositionEmbedding(
      max_length=config.max_position_embeddings, name="position_embeddings"
    )
    self._segments = layers.OnDeviceEmbedding(
      config.type_vocab_size,
      config.embedding_size,
      use_one_hot=True,
      name="type_embeddings",
    )
    self._norm = tf_keras.layers.LayerNormalization(
      axis=-1, epsilon=config.layer_norm_eps, name="embeddings/layer_norm"
    )
    self.projection = (
      tf_keras.layers.Dense(config.hidden_size, name="embedding_projection")
      if config.projects_embeddings
      else None
    )
    self.groups = [
      [
        EncoderBlock(config, f"group_{group}/inner_group_{inner}")
        for inner in range(config.inner_group_num)
      ]
      for group in range(config.num_hidden_groups)
    ]
    self.pooler = tf_keras.layers.Dense(
      config.hidden_size, activation="tanh", name="pooler"
    )
    self._dropout = StatelessDropout(config.hidden_dropout_prob, ON_EMBEDDINGS)
    with tf.init_scope():
      ids = tf.zeros([1, 1], tf.int32)
      self._positions(tf.zeros([1, 1, config.embedding_size]))
      self(ids, ids, ids)
    initialize(self, config.initializer_range, seed)

  @property
  def embedding_table(self) -> tf.Variable:
    """The word embeddings, [vocab_size, embedding_size]."""
    return self._words.embeddings

  def embedding_variables(self) -> dict[str, tf.Variable]:
    """The other variables of the embeddings, by google-research's names."""
    return {
      "position_embeddings": self._positions.trainable_variables[0],
      "token_type_embeddings": self._segments.embeddings,
      "LayerNorm/gamma": self._norm.gamma,
      "LayerNorm/beta": self._norm.beta,
    }

  def call(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
    dropout_seeds: tf.Tensor | None = None,
    firsts: tf.Tensor | None = None,
    words: tf.Tensor | None = None,
    with_attentions: bool = False,
  ) -> EncoderOutput:
    """Encodes a batch.

    Args:
      input_ids: int32 [batch, length].
      input_mask: int32 [batch, length], 0 on padding; of packed records the
        number of each position's example, from 1.
      segment_ids: int32 [batch, length].
      dropout_seeds: of `example_seeds`; None drops nothing.
      firsts: int32 [batch, labels], where the examples of a packed row begin;
        None: one a row.
      words: [batch, length, embedding_size], in place of the ids' embeddings.
      with_attentions: whether to return them.
    """
    word_embeddings = self._words(input_ids) if words is None else words
    embedded = word_embeddings + self._segments(segment_ids)
    table = self._positions.trainable_variables[0]
    embedded += tf.cast(positions(table, input_mask, firsts), embedded.dtype)
    embedded = self._norm(embedded)  # [batch, length, embedding_size]
    self._dropout.set_seed(dropout_seeds)
    hidden = self._dropout(embedded)
    if self.projection:
      hidden = self.projection(hidden)  # [batch, length, hidden_size]
    mask = attention_mask(input_mask, firsts is not None)
    mask = tf.cast(mask, hidden.dtype)  # [batch, 1 or from, to]
    outputs, attentions = [], []
    for block, seeds in self.applications(dropout_seeds):
      if with_attentions:
        attentions.append(block.attention(hidden, mask))
      hidden = self._applied(block, hidden, mask, seeds)
      outputs.append(hidden)
    outputs = outputs[
      self.config.inner_group_num - 1 :: self.config.inner_group_num
    ]
    pooled = self.pooler(at(hidden, firsts))
    return EncoderOutput(embedded, outputs, hidden, pooled, tuple(attentions))

  def applications(
    self, dropout_seeds: tf.Tensor | None
  ) -> Iterator[tuple[EncoderBlock, tf.Tensor | None]]:
    """Yields the blocks in the order of their use, with the seeds of each.

    One block serves all layers of its group; each drops other units.
    """
    config = self.config
    a_group = config.num_hidden_layers // config.num_hidden_groups
    for layer in range(config.num_hidden_layers):
      for inner, block in enumerate(self.groups[layer // a_group]):
        place = 16 + layer * config.inner_group_num + inner
        yield (
          block,
          (None if dropout_seeds is None else fold_in(dropout_seeds, place)),
        )

  def _applied(
    self,
    block: EncoderBlock,
    hidden: tf.Tensor,
    mask: tf.Tensor,
    seeds: tf.Tensor | None,
  ) -> tf.Tensor:
    def apply(hidden: tf.Tensor) -> tf.Tensor:
      block.set_seed(seeds)
      return block([hidden, mask])

    return (tf.recompute_grad(apply) if self._rematerialize else apply)(hidden)


def attention_mask(input_mask: tf.Tensor, packed: bool) -> tf.Tensor:
  """Says what each position attends to: its own example, and no padding.

  Args:
    input_mask: int32 [batch, length], as the encoder's.
    packed: whether there are several examples a row.

  Returns:
    float32 [batch, length, length], or [batch, 1, length].
  """
  there = input_mask[:, None, :] > 0
  if packed:
    there &= input_mask[:, :, None] == input_mask[:, None, :]
  return tf.cast(there, tf.float32)


def positions(
  table: tf.Tensor, input_mask: tf.Tensor, firsts: tf.Tensor | None
) -> tf.Tensor:
  """Returns position embeddings, which begin anew in each packed example.

  Args:
    table: [max_position_embeddings, embedding_size].
    input_mask, firsts: as the encoder's.

  Returns:
    [length, embedding_size], or [batch, length, embedding_size].
  """
  length = input_mask.shape[1] or tf.shape(input_mask)[1]
  if firsts is None:
    return table[:length]
  number = tf.maximum(input_mask - 1, 0)
  place = tf.range(length) - tf.gather(firsts, number, batch_dims=1)
  return tf.gather(table, place)


def at(hidden: tf.Tensor, firsts: tf.Tensor | None) -> tf.Tensor:
  """Returns what stands at [CLS], [batch, hidden_size].

  Args:
    hidden: [batch, length, hidden_size].
    firsts: as the encoder's; given, the result is [batch, labels, hidden_size].
  """
  if firsts is None:
    return hidden[:, 0]
  return tf.gather(hidden, firsts, batch_dims=1)


def activation(
  config: configs.AlbertConfig,
) -> Callable[[tf.Tensor], tf.Tensor]:
  """The activation by google's name: its gelu is the tanh approximation."""
  if config.hidden_act == "gelu_erf":
    return tf.nn.gelu
  return tf_utils.get_activation(config.hidden_act)


def joined(name: str, array: np.ndarray) -> np.ndarray:
  """Joins an attention layer's heads and their width, which are apart here.

  Args:
    name: of the weight, elsewhere.
    array: [hidden, heads, width], [heads, width, hidden], a bias of
      [heads, width], or any other weight, which is returned as it is.
  """
  if array.ndim == 3:
    hidden = round(array.size**0.5)
    return array.reshape(hidden, hidden)
  return array.reshape(-1) if name.endswith("bias") else array


def initialize(
  layer: tf_keras.layers.Layer, deviation: float, seed: int
) -> None:
  """Sets kernels and embeddings by (seed, place among the variables).

  tf_keras' seeded initialisers give every variable of one shape the same
  values, unseeded ones depend on what was made before.

  Args:
    layer: whose variables exist; biases and layer norms keep 0 and 1.
    deviation: of the normal distribution, truncated at two of it.
    seed: of the model.
  """
  for place, variable in enumerate(layer.trainable_variables):
    if not any(n in variable.name for n in ("bias", "gamma", "beta")):
      variable.assign(
        tf.random.stateless_truncated_normal(
          variable.shape, [seed, place], stddev=deviation, alg="philox"
        )
      )
