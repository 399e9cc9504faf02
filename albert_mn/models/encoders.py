"""The ALBERT encoder, built from tf-models' layers.

tf-models' own AlbertEncoder has neither hidden groups nor inner groups, and its
dropout uses a generator that no checkpoint holds. Here the blocks are connected
as in google-research/albert's modeling.py, and dropout is a function of a seed,
the layer and the position in the layer.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras
from official.modeling import tf_utils
from official.nlp.modeling import layers

from albert_mn.models import configs
from data_prep.base import options
from data_prep.encoding import framing


class EncoderOutput(NamedTuple):
  """The outputs of the encoder.

  Attributes:
    embedding_output: [batch, length, embedding_size], after layer norm, before
      dropout.
    layer_outputs: list of num_hidden_layers tensors [batch, length,
      hidden_size].
    sequence_output: the last layer's output, [batch, length, hidden_size].
    pooled_output: tanh of a dense layer on [CLS], [batch, hidden_size]; for
      packed records, with several examples in a row, [batch, labels,
      hidden_size].
    attentions: for each use of a block, in order, the attention weights,
      [batch, heads, from, to]; empty unless the call asks for attention
      weights.
  """

  embedding_output: tf.Tensor
  layer_outputs: list[tf.Tensor]
  sequence_output: tf.Tensor
  pooled_output: tf.Tensor
  attentions: tuple[tf.Tensor, ...] = ()


# The sites of dropout in the model, as in google-research's modeling.py.
AFTER_ATTENTION, AFTER_FEED_FORWARD, ON_ATTENTION, ON_EMBEDDINGS = range(4)


class StatelessDropout(tf_keras.layers.Layer):
  """A dropout layer whose random numbers come from seeds that are set before.

  `set_seed` gives the seeds for the following calls; before its first call
  nothing is dropped. tf_keras' Dropout uses a generator that no checkpoint
  holds: a resumed run would drop other units than an uninterrupted one.

  Args:
    rate: share of units to drop.
    site: number of the dropout site; sites with the same seed drop different
      units.
  """

  def __init__(self, rate: float, site: int) -> None:
    super().__init__()
    self._rate, self._site = rate, site
    self._seeds: tf.Tensor | None = None

  def set_seed(self, seeds: tf.Tensor | None) -> None:
    """Sets the dropout seeds for all calls of this layer from now on.

    Args:
      seeds: uint32 [batch, 2], the result of `example_seeds`; None turns
        dropout off.
    """
    self._seeds = seeds

  def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """Returns the inputs after dropout; unchanged if no seeds are set.

    tf_keras passes `training`, which is ignored.

    Raises:
      options.InputError: when there are more than 256 heads or framing.LONGEST
        positions.
    """
    del training  # the seeds tell whether there is dropout
    return dropout(inputs, self._seeds, self._site, self._rate)


# A position in an attention matrix has a 32-bit number: 8 bits for its head, 12
# for its row and 12 for its column.
_MOST_HEADS = 256


def dropout(
  inputs: tf.Tensor, seeds: tf.Tensor | None, site: int, rate: float
) -> tf.Tensor:
  """Returns `inputs` with about a share `rate` of the units set to 0.

  The other units are divided by 1 - rate. Which units are dropped follows from
  the seeds and the site. With seeds None or rate 0, `inputs` is returned.

  Args:
    inputs: [batch, units], [batch, length, units] or [batch, heads, length,
      length].
    seeds: uint32 [batch, 2], the result of `example_seeds`; or None.
    site: number of the dropout site.
    rate: share of units to drop.

  Raises:
    options.InputError: when there are more than 256 heads or framing.LONGEST
      positions, unless nothing is dropped.
  """
  if seeds is None or not rate:
    return inputs
  bits = random_bits(tf.shape(inputs), seeds, site)
  kept = bits >= tf.constant(round(rate * 2**32), tf.uint32)
  return tf.where(kept, inputs / (1 - rate), tf.zeros_like(inputs))


def example_seeds(seed: int, step: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
  """Returns the dropout seed of each example, uint32 [batch, 2].

  Args:
    seed: seed of the run, of which the lowest 32 bits count.
    step: integer scalar, the global step.
    rows: int32 [batch], each example's index in the whole batch. With this
      index a part of a batch, on another device, drops the same units.
  """
  row = _mixed(
    tf.cast(rows, tf.uint32) ^ tf.constant(seed & 0xFFFFFFFF, tf.uint32)
  )
  return tf.stack([row, tf.fill(tf.shape(row), tf.cast(step, tf.uint32))], 1)


def fold_in(seeds: tf.Tensor, number: int) -> tf.Tensor:
  """Returns new seeds, uint32 [batch, 2], different for each `number`.

  Args:
    seeds: uint32 [batch, 2], the result of `example_seeds`.
    number: such as the number of a layer; at least 0.
  """
  first = _mixed(seeds[:, 0] ^ _mixed(tf.constant(number, tf.uint32)))
  return tf.stack([first, seeds[:, 1]], 1)


def random_bits(shape: tf.Tensor, seeds: tf.Tensor, site: int) -> tf.Tensor:
  """Returns a random uint32 for every position of a tensor of `shape`.

  Each number is a hash of the example's seed, the site and the position.
  tf.random.stateless_uniform gives other numbers under XLA, so that a run could
  not move to another device. This hash uses only integer operations, which give
  the same result everywhere and which XLA fuses with their consumers.

  Padding added at the end of a text does not change the numbers of its other
  positions.

  Args:
    shape: shape of the result: [batch, units], [batch, length, units], or
      [batch, heads, length, length].
    seeds: uint32 [batch, 2].
    site: number of the dropout site; sites with the same seeds get different
      numbers.

  Raises:
    options.InputError: for a shape of four dimensions with more than 256 heads,
      or with more positions than framing.LONGEST. A shape that is unknown while
      a graph is traced is not checked.
  """
  first = _mixed(seeds[:, :1] ^ _mixed(tf.constant(site, tf.uint32)))
  second = _mixed(seeds[:, 1:] ^ first)
  index = tf.cast(_places(shape), tf.uint32)[None]
  # The hash is keyed twice: with one key, two seeds would give the same bits in
  # another order.
  bits = _mixed(_mixed(index ^ first) + second)  # [batch, places]
  return tf.reshape(bits, shape)


def _places(shape: tf.Tensor) -> tf.Tensor:
  """Returns a distinct int32 for each position of one example, [positions].

  The numbers are in the order of the flattened tensor. From the 129th head on
  they are negative: the caller casts them to uint32.

  Args:
    shape: shape of a tensor: [batch, units], [batch, length, units], or [batch,
      heads, length, length].

  Raises:
    options.InputError: when there are more than 256 heads or framing.LONGEST
      positions.
  """
  if shape.shape[0] < 4:
    return tf.range(tf.reduce_prod(shape[1:]))
  _check_places(tf.get_static_value(shape))
  heads, queries, keys = (tf.range(shape[axis]) for axis in (1, 2, 3))
  rows = (heads[:, None] * framing.LONGEST + queries)[:, :, None]
  return tf.reshape(rows * framing.LONGEST + keys, [-1])


def _check_places(shape: np.ndarray | None) -> None:
  """Raises InputError for attention weights too large for `_places`.

  With more than 256 heads, or more positions than framing.LONGEST, two
  positions would get the same number, and dropout would drop the same units in
  both.

  Args:
    shape: [batch, heads, length, length]; None while a graph with unknown shape
      is traced: then the options bound the length.
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
  """Hashes each uint32 of a tensor to a uint32.

  The hash is the finaliser of MurmurHash3 (Appleby 2011), applied to the value
  plus 0x9E3779B9, the golden ratio.
  """
  value = value + tf.constant(0x9E3779B9, tf.uint32)  # 0 would stay 0
  value = (value ^ tf.bitwise.right_shift(value, 16)) * 0x85EBCA6B
  value = (value ^ tf.bitwise.right_shift(value, 13)) * 0xC2B2AE35
  return value ^ tf.bitwise.right_shift(value, 16)


