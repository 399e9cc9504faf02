"""The model on a CPU: the layers' numbers, with less between the products.

Layer by layer, two fifths of a step go to what is no matrix product: each bias,
activation, norm and mask reads and writes memory of its own. Here what stands
between two products is one function, which XLA compiles; the products are left
to oneDNN, which is faster at them than XLA; query, key and value are one.
Numbers and gradients are the layers' to 1e-5, dropout's choices the same.
"""

import collections
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from albert_mn import encoders, pretraining
from data_prep import records

Function = Callable[..., tf.Tensor]

# What tf_keras' masked softmax adds to the score of padding.
_MASKED = -1e9
_HEAD_EPSILON = 1e-12  # of tf-models' MaskedLM


class _Weights(NamedTuple):
  """A block's, as the products take them; H is hidden_size.

  Attributes:
    attention: [H, 3 * H] and [3 * H], query, key and value side by side.
    joined: [H, H], and bias, gamma and beta of what follows, each [H].
    inner: [H, intermediate_size] and its bias.
    outer: [intermediate_size, H], and bias, gamma and beta of what follows.
  """

  attention: tuple[tf.Tensor, tf.Tensor]
  joined: tuple[tf.Tensor, tuple[tf.Tensor, ...]]
  inner: tuple[tf.Tensor, tf.Tensor]
  outer: tuple[tf.Tensor, tuple[tf.Tensor, ...]]

  @classmethod
  def of(cls, block: encoders.EncoderBlock) -> "_Weights":
    parts, width = block.parts(), block.parts()["attention_norm"].gamma.shape[0]
    three = [parts[name] for name in ("query", "key", "value")]

    def joined(dense: str, norm: str) -> tuple[tf.Tensor, ...]:
      vectors = (parts[dense].bias, parts[norm].gamma, parts[norm].beta)
      return tuple(map(tf.convert_to_tensor, vectors))

    return cls(
      attention=(
        tf.concat([tf.reshape(p.kernel, [width, width]) for p in three], 1),
        tf.concat([tf.reshape(p.bias, [width]) for p in three], 0),
      ),
      joined=(
        tf.reshape(parts["attention_output"].kernel, [width, width]),
        joined("attention_output", "attention_norm"),
      ),
      inner=(
        tf.convert_to_tensor(parts["intermediate"].kernel),
        tf.convert_to_tensor(parts["intermediate"].bias),
      ),
      outer=(
        tf.convert_to_tensor(parts["output"].kernel),
        joined("output", "output_norm"),
      ),
    )


