"""Tests LAMB and AdamW against google-research's numbers and the papers."""

import dataclasses
import logging
import multiprocessing
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.runtime import learning_rates, optimization
from data_prep.base import options

REFERENCE = np.load(pathlib.Path(__file__).parent / "reference/optimizers.npz")
# The setting under which the reference was printed: its README.
RECIPE = optimization.OptimizerOptions(
  learning_rate=1e-2,
  num_train_steps=100,
  num_warmup_steps=4,
  clip_norm=0.0,
  bias_correction=False,
)


def _variables() -> dict[str, tf.Variable]:
  return {
    key.split("|", 1)[1]: tf.Variable(REFERENCE[key], name=key.split("|", 1)[1])
    for key in REFERENCE.files
    if key.startswith("P0|")
  }


def _gradients(step: int, names: list[str]) -> list[tf.Tensor]:
  return [tf.constant(REFERENCE[f"G|{step}|{name}"]) for name in names]


def _run(
  recipe: optimization.OptimizerOptions,
  variables: dict[str, tf.Variable],
  steps: range,
  optimizer: optimization.AdamW | None = None,
  jit_compile: bool = False,
) -> optimization.AdamW:
  optimizer = optimizer or optimization.create(recipe)
  optimizer.build(list(variables.values()))

  @tf.function(jit_compile=jit_compile)
  def apply(gradients: list[tf.Tensor]) -> None:
    optimizer.apply_gradients(zip(gradients, variables.values(), strict=True))

  for step in steps:
    apply(_gradients(step, list(variables)))
  return optimizer


@pytest.mark.parametrize("name", ["lamb", "adamw"])
@pytest.mark.parametrize("clip", [0, 1])
def test_ten_steps_without_bias_correction_equal_google_research(
  name: str, clip: int
) -> None:
  recipe = dataclasses.replace(RECIPE, optimizer=name, clip_norm=float(clip))
  variables = _variables()
  optimizer = None
  for step in range(10):
    optimizer = _run(recipe, variables, range(step, step + 1), optimizer)
    for key, variable in variables.items():
      np.testing.assert_allclose(
        variable.numpy(),
        REFERENCE[f"{name}|{clip}|{step}|{key}"],
        rtol=1e-5,
        atol=1e-6,
        err_msg=f"step {step}: {key}",
      )


def test_the_rates_equal_google_research() -> None:
  rates = [float(optimization.Schedule(RECIPE)(step)) for step in range(10)]
  np.testing.assert_allclose(rates, REFERENCE["lamb|0|lr"], rtol=1e-6)


def test_the_schedule_rises_from_start_warmup_step_and_ends_at_zero() -> None:
  recipe = dataclasses.replace(RECIPE, start_warmup_step=10, poly_power=2.0)
  rate = optimization.Schedule(recipe)
  assert float(rate(0)) == float(rate(9)) == 0.0
  assert float(rate(10)) == 0.0
  assert float(rate(12)) == pytest.approx(0.5e-2)
  assert float(rate(50)) == pytest.approx(1e-2 * 0.5**2)
  assert float(rate(100)) == 0.0


def test_a_smaller_batch_takes_the_rate_of_the_square_root_rule_or_is_told_it(
  caplog: pytest.LogCaptureFixture,
) -> None:
  recipe = optimization.OptimizerOptions()
  with caplog.at_level(logging.INFO, "absl"):
    assert learning_rates.for_batch(recipe, 512, scale=False) == recipe
    scaled = learning_rates.for_batch(recipe, 512, scale=True)
  warned, told = caplog.records
  assert warned.levelname == "WARNING"
  assert "for 512 the square-root rule gives 0.000622" in warned.message
  assert told.message == "learning rate 0.000622: 0.00176 x √(512 / 4096)"
  assert scaled.learning_rate == pytest.approx(0.00176 / 8**0.5)
  assert dataclasses.replace(scaled, learning_rate=0.00176) == recipe


def test_a_rate_of_the_users_own_or_the_recipes_batch_is_not_warned_of(
  caplog: pytest.LogCaptureFixture,
) -> None:
  with caplog.at_level(logging.WARNING, "absl"):
    learning_rates.for_batch(RECIPE, 8, scale=False)
    recipe = optimization.OptimizerOptions()
    learning_rates.for_batch(recipe, 4096, scale=False)
  assert not caplog.records


