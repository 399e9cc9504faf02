"""Fits a head to the vectors of a frozen encoder, by L-BFGS.

A head above a frozen encoder is a linear model, whose penalised loss has one
minimum. Steps of gradient descent approach this minimum slowly; L-BFGS reaches
it within some hundred passes over the vectors.
"""

import numpy as np
import tensorflow as tf
import threadpoolctl
from scipy import optimize

from albert_mn.tasks import problems

# The prior deviation of a logit. With standardised vectors of 448 units this is
# the penalty of a logistic regression with C = 0.009; from 0.003 to 0.03, 0.01
# was best on SIB-200 (docs/log.md, 2026-12-01).
_DEVIATION = 2.0
_MOST_PASSES = 200


def fitted(
  problem: problems.Problem,
  vectors: np.ndarray,
  targets: np.ndarray,
  weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the kernel [hidden, outputs] and the bias [outputs] of a head.

  The head minimises the sum of the inputs' weighted losses and a penalty on the
  kernel: the negative logarithm of a normal prior under which a logit has a
  deviation of 2. For the penalty every unit of the vectors is standardised; the
  result applies to the vectors as they are.

  Args:
    problem: defines the loss.
    vectors: float32 [inputs, hidden], the pooled vectors of the encoder.
    targets: [inputs, …], as `problems.Problem.targets` returns them.
    weights: float32 [inputs], the weight of each input in the loss.
  """
  mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
  deviation[deviation < 1e-6] = 1.0  # a constant unit tells nothing
  units = (vectors - mean) / deviation
  penalty = units.shape[1] / _DEVIATION**2
  shape = (units.shape[1] + 1, len(problem.names))

  def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
    head = flat.reshape(shape)
    logits = units @ head[:-1].astype(np.float32) + head[-1].astype(np.float32)
    losses, slopes = _losses_and_slopes(problem, logits, targets)
    slopes *= weights[:, None]
    gradient = np.vstack([units.T @ slopes, slopes.sum(axis=0)])
    gradient = gradient.astype(np.float64)
    gradient[:-1] += penalty * head[:-1]
    loss = losses.astype(np.float64) @ weights
    return loss + penalty / 2 * (head[:-1] ** 2).sum(), gradient.ravel()

  # With one thread the result does not depend on the number of cores.
  with threadpoolctl.threadpool_limits(1):
    least = optimize.minimize(
      loss_and_gradient,
      np.zeros(shape).ravel(),
      jac=True,
      method="L-BFGS-B",
      options={"maxiter": _MOST_PASSES},
    )
  head = least.x.reshape(shape)
  kernel = head[:-1] / deviation[:, None]
  bias = head[-1] - mean @ kernel
  return kernel.astype(np.float32), bias.astype(np.float32)


def _losses_and_slopes(
  problem: problems.Problem, logits: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the loss of each input, [inputs], and its gradient by the logits.

  Args:
    problem: defines the loss.
    logits: float32 [inputs, outputs]; so is the gradient.
    targets: [inputs, …].
  """
  with tf.GradientTape() as tape:
    given = tf.constant(logits)
    tape.watch(given)
    losses = problem.losses(given, tf.constant(targets))
  slopes = tape.gradient(losses, given)
  return losses.numpy(), slopes.numpy()
