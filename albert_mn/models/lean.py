"""A faster training step on CPUs, with the same results as the layers.

One layer of tf-models, and the same layer here. `[…]` is one fused function: it
reads its input once and writes its output once.

  layer of tf-models                     layer of this file

  q = x·Wq + b                           q, k, v = x·[Wq Wk Wv] + b
  k = x·Wk + b
  v = x·Wv + b
  q·kᵀ → scale → mask → softmax          q·kᵀ → [scale, mask, softmax]
      → dropout → ·v                         → [dropout] → ·v           (1)
  ·Wo → bias → dropout → + x → norm      ·Wo → [bias, dropout, + x, norm]
  ·W1 → bias → gelu                      ·W1 → [bias, gelu]             (1)
  ·W2 → bias → dropout → + h → norm      ·W2 → [bias, dropout, + h, norm]

  (1) not stored for the gradient; the backward pass computes it again

XLA compiles the fused functions if `jit_compile` is set. oneDNN computes the
matrix products, because it is faster at them than XLA. Outputs and gradients
agree with the layers to about 1e-5. Dropout drops the same units.

Measured on ALBERT-base (docs/log.md), 8 sequences, one core:

  a step at length 128, as a share of the peak of the matrix product: layers
    58 to 61 %, this file 67 to 77 % (2026-11-24); 85 % with the order of the
    backward pass in the last line (2026-11-26)
  CPU time of a step, µs a position, at length 16 / 32 / 128:
    layers                            7533 / 6309 / 6102
    fused functions, without XLA      6325 / 5565 / 5487
    fused functions, with XLA         6408 / 5877 / 5701
  the gradient of x waits for the gradients of the weights: saves 28 MB of
    memory a layer (2026-11-26)
"""

import collections
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from albert_mn.models import encoders, pretraining
from data_prep.files import records

Function = Callable[..., tf.Tensor]

# tf_keras' masked softmax adds this number to the score of a padding position.
_MASKED = -1e9
_HEAD_EPSILON = 1e-12  # epsilon of the layer norm in tf-models' MaskedLM


class _Weights(NamedTuple):
  """The weights of one block, reshaped for the matrix products.

  H is hidden_size.

  Attributes:
    attention: kernel [H, 3 * H] and bias [3 * H]; query, key and value side by
      side.
    attention_output: kernel [H, H], and (bias, gamma, beta) of the fused
      function after it, each [H].
    inner: kernel [H, intermediate_size] and bias [intermediate_size].
    outer: kernel [intermediate_size, H], and (bias, gamma, beta) of the fused
      function after it, each [H].
  """

  attention: tuple[tf.Tensor, tf.Tensor]
  attention_output: tuple[tf.Tensor, tuple[tf.Tensor, ...]]
  inner: tuple[tf.Tensor, tf.Tensor]
  outer: tuple[tf.Tensor, tuple[tf.Tensor, ...]]

  @classmethod
  def of(cls, block: encoders.EncoderBlock) -> "_Weights":
    """Returns the current weights of a block, concatenated and reshaped.

    Args:
      block: the block of the encoder.
    """
    parts, width = block.parts(), block.parts()["attention_norm"].gamma.shape[0]
    three = [parts[name] for name in ("query", "key", "value")]

    def vectors_of(dense: str, norm: str) -> tuple[tf.Tensor, ...]:
      vectors = (parts[dense].bias, parts[norm].gamma, parts[norm].beta)
      return tuple(map(tf.convert_to_tensor, vectors))

    return cls(
      attention=(
        tf.concat([tf.reshape(p.kernel, [width, width]) for p in three], 1),
        tf.concat([tf.reshape(p.bias, [width]) for p in three], 0),
      ),
      attention_output=(
        tf.reshape(parts["attention_output"].kernel, [width, width]),
        vectors_of("attention_output", "attention_norm"),
      ),
      inner=(
        tf.convert_to_tensor(parts["intermediate"].kernel),
        tf.convert_to_tensor(parts["intermediate"].bias),
      ),
      outer=(
        tf.convert_to_tensor(parts["output"].kernel),
        vectors_of("output", "output_norm"),
      ),
    )