class EncoderBlock(layers.TransformerEncoderBlock):
  """tf-models' Transformer block, with dropout by seed (StatelessDropout).

  Args:
    config: the model's shape.
    name: prefix of the variables' names.
  """

  def __init__(self, config: configs.AlbertConfig, name: str) -> None:
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
    """Sets the dropout seeds for all calls of this block from now on.

    Args:
      seeds: uint32 [batch, 2]; None turns dropout off.
    """
    self._attention_dropout.set_seed(seeds)
    self._output_dropout.set_seed(seeds)
    self._attention_layer._dropout_layer.set_seed(seeds)

  def attention(self, hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the attention weights, [batch, heads, from, to], before dropout.

    The weights of each `from` position sum to 1. This method computes the
    attention again, apart from the block's output: a block that returned both
    would need a switch in its state, and two threads that trace the block could
    set the switch differently.

    Args:
      hidden: [batch, length, hidden_size], the block's input.
      mask: the result of `attention_mask`.
    """
    _, shares = self._attention_layer(
      query=hidden,
      value=hidden,
      attention_mask=mask,
      return_attention_scores=True,
    )
    return shares

  def parts(self) -> dict[str, tf_keras.layers.Layer]:
    """Returns name → layer, for all layers with weights in the block.

    The tables of weight names in other formats use these names.
    """
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
  """ALBERT's encoder: shared layers, factorised embeddings (arXiv 1909.11942).

  All variables exist after construction; their values depend on config and seed
  alone.

  Args:
    config: the model's shape.
    seed: seed of the initial weights.
    rematerialize: whether the backward pass computes the activations inside the
      layers again in place of storing them (Chen et al. 2016). This takes less
      memory, and a third more time.

  Attributes:
    config: the model's shape.
    projection: dense layer from embedding_size to hidden_size; None unless
      config.projects_embeddings.
    groups: for each hidden group, the list of its EncoderBlocks.
    pooler: the dense layer on [CLS], with tanh.
  """

  def __init__(
    self, config: configs.AlbertConfig, seed: int, rematerialize: bool = False
  ) -> None:
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
    """Returns name → variable of the embeddings except those of words.

    The keys are google-research's names: position_embeddings,
    token_type_embeddings, LayerNorm/gamma and LayerNorm/beta.
    """
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
    """Returns the encoder's outputs for a batch.

    In packed records a row holds several examples, one after the other.

    Args:
      input_ids: int32 [batch, length]; length is at most
        max_position_embeddings.
      input_mask: int32 [batch, length]. 0 on padding, 1 on pieces; in packed
        records the number of the position's example, from 1.
      segment_ids: int32 [batch, length], from 0 to type_vocab_size - 1.
      dropout_seeds: result of `example_seeds`; None turns dropout off.
      firsts: int32 [batch, labels], the first position of each example in a
        packed row; None for records with one example a row.
      words: [batch, length, embedding_size], used in place of the embeddings of
        `input_ids`; None takes those embeddings.
      with_attentions: whether to return the attention weights.
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
    """Yields (block, dropout seeds) for each use of a block, in their order.

    All layers of a group share the group's blocks, but have different dropout
    seeds. The seeds are None if `dropout_seeds` is None.

    Args:
      dropout_seeds: result of `example_seeds`; None turns dropout off.
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
  """Returns which positions may attend to which: 1.0 for yes, 0.0 for no.

  A position attends to all positions of its own example, and never to padding.

  Args:
    input_mask: int32 [batch, length], 0 on padding. In packed rows, the
      positions of an example have the example's number.
    packed: whether a row may hold several examples.

  Returns:
    float32 [batch, length, length] if packed, else [batch, 1, length].
  """
  there = input_mask[:, None, :] > 0
  if packed:
    there &= input_mask[:, :, None] == input_mask[:, None, :]
  return tf.cast(there, tf.float32)


def positions(
  table: tf.Tensor, input_mask: tf.Tensor, firsts: tf.Tensor | None
) -> tf.Tensor:
  """Returns the position embeddings of a batch.

  In packed rows the positions restart at each example.

  Args:
    table: [max_position_embeddings, embedding_size].
    input_mask: int32 [batch, length], 0 on padding; in packed rows the number
      of the position's example, from 1.
    firsts: int32 [batch, labels], the first position of each example in a
      packed row; None for records with one example a row.

  Returns:
    [length, embedding_size]; for packed rows [batch, length, embedding_size].
  """
  length = input_mask.shape[1] or tf.shape(input_mask)[1]
  if firsts is None:
    return table[:length]
  number = tf.maximum(input_mask - 1, 0)
  place = tf.range(length) - tf.gather(firsts, number, batch_dims=1)
  return tf.gather(table, place)


def at(hidden: tf.Tensor, firsts: tf.Tensor | None) -> tf.Tensor:
  """Returns the vectors at the first position of each text, where [CLS] stands.

  Args:
    hidden: [batch, length, hidden_size].
    firsts: int32 [batch, labels], the first position of each example in a
      packed row; None if a row is one text.

  Returns:
    [batch, hidden_size]; with `firsts` [batch, labels, hidden_size].
  """
  if firsts is None:
    return hidden[:, 0]
  return tf.gather(hidden, firsts, batch_dims=1)


def activation(
  config: configs.AlbertConfig,
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns the activation function that the config's hidden_act names.

  The name "gelu" means the tanh approximation, as in google-research;
  "gelu_erf" means the exact function.
  """
  if config.hidden_act == "gelu_erf":
    return tf.nn.gelu
  return tf_utils.get_activation(config.hidden_act)


def merged_heads(name: str, array: np.ndarray) -> np.ndarray:
  """Returns an attention weight with heads and head width as one dimension.

  Args:
    name: the weight's name in the other format; the name of a bias ends in
      "bias".
    array: [hidden, heads, width] or [heads, width, hidden], which becomes
      [hidden, hidden]; or a bias of [heads, width], which becomes [hidden]. Any
      other weight is returned unchanged.
  """
  if array.ndim == 3:
    hidden = round(array.size**0.5)
    return array.reshape(hidden, hidden)
  return array.reshape(-1) if name.endswith("bias") else array


def initialize(
  layer: tf_keras.layers.Layer, deviation: float, seed: int
) -> None:
  """Sets a layer's kernels and embeddings to truncated normal values.

  Each variable's values follow from (seed, index among the variables).
  tf_keras' seeded initialisers would give all variables of one shape the same
  values; its unseeded ones depend on which variables were made before.

  Args:
    layer: its variables must exist. Those with bias, gamma or beta in their
      name keep their values.
    deviation: standard deviation of the normal distribution, which is truncated
      at two deviations.
    seed: seed of the model.
  """
  for place, variable in enumerate(layer.trainable_variables):
    if not any(n in variable.name for n in ("bias", "gamma", "beta")):
      variable.assign(
        tf.random.stateless_truncated_normal(
          variable.shape, [seed, place], stddev=deviation, alg="philox"
        )
      )
