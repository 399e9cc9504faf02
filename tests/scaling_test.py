"""Tests of the loss that is expected of a pretraining run, and of the plan."""

import dataclasses
import json
import math
import pathlib
import shlex

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from albert_mn.models import configs
from albert_mn.pretrain import planning, run_options
from albert_mn.runtime import distribution, optimization, scaling
from data_prep.base import options
from tests import running

SPEED = 4e10  # FLOPs a second, so that no test measures this machine


def _predicted(run: scaling.Run, fit: scaling.Fit) -> scaling.Prediction:
  return fit.predict(scaling.shape(run.config), run.sequences)


def _settings(
  hours: float = 2.0,
  words: int = 1_500_000,
  size: str = "auto",
  pieces: int = 8000,
) -> planning.Options:
  return planning.Options(
    hours=hours, words=words, size=size, vocab_size=pieces, flops=SPEED
  )


def test_the_fit_is_the_least_and_close_to_its_own_table() -> None:
  fit = scaling.fit()

  def squares(numbers: np.ndarray) -> float:
    return sum(
      (
        scaling.expected_loss(numbers, scaling.shape(run.config), run.sequences)
        - run.loss
      )
      ** 2
      for run in scaling.RUNS
    )

  least = squares(fit.numbers)
  for place in range(len(fit.numbers)):
    for change in (-0.01, 0.01):
      moved = fit.numbers.copy()
      moved[place] += change
      assert squares(moved) > least
  for run in scaling.RUNS:
    assert abs(_predicted(run, fit).loss - run.loss) < 2 * fit.deviation
  # Far better than the mean of the table: what differs is explained.
  assert fit.deviation < 0.3 * np.std([run.loss for run in scaling.RUNS])


def test_the_run_that_no_fit_has_seen_lies_in_its_interval() -> None:
  assert scaling.UNSEEN not in scaling.RUNS
  assert scaling.UNSEEN.config not in {run.config for run in scaling.RUNS}
  got = _predicted(scaling.UNSEEN, scaling.fit())
  assert got.low <= scaling.UNSEEN.loss <= got.high


def test_a_run_made_after_the_fit_lies_in_its_interval() -> None:
  """run_pretraining.py by the command of a plan for 0.02 hours, 2026-12-01."""
  later = scaling.Run("albert_mn_tiny", 60, 0.0, 7.014)
  got = _predicted(later, scaling.fit())
  assert got.low <= later.loss <= got.high


def test_each_measured_run_is_foreseen_by_the_other_runs() -> None:
  inside = 0
  for left_out in scaling.RUNS:
    rest = [run for run in scaling.RUNS if run != left_out]
    got = _predicted(left_out, scaling.Fit(rest))
    inside += got.low <= left_out.loss <= got.high
  assert inside >= len(scaling.RUNS) - 2  # 90 % of nine, and one by chance


def test_the_interval_holds_about_as_often_as_it_says() -> None:
  """Runs with known noise: some 90 % of new ones lie in the interval."""
  random = np.random.default_rng(0)
  true = scaling.fit()

  def drawn(run: scaling.Run) -> scaling.Run:
    loss = _predicted(run, true).loss + random.normal(0, true.deviation)
    return dataclasses.replace(run, loss=loss)

  inside = 0
  for _ in range(200):
    got = _predicted(
      scaling.UNSEEN, scaling.Fit([drawn(run) for run in scaling.RUNS])
    )
    inside += got.low <= drawn(scaling.UNSEEN).loss <= got.high
  assert inside == pytest.approx(200 * scaling.LEVEL, abs=16)


def test_repeated_text_is_worth_less_than_new_text() -> None:
  worth = [scaling.effective(n * 1000, 1000) / 1000 for n in (1, 2, 4, 40)]
  assert worth[0] == 1
  assert worth[1] == pytest.approx(1 + 15.4 * (1 - math.exp(-1 / 15.4)))
  assert worth[2] == pytest.approx(4, rel=0.1)  # up to four: nearly as good
  assert worth[3] < 16.4  # 1 + R*: never more
  assert scaling.effective(500, 1000) == 500


