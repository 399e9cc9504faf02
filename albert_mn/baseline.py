"""The baseline printed beside every score: TF-IDF and a linear SVM.

On Eduge news such a baseline ties the published Mongolian transformers (0.909
against 0.90 and 0.88), so a score means little without it.
"""

import unicodedata
from collections.abc import Sequence

from sklearn import feature_extraction, pipeline, svm

NAME = "TF-IDF + linear SVM"


def predictions(
  texts: Sequence[str], labels: Sequence[str], new_texts: Sequence[str]
) -> list[str]:
  """Trains on texts and labels, returns the label of each new text.

  Deterministic: the SVM's seed is fixed, and C is left at 1.

  Args:
    texts: the training texts.
    labels: the label name of each.
    new_texts: the texts to classify.
  """
  features = pipeline.make_union(
    _tfidf("word", (1, 2)),
    # Mongolian words carry many suffixes; parts of words see the stem.
    _tfidf("char_wb", (2, 5)),
  )
  model = pipeline.make_pipeline(features, svm.LinearSVC(random_state=0))
  model.fit(list(texts), list(labels))
  return [str(label) for label in model.predict(list(new_texts))]


def words(text: str) -> list[str]:
  """Returns the words that the baseline sees, й ё ө ү intact.

  `Сайн уу, ХОЁР найз?` gives сайн, уу, хоёр, найз.
  """
  return _tfidf("word", (1, 1)).build_analyzer()(text)


def _tfidf(
  analyzer: str, n_grams: tuple[int, int]
) -> feature_extraction.text.TfidfVectorizer:
  return feature_extraction.text.TfidfVectorizer(
    analyzer=analyzer,
    ngram_range=n_grams,
    preprocessor=_composed,
    # scikit-learn's own pattern drops words of one letter.
    token_pattern=r"(?u)\b\w+\b" if analyzer == "word" else None,
    sublinear_tf=True,
  )


def _composed(text: str) -> str:
  # A decomposed й is и and a combining breve, which \w does not match: the
  # word would fall apart there.
  return unicodedata.normalize("NFC", text).lower()
