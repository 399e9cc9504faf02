"""Tests of the fit of a head to the vectors of a frozen encoder."""

import numpy as np
import pytest
from sklearn import linear_model

from albert_mn.finetune import linear_heads
from albert_mn.tasks import problems


def _vectors(rows: int, hidden: int) -> np.ndarray:
  """Returns random vectors, float32, whose units differ in mean and scale."""
  random = np.random.default_rng(0)
  scales = random.uniform(0.1, 5.0, size=hidden)
  vectors = random.normal(size=(rows, hidden)) * scales + 3 * scales
  return vectors.astype(np.float32)


def test_the_head_is_that_of_logistic_regression() -> None:
  vectors = _vectors(200, 12)
  random = np.random.default_rng(1)
  targets = (vectors @ random.normal(size=(12, 3))).argmax(axis=1)
  weights = random.uniform(0.5, 2.0, size=200).astype(np.float32)
  kernel, bias = linear_heads.fitted(
    problems.SingleLabel(("a", "b", "c")),
    vectors,
    targets.astype(np.int32),
    weights,
  )
  mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
  # A deviation of 2 for the logits of 12 units: a variance of 4 / 12 for each
  # weight, which scikit-learn calls C.
  expected = linear_model.LogisticRegression(C=4 / 12, tol=1e-8, max_iter=1000)
  expected.fit((vectors - mean) / deviation, targets, sample_weight=weights)
  logits = expected.decision_function((vectors - mean) / deviation)
  ours = vectors @ kernel + bias
  np.testing.assert_allclose(
    ours - ours.mean(axis=1, keepdims=True),
    logits - logits.mean(axis=1, keepdims=True),
    atol=0.02,
  )


def test_a_number_is_fitted_as_by_ridge_regression() -> None:
  vectors = _vectors(80, 6)
  random = np.random.default_rng(2)
  targets = random.normal(size=80).astype(np.float32)
  kernel, bias = linear_heads.fitted(
    problems.Regression(),
    vectors,
    targets,
    np.ones(80, np.float32),
  )
  units = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
  # The loss is the square, the penalty half of the square times 6 / 4.
  expected = linear_model.Ridge(alpha=6 / 4 / 2).fit(units, targets)
  np.testing.assert_allclose(
    (vectors @ kernel + bias)[:, 0], expected.predict(units), atol=2e-3
  )


def test_several_labels_are_learnt_and_a_constant_unit_does_no_harm() -> None:
  vectors = _vectors(300, 5)
  vectors[:, 2] = 7.0
  targets = (vectors > vectors.mean(axis=0))[:, [0, 1]].astype(np.float32)
  kernel, bias = linear_heads.fitted(
    problems.MultiLabel(("a", "b")), vectors, targets, np.ones(300, np.float32)
  )
  assert ((vectors @ kernel + bias > 0) == targets).mean() > 0.95
  assert kernel[2] == pytest.approx(0, abs=1e-6)


def test_the_same_vectors_give_the_same_bytes() -> None:
  vectors = _vectors(50, 8)
  targets = np.arange(50, dtype=np.int32) % 2
  first, second = (
    linear_heads.fitted(
      problems.SingleLabel(("a", "b")),
      vectors,
      targets,
      np.ones(50, np.float32),
    )
    for _ in range(2)
  )
  assert first[0].tobytes() == second[0].tobytes()
  assert first[1].tobytes() == second[1].tobytes()
