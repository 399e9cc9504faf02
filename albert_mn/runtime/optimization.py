"""LAMB, AdamW and Muon, the learning rate schedule, and excluded variables.

tf-models' LAMB and AdamWeightDecay always correct the bias of the moments,
which google-research's do not, and their get_config loses the lists of excluded
variables. Here the correction is an option.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from data_prep.base import options

# Name patterns of the excluded variables: google-research gives biases and
# layer norms neither weight decay nor a trust ratio.
EXCLUDED = ("LayerNorm", "layer_norm", "bias")


@dataclasses.dataclass(frozen=True)
class OptimizerOptions(options.Group):
  """Command-line options: the optimizer and its learning rate."""

  optimizer: str = options.option(
    "lamb",
    "Algorithm that updates the weights. lamb and adamw are those of "
    "google-research/albert. muon trains the matrices of the layers by "
    "Muon, and all other weights by AdamW.",
    choices=("lamb", "adamw", "muon"),
  )
  learning_rate: float = options.option(
    0.00176,
    "Peak of the learning rate. The default suits batches of 4096 sequences.",
    minimum=0.0,
  )
  poly_power: float = options.option(
    1.0,
    "Power of the polynomial by which the learning rate decays to 0. 1 "
    "decays in a straight line.",
    minimum=0.0,
  )
  num_train_steps: int = options.option(
    125_000,
    "Number of steps of the whole run. The learning rate reaches 0 at the "
    "last step.",
    minimum=1,
  )
  num_warmup_steps: int = options.option(
    3125,
    "Number of steps in which the learning rate rises from 0 to "
    "--learning_rate.",
    minimum=0,
  )
  start_warmup_step: int = options.option(
    0,
    "Step at which the learning rate starts to rise; before this step the "
    "learning rate is 0. For a second phase of training.",
    minimum=0,
  )
  weight_decay_rate: float = options.option(
    0.01,
    "Decoupled weight decay of kernels and embeddings.",
    minimum=0.0,
  )
  # With a decay rate of 1 a moment stays 0, and the bias correction divides by
  # 0.
  beta_1: float = options.option(
    0.9,
    "Decay rate of the first moment, the running mean of the gradients.",
    minimum=0.0,
    under=1.0,
  )
  beta_2: float = options.option(
    0.999,
    "Decay rate of the second moment, the running mean of the squared "
    "gradients.",
    minimum=0.0,
    under=1.0,
  )
  # With an epsilon of 0, a weight without a gradient would change by 0 / 0.
  epsilon: float = options.option(
    1e-6,
    "Number added to the square root of the second moment, so that no "
    "update divides by 0.",
    above=0.0,
  )
  clip_norm: float = options.option(
    1.0,
    "Largest global norm of the gradients; larger gradients are scaled "
    "down. 0 turns clipping off.",
    minimum=0.0,
  )
  bias_correction: bool = options.option(
    True,
    "Correct the bias of the moments in the first steps, as the papers on "
    "Adam and LAMB do (google-research/albert: false). Without the "
    "correction fine-tuning is unstable (Mosbach et al. 2021).",
  )
  muon_rate_ratio: float = options.option(
    20.0,
    "With --optimizer=muon, the learning rate of the matrices of the "
    "layers, as a multiple of --learning_rate. All other weights train at "
    "--learning_rate.",
    minimum=0.0,
  )
  muon_momentum: float = options.option(
    0.95,
    "With --optimizer=muon, the decay rate of the momentum of the "
    "matrices of the layers.",
    minimum=0.0,
    under=1.0,
  )

  def check(self) -> None:
    last = self.start_warmup_step + self.num_warmup_steps
    if last > self.num_train_steps:
      raise options.InputError(
        f"the warm-up to end by --num_train_steps={self.num_train_steps}",
        f"step {last}",
        "lower --num_warmup_steps, or train for longer",
      )


class Schedule(tf_keras.optimizers.schedules.LearningRateSchedule):
  """Linear warm-up, then polynomial decay to 0 (google's optimization.py).

  The decay is counted from step 0, not from the end of the warm-up. Before
  `start_warmup_step` the rate is 0; google's rate is negative there, which
  increases the loss.

  Args:
    recipe: the optimizer options, with peak rate and numbers of steps.
    scale: factor of the rate; a variable may change during the run.
  """

  def __init__(
    self, recipe: OptimizerOptions, scale: tf.Variable | float = 1.0
  ) -> None:
    self._recipe, self._scale = recipe, scale

  def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
    """Returns the learning rate at a step, float32 of the shape of `step`.

    From step num_train_steps on the rate is 0, unless poly_power is 0.
    """
    recipe = self._recipe
    step = tf.cast(step, tf.float32)
    done = tf.minimum(step / recipe.num_train_steps, 1.0)
    rate = recipe.learning_rate * tf.pow(1.0 - done, recipe.poly_power)
    if not recipe.num_warmup_steps:
      return rate * self._scale
    risen = (step - recipe.start_warmup_step) / recipe.num_warmup_steps
    rising = recipe.learning_rate * tf.maximum(risen, 0.0)
    return tf.where(risen < 1.0, rising, rate) * self._scale

  def get_config(self) -> dict[str, Any]:
    """Returns the configuration from which `from_config` makes the schedule.

    It does not contain the scale.
    """
    return {"recipe": dataclasses.asdict(self._recipe)}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "Schedule":
    """Returns the schedule of a configuration from `get_config`, at scale 1."""
    return cls(OptimizerOptions(**config["recipe"]))


def adam_direction(
  m: tf.Tensor,
  v: tf.Tensor,
  epsilon: float,
  correction_1: tf.Tensor | float,
  correction_2: tf.Tensor | float,
) -> tf.Tensor:
  """Returns the update m̂ / (√v̂ + ε) (Adam, arXiv 1412.6980, algorithm 1).

  Args:
    m, v: the first and the second moment.
    epsilon: ε.
    correction_1, correction_2: the divisors of m and v that correct their bias:
      m̂ = m / correction_1.
  """
  return (m / correction_1) / (tf.sqrt(v / correction_2) + epsilon)


def trust_ratio(weights: tf.Tensor, update: tf.Tensor) -> tf.Tensor:
  """Returns ‖weights‖ / ‖update‖, a scalar; 1 if either norm is 0.

  The ratio is that of LAMB (arXiv 1904.00962, algorithm 2).
  """
  x, u = tf.norm(weights), tf.norm(update)
  # tf.where computes both branches; divide_no_nan keeps them finite.
  return tf.where((x > 0) & (u > 0), tf.math.divide_no_nan(x, u), 1.0)


class AdamW(tf_keras.optimizers.Optimizer):
  """Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2).

  Under tf.distribute, the optimizer must be made in the strategy's scope.
  `apply_gradients` sums the gradients of all replicas and clips the sum, so
  each replica passes the part of the whole batch's gradient that its rows
  contribute. For gradients that are already summed pass
  `skip_gradients_aggregation=True`.

  Args:
    recipe: the options of the optimizer, such as learning rate and betas.
    excluded: regular expressions; a variable whose name contains a match gets
      neither weight decay nor a trust ratio.
    name: name of the optimizer; by default the class name.
    fused: whether XLA compiles the update of a variable to one operation, which
      reads and writes less memory. Not needed if XLA compiles the whole step.
    scale: factor of the learning rate; a variable may change during the run.
    factors: `ref()` of a variable → factor of its learning rate; 1 for all
      other variables.
  """

  def __init__(
    self,
    recipe: OptimizerOptions,
    excluded: Sequence[str] = EXCLUDED,
    name: str = "",
    fused: bool = False,
    scale: tf.Variable | float = 1.0,
    factors: Mapping[Any, float] | None = None,
  ) -> None:
    super().__init__(
      name=name or type(self).__name__,
      global_clipnorm=recipe.clip_norm or None,
      # tf_keras would compile the update once for each variable, not for each
      # shape.
      jit_compile=False,
    )
    self._moved = (
      tf.function(self._move, jit_compile=True) if fused else self._move
    )
    self.recipe = recipe
    self.excluded = tuple(excluded)
    # A bound method: tf.train.Checkpoint would try to save a dictionary.
    self._factor_of = (factors or {}).get
    self._schedule = Schedule(recipe, scale)
    self._learning_rate = self._build_learning_rate(self._schedule)

  def build(self, var_list: list[tf.Variable]) -> None:
    """Creates the moments of the variables, so that they can be restored.

    Later calls do not create the moments again.

    Args:
      var_list: the variables to train.
    """
    super().build(var_list)
    if getattr(self, "_built", False):
      return
    self._built = True
    self._m = [self.add_variable_from_reference(v, "m") for v in var_list]
    self._v = [self._second_moment(v) for v in var_list]

  def _second_moment(self, variable: tf.Variable) -> tf.Variable:
    return self.add_variable_from_reference(variable, "v")

  def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
    """Updates one variable and its moments by its gradient."""
    index = self._index_dict[self._var_key(variable)]
    m, v = self._m[index], self._v[index]
    moved, new_m, new_v, ratio = self._moved(
      tf.convert_to_tensor(variable),
      tf.convert_to_tensor(gradient),
      tf.convert_to_tensor(m),
      tf.convert_to_tensor(v),
      tf.cast(self.learning_rate, variable.dtype)
      * self._factor_of(variable.ref(), 1.0),
      *self._corrections(variable.dtype),
      self.leaves_alone(variable.name),
    )
    variable.assign(moved)
    m.assign(new_m)
    v.assign(new_v)
    self._note(index, ratio)

  def _move(
    self,
    weights: tf.Tensor,
    gradient: tf.Tensor,
    m: tf.Tensor,
    v: tf.Tensor,
    rate: tf.Tensor,
    correction_1: tf.Tensor | float,
    correction_2: tf.Tensor | float,
    left_alone: bool,
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Computes the update of one variable.

    Args:
      weights, gradient: the variable's values and gradient.
      m, v: the variable's first and second moment.
      rate: the variable's learning rate.
      correction_1, correction_2: the result of `_corrections`.
      left_alone: whether the variable gets no weight decay and no trust ratio.

    Returns:
      the next weights, the next m and v, and the trust ratio.
    """
    recipe = self.recipe
    m = recipe.beta_1 * m + (1 - recipe.beta_1) * gradient
    v = recipe.beta_2 * v + (1 - recipe.beta_2) * tf.square(gradient)
    update = adam_direction(m, v, recipe.epsilon, correction_1, correction_2)
    ratio = tf.ones([], weights.dtype)
    if not left_alone:
      update += recipe.weight_decay_rate * weights
      ratio = self._ratio(weights, update)
    return weights - rate * ratio * update, m, v, ratio

  def _corrections(
    self, dtype: tf.DType
  ) -> tuple[tf.Tensor | float, tf.Tensor | float]:
    """Returns the divisors of m and v that correct their bias.

    Without bias correction both are 1.
    """
    if not self.recipe.bias_correction:
      return 1.0, 1.0
    step = tf.cast(self.iterations + 1, dtype)
    return 1 - self.recipe.beta_1**step, 1 - self.recipe.beta_2**step

  def _ratio(self, weights: tf.Tensor, _update: tf.Tensor) -> tf.Tensor:
    """Returns the factor of an update: 1 here; Lamb overrides it.

    Lamb returns the trust ratio.
    """
    return tf.ones([], weights.dtype)

  def _note(self, index: int, ratio: tf.Tensor) -> None:
    """Does nothing; Lamb overrides it to store a variable's trust ratio.

    Args:
      index: the variable's index in the list given to `build`.
      ratio: a scalar.
    """

  def leaves_alone(self, variable_name: str) -> bool:
    """Returns whether a variable is excluded from weight decay and trust ratio.

    Args:
      variable_name: the variable's name.
    """
    return any(re.search(pattern, variable_name) for pattern in self.excluded)

  def rate(self, step: int) -> float:
    """Returns the learning rate at a step, times `scale`, without `factors`."""
    return float(self._schedule(step))

  def trust_ratio_summary(self) -> dict[str, float]:
    """Returns metric name → statistic of the trust ratios; {} without them.

    Only Lamb has trust ratios.
    """
    return {}

  def get_config(self) -> dict[str, Any]:
    """Returns the configuration from which `from_config` makes the optimizer.

    It contains name, recipe and excluded.
    """
    return {
      "name": self.name,
      "recipe": dataclasses.asdict(self.recipe),
      "excluded": list(self.excluded),
    }

  @classmethod
  def from_config(
    cls, config: dict[str, Any], custom_objects: Any = None
  ) -> "AdamW":
    """Returns the optimizer of a configuration from `get_config`.

    In the result `fused`, `scale` and `factors` have their defaults.
    """
    del custom_objects  # the configuration names none
    recipe = OptimizerOptions(**config["recipe"])
    return cls(recipe, config["excluded"], config["name"])


