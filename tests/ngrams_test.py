"""Tests that n-grams and their TF-IDF weights are those of scikit-learn."""

import pathlib

import numpy as np
import pytest
from sklearn.feature_extraction import text as features

from albert_mn.tasks import ngrams
from data_prep.classification import classifier_data
from tests import troublesome_texts

SAMPLE = pathlib.Path(__file__).resolve().parents[1] / "sample" / "sib200"
AWKWARD = [
  "Сайн уу, ХОЁР найз?\n хоёр",
  "саи\u0306н  а 😀😀 уу,",
  "",
  "уу, уу,",
]


def _texts(name: str) -> list[str]:
  rows = classifier_data.read(str(SAMPLE / name), "text", "category")
  return [row.text for row in rows]


@pytest.fixture(scope="module")
def train() -> list[str]:
  return _texts("train.tsv") + AWKWARD


def test_words_keep_the_letters_that_make_them_mongolian() -> None:
  assert ngrams.words("Сайн уу, ХОЁР өдөр ба ҮНЭ?") == [
    "сайн",
    "уу",
    "хоёр",
    "өдөр",
    "ба",
    "үнэ",
  ]
  assert ngrams.words("саи\u0306н") == ["сайн"]


def test_every_weight_is_that_of_scikit_learn(train: list[str]) -> None:
  new = [*_texts("dev.tsv"), *AWKWARD, *troublesome_texts.drawn(60), "шинэ үг"]
  ours = ngrams.NGrams.of(train, 1 << 20)
  weights = ours.matrix(new)
  size = len(ours.words)
  shared = dict(sublinear_tf=True, preprocessor=ngrams._composed)
  for grams, part, vectorizer in (
    (
      ours.words,
      weights[:, :size],
      features.TfidfVectorizer(
        ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **shared
      ),
    ),
    (
      ours.parts,
      weights[:, size:],
      features.TfidfVectorizer(
        ngram_range=(2, 5), analyzer="char_wb", **shared
      ),
    ),
  ):
    vectorizer.fit(train)
    assert list(grams) == vectorizer.get_feature_names_out().tolist()
    assert abs(vectorizer.transform(new) - part).max() < 1e-6


def test_texts_that_come_one_by_one_weigh_the_same(
  train: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
  grams = ngrams.NGrams.of(train, 1000)
  together = grams.matrix(train[:20])
  one_by_one = np.vstack([grams.matrix([t]).toarray() for t in train[:20]])
  assert (together.toarray() == one_by_one).all()
  monkeypatch.setattr(ngrams, "_ROWS_AT_ONCE", 3)
  assert (grams.matrix(train[:20]) != together).nnz == 0
  assert grams.matrix([]).shape == (0, len(grams.idf))


def test_of_more_ngrams_than_may_be_kept_the_commonest_stay() -> None:
  texts = ["цас орлоо", "цас", "бороо орлоо", "бороо цас"]
  grams = ngrams.NGrams.of(texts, 2)
  assert grams.words == ("бороо", "цас")  # орлоо is as frequent, and later
  assert grams.idf[:2] == pytest.approx(np.log([5 / 3, 5 / 4]) + 1)
  assert len(grams.parts) == 2
  assert grams.name(1) == "цас"
  assert "_" in grams.name(2)


def test_where_too_many_are_counted_only_rare_ones_are_forgotten(
  train: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
  expected = ngrams.NGrams.of(train, 200)
  monkeypatch.setattr(ngrams, "_MOST_COUNTED", 8000)
  assert ngrams.NGrams.of(train, 200).parts == expected.parts
