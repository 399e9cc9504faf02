"""Tests that Muon gives the weights of torch.optim.Muon."""

import json
import subprocess
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.runtime import optimization
from tests import running

pytestmark = pytest.mark.slow

_RATE, _DECAY, _MOMENTUM, _STEPS = 0.02, 0.1, 0.95, 6
_NAME = "group_0/inner_group_0/intermediate/kernel"


def _theirs(kernel: np.ndarray, gradients: list[np.ndarray]) -> Any:
  """Returns torch's weights, [inputs, outputs], after each step.

  PyTorch's matrices are [outputs, inputs].
  """
  subprocess.run(
    ["scripts/setup.sh", "--interop"], cwd=running.ROOT, check=True
  )
  job = {
    "weights": kernel.T.tolist(),
    "gradients": [gradient.T.tolist() for gradient in gradients],
    "rate": _RATE,
    "decay": _DECAY,
    "momentum": _MOMENTUM,
  }
  done = subprocess.run(
    [".venv-interop/bin/python", "tests/torch_muon.py"],
    cwd=running.ROOT,
    input=json.dumps(job),
    capture_output=True,
    text=True,
    check=True,
  )
  return {
    name: np.array(steps).transpose(0, 2, 1)
    for name, steps in json.loads(done.stdout).items()
  }


def _ours(kernel: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
  """Returns the weights after each step, [steps, inputs, outputs]."""
  recipe = optimization.OptimizerOptions(
    optimizer="muon",
    learning_rate=1e-3,
    muon_rate_ratio=_RATE / 1e-3,
    muon_momentum=_MOMENTUM,
    num_train_steps=10**9,
    num_warmup_steps=0,
    weight_decay_rate=_DECAY,
    clip_norm=0.0,
  )
  variable = tf.Variable(kernel, dtype=tf.float32, name=_NAME)
  optimizer = optimization.create(recipe)
  optimizer.build([variable])
  after = []
  for gradient in gradients:
    optimizer.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
    after.append(variable.numpy())
  return np.array(after)


@pytest.mark.parametrize("shape", [(96, 96), (64, 256), (256, 64)])
def test_six_steps_of_muon_equal_pytorchs(shape: tuple[int, int]) -> None:
  random = np.random.default_rng(11)
  kernel = random.normal(scale=0.02, size=shape)
  gradients = [random.normal(size=shape) for _ in range(_STEPS)]
  ours, theirs = _ours(kernel, gradients), _theirs(kernel, gradients)
  # The code of both without bfloat16: what is left is our float32.
  np.testing.assert_allclose(ours, theirs["float64"], atol=1e-6)
  # bfloat16 has 8 bits. The difference is 0.013 to 0.015 of an update.
  moved = np.diff(np.concatenate([[kernel], ours]), axis=0)
  rounded = np.diff(np.concatenate([[kernel], theirs["bfloat16"]]), axis=0)
  for step in range(_STEPS):
    off = np.linalg.norm(moved[step] - rounded[step])
    assert off < 0.03 * np.linalg.norm(rounded[step]), step