def test_a_plan_fits_the_time_and_longer_ones_expect_less_loss() -> None:
  short, long = (
    planning.planned(_settings(hours=hours, words=10**9))
    for hours in (0.2, 5.0)
  )
  for hours, plans in ((0.2, short), (5.0, long)):
    for plan in plans:
      work = scaling.flops(plan.config, plan.steps * plan.batch)
      assert work / SPEED <= hours * 3600 * scaling.share_of_peak(plan.size)
      assert plan.warmup < plan.steps
  assert long[0].expected.loss < short[0].expected.loss
  assert any("longest" in reason for reason in long[0].beyond)


def test_a_large_size_is_taken_once_it_reads_enough_for_its_weights() -> None:
  hours = (2, 40, 400, 40_000)
  plans = [planning.planned(_settings(hours, 10**11))[0] for hours in hours]
  sizes = [planning.SIZES.index(plan.size) for plan in plans]
  assert sizes == sorted(sizes)
  assert plans[-1].size == "albert_base"
  assert all(
    plan.pieces_a_weight >= 20 for plan in plans if plan.size != plans[0].size
  )
  assert "taken before" in planning.page(
    _settings(), planning.planned(_settings(40_000, 10**11))
  )


def test_a_plan_stops_where_more_epochs_give_nothing() -> None:
  (plan,) = planning.planned(_settings(hours=500, words=20_000, size=TINY))
  assert plan.epochs == pytest.approx(40, rel=0.1)
  assert "more text would help" in planning.page(_settings(), [plan])


TINY = "albert_tiny"


@pytest.mark.parametrize("size", planning.SIZES)
def test_run_pretraining_takes_the_printed_command(size: str) -> None:
  settings = _settings(hours=30, size=size)
  plans = planning.planned(settings)
  *_, line = planning.page(settings, plans).splitlines()
  python, program, *given = shlex.split(line)
  assert (python, program) == ("python", "run_pretraining.py")
  classes = (
    run_options.Options,
    optimization.OptimizerOptions,
    distribution.Options,
  )
  before = set(flags.FLAGS)
  options.define(*classes)
  try:
    with flagsaver.flagsaver():
      assert flags.FLAGS(["run", *given]) == ["run"]
      taken = options.parsed(run_options.Options)
      recipe = options.parsed(optimization.OptimizerOptions)
  finally:
    for name in set(flags.FLAGS) - before:
      delattr(flags.FLAGS, name)
  assert taken.albert_config_file == f"configs/{size}.json"
  assert taken.train_batch_size == plans[0].batch
  assert recipe.num_train_steps == plans[0].steps
  assert taken.initialization == "corpus"


def test_the_program_prints_a_plan_and_writes_its_config(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "config.json"
  done = running.Programs().run(
    "-m",
    "albert_mn.plan",
    "--hours=0.5",
    "--words=100000",
    "--vocab_size=4000",
    "--flops=4e10",
    "--size=albert_mini",
    f"--config_file={path}",
  )
  assert done.returncode == 0, done.stderr
  written = configs.AlbertConfig.from_file(str(path))
  assert written == scaling.shape("albert_mini", 4000)
  assert json.loads(path.read_text())["vocab_size"] == 4000
  *_, command = done.stdout.splitlines()
  assert f"--albert_config_file={path}" in command
  assert "expected masked_lm_loss" in done.stdout
  assert "extrapolated: 8,000 pieces were measured" in done.stdout


def test_too_little_time_is_refused_in_one_line() -> None:
  with pytest.raises(options.InputError, match="least 20 steps; got") as got:
    planning.planned(_settings(hours=0.007))
  assert "\n" not in str(got.value)
  with pytest.raises(options.InputError, match="--words=1, enough for 1"):
    planning.planned(_settings(words=1))
  with pytest.raises(options.InputError, match="expected --words; got none"):
    planning.Options(hours=1.0)
