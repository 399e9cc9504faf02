"""Tests of the numbers of a report against scikit-learn, and of its words."""

import pathlib
import re
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from sklearn import metrics

from albert_mn.scoring import entity_scores, judgements, report_page, reports
from albert_mn.tasks import baseline, problems
from data_prep.classification import classifier_data

NAMES = ["спорт", "улс төр", "цаг агаар"]
TRUTH = ["спорт"] * 5 + ["улс төр"] * 4 + ["цаг агаар"] * 3


def _guesses(seed: int) -> list[str]:
  rng = np.random.default_rng(seed)
  return [
    label if rng.random() < 0.6 else str(rng.choice(NAMES)) for label in TRUTH
  ]


def _judged(
  answers: list[str], sure: float | None = None
) -> judgements.OneLabel:
  """Returns the judgement of answers to TRUTH, each with probability `sure`."""
  truth, predicted = (
    np.array([NAMES.index(name) for name in part]) for part in (TRUTH, answers)
  )
  each = None if sure is None else np.full(len(predicted), sure)
  return judgements.OneLabel(NAMES, truth, predicted, each)


def _written(
  folder: pathlib.Path,
  answers: list[str],
  rival: list[str] | None = None,
  **more: Any,
) -> str:
  path = folder / "report.txt"
  rival_judged = None if rival is None else _judged(rival)
  voices = reports.Voices(_judged(answers, 0.9), rival_judged)
  text = reports.write(str(path), voices, **more)
  assert path.read_text(encoding="utf-8") == text
  return text


@pytest.mark.parametrize("seed", range(3))
def test_every_number_of_the_report_is_scikit_learns(
  tmp_path: pathlib.Path, seed: int
) -> None:
  guesses = _guesses(seed)
  text = _written(tmp_path, guesses)
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
  for end in judgements.wilson_interval(correct, total):
    deviation = (end * (1 - end) / total) ** 0.5
    assert abs(end - correct / total) == pytest.approx(1.959964 * deviation)


def test_wilsons_interval_stays_within_0_and_1() -> None:
  # All or nothing of n: n / (n + z²) is the other end.
  assert judgements.wilson_interval(10, 10) == pytest.approx((0.722467, 1.0))
  assert judgements.wilson_interval(0, 10) == pytest.approx(
    (0.0, 0.277533), 1e-5
  )


def _worse(rows: int) -> list[str]:
  """Returns the answers of TRUTH, the first `rows` of them wrong."""
  return ["цаг агаар"] * rows + TRUTH[rows:]


def test_the_report_says_plainly_that_the_baseline_wins_and_what_to_do(
  tmp_path: pathlib.Path,
) -> None:
  text = _written(tmp_path, _worse(5), _worse(1))
  joined = " ".join(text.split())
  assert "The baseline wins by 4 of 12 rows" in joined
  assert "this model on 0 and the baseline on 4" in joined
  # The sign test's textbook value: 2 × (1/2)⁴.
  assert "p = 0.12, chance may do that" in joined
  assert "--init_checkpoint" in joined
  assert "--blend=auto lets it answer beside the model" in joined


def test_the_report_offers_no_excuse_where_the_model_wins_or_ties(
  tmp_path: pathlib.Path,
) -> None:
  wins = _written(tmp_path, TRUTH, _worse(5))
  assert "This model wins by 5 of 12 rows" in wins
  assert "budget" not in wins
  tie = _written(tmp_path, TRUTH, TRUTH)
  assert "This model and the baseline tie." in tie


def test_rare_labels_are_named_as_such(tmp_path: pathlib.Path) -> None:
  text = _written(tmp_path, TRUTH)
  assert "Fewer than 10 rows to judge by: спорт (5)" in text


def test_a_label_with_a_line_break_stays_on_its_line() -> None:
  judged = judgements.OneLabel(
    ["a\nb", "c"], np.array([0, 1]), np.array([0, 1])
  )
  assert re.search(r"^ +a b +1\.000", judged.table(), re.MULTILINE)