class LeanEncoder:
  """Computes what an AlbertEncoder computes, with its variables.

  The batch and the length may be unknown where it is traced: then one trace
  serves all, and only what stands between the products is compiled for each.

  Args:
    encoder: of float32 layers.
    jit_compile: whether XLA compiles what stands between the products.
  """

  def __init__(self, encoder: encoders.AlbertEncoder, jit_compile: bool):
    self._encoder, self._config = encoder, encoder.config
    config = self._config

    def fused(function: Function, learnt: int, **fixed: float) -> Function:
      return _fused(functools.partial(function, **fixed), learnt, jit_compile)

    self._feed_forward = _feed_forward(encoders.activation(config), jit_compile)
    self._embedded = fused(
      _embedded, 3, rate=config.hidden_dropout_prob,
      epsilon=config.layer_norm_eps,
    )  # fmt: skip
    self._joined = {
      site: fused(
        _joined, 5, rate=config.hidden_dropout_prob,
        epsilon=config.layer_norm_eps, site=site,
      )
      for site in (encoders.AFTER_ATTENTION, encoders.AFTER_FEED_FORWARD)
    }  # fmt: skip
    self._attention = _attention(
      1 / math.sqrt(config.hidden_size // config.num_attention_heads),
      config.attention_probs_dropout_prob,
      jit_compile,
    )
    self._handed_out = {
      shared: _handed_out(shared, jit_compile) for shared in (False, True)
    }

  def sequence_output(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
    dropout_seeds: tf.Tensor | None = None,
    firsts: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Gives the last layer, [batch, length, hidden_size]; see AlbertEncoder."""
    encoder = self._encoder
    hidden = self._embeddings(
      input_ids, input_mask, segment_ids, dropout_seeds, firsts
    )
    mask = encoders.attention_mask(input_mask, firsts is not None)
    mask = (1.0 - mask)[:, None] * _MASKED  # [batch, 1, 1 or length, length]
    weights = {
      block: _Weights.of(block) for group in encoder.groups for block in group
    }
    uses = collections.Counter(b for b, _ in encoder.applications(None))
    for block, seeds in encoder.applications(dropout_seeds):
      uses[block] -= 1
      hidden, now, weights[block] = self._layer(
        hidden, weights[block], shared=uses[block] > 0
      )
      hidden = self._block(hidden, mask, now, seeds)
    return hidden

  def _embeddings(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
    seeds: tf.Tensor | None,
    firsts: tf.Tensor | None,
  ) -> tf.Tensor:
    """Returns the first layer's input, [batch, length, hidden_size]."""
    encoder = self._encoder
    of = encoder.embedding_variables()
    types = of["token_type_embeddings"]
    embedded = (
      tf.gather(encoder.embedding_table, input_ids)
      + _product(tf.one_hot(segment_ids, types.shape[0]), types)
      + encoders.positions(of["position_embeddings"], input_mask, firsts)
    )
    gamma, beta = of["LayerNorm/gamma"], of["LayerNorm/beta"]
    embedded = self._embedded(embedded, *_tensors(gamma, beta), *_given(seeds))
    if encoder.projection is None:
      return embedded
    return tf.nn.bias_add(
      _product(embedded, encoder.projection.kernel), encoder.projection.bias
    )

  def _layer(
    self, hidden: tf.Tensor, weights: _Weights, shared: bool
  ) -> tuple[tf.Tensor, _Weights, _Weights]:
    """Gives a layer its input and weights, and those after it the weights."""
    flat = tf.nest.flatten(weights)
    hidden, *given = self._handed_out[shared](hidden, *flat)
    own, later = given[: len(flat)], given[-len(flat) :]
    return hidden, *(tf.nest.pack_sequence_as(weights, w) for w in (own, later))

  def _block(
    self,
    hidden: tf.Tensor,
    mask: tf.Tensor,
    weights: _Weights,
    seeds: tf.Tensor | None,
  ) -> tf.Tensor:
    """Applies a layer to [batch, length, hidden_size]."""
    length, width = _length(hidden), hidden.shape[2]
    heads = self._config.num_attention_heads
    three = tf.nn.bias_add(
      _product(hidden, weights.attention[0]), weights.attention[1]
    )
    query, key, value = tf.unstack(
      tf.transpose(
        tf.reshape(three, [-1, length, 3, heads, width // heads]),
        [2, 0, 3, 1, 4],
      )
    )  # each [batch, heads, length, width of a head]
    context = self._attention(query, key, value, mask, *_given(seeds))
    context = tf.transpose(context, [0, 2, 1, 3])
    product = _product(
      tf.reshape(context, [-1, length, width]), weights.joined[0]
    )
    hidden = self._joined[encoders.AFTER_ATTENTION](
      product, hidden, *weights.joined[1], *_given(seeds)
    )
    product = self._feed_forward(
      _product(hidden, weights.inner[0]), weights.inner[1], weights.outer[0]
    )
    return self._joined[encoders.AFTER_FEED_FORWARD](
      product, hidden, *weights.outer[1], *_given(seeds)
    )


class Lean:
  """Computes what a PretrainingModel computes, with its variables.

  Args:
    model: of float32 layers.
    jit_compile: as LeanEncoder's.
  """

  def __init__(self, model: pretraining.PretrainingModel, jit_compile: bool):
    self._model = model
    self._encode = LeanEncoder(model.encoder, jit_compile).sequence_output
    activation = encoders.activation(model.encoder.config)
    self._activated = _fused(
      lambda x, bias: activation(x + bias), 2, jit_compile
    )
    self._head = _fused(
      functools.partial(_normed, epsilon=_HEAD_EPSILON), 3, jit_compile
    )

  def __call__(
    self,
    features: dict[str, tf.Tensor],
    dropout_seeds: tf.Tensor | None = None,
  ) -> pretraining.PretrainingOutput:
    """Gives logits, as PretrainingModel.call does."""
    model = self._model
    firsts = features.get(records.NEXT_SENTENCE_POSITIONS)
    hidden = self._encode(
      features[records.INPUT_IDS],
      features[records.INPUT_MASK],
      features[records.SEGMENT_IDS],
      dropout_seeds,
      firsts,
    )
    return pretraining.PretrainingOutput(
      self._masked_lm(hidden, features[records.MASKED_LM_POSITIONS]),
      model.sentence(model.encoder.pooler(encoders.at(hidden, firsts))),
    )

  def _masked_lm(self, hidden: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns the logits of masked positions, as tf-models' MaskedLM."""
    length, width = hidden.shape[1:]
    rows = tf.range(tf.shape(hidden)[0])[:, None] * length
    vectors = tf.gather(tf.reshape(hidden, [-1, width]), rows + places)
    head = self._model.masked_lm
    vectors = self._activated(
      _product(vectors, head.dense.kernel), *_tensors(head.dense.bias)
    )
    norm = head.layer_norm
    vectors = self._head(vectors, *_tensors(norm.gamma, norm.beta))
    table = self._model.encoder.embedding_table
    return tf.nn.bias_add(_product(vectors, table, transposed=True), head.bias)


def _length(x: tf.Tensor) -> tf.Tensor | int:
  """The second dimension, known when traced or not."""
  return tf.shape(x)[1] if x.shape[1] is None else x.shape[1]


def _product(
  x: tf.Tensor, kernel: tf.Tensor, transposed: bool = False
) -> tf.Tensor:
  """Multiplies [batch, length, in] by [in, out], as two matrices."""
  width = kernel.shape[0 if transposed else 1]
  flat = tf.reshape(x, [-1, x.shape[2]])
  product = tf.matmul(flat, kernel, transpose_b=transposed)
  return tf.reshape(product, [-1, _length(x), width])


def _tensors(*variables: tf.Variable) -> list[tf.Tensor]:
  return [tf.convert_to_tensor(variable) for variable in variables]


def _given(seeds: tf.Tensor | None) -> tuple[tf.Tensor, ...]:
  return () if seeds is None else (seeds,)


def _fused(function: Function, learnt: int, jit_compile: bool) -> Function:
  """Makes one operation of a function, and one of its gradient.

  The gradient computes the inside again: cheaper than to keep it in memory.

  Args:
    function: of tensors.
    learnt: how many of them, the first ones, have a gradient.
    jit_compile: whether XLA compiles both.
  """
  forward = tf.function(function, jit_compile=jit_compile)

  @tf.function(jit_compile=jit_compile)
  def backward(upstream: tf.Tensor, *arguments: tf.Tensor) -> list[tf.Tensor]:
    sources = list(arguments[:learnt])
    with tf.GradientTape() as tape:
      tape.watch(sources)
      result = function(*arguments)
    return tape.gradient(result, sources, upstream)

  @tf.custom_gradient
  def both(*arguments: tf.Tensor) -> tuple[tf.Tensor, Function]:
    def gradient(upstream: tf.Tensor) -> list[tf.Tensor | None]:
      rest = [None] * (len(arguments) - learnt)
      return [*backward(upstream, *arguments), *rest]

    return forward(*arguments), gradient

  return both


def _feed_forward(activation: Function, jit_compile: bool) -> Function:
  """Makes activation(x + bias) · kernel, which keeps x alone for its gradient.

  The activation is a quarter of a layer's memory; the gradient computes it
  again, with its derivative.
  """
  activated = tf.function(
    lambda x, bias: activation(x + bias), jit_compile=jit_compile
  )

  @tf.function(jit_compile=jit_compile)
  def again(
    x: tf.Tensor, bias: tf.Tensor, upstream: tf.Tensor
  ) -> tuple[tf.Tensor, ...]:
    with tf.GradientTape() as tape:
      tape.watch([x, bias])
      result = activation(x + bias)
    return result, *tape.gradient(result, [x, bias], upstream)

  @tf.custom_gradient
  def product(
    x: tf.Tensor, bias: tf.Tensor, kernel: tf.Tensor
  ) -> tuple[tf.Tensor, Function]:
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
      inner = _product(upstream, kernel, transposed=True)
      result, dx, dbias = again(x, bias, inner)
      flat = [tf.reshape(a, [-1, a.shape[-1]]) for a in (result, upstream)]
      return dx, dbias, tf.matmul(*flat, transpose_a=True)

    return _product(activated(x, bias), kernel), gradient

  return product


def _attention(scale: float, rate: float, jit_compile: bool) -> Function:
  """Makes dropout(softmax(scale · q · kᵀ + mask)) · v, and keeps q, k and v.

  The shares of attention grow with the square of the length; the gradient
  computes them again (Dao et al. 2022, arXiv 2205.14135, section 3.1).
  Query, key and value are [batch, heads, length, width], the mask is
  [batch, 1, 1 or length, length].
  """
  compiled = functools.partial(tf.function, jit_compile=jit_compile)

  @compiled
  def softmax(scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    scores = scores * scale + mask
    shares = tf.exp(scores - tf.reduce_max(scores, -1, keepdims=True))
    return shares / tf.reduce_sum(shares, -1, keepdims=True)

  @compiled
  def dropped(shares: tf.Tensor, *seeds: tf.Tensor) -> tf.Tensor:
    (seed,) = seeds
    return encoders.dropout(shares, seed, encoders.ON_ATTENTION, rate)

  @compiled
  def backward(
    shares: tf.Tensor, upstream: tf.Tensor, *seeds: tf.Tensor
  ) -> tf.Tensor:
    if rate and seeds:
      upstream = dropped(upstream, *seeds)
    mean = tf.reduce_sum(shares * upstream, -1, keepdims=True)
    return shares * (upstream - mean) * scale

  def shared(
    q: tf.Tensor, k: tf.Tensor, mask: tf.Tensor, *seeds: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    shares = softmax(tf.matmul(q, k, transpose_b=True), mask)
    return shares, dropped(shares, *seeds) if rate and seeds else shares

  @tf.custom_gradient
  def attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    mask: tf.Tensor,
    *seeds: tf.Tensor,
  ) -> tuple[tf.Tensor, Function]:
    def gradient(upstream: tf.Tensor) -> list[tf.Tensor | None]:
      # Else TensorFlow sees that it has these already, and keeps them.
      with tf.control_dependencies([upstream]):
        again = tf.identity(q)
      shares, chosen = shared(again, k, mask, *seeds)
      inner = tf.matmul(upstream, v, transpose_b=True)
      scores = backward(shares, inner, *seeds)
      return [
        tf.matmul(scores, k),
        tf.matmul(scores, q, transpose_a=True),
        tf.matmul(chosen, upstream, transpose_a=True),
        *[None] * (1 + len(seeds)),
      ]

    return tf.matmul(shared(q, k, mask, *seeds)[1], v), gradient

  return attention


def _handed_out(
  shared: bool, jit_compile: bool
) -> Callable[..., tuple[tf.Tensor, ...]]:
  """Makes (x, *weights) of the same for a layer, and for those after it.

  Its gradient lets that of x wait for those of the weights. Left to itself,
  TensorFlow follows x through all layers first and keeps what each needs for
  its weights until then, and the tape adds up the gradients of shared weights
  when it has those of all layers.

  Args:
    shared: whether layers after it have these weights too: then they are
      given out twice, and what comes back is added.
    jit_compile: whether XLA compiles the addition.
  """

  @tf.function(jit_compile=jit_compile)
  def added(*upstream: tf.Tensor) -> list[tf.Tensor]:
    half = len(upstream) // 2
    return [
      a + b for a, b in zip(upstream[:half], upstream[half:], strict=True)
    ]

  @tf.custom_gradient
  def handed_out(
    x: tf.Tensor, *weights: tf.Tensor
  ) -> tuple[tuple[tf.Tensor, ...], Function]:
    def gradient(dx: tf.Tensor, *upstream: tf.Tensor) -> list[tf.Tensor]:
      sums = added(*upstream) if shared else list(upstream)
      with tf.control_dependencies(sums):
        return [tf.identity(dx), *sums]

    outputs = (x, *weights, *weights) if shared else (x, *weights)
    return tuple(map(tf.identity, outputs)), gradient

  return handed_out


def _normed(
  x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tf.Tensor:
  """Normalises the last dimension (Ba et al. 2016, arXiv 1607.06450)."""
  apart = x - tf.reduce_mean(x, -1, keepdims=True)
  variance = tf.reduce_mean(tf.square(apart), -1, keepdims=True)
  return apart * tf.math.rsqrt(variance + epsilon) * gamma + beta


def _embedded(
  x: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  seeds: tf.Tensor | None = None,
  *,
  rate: float,
  epsilon: float,
) -> tf.Tensor:
  """Returns dropout(norm(x)); x is [batch, length, embedding_size]."""
  normed = _normed(x, gamma, beta, epsilon)
  return encoders.dropout(normed, seeds, encoders.ON_EMBEDDINGS, rate)


def _joined(
  x: tf.Tensor,
  residual: tf.Tensor,
  bias: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  seeds: tf.Tensor | None = None,
  *,
  rate: float,
  epsilon: float,
  site: int,
) -> tf.Tensor:
  """Returns norm(dropout(x + bias) + residual)."""
  dropped = encoders.dropout(x + bias, seeds, site, rate)
  return _normed(dropped + residual, gamma, beta, epsilon)
