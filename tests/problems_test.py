"""Tests of the meaning of outputs: scores as scikit-learn's, and messages."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import special
from sklearn import metrics
from sklearn.utils import class_weight

from albert_mn.finetune import best_weights
from albert_mn.scoring import calibration, degenerate_runs
from albert_mn.tasks import problems
from data_prep.base import options
from data_prep.classification import classifier_data


def _rows(*labels: str) -> list[classifier_data.Row]:
  return [
    classifier_data.Row(line, f"мөр {line}", label)
    for line, label in enumerate(labels, 2)
  ]


def _tagged(*labels: tuple[str, ...]) -> list[classifier_data.Row]:
  return [classifier_data.Row(2, "мөр", labels=names) for names in labels]


def test_one_label_a_row() -> None:
  rows = _rows("b", "a", "c", "b", "b")
  problem = problems.of_rows("class", rows)
  assert problem.names == ("a", "b", "c")
  targets = problem.targets(rows)
  assert targets.tolist() == [1, 0, 2, 1, 1]
  logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  np.testing.assert_allclose(
    problem.probabilities(logits), special.softmax(logits, 1), rtol=1e-6
  )
  assert float(
    tf.reduce_mean(problem.losses(tf.constant(logits), tf.constant(targets)))
  ) == pytest.approx(metrics.log_loss(targets, special.softmax(logits, 1)))
  np.testing.assert_allclose(
    problem.weights(targets),
    class_weight.compute_sample_weight("balanced", targets),
    rtol=1e-6,
  )
  assert problem.mean_recall(logits, targets) == pytest.approx(
    metrics.balanced_accuracy_score(targets, logits.argmax(axis=1))
  )
  with pytest.raises(options.InputError, match="'d' on line 2"):
    problem.targets(_rows("d"))
  with pytest.raises(options.InputError, match="only 'a'"):
    problems.of_rows("class", _rows("a", "a"))


def test_several_labels_a_row() -> None:
  rows = _tagged(("спорт", "😀 a"), (), ("спорт",))
  problem = problems.of_rows("multi_label", rows)
  targets = problem.targets(rows)
  assert problem.names == ("спорт", "😀 a")
  assert targets.tolist() == [[1, 1], [0, 0], [1, 0]]
  logits = np.array([[2, -1], [0.5, -3], [1, 1]], np.float32)
  np.testing.assert_allclose(
    problem.probabilities(logits), special.expit(logits), rtol=1e-6
  )
  assert problem.score(logits, targets) == pytest.approx(
    metrics.f1_score(targets, logits > 0, average="micro")
  )
  with pytest.raises(options.InputError, match="'гурав' on line 2"):
    problem.targets(_tagged(("гурав",)))


def test_a_number_a_row() -> None:
  rows = _rows("1", "2", "6.5")
  problem = problems.of_rows("regression", rows)
  targets = problem.targets(rows)
  assert targets.mean() == pytest.approx(0, abs=1e-6)
  assert targets.std() == pytest.approx(1)
  np.testing.assert_allclose(
    problem.probabilities(targets[:, None])[:, 0], [1, 2, 6.5], rtol=1e-6
  )
  logits = np.array([[0.1], [0.2], [0.3]], np.float32)
  assert problem.score(logits, targets) == pytest.approx(
    metrics.r2_score(targets, logits[:, 0]), rel=1e-5
  )
  again = problems.of_model(problem.names, problem.parameters())
  assert again == problem
  with pytest.raises(options.InputError, match="at least two numbers"):
    problems.of_rows("regression", _rows("3", "3"))


@pytest.mark.parametrize(
  ("problem", "rows"),
  [
    (problems.SingleLabel(("a", "b")), _rows(*"aabababb")),
    (problems.MultiLabel(("a", "b")), _tagged(*[("a",), ("b",), ()] * 4)),
    (problems.Regression(mean=4.5, deviation=2.3), _rows(*"12345678")),
  ],
)
def test_a_run_that_answers_all_alike_is_degenerate(
  problem: problems.Problem, rows: list[classifier_data.Row]
) -> None:
  targets = problem.targets(rows)
  constant = np.full([len(rows), len(problem.names)], 0.01, np.float32)
  if problem.TYPE == "multi_label":
    constant -= 0.7
  seen = degenerate_runs.finding(problem, constant, targets)
  assert seen
  assert "one answer for all" in seen.words
  assert seen.spread < 1e-6
  assert seen.excess == pytest.approx(1, abs=0.1)
  learnt = (
    targets[:, None]
    if problem.TYPE == "regression"
    else 9 * (targets - 0.5)
    if problem.TYPE == "multi_label"
    else 9 * np.eye(2)[targets]
  ).astype(np.float32)
  assert not degenerate_runs.finding(problem, learnt, targets)
  # As sure as that, and wrong.
  wrong = degenerate_runs.finding(problem, -learnt, targets)
  assert wrong
  assert "hardly better than one answer" in wrong.words
  assert wrong.excess > 2
  learnt[0] = np.nan
  lost = degenerate_runs.finding(problem, learnt, targets)
  assert lost
  assert "no numbers" in lost.words


def test_answers_that_vary_by_chance_are_no_learning() -> None:
  """The logits are random, as a small encoder's at google's rate of 2e-5."""
  rng = np.random.default_rng(0)
  problem = problems.SingleLabel(("a", "b", "c"))
  targets = rng.choice(3, 500, p=[0.4, 0.3, 0.3]).astype(np.int32)
  logits = rng.normal(size=(500, 3), scale=0.02).astype(np.float32)
  seen = degenerate_runs.finding(problem, logits, targets)
  assert seen
  assert "accuracy 0.3" in seen.words
  assert "one answer" in seen.words
  # A little is something, even at a loss like that without a look.
  little = logits + 0.03 * np.eye(3, dtype=np.float32)[targets]
  assert problem.mean_loss(little, targets) > 0.95 * problem.entropy(targets)
  assert not degenerate_runs.finding(problem, little, targets)


def test_a_training_that_weighs_labels_is_judged_by_them() -> None:
  targets = np.array([0] * 90 + [1] * 10, np.int32)
  problem = problems.SingleLabel(("often", "seldom"))
  # It knows half of the rare label, at a loss far above the entropy of 0.325.
  logits = np.array([[0.7, -0.7]] * 85 + [[-0.7, 0.7]] * 15, np.float32)
  weights = problem.weights(targets)
  assert degenerate_runs.finding(problem, 0 * logits, targets, weights)
  assert problem.entropy(targets, weights) == pytest.approx(np.log(2))
  assert problem.mean_loss(0 * logits, targets, weights) == pytest.approx(
    np.log(2)
  )
  assert not degenerate_runs.finding(problem, logits, targets, weights)


@pytest.mark.parametrize(
  ("rate", "moved", "spread", "excess", "cause", "advised"),
  [
    # docs/log.md, 2026-11-30: rates, and how far an ALBERT-tiny's weights moved.
    (2e-6, 0.001, 0.02, 1.04, "learnt too little", "--learning_rate=0.0002"),
    (2e-5, 0.003, 0.02, 1.02, "learnt too little", "--learning_rate=0.0007"),
    (5e-3, 0.416, 0.02, 1.0, "diverged", "--learning_rate=0.001"),
    (1e-2, 0.34, 0.0, 1.0, "diverged", "--learning_rate=0.001"),
    (1e-1, 2.32, 0.0, 1.04, "diverged", "--learning_rate=0.001"),
    (1e-3, 0.07, 0.5, 3.0, "diverged", "--learning_rate=0.0005"),
    (1e-3, math.nan, 0.0, math.inf, "diverged", "--learning_rate=0.0001"),
    (1e-4, 0.027, 0.0, 1.0, "unclear", "labels may not follow"),
    (1e-3, 0.2, 0.02, 1.0, "unclear", "labels may not follow"),
    # A rate that is high already: not the rate but the steps are too few.
    (2e-3, 0.005, 0.02, 1.0, "learnt too little", "epochs of 20 times"),
  ],
)
def test_movement_tells_too_little_from_too_much(
  rate: float,
  moved: float,
  spread: float,
  excess: float,
  cause: str,
  advised: str,
) -> None:
  seen = degenerate_runs.Finding("", excess, spread)
  verdict = degenerate_runs.verdict(seen, moved, degenerate_runs.Steps(rate))
  assert verdict.cause == cause
  assert advised in verdict.advice
  assert verdict.another_seed_may_do == (cause != "learnt too little")
  assert degenerate_runs.Verdict.of(verdict.parameters()) == verdict


def test_lamb_is_told_larger_rates_than_adamw() -> None:
  seen = degenerate_runs.Finding("", 0.99, 0.057)
  steps = degenerate_runs.Steps(1e-3, "lamb")
  verdict = degenerate_runs.verdict(seen, 0.029, steps)
  assert verdict.cause == "learnt too little"
  assert "--learning_rate=0.003" in verdict.advice


def test_a_head_alone_is_told_by_its_loss() -> None:
  seen = degenerate_runs.Finding("", 1.04, 0.02)
  steps = degenerate_runs.Steps(1e-5, head_only=True)
  small = degenerate_runs.verdict(seen, 1.1, steps)
  assert small.cause == "learnt too little"
  assert "--learning_rate=0.01" in small.advice
  wild = dataclasses.replace(seen, excess=4.0)
  steps = dataclasses.replace(steps, learning_rate=10.0)
  large = degenerate_runs.verdict(wild, 80.0, steps)
  assert large.cause == "diverged"
  assert "--learning_rate=1," in large.advice


def test_movement_is_the_share_of_the_norm() -> None:
  begun = [np.array([3.0, 0.0]), np.array([[4.0]])]
  ended = [np.array([3.0, 1.0]), np.array([[4.0]])]
  assert degenerate_runs.movement(begun, ended) == pytest.approx(0.2)


def test_the_best_weights_come_back_and_patience_ends() -> None:
  weight = tf.Variable([0.0])
  best = best_weights.Best([weight], patience=2)
  scores = [(0.5, 1.0), (0.7, 1.0), (0.7, 0.9), (0.7, 0.95), (0.6, 0.1)]
  better, stops = [], []
  for epoch, (score, loss) in enumerate(scores):
    weight.assign([float(epoch)])
    better.append(best.take(score, loss))
    stops.append(best.stops())
  assert better == [True, True, True, False, False]
  assert stops == [False, False, False, False, True]
  best.restore()
  assert weight.numpy() == [2.0]


def test_calibration_of_a_textbook_case() -> None:
  confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
  right = np.array([1, 1, 1, 0, 1, 0])
  intervals = calibration.bins(confidence, right, 10)
  assert [(interval.rows, interval.accuracy) for interval in intervals] == [
    (2, 0.5),
    (4, 0.75),
  ]
  assert calibration.expected_error(intervals) == pytest.approx(
    (4 * 0.20 + 2 * 0.05) / 6
  )
  # The edges belong to the lower bin, 0 and 1 to the outer ones.
  ends = calibration.bins(np.array([0.0, 0.1, 1.0]), np.array([0, 1, 1]), 10)
  assert [(interval.low, interval.rows) for interval in ends] == [
    (0.0, 2),
    (0.9, 1),
  ]


def test_the_temperature_undoes_what_made_a_model_too_sure() -> None:
  rng = np.random.default_rng(0)
  problem = problems.SingleLabel(("a", "b", "c"))
  logits = rng.normal(size=(4000, 3)) * 2
  shares = special.softmax(logits, 1)
  targets = np.array([rng.choice(3, p=p) for p in shares], np.int32)
  sure = (logits * 3).astype(np.float32)
  temperature = calibration.temperature(problem, sure, targets)
  assert temperature == pytest.approx(3, rel=0.1)

  def error(values: np.ndarray) -> float:
    p = problem.probabilities(values)
    bins = calibration.bins(p.max(axis=1), p.argmax(axis=1) == targets)
    return calibration.expected_error(bins)

  assert error(sure / temperature) < 0.03 < error(sure)


def test_answers_of_two_models_are_equal_where_a_reader_sees_no_difference() -> (
  None
):
  """Labels must be the same; numbers may differ by a tenth of the deviation."""
  single = problems.SingleLabel(("а", "б"))
  ours, theirs = np.array([[1.0, 0], [0, 1]]), np.array([[9.0, 8], [1, 0]])
  assert single.equal_answers(ours, theirs).tolist() == [True, False]
  assert single.agreement(ours, theirs).startswith("labels: 1 of 2 ")
  several = problems.MultiLabel(("а", "б"))
  same = several.equal_answers(np.array([[1.0, -1]]), np.array([[2.0, 2]]))
  assert same.tolist() == [[True, False]]
  number = problems.Regression(deviation=10.0)
  near = number.equal_answers(np.array([[1.0], [1.0]]), np.array([[2], [2.1]]))
  assert near.tolist() == [True, False]
