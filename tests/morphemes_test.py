"""Tests of aligning morphemes with words, and of scoring segmentations."""

import collections
import itertools
import math
import pathlib

import hypothesis
import pytest
from hypothesis import strategies

from data_prep.base import options
from data_prep.text import morphemes
from tests import running

SAMPLE = running.ROOT / "sample/morphemes/sigmorphon2022.tsv"


@pytest.mark.parametrize(
  ("parts", "segmented"),
  [
    ("хүн", "хүн"),
    ("сүүл|ийн", "сүүл @@ийн"),
    ("бай|на", "байх @@на"),  # the infinitive's х goes
    ("хар|на", "харах @@на"),
    ("хуул|ийн", "хууль @@ийн"),  # the soft sign goes
    ("орчм|ын", "орчим @@ын"),  # the vowel before the last consonant goes
    ("ус|ан", "ус @@н"),  # the vowel between belongs to the suffix
    ("барь|даг", "барих @@даг"),
    ("судал|гаа|гаар", "судлах @@гаа @@аар"),
    ("уул|аас", "уула @@аас"),  # a suffix's long vowel stays whole
    ("өөр|т", "өөрөө @@т"),
    ("зогс|оо|ж", "зогсох @@оо @@х @@ж"),  # a morpheme without a letter
  ],
)
def test_morphemes_are_laid_on_the_word_as_written(
  parts: str, segmented: str
) -> None:
  written = segmented.replace("@@", "").split()
  word = parts.replace("|", "")
  assert morphemes.laid_on(word, written) == tuple(parts.split("|"))


@pytest.mark.parametrize("segmented", [["долоо", "ийн"], [","], []])
def test_morphemes_of_another_word_are_not_laid_on_this_one(
  segmented: list[str],
) -> None:
  assert morphemes.laid_on("яригддаг", segmented) is None


@hypothesis.given(
  strategies.text("айхн", min_size=1, max_size=8),
  strategies.lists(
    strategies.text("айхн", min_size=1, max_size=4), min_size=1, max_size=4
  ),
)
def test_parts_are_never_empty_and_make_up_the_word(
  word: str, segmented: list[str]
) -> None:
  parts = morphemes.laid_on(word, segmented)
  if parts is not None:
    assert "".join(parts) == word
    assert all(parts)
    assert len(parts) <= len(segmented)
  assert morphemes.laid_on("".join(segmented), segmented) == tuple(segmented)


def test_the_sample_is_read_whole() -> None:
  gold = morphemes.read(str(SAMPLE))
  assert gold.words.total() == 2280
  assert gold.left_out == 0
  assert gold.words["бай", "на"] == 36
  assert not any(parts == (".",) for parts in gold.words)


def test_words_whose_morphemes_do_not_fit_are_counted(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "gold.tsv"
  path.write_text(
    "Саи\u0306н байна .\tСайн байх @@на .\n\n"
    "Цаг хугацаа .\tЦаг .\n"
    "Хүн явна .\tХүн ирэх @@лээ .\t110\n",
    encoding="utf-8",
  )
  gold = morphemes.read(str(path))
  assert gold.words == {("Сайн",): 1, ("бай", "на"): 1, ("Хүн",): 1}
  assert gold.left_out == 3  # Цаг, хугацаа, явна


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("Хүн\tХүн\nСайн байна уу\n", "a tab and its morphemes at .*:2"),
    (". .\t. .\n", "words with their morphemes in"),
    ("", "words with their morphemes in"),
  ],
)
def test_a_file_without_a_segmentation_is_refused(
  content: str, message: str, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "gold.tsv"
  path.write_text(content, encoding="utf-8")
  with pytest.raises(options.InputError, match=message):
    morphemes.read(str(path))


def _gold(*words: str) -> morphemes.Gold:
  gold = morphemes.Gold(collections.Counter(), 0)
  gold.words.update(tuple(word.split("|")) for word in words)
  return gold


def test_agreement_counts_boundaries_by_occurrence() -> None:
  gold = _gold("бай|на", "бай|на", "хүн", "эрх|лэг|ч")
  scores = morphemes.agreement(
    gold, [["", "бай", "на"], ["хү", "н"], ["эрх", "лэгч"]]
  )
  # Found: 1 twice, 1, 1; wanted: 1 twice, 0, 2; right: 1 twice, 0, 1.
  assert scores["words"] == 4
  assert scores["precision"] == 0.75
  assert scores["recall"] == 0.75
  assert scores["f1"] == 0.75
  assert scores["exact_share"] == 0.5


def test_what_chance_gives_is_the_mean_over_all_ways_to_cut() -> None:
  wanted, cuts = {2, 5}, 2  # эр|хлэ|гч, seven letters, six places
  ways = list(itertools.combinations(range(1, 7), cuts))
  right = sum(len(wanted & set(way)) for way in ways) / len(ways)
  exact = sum(wanted == set(way) for way in ways) / len(ways)
  scores = morphemes.agreement(_gold("эр|хлэ|гч"), [["э", "р", "хлэгч"]])
  assert len(ways) == math.comb(6, cuts)
  assert scores["at_random"] == {
    "precision": round(right / cuts, 4),
    "recall": round(right / len(wanted), 4),
    "f1": round(right / cuts, 4),
    "exact_share": round(exact, 4),
  }


def test_words_without_boundaries_give_no_division_by_zero() -> None:
  scores = morphemes.agreement(_gold("хүн", "я"), [["хүн"], ["я"]])
  assert scores["precision"] == scores["recall"] == scores["f1"] == 0
  assert scores["exact_share"] == scores["at_random"]["exact_share"] == 1


def test_a_word_of_more_than_200_letters_is_left_out() -> None:
  assert morphemes.laid_on(200 * "а", ["а", 199 * "а"]) == ("а", 199 * "а")
  assert morphemes.laid_on(201 * "а", ["а", 200 * "а"]) is None