def test_the_confusion_matrix_is_a_picture_with_a_dark_diagonal(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "confusion_matrix.png"
  reports.write_confusion_matrix(str(path), _judged(TRUTH))
  pixels = image.imread(path)
  assert min(pixels.shape[:2]) > 300
  # The darkest blue of the colour map fills the cells of the diagonal.
  dark = np.all(np.abs(pixels[..., :3] - (0.03, 0.19, 0.42)) < 0.02, axis=-1)
  assert 0.05 < dark.mean() < 0.5
  down, across = np.nonzero(dark)
  assert np.corrcoef(down, across)[0, 1] > 0.8, "from top left to bottom right"


def test_the_baseline_on_the_sample_scores_what_the_log_says() -> None:
  folder = pathlib.Path(__file__).resolve().parents[1] / "sample" / "sib200"
  train, dev = (
    classifier_data.read(str(folder / name), "text", "category")
    for name in ("train.tsv", "dev.tsv")
  )
  problem = problems.of_rows(problems.CLASS, train)
  texts = [row.text for row in train]
  linear = baseline.fitted(problem, texts, problem.targets(train))
  assert linear
  guesses = linear.scores([row.text for row in dev]).argmax(axis=1)
  # Two rows of slack for other versions of scikit-learn.
  accuracy = metrics.accuracy_score(problem.targets(dev), guesses)
  assert accuracy == pytest.approx(72 / 99, abs=2.1 / 99)


@pytest.mark.parametrize("seed", range(2))
def test_the_measures_of_the_whole_are_scikit_learns(seed: int) -> None:
  model = _judged(_guesses(seed), 0.8)
  scores = model.scores()
  for kind in ("macro", "weighted"):
    expected = metrics.precision_recall_fscore_support(
      model.truth, model.answers, average=kind, zero_division=0.0
    )
    for name, value in zip(
      ("precision", "recall", "f1"), expected, strict=False
    ):
      assert scores[f"{kind}_{name}"] == pytest.approx(value)
  right = (model.truth == model.answers).mean()
  assert scores["accuracy"] == pytest.approx(right)
  assert scores["expected_calibration_error"] == pytest.approx(abs(0.8 - right))


def test_the_measures_of_several_labels_are_scikit_learns() -> None:
  rng = np.random.default_rng(0)
  truth = rng.integers(0, 2, [30, 3])
  answers = np.where(rng.random([30, 3]) < 0.8, truth, 1 - truth)
  model = judgements.SeveralLabels(NAMES, truth, answers)
  scores = model.scores()
  for kind in ("micro", "macro", "weighted"):
    assert scores[f"{kind}_f1"] == pytest.approx(
      metrics.f1_score(truth, answers, average=kind)
    )
  assert scores["exact_rows"] == metrics.accuracy_score(truth, answers)
  for name, _, _, f1, support in model.per_label():
    column = NAMES.index(name)
    assert f1 == metrics.f1_score(truth[:, column], answers[:, column])
    assert support == truth[:, column].sum()


def test_the_measures_of_numbers() -> None:
  truth, answers = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 8])
  scores = judgements.Numbers(["value"], truth, answers).scores()
  assert scores["mean_squared_error"] == 18 / 4
  assert scores["pearson"] == pytest.approx(np.corrcoef(truth, answers)[0, 1])
  assert scores["spearman"] == pytest.approx(0.8)
  flat = judgements.Numbers(["value"], truth, np.ones(4)).scores()
  assert np.isnan(flat["pearson"])


def test_the_score_without_near_copies_is_given_too(
  tmp_path: pathlib.Path,
) -> None:
  kept = np.arange(12) >= 4
  text = " ".join(
    _written(tmp_path, _worse(2), _worse(6), without_copies=kept).split()
  )
  assert "4 of 12 rows have a near copy in the training rows" in text
  assert "this model accuracy 1.000 (8 of 8)" in text
  assert "the baseline accuracy 0.750 (6 of 8)" in text