def test_the_table_shows_warm_up_peak_and_end() -> None:
  recipe = dataclasses.replace(RECIPE, start_warmup_step=10)
  _, *rows, line = learning_rates.table(recipe).splitlines()
  told = {row.split()[0]: row.split()[1:] for row in rows}
  assert next(iter(told)) == "0"
  assert told["0"] == told["10"] == ["0"]
  # The decay counts from step 0: at 14 it is below the last of the rise.
  assert told["14"] == ["0.0086", "highest"]
  assert list(told)[-1] == "100"
  assert told["100"] == ["0"]
  assert 20 <= len(rows) <= 22
  assert line[0] == line[-1] == "▁"
  assert line[9] == "█"
  assert len(line) == 60


def _textbook(
  name: str, w: np.ndarray, gradients: list[np.ndarray], kept_out: bool
) -> np.ndarray:
  """Returns weights after steps of LAMB or AdamW, each by algorithm 2.

  The algorithms are those of the two papers, in float64.
  """
  m, v = np.zeros_like(w), np.zeros_like(w)
  for t, g in enumerate(gradients, 1):
    rate = 1e-2 * ((t - 1) / 4 if t - 1 < 4 else 1 - (t - 1) / 100)
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    r = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)
    u = r if kept_out else r + 0.01 * w
    ratio = 1.0
    if name == "lamb" and not kept_out and np.linalg.norm(w):
      ratio = float(np.linalg.norm(w) / np.linalg.norm(u))
    w = w - rate * ratio * u
  return w


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_ten_steps_with_bias_correction_equal_the_papers_formulas(
  name: str,
) -> None:
  recipe = dataclasses.replace(RECIPE, optimizer=name, bias_correction=True)
  variables = _variables()
  before = {k: v.numpy().astype(np.float64) for k, v in variables.items()}
  _run(recipe, variables, range(10))
  for key, variable in variables.items():
    gradients = [
      REFERENCE[f"G|{s}|{key}"].astype(np.float64) for s in range(10)
    ]
    kept_out = "LayerNorm" in key or "bias" in key
    want = _textbook(name, before[key], gradients, kept_out)
    np.testing.assert_allclose(
      variable.numpy(), want, rtol=2e-5, atol=1e-6, err_msg=key
    )


def test_a_restored_optimizer_goes_on_as_if_it_had_not_stopped(
  tmp_path: pathlib.Path,
) -> None:
  whole, parted = _variables(), _variables()
  _run(RECIPE, whole, range(10))
  first = _run(RECIPE, parted, range(4))
  path = tf.train.Checkpoint(o=first, v=parted).write(str(tmp_path / "c"))
  again, optimizer = _variables(), optimization.create(RECIPE)
  optimizer.build(list(again.values()))
  tf.train.Checkpoint(o=optimizer, v=again).read(path).assert_consumed()
  _run(RECIPE, again, range(4, 10), optimizer)
  for key, variable in whole.items():
    np.testing.assert_array_equal(variable.numpy(), again[key].numpy(), key)


def test_xla_gives_the_same_weights() -> None:
  plain, compiled = _variables(), _variables()
  _run(RECIPE, plain, range(3))
  _run(RECIPE, compiled, range(3), jit_compile=True)
  for key, variable in plain.items():
    np.testing.assert_allclose(
      variable.numpy(), compiled[key].numpy(), rtol=1e-5, atol=1e-7
    )


def test_weights_of_norm_zero_are_not_adapted() -> None:
  ratio = optimization.trust_ratio(tf.zeros([3]), tf.ones([3]))
  assert float(ratio) == 1.0
  assert float(optimization.trust_ratio(tf.ones([3]), tf.zeros([3]))) == 1.0


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_without_a_gradient_only_what_is_not_excluded_decays(name: str) -> None:
  recipe = dataclasses.replace(RECIPE, optimizer=name, num_warmup_steps=0)
  names = {
    "self_attention/query/kernel": True,
    "word_embeddings/embeddings": True,
    "self_attention/query/bias": False,
    "self_attention_layer_norm/gamma": False,
    "embeddings/layer_norm/beta": False,
    "transform/LayerNorm/gamma": False,
  }
  variables = [tf.Variable(tf.ones([2]), name=key) for key in names]
  optimizer = optimization.create(recipe)
  optimizer.apply_gradients([(tf.zeros([2]), v) for v in variables])
  # LAMB takes the decay, 0.01 x, for the direction and ‖x‖ for its length.
  kept = {"lamb": 1 - 1e-2, "adamw": 1 - 1e-2 * 0.01}[name]
  for variable, decays in zip(variables, names.values(), strict=True):
    want = [kept if decays else 1.0] * 2
    np.testing.assert_allclose(variable, want, rtol=1e-6, err_msg=variable.name)


