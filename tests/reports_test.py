"""The numbers of a report against scikit-learn and textbook, its words."""

import pathlib

import numpy as np
import pytest
from matplotlib import image
from sklearn import metrics

from albert_mn import baseline, reports
from data_prep import classifier_data

NAMES = ["спорт", "улс төр", "цаг агаар"]
TRUTH = ["спорт"] * 5 + ["улс төр"] * 4 + ["цаг агаар"] * 3


def _guesses(seed: int) -> list[str]:
  rng = np.random.default_rng(seed)
  return [
    label if rng.random() < 0.6 else str(rng.choice(NAMES)) for label in TRUTH
  ]


@pytest.mark.parametrize("seed", range(3))
def test_every_number_of_the_report_is_scikit_learns(
  tmp_path: pathlib.Path, seed: int
) -> None:
  guesses = _guesses(seed)
  text = reports.write(
    str(tmp_path / "report.txt"), TRUTH, guesses, NAMES, None
  )
  assert (tmp_path / "report.txt").read_text() == text
  expected = metrics.precision_recall_fscore_support(
    TRUTH, guesses, labels=NAMES, zero_division=0.0
  )
  for name, row in zip(NAMES, np.transpose(expected), strict=True):
    line = next(line for line in text.splitlines() if name in line)
    shown = [float(word) for word in line.split()[len(name.split()) :]]
    np.testing.assert_allclose(shown, row, atol=6e-4)
  accuracy = metrics.accuracy_score(TRUTH, guesses)
  assert f"accuracy {accuracy:.3f} (" in text


@pytest.mark.parametrize(("correct", "total"), [(8, 10), (1, 7), (72, 99)])
def test_wilsons_interval_ends_where_the_share_is_two_deviations_off(
  correct: int, total: int
) -> None:
  for end in reports.wilson_interval(correct, total):
    deviation = (end * (1 - end) / total) ** 0.5
    assert abs(end - correct / total) == pytest.approx(1.959964 * deviation)


def test_wilsons_interval_stays_within_0_and_1() -> None:
  # All or nothing of n: n / (n + z²) is the other end.
  assert reports.wilson_interval(10, 10) == pytest.approx((0.722467, 1.0))
  assert reports.wilson_interval(0, 10) == pytest.approx((0.0, 0.277533), 1e-5)


def _worse(rows: int) -> list[str]:
  """The truth with its first rows wrong."""
  return ["цаг агаар"] * rows + TRUTH[rows:]


def test_the_report_says_plainly_that_the_baseline_wins_and_what_to_do(
  tmp_path: pathlib.Path,
) -> None:
  text = reports.write(
    str(tmp_path / "r.txt"), TRUTH, _worse(5), NAMES, _worse(1)
  )
  joined = " ".join(text.split())
  assert "The baseline wins by 4 of 12 rows" in joined
  assert "the model on 0 and the baseline on 4" in joined
  # The sign test's textbook value: 2 × (1/2)⁴.
  assert "p = 0.12, chance may do that" in joined
  assert "--init_checkpoint" in joined


def test_the_report_offers_no_excuse_where_the_model_wins_or_ties(
  tmp_path: pathlib.Path,
) -> None:
  wins = reports.write(str(tmp_path / "r.txt"), TRUTH, TRUTH, NAMES, _worse(5))
  assert "This model wins by 5 of 12 rows" in wins
  assert "budget" not in wins
  tie = reports.write(str(tmp_path / "r.txt"), TRUTH, TRUTH, NAMES, TRUTH)
  assert "This model and the baseline tie." in tie


def test_rare_labels_are_named_as_such(tmp_path: pathlib.Path) -> None:
  text = reports.write(str(tmp_path / "r.txt"), TRUTH, TRUTH, NAMES, None)
  assert "Fewer than 10 rows to judge by: спорт (5)" in text


def test_a_row_of_the_predictions_is_one_line_whatever_the_text_holds(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "predictions.tsv"
  reports.write_predictions(
    str(path),
    [2, 4],
    ["нэг\tхоёр\nгурав", "“дөрөв"],
    NAMES,
    np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]]),
  )
  assert path.read_text(encoding="utf-8").splitlines() == [
    "line\tlabel\tспорт\tулс төр\tцаг агаар\ttext",
    "2\tулс төр\t0.100000\t0.700000\t0.200000\tнэг хоёр гурав",
    "4\tспорт\t0.500000\t0.250000\t0.250000\t“дөрөв",
  ]


def test_the_confusion_matrix_is_a_picture_with_a_dark_diagonal(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "confusion_matrix.png"
  reports.write_confusion_matrix(str(path), TRUTH, TRUTH, NAMES)
  pixels = image.imread(path)
  assert min(pixels.shape[:2]) > 300
  # The darkest blue of the colour map fills the cells of the diagonal.
  dark = np.all(np.abs(pixels[..., :3] - (0.03, 0.19, 0.42)) < 0.02, axis=-1)
  assert 0.05 < dark.mean() < 0.5
  down, across = np.nonzero(dark)
  assert np.corrcoef(down, across)[0, 1] > 0.8, "from top left to bottom right"


def test_the_baseline_keeps_the_letters_that_make_a_word_mongolian() -> None:
  assert baseline.words("Сайн уу, ХОЁР өдөр ба ҮНЭ?") == [
    "сайн", "уу", "хоёр", "өдөр", "ба", "үнэ",
  ]  # fmt: skip
  assert baseline.words("саи\u0306н") == ["сайн"]


def test_the_baseline_on_the_sample_scores_what_the_log_says() -> None:
  folder = pathlib.Path(__file__).resolve().parents[1] / "sample" / "sib200"
  train, dev = (
    classifier_data.read(str(folder / name), "text", "category")
    for name in ("train.tsv", "dev.tsv")
  )
  guesses = baseline.predictions(
    [row.text for row in train],
    [row.label for row in train],
    [row.text for row in dev],
  )
  # Two rows of slack for other versions of scikit-learn.
  accuracy = reports.accuracy([row.label for row in dev], guesses)
  assert accuracy == pytest.approx(72 / 99, abs=2.1 / 99)