def test_of_ten_thousand_labels_the_most_confused_are_drawn(
  tmp_path: pathlib.Path,
) -> None:
  names = [f"шошго {n} 😀 $x$" for n in range(10_000)]
  truth = np.arange(10_000).repeat(2)
  answers = truth.copy()
  answers[:100] = 9_999
  model = judgements.OneLabel(names, truth, answers)
  shown = reports._most_confused(model)
  assert len(shown) == 30
  assert 9_999 in shown
  assert set(shown) - {9_999} <= set(range(50))
  path = tmp_path / "confusion_matrix.png"
  reports.write_confusion_matrix(str(path), model)
  assert max(image.imread(path).shape) < 4000
  text = reports.write(str(tmp_path / "report.txt"), reports.Voices(model))
  assert "and 9970 labels more" in " ".join(text.split())


@pytest.mark.parametrize(
  ("model", "expected"),
  [
    (
      judgements.SeveralLabels(
        ["a", "b"],
        np.array([[1, 0], [0, 1]]),
        np.array([[0, 0], [1, 1]]),
        np.array([[0.6, 0.9], [0.8, 0.7]]),
      ),
      [(1, "not a", "a", 0.8), (0, "a", "not a", 0.6)],
    ),
    (
      judgements.Numbers(
        ["value"], np.array([1.0, 2, 3]), np.array([1.5, 2, 9])
      ),
      [(2, "3", "9", 6.0), (0, "1", "1.5", 0.5)],
    ),
    (
      entity_scores.Entities(
        ["X"],
        np.array([frozenset([(0, 2, "X")]), frozenset([(1, 2, "X")])]),
        np.array([frozenset([(0, 2, "X")]), frozenset([(1, 3, "X")])]),
      ),
      [(1, "X 1-2", "X 1-3", 2)],
    ),
  ],
)
def test_the_worst_mistakes_come_first(
  model: judgements.Judgement, expected: list[tuple[Any, ...]]
) -> None:
  assert model.mistakes(9) == expected
  assert model.mistakes(1) == expected[:1]
  rows = [classifier_data.Row(line, "text", "") for line in range(2, 5)]
  page = report_page.page(
    report_page.Findings(
      baseline.NAME,
      reports.Voices(model),
      rows,
      None,
      [model.scores()],
      [],
      [],
      {},
    )
  )
  assert model.MUCH in page.partition("mistakes")[2]


def test_the_page_shows_texts_as_texts_and_loads_nothing() -> None:
  names = ["<b>bold</b>", "b & c", "c"]
  truth, answers = np.array([0, 1, 2, 0]), np.array([1, 1, 2, 2])
  sure = np.array([0.7, 0.8, 0.8, 0.75])
  model = judgements.OneLabel(names, truth, answers, sure)
  text = "<script>alert(1)</script>" + "урт " * 300
  rows = [classifier_data.Row(line, text, "") for line in range(2, 6)]
  page = report_page.page(
    report_page.Findings(
      baseline.NAME,
      reports.Voices(model, model),
      rows,
      np.array([True, True, True, False]),
      [model.scores(), model.scores()],
      ["Note <i>"],
      ["The seed <s> learnt nothing"],
      {"seed": "<u>"},
    )
  )
  assert "<script" not in page
  assert "<b>" not in page
  assert "<u>" not in page
  assert "&lt;script&gt;" in page
  assert "&lt;b&gt;bold" in page
  assert "default-src" in page
  assert "http" not in page.replace("http-equiv", "")
  for title in ("Scores", "Labels", "Calibration", "Confusions", "mistakes"):
    assert title in page
  assert page.index("seed &lt;s&gt; learnt") < page.index("Held out")
  assert "mean of 2 seeds" in page
  assert "without near copies" in page
  # The surest mistake comes first.
  mistakes = page.partition("Most confident mistakes")[2]
  assert mistakes.index("0.75</td>") < mistakes.index("0.7</td>")


def _numbers(table: str) -> list[float]:
  """Returns the numbers with three decimals in a table, which are scores."""
  return [float(word) for word in re.findall(r"\d\.\d{3}\b", table)]


def _several_of(truth: list[list[int]], answers: list[list[int]]) -> Any:
  names = ["а", "б", "в", "г"][: len(truth[0])]
  return judgements.SeveralLabels(names, np.array(truth), np.array(answers))