def test_layer_norms_of_any_length_take_the_same_step_under_lamb() -> None:
  recipe = dataclasses.replace(RECIPE, num_warmup_steps=0)
  steps = []
  for length in (1.0, 100.0):
    gamma = tf.Variable([length], name="output_layer_norm/gamma")
    optimization.create(recipe).apply_gradients([(tf.ones([1]), gamma)])
    steps.append(length - float(gamma[0]))
  assert steps[0] == pytest.approx(steps[1], rel=1e-3)


def test_lamb_tells_the_trust_ratios_of_its_last_step() -> None:
  recipe = dataclasses.replace(RECIPE, num_warmup_steps=0)
  kernel = tf.Variable([3.0, 4.0], name="kernel")
  zero = tf.Variable([0.0, 0.0], name="zero/kernel")
  bias = tf.Variable([1.0, 1.0], name="bias")
  optimizer = optimization.create(recipe)
  optimizer.apply_gradients([(tf.ones([2]), v) for v in (kernel, zero, bias)])
  ratios = optimizer.trust_ratios()
  assert sorted(ratios) == ["kernel:0", "zero/kernel:0"]
  r = 0.1 / (np.sqrt(0.001) + 1e-6)
  length = np.hypot(r + 0.01 * 3, r + 0.01 * 4)
  assert float(ratios["kernel:0"]) == pytest.approx(5 / length, rel=1e-5)
  assert float(ratios["zero/kernel:0"]) == 1.0


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_a_configuration_makes_the_same_optimizer(name: str) -> None:
  recipe = dataclasses.replace(RECIPE, optimizer=name, clip_norm=2.0)
  kind = type(optimization.create(recipe))
  optimizer = kind(recipe, excluded=["bias", "embeddings"], name="mine")
  again = kind.from_config(optimizer.get_config())
  assert again.recipe == recipe
  assert again.global_clipnorm == 2.0
  assert again.leaves_alone("word_embeddings")
  assert not again.leaves_alone("LN")
  assert again.get_config() == optimizer.get_config()


def _weights_of_replicas(name: str, count: int) -> dict[str, np.ndarray]:
  """Runs three clipped steps on `count` logical CPUs, in a process of its own.

  The first replica gets the gradient g − (n − 1) d, each further replica d; the
  sum is g. With equal shares of g the test could not fail: clipping would make
  all results equal.
  """
  cpu = tf.config.list_physical_devices("CPU")[0]
  tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * count
  )
  strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
  recipe = dataclasses.replace(
    RECIPE, optimizer=name, clip_norm=1.0, bias_correction=True
  )
  with strategy.scope():
    variables = _variables()
    optimizer = optimization.create(recipe)
    optimizer.build(list(variables.values()))

  def step(gradients: list[tf.Tensor], deviations: list[tf.Tensor]) -> None:
    context = tf.distribute.get_replica_context()
    first = context.replica_id_in_sync_group == 0
    own = [
      tf.where(first, g - (count - 1) * d, d)
      for g, d in zip(gradients, deviations, strict=True)
    ]
    optimizer.apply_gradients(zip(own, variables.values(), strict=True))

  names = list(variables)
  run = tf.function(lambda g, d: strategy.run(step, (g, d)))
  for number in range(3):
    run(_gradients(number, names), _gradients(number + 5, names))
  assert optimizer.iterations.numpy() == 3
  for variable in variables.values():
    parts = strategy.experimental_local_results(variable)
    assert len(parts) == count
    assert all((part.numpy() == parts[0].numpy()).all() for part in parts)
  return {key: variable.numpy() for key, variable in variables.items()}


@pytest.mark.parametrize("name", ["lamb", "adamw", "muon"])
def test_two_replicas_give_the_weights_of_one(name: str) -> None:
  # Logical devices are fixed once TensorFlow has started: a fresh process.
  context = multiprocessing.get_context("spawn")
  with context.Pool(2, maxtasksperchild=1) as pool:
    asked = [(name, 1), (name, 2)]
    by_one_replica, by_two_replicas = pool.starmap(
      _weights_of_replicas, asked, chunksize=1
    )
  for key, weights in by_one_replica.items():
    np.testing.assert_allclose(
      by_two_replicas[key], weights, rtol=1e-5, atol=1e-7
    )


def test_a_warmup_longer_than_the_run_is_refused() -> None:
  with pytest.raises(options.InputError, match="lower --num_warmup_steps"):
    optimization.OptimizerOptions(num_train_steps=10, num_warmup_steps=11)


