"""LAMB and AdamW against google-research's numbers and the papers' formulas."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from albert_mn import optimization
from data_prep import options

REFERENCE = np.load(pathlib.Path(__file__).parent / "reference/optimizers.npz")
# The setting under which the reference was printed: its README.
RECIPE = optimization.OptimizerOptions(
  learning_rate=1e-2, num_train_steps=100, num_warmup_steps=4, clip_norm=0.0,
  bias_correction=False,
)  # fmt: skip


def _variables() -> dict[str, tf.Variable]:
  return {
    key.split("|", 1)[1]: tf.Variable(
      REFERENCE[key], name=key.split("|", 1)[1]
    )
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
  assert float(rate(10)) == 0.0
  assert float(rate(12)) == pytest.approx(0.5e-2)
  assert float(rate(50)) == pytest.approx(1e-2 * 0.5**2)
  assert float(rate(100)) == 0.0


def _textbook(
  name: str, w: np.ndarray, gradients: list[np.ndarray], kept_out: bool
) -> np.ndarray:
  """LAMB's algorithm 2 and AdamW's algorithm 2, in float64."""
  m, v = np.zeros_like(w), np.zeros_like(w)
  for t, g in enumerate(gradients, 1):
    rate = 1e-2 * ((t - 1) / 4 if t - 1 < 4 else 1 - (t - 1) / 100)
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    r = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)
    u = r if kept_out else r + 0.01 * w
    ratio = 1.0
    if name == "lamb" and not kept_out and np.linalg.norm(w):
      ratio = np.linalg.norm(w) / np.linalg.norm(u)
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
    gradients = [REFERENCE[f"G|{s}|{key}"].astype(np.float64) for s in range(10)]
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


def test_a_configuration_makes_the_same_optimizer() -> None:
  optimizer = optimization.create(RECIPE)
  again = optimization.Lamb.from_config(optimizer.get_config())
  assert again.recipe == RECIPE


def test_a_warmup_longer_than_the_run_is_refused() -> None:
  with pytest.raises(options.InputError, match="lower --num_warmup_steps"):
    optimization.OptimizerOptions(num_train_steps=10, num_warmup_steps=11)