PERFECT: dict[str, list[list[int]]] = {
  "a row without labels": [[1, 0], [0, 0], [1, 1]],
  "a label without rows": [[1, 0], [1, 0], [1, 0]],
  "both": [[0, 1, 0], [0, 0, 0], [0, 1, 1]],
  "no labels at all": [[0, 0], [0, 0]],
  "one label": [[1], [0], [0]],
  "one label without rows": [[0], [0]],
  "nothing missing": [[1, 0, 1], [0, 1, 1]],
}


@pytest.mark.parametrize("kind", PERFECT)
def test_several_labels_that_are_all_right_score_1_in_every_line(
  kind: str,
) -> None:
  """The bug report "Right where it is silently wrong" had samples avg 0.767.

  In scikit-learn 26713, a row without labels counts as 0 by default.
  """
  truth = PERFECT[kind]
  judged = _several_of(truth, truth)
  numbers = _numbers(judged.table())
  assert len(numbers) == 3 * (len(truth[0]) + 4)
  assert set(numbers) == {1.0}
  scores = judged.scores()
  assert scores.pop("exact_rows_low") < 1.0
  assert set(scores.values()) == {1.0}


def test_one_label_and_entities_that_are_all_right_score_1_in_every_line() -> (
  None
):
  right = np.array([2, 0, 2])  # of the label 1 there is no row
  judged = judgements.OneLabel(NAMES, right, right)
  assert set(_numbers(judged.table())) == {1.0}
  assert judged.scores()["macro_f1"] == 1.0
  entity = (0, 3, "LOC")
  empty: frozenset[tuple[int, int, str]] = frozenset()
  for spans in ((empty, frozenset({entity})), (empty, empty)):
    sets = np.empty(2, object)
    sets[:] = spans
    entities = entity_scores.Entities(["LOC", "ORG"], sets, sets)
    assert set(_numbers(entities.table().rsplit("\n\n", 1)[1])) == {1.0}
    assert entities.scores()["micro_f1"] == entities.scores()["macro_f1"] == 1.0


def test_what_is_missed_or_invented_counts_as_nothing_and_not_as_perfect() -> (
  None
):
  # The first label is never predicted, the second never true; the third has
  # neither, nor has the last row any label.
  judged = _several_of(
    [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]],
    [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]],
  )
  assert [row[1:] for row in judged.per_label()] == [
    (0.0, 0.0, 0.0, 2),
    (0.0, 0.0, 0.0, 0),
    (1.0, 1.0, 1.0, 0),
  ]
  assert judged.average("macro") == pytest.approx([1 / 3] * 3)
  assert judged.average("micro") == judged.average("weighted") == (0, 0, 0)
  assert dict(judged.whole_rows())["samples avg"] == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("seed", range(4))
def test_the_tables_are_scikit_learns_where_no_label_or_row_is_empty(
  seed: int,
) -> None:
  rng = np.random.default_rng(seed)
  truth = rng.integers(0, 3, 40)
  # In the last case the label 2 is never predicted, in the third -1 is.
  answers = np.where(rng.random(40) < 0.7, truth, rng.integers(0, 3, 40))
  answers[answers == 2] = [2, 2, -1, 1][seed]
  judged = judgements.OneLabel(NAMES, truth, answers)
  assert judged.table() == metrics.classification_report(
    truth,
    answers,
    labels=range(3),
    target_names=NAMES,
    digits=3,
    zero_division=0.0,
  )
  several = rng.integers(0, 2, [40, 3])
  several[:, 0] |= several.sum(axis=1) == 0
  told = np.where(rng.random([40, 3]) < 0.8, several, 1 - several)
  told[:, 1] = [0, 1, told[0, 1], told[1, 1]][seed]
  judged_several = judgements.SeveralLabels(NAMES, several, told)
  assert judged_several.table() == metrics.classification_report(
    several,
    told,
    labels=range(3),
    target_names=NAMES,
    digits=3,
    zero_division=0.0,
  )


def test_the_report_says_what_counts_as_1_where_nothing_is_there() -> None:
  several = _several_of([[1, 0]], [[1, 0]])
  assert "a row that has no label and got none" in several.note()
  absent = judgements.OneLabel(NAMES, np.array([0, 2]), np.array([0, 2]))
  assert "counts as precision, recall and F1 of 1" in absent.note()
  assert _judged(TRUTH).note() == ""