class Lamb(AdamW):
  """AdamW with the length of each update scaled to the length of the weights.

  You et al. 2020, arXiv 1904.00962, algorithm 2, with φ the identity.
  """

  def build(self, var_list: list[tf.Variable]) -> None:
    """Creates the moments of the variables, and a scalar for each trust ratio.

    Args:
      var_list: the variables to train.
    """
    if getattr(self, "_built", False):
      return
    super().build(var_list)
    self._names = [variable.name for variable in var_list]
    self._ratios = [
      self.add_variable_from_reference(v, "trust_ratio", shape=[])
      for v in var_list
    ]

  def trust_ratios(self) -> dict[str, tf.Tensor]:
    """Returns variable name → trust ratio ‖x‖ / ‖u‖ of the last step, a scalar.

    Excluded variables are missing. Before the first step all ratios are 0.
    """
    pairs = zip(self._names, self._ratios, strict=True)
    return {
      name: tf.convert_to_tensor(ratio)
      for name, ratio in pairs
      if not self.leaves_alone(name)
    }

  def trust_ratio_summary(self) -> dict[str, float]:
    """Returns trust_ratio_least, trust_ratio_median and trust_ratio_greatest.

    They are statistics over the variables that are not excluded, of which there
    must be at least one. The median of an even number of variables is the upper
    of the two middle ratios.
    """
    ratios = sorted(float(ratio) for ratio in self.trust_ratios().values())
    places = {"least": 0, "median": len(ratios) // 2, "greatest": -1}
    return {f"trust_ratio_{n}": ratios[place] for n, place in places.items()}

  def _ratio(self, weights: tf.Tensor, update: tf.Tensor) -> tf.Tensor:
    return trust_ratio(weights, update)

  def _note(self, index: int, ratio: tf.Tensor) -> None:
    self._ratios[index].assign(ratio)


# Names of the kernels inside the layers, as encoders.EncoderBlock gives them.
_LAYER_KERNEL = re.compile(r"^group_\d+/inner_group_\d+/.*kernel")
# Coefficients and number of the quintic Newton-Schulz iterations (Jordan et al.
# 2024).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5


class Muon(AdamW):
  """Muon for the matrices of the layers, AdamW for all other variables.

  Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks":
  the update is the momentum with all singular values set to about 1. Weight
  decay is decoupled, as in AdamW. Query, key and value are separate matrices.
  AdamW trains the embeddings, their projection, the pooler and the heads.
  """

  def is_orthogonalized(self, variable: tf.Variable) -> bool:
    """Returns whether Muon's rule, and not AdamW's, updates a variable.

    Muon's rule updates the matrices of the layers.
    """
    return bool(_LAYER_KERNEL.match(variable.name))

  def _second_moment(self, variable: tf.Variable) -> tf.Variable:
    if self.is_orthogonalized(variable):  # Muon has no second moment
      return self.add_variable_from_reference(variable, "v", shape=[])
    return super()._second_moment(variable)

  def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
    """Updates one variable by its gradient: a layer's matrix by Muon's rule.

    Any other variable is updated as in AdamW.
    """
    if not self.is_orthogonalized(variable):
      super().update_step(gradient, variable)
      return
    recipe = self.recipe
    m = self._m[self._index_dict[self._var_key(variable)]]
    rate = (
      tf.cast(self.learning_rate, variable.dtype)
      * recipe.muon_rate_ratio
      * self._factor_of(variable.ref(), 1.0)
    )
    # The weights of both averages sum to 1, as in torch.optim.Muon.
    m.assign(m + (1 - recipe.muon_momentum) * (gradient - m))
    nesterov = gradient + recipe.muon_momentum * (m - gradient)
    update = tf.reshape(muon_update(as_matrix(nesterov)), variable.shape)
    decayed = variable * (1 - rate * recipe.weight_decay_rate)
    variable.assign(decayed - rate * update)


def as_matrix(kernel: tf.Tensor) -> tf.Tensor:
  """Returns the kernel of a layer as a matrix, [inputs, outputs].

  Args:
    kernel: [inputs, outputs], [hidden, heads, width] or [heads, width, hidden].
  """
  if kernel.shape.rank == 2:
    return kernel
  hidden = round(kernel.shape.num_elements() ** 0.5)
  return tf.reshape(kernel, [hidden, hidden])


def muon_update(matrix: tf.Tensor) -> tf.Tensor:
  """Returns √max(1, outputs / inputs) · `newton_schulz(matrix)`.

  `newton_schulz(matrix)` is about the nearest semi-orthogonal matrix. The
  square root makes the change of the outputs independent of the matrix's shape
  (Bernstein 2025, "Deriving Muon"); torch.optim.Muon calls it the original
  adjustment.

  Args:
    matrix: [inputs, outputs], the momentum.
  """
  inputs, outputs = matrix.shape
  factor = max(1.0, outputs / inputs) ** 0.5
  return factor * newton_schulz(matrix)


def newton_schulz(matrix: tf.Tensor) -> tf.Tensor:
  """Returns about U·Vᵀ of the matrix U·S·Vᵀ.

  Five iterations bring the singular values that are not tiny to between about
  0.7 and 1.2, not exactly to 1.

  Args:
    matrix: [rows, columns].
  """
  a, b, c = _NEWTON_SCHULZ
  tall = matrix.shape[0] > matrix.shape[1]
  x = tf.transpose(matrix) if tall else matrix
  x = x / tf.maximum(tf.norm(x), 1e-7)
  for _ in range(_NEWTON_SCHULZ_STEPS):
    square = tf.matmul(x, x, transpose_b=True)
    x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
  return tf.transpose(x) if tall else x


def create(
  recipe: OptimizerOptions,
  fused: bool = False,
  scale: tf.Variable | float = 1.0,
  factors: Mapping[Any, float] | None = None,
) -> AdamW:
  """Returns the optimizer that --optimizer names.

  Args:
    recipe: the options of the optimizer.
    fused: whether XLA compiles the update of a variable to one operation.
    scale: factor of the learning rate.
    factors: `ref()` of a variable → factor of its learning rate; 1 for all
      other variables.
  """
  kind = {"lamb": Lamb, "adamw": AdamW, "muon": Muon}[recipe.optimizer]
  return kind(recipe, fused=fused, scale=scale, factors=factors)