class LeanEncoder:
  """Computes the last layer of an AlbertEncoder, faster on CPUs than its call.

  The variables are those of the AlbertEncoder. Batch size and length may be
  unknown when TensorFlow traces the encoder. One trace then serves all shapes;
  XLA compiles only the fused functions for each new shape.

  Args:
    encoder: an encoder whose layers compute in float32.
    jit_compile: whether XLA compiles the operations between the matrix
      products.
  """

  def __init__(
    self, encoder: encoders.AlbertEncoder, jit_compile: bool
  ) -> None:
    self._encoder, self._config = encoder, encoder.config
    config = self._config

    def fused(function: Function, learnt: int, **fixed: float) -> Function:
      return _fused(functools.partial(function, **fixed), learnt, jit_compile)

    self._feed_forward = _feed_forward(encoders.activation(config), jit_compile)
    self._embedded = fused(
      _embedded,
      3,
      rate=config.hidden_dropout_prob,
      epsilon=config.layer_norm_eps,
    )
    self._residual_norm = {
      site: fused(
        _residual_norm,
        5,
        rate=config.hidden_dropout_prob,
        epsilon=config.layer_norm_eps,
        site=site,
      )
      for site in (encoders.AFTER_ATTENTION, encoders.AFTER_FEED_FORWARD)
    }
    self._attention = _attention(
      1 / math.sqrt(config.hidden_size // config.num_attention_heads),
      config.attention_probs_dropout_prob,
      jit_compile,
    )
    self._ordered_copies = {
      shared: _ordered_copies(shared, jit_compile) for shared in (False, True)
    }

  def sequence_output(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
    dropout_seeds: tf.Tensor | None = None,
    firsts: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Returns the last layer's output, [batch, length, hidden_size].

    The arguments are the same as those of AlbertEncoder.call.
    """
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
    """Returns the input of the first layer, [batch, length, hidden_size].

    It is the sum of word, segment and position embeddings, after layer norm,
    dropout and projection.
    """
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
    """Copies a layer's input and weights, to order the backward pass.

    Returns the copies (input, weights of this layer, weights for later layers),
    with the gradient of `_ordered_copies`.

    Args:
      hidden: the layer's input, [batch, length, hidden_size].
      weights: the layer's weights.
      shared: whether later layers share the weights. If not, the second and the
        third result are the same tensors.
    """
    flat = tf.nest.flatten(weights)
    hidden, *given = self._ordered_copies[shared](hidden, *flat)
    own, later = given[: len(flat)], given[-len(flat) :]
    return hidden, *(tf.nest.pack_sequence_as(weights, w) for w in (own, later))

  def _block(
    self,
    hidden: tf.Tensor,
    mask: tf.Tensor,
    weights: _Weights,
    seeds: tf.Tensor | None,
  ) -> tf.Tensor:
    """Returns the output of one block, [batch, length, hidden_size].

    Args:
      hidden: the block's input, of the same shape.
      mask: [batch, 1, 1 or length, length], added to the attention scores: 0
        or -1e9.
      weights: the block's weights.
      seeds: the block's dropout seeds; None turns dropout off.
    """
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
      tf.reshape(context, [-1, length, width]), weights.attention_output[0]
    )
    hidden = self._residual_norm[encoders.AFTER_ATTENTION](
      product, hidden, *weights.attention_output[1], *_given(seeds)
    )
    product = self._feed_forward(
      _product(hidden, weights.inner[0]), weights.inner[1], weights.outer[0]
    )
    return self._residual_norm[encoders.AFTER_FEED_FORWARD](
      product, hidden, *weights.outer[1], *_given(seeds)
    )


class Lean:
  """Computes the outputs of a PretrainingModel, faster on CPUs than its call.

  The variables are those of the model.

  Args:
    model: a model whose layers compute in float32.
    jit_compile: whether XLA compiles the operations between the matrix
      products.
  """

  def __init__(
    self, model: pretraining.PretrainingModel, jit_compile: bool
  ) -> None:
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
    """Returns the logits of both heads, equal to the model's up to about 1e-5.

    Args:
      features: name → tensor, with the names in data_prep.files.records, as
        PretrainingModel.call takes them.
      dropout_seeds: result of `encoders.example_seeds`; None turns dropout off.
    """
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
    """Returns logits of the masked positions, [batch, predictions, vocab_size].

    The computation is that of tf-models' MaskedLM.

    Args:
      hidden: [batch, length, hidden_size].
      places: int32 [batch, predictions], the masked positions of each row.
    """
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
  """Returns the length of a tensor [batch, length, …].

  The result is an int, or a scalar tensor if the length is unknown while
  TensorFlow traces a graph.
  """
  return tf.shape(x)[1] if x.shape[1] is None else x.shape[1]


def _product(
  x: tf.Tensor, kernel: tf.Tensor, transposed: bool = False
) -> tf.Tensor:
  """Returns the product of `x` and `kernel`, [batch, length, out].

  Batch and length are flattened into one dimension for one matrix product.

  Args:
    x: [batch, length, in].
    kernel: [in, out], or [out, in] with `transposed`.
    transposed: whether to multiply by the transpose of `kernel`.
  """
  width = kernel.shape[0 if transposed else 1]
  flat = tf.reshape(x, [-1, x.shape[2]])
  product = tf.matmul(flat, kernel, transpose_b=transposed)
  return tf.reshape(product, [-1, _length(x), width])


def _tensors(*variables: tf.Variable) -> list[tf.Tensor]:
  return [tf.convert_to_tensor(variable) for variable in variables]


def _given(seeds: tf.Tensor | None) -> tuple[tf.Tensor, ...]:
  return () if seeds is None else (seeds,)


def _fused(function: Function, learnt: int, jit_compile: bool) -> Function:
  """Returns `function` as one operation whose gradient is one operation too.

  The backward pass computes the function again. That is cheaper than storing
  its intermediate results.

  Args:
    function: takes tensors and returns one tensor.
    learnt: how many of its first arguments have a gradient; the gradient of its
      further arguments is None.
    jit_compile: whether XLA compiles the forward and the backward operation.
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
  """Returns the function (x, bias, kernel) → activation(x + bias) · kernel.

  The function takes x, [batch, length, intermediate_size]; a bias,
  [intermediate_size]; and a kernel, [intermediate_size, hidden_size]. For its
  gradient the function stores x but not the activation, which is a quarter of a
  layer's memory. The backward pass computes the activation again.
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
  """Returns the function dropout(softmax(scale · q · kᵀ + mask)) · v.

  For its gradient the function stores q, k and v but not the attention weights,
  whose size grows with the square of the length. The backward pass computes the
  attention weights again (Dao et al. 2022, arXiv 2205.14135, section 3.1).

  The returned function takes query, key and value, [batch, heads, length, width
  of a head]; the mask, [batch, 1, 1 or length, length]; and, for dropout, the
  seeds.
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
      # Without this copy of q, TensorFlow reuses the attention weights of the
      # forward pass, and stores them until then.
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


def _ordered_copies(
  shared: bool, jit_compile: bool
) -> Callable[..., tuple[tf.Tensor, ...]]:
  """Returns a function that copies x and weights, to order the backward pass.

  The copies have the same values. In the backward pass the gradient of x waits
  for the gradients of the weights. Without this order TensorFlow computes the
  gradient of x through all layers first, and stores for each layer the tensors
  from which its weight gradients come. GradientTape also stores the gradients
  of shared weights of all layers before it adds them.

  Args:
    shared: whether later layers share these weights. If so, the function
      returns the weights twice, and adds the gradients of the two copies.
    jit_compile: whether XLA compiles that addition.
  """

  @tf.function(jit_compile=jit_compile)
  def added(*upstream: tf.Tensor) -> list[tf.Tensor]:
    half = len(upstream) // 2
    return [
      a + b for a, b in zip(upstream[:half], upstream[half:], strict=True)
    ]

  @tf.custom_gradient
  def ordered_copies(
    x: tf.Tensor, *weights: tf.Tensor
  ) -> tuple[tuple[tf.Tensor, ...], Function]:
    def gradient(dx: tf.Tensor, *upstream: tf.Tensor) -> list[tf.Tensor]:
      sums = added(*upstream) if shared else list(upstream)
      with tf.control_dependencies(sums):
        return [tf.identity(dx), *sums]

    outputs = (x, *weights, *weights) if shared else (x, *weights)
    return tuple(map(tf.identity, outputs)), gradient

  return ordered_copies


def _normed(
  x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tf.Tensor:
  """Returns the layer norm of x over its last dimension (arXiv 1607.06450)."""
  centred = x - tf.reduce_mean(x, -1, keepdims=True)
  variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
  return centred * tf.math.rsqrt(variance + epsilon) * gamma + beta


def _embedded(
  x: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  seeds: tf.Tensor | None = None,
  *,
  rate: float,
  epsilon: float,
) -> tf.Tensor:
  """Returns dropout(layer norm(x)), [batch, length, embedding_size] like x.

  Args:
    x: the sum of the embeddings.
    gamma, beta: the weights of the layer norm, [embedding_size].
    seeds: dropout seeds; None turns dropout off.
    rate: share of units to drop.
    epsilon: added to the variance in the layer norm.
  """
  normed = _normed(x, gamma, beta, epsilon)
  return encoders.dropout(normed, seeds, encoders.ON_EMBEDDINGS, rate)


def _residual_norm(
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
  """Returns layer norm(dropout(x + bias) + residual), of the shape of x.

  Args:
    x: a matrix product, [batch, length, hidden_size].
    residual: of the same shape; added after dropout.
    bias, gamma, beta: [hidden_size]; the last two belong to the layer norm.
    seeds: dropout seeds; None turns dropout off.
    rate: share of units to drop.
    epsilon: added to the variance in the layer norm.
    site: number of the dropout site.
  """
  dropped = encoders.dropout(x + bias, seeds, site, rate)
  return _normed(dropped + residual, gamma, beta, epsilon)