@pytest.mark.parametrize(
  ("name", "value", "expected"),
  [
    ("optimizer", "sgd", "one of .*lamb.*got 'sgd'"),
    ("learning_rate", float("nan"), "finite number of at least 0; got nan"),
    ("clip_norm", float("inf"), "finite number of at least 0; got inf"),
    ("num_train_steps", 0, "from 1 to 2147483647; got 0"),
    ("beta_2", 1.0, "below 1; got 1.0"),
    ("epsilon", 0.0, "above 0; got 0.0"),
  ],
)
def test_an_option_out_of_range_is_refused_by_name(
  name: str, value: Any, expected: str
) -> None:
  with pytest.raises(options.InputError, match=f"--{name} .*{expected}"):
    dataclasses.replace(RECIPE, **{name: value})


def _numpy_muon(
  weights: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float
) -> np.ndarray:
  """Muon as published, for a matrix [inputs, outputs], in float64.

  The exact polynomial of the singular values takes the place of the matrix
  products: each iteration maps s to a·s + b·s³ + c·s⁵.
  """
  momentum = np.zeros_like(weights)
  for gradient in gradients:
    momentum = 0.95 * momentum + 0.05 * gradient
    direction = 0.05 * gradient + 0.95 * momentum
    left, values, right = np.linalg.svd(direction, full_matrices=False)
    values = values / np.linalg.norm(direction)
    for _ in range(5):
      values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    update = (left * values) @ right
    inputs, outputs = weights.shape
    update *= np.sqrt(max(1, outputs / inputs))
    weights = weights * (1 - rate * decay) - rate * update
  return weights


def _layer_kernels() -> dict[str, tf.Variable]:
  random = np.random.default_rng(7)
  place = "group_0/inner_group_0/"
  shapes = {
    "self_attention/query/kernel": (12, 3, 4),
    "self_attention/attention_output/kernel": (3, 4, 12),
    "intermediate/kernel": (12, 48),
    "output/kernel": (48, 12),
  }
  return {
    place + name: tf.Variable(
      random.normal(size=shape).astype(np.float32), name=place + name
    )
    for name, shape in shapes.items()
  }


@pytest.mark.parametrize("jit_compile", [False, True])
def test_muon_orthogonalizes_the_momentum_of_layers_as_published(
  jit_compile: bool,
) -> None:
  recipe = optimization.OptimizerOptions(
    optimizer="muon",
    learning_rate=1e-3,
    muon_rate_ratio=20.0,
    num_train_steps=10**6,
    num_warmup_steps=0,
    weight_decay_rate=0.1,
    clip_norm=0.0,
  )
  kernels, random = _layer_kernels(), np.random.default_rng(8)
  gradients = [
    {
      n: random.normal(size=v.shape).astype(np.float32)
      for n, v in kernels.items()
    }
    for _ in range(4)
  ]
  expected = {
    name: _numpy_muon(
      optimization.as_matrix(kernel).numpy().astype(np.float64),
      [
        optimization.as_matrix(tf.constant(step[name])).numpy()
        for step in gradients
      ],
      rate=0.02,
      decay=0.1,
    )
    for name, kernel in kernels.items()
  }
  optimizer = optimization.create(recipe)
  optimizer.build(list(kernels.values()))

  @tf.function(jit_compile=jit_compile)
  def apply(step: list[tf.Tensor]) -> None:
    optimizer.apply_gradients(zip(step, kernels.values(), strict=True))

  for step in gradients:
    apply([tf.constant(step[name]) for name in kernels])
  for name, kernel in kernels.items():
    np.testing.assert_allclose(
      optimization.as_matrix(kernel).numpy(),
      expected[name],
      atol=2e-5,
      err_msg=name,
    )


def test_muon_leaves_all_but_the_layers_matrices_to_adamw() -> None:
  weights = {}
  for name in ("muon", "adamw"):
    recipe = dataclasses.replace(RECIPE, optimizer=name)
    variables = _variables()
    optimizer = _run(recipe, variables, range(3))
    weights[name] = variables
  assert isinstance(optimizer, optimization.AdamW)
  for key, variable in weights["adamw"].items():
    np.testing.assert_array_equal(weights["muon"][key], variable)


def test_muon_keeps_one_moment_for_a_matrix_and_two_for_the_rest() -> None:
  kernel = next(iter(_layer_kernels().values()))
  bias = tf.Variable(tf.zeros(5), name="group_0/inner_group_0/output/bias")
  optimizer = optimization.create(dataclasses.replace(RECIPE, optimizer="muon"))
  optimizer.build([kernel, bias])
  assert [v.shape for v in optimizer._m] == [kernel.shape, bias.shape]
  assert [v.shape for v in optimizer._v] == [tf.TensorShape([]), bias.shape]
