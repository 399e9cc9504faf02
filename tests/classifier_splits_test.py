"""Tests of splits: any order of rows, copies together, and scikit-learn's."""

import dataclasses
import hashlib
import pathlib
import random

import numpy as np
import pytest
from sklearn import model_selection

from data_prep.base import options
from data_prep.classification import (
  classifier_data,
  classifier_splits,
  near_duplicates,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
WEATHER = ("Өнөөдөр цас орлоо", "Маргааш бороо орно", "Салхи шуурга тавина")
SPORT = ("Бөхийн барилдаан болов", "Хоёр баг тоглолоо", "Хөлбөмбөг эхэллээ")


def _rows(copies: int = 1) -> list[classifier_data.Row]:
  return [
    classifier_data.Row(0, f"{text} {number}", label)
    for number in range(10)
    for texts, label in ((WEATHER, "weather"), (SPORT, "sport"))
    for text in texts
    for _ in range(copies)
  ]


def test_the_split_holds_out_its_share_of_every_label() -> None:
  rows = _rows()
  train, held_out = classifier_splits.split(rows)
  assert sorted(map(repr, train + held_out)) == sorted(map(repr, rows))
  labels = [row.label for row in held_out]
  assert labels.count("weather") == labels.count("sport") == 3


def test_the_split_does_not_depend_on_the_order_of_the_rows() -> None:
  rows = _rows()
  expected = {row.text for row in classifier_splits.split(rows)[1]}
  random.Random(0).shuffle(rows)
  assert {row.text for row in classifier_splits.split(rows)[1]} == expected


def test_copies_of_a_text_stay_on_one_side() -> None:
  rows = _rows(copies=3)
  shouted = [
    classifier_data.Row(row.line, f" {row.text.upper()}", row.label)
    for row in rows
  ]
  train, held_out = classifier_splits.split(rows + shouted)
  assert len(held_out) == 36
  keys = [
    {near_duplicates.text_key(row.text) for row in side}
    for side in (train, held_out)
  ]
  assert not keys[0] & keys[1]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.99])
def test_every_label_is_on_both_sides_of_the_split_even_with_two_texts(
  fraction: float,
) -> None:
  rows = [*_rows(), *(classifier_data.Row(0, t, "news") for t in "абаб")]
  for side in classifier_splits.split(rows, fraction):
    assert [row.label for row in side].count("news") == 2


@pytest.mark.parametrize("texts", ["а", "ааа"])
def test_a_label_with_one_text_cannot_be_split(texts: str) -> None:
  rows = [*_rows(), *(classifier_data.Row(0, t, "news") for t in texts)]
  with pytest.raises(options.InputError) as caught:
    classifier_splits.split(rows)
  assert "label 'news'" in str(caught.value)
  assert "merge or remove it, or give --eval_file" in str(caught.value)


def test_near_copies_stay_on_one_side() -> None:
  path = str(ROOT / "sample" / "sib200" / "train.tsv")
  rows = classifier_data.read(path, "text", "category")
  versions = [
    dataclasses.replace(row, text=f"{ahead}{row.text}")
    for row in rows
    for ahead in ("", "ШУУРХАЙ: ")
    if len(row.text.split()) > 4
  ]
  train, held_out = classifier_splits.split(versions)
  lines = [{row.line for row in side} for side in (train, held_out)]
  assert not lines[0] & lines[1]
  assert len(held_out) == pytest.approx(len(versions) / 10, rel=0.05)
  assert not classifier_splits.copied(train, held_out)
  assert set(classifier_splits.copied(versions, held_out)) == set(
    range(len(held_out))
  )


def test_a_crowd_of_copies_larger_than_what_is_wanted_trains() -> None:
  crowd = [classifier_data.Row(0, "нэг текст", "sport") for _ in range(50)]
  _, held_out = classifier_splits.split([*_rows(), *crowd])
  assert [row.label for row in held_out].count("sport") == 8
  assert all(row.text != "нэг текст" for row in held_out)


def _held_out(labels: list[str], fraction: float) -> list[str]:
  texts = [
    hashlib.sha256(str(n).encode()).hexdigest() for n in range(len(labels))
  ]
  rows = [
    classifier_data.Row(n, text, label)
    for n, (text, label) in enumerate(zip(texts, labels, strict=True))
  ]
  chosen = classifier_splits.by_hash(
    rows, labels, [[n] for n in range(len(rows))], fraction
  )
  return [labels[n] for n in sorted(chosen)]


def test_thousands_of_labels_of_a_few_rows_do_not_empty_the_training_part() -> (
  None
):
  labels = [str(n // 3) for n in range(30_000)]
  assert 0.09 < len(_held_out(labels, 0.1)) / 30_000 < 0.11
  assert _held_out(["a"] * 6 + ["b"] * 14, 0.1) == ["a", "b"]


def test_groups_are_held_out_as_often_as_single_rows() -> None:
  texts = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(6000)]
  rows = [classifier_data.Row(0, text, "x") for text in texts]
  pairs = [[n, n + 1] for n in range(0, 3000, 2)]
  groups = [*pairs, *([n] for n in range(3000, 6000))]
  chosen = classifier_splits.by_hash(rows, ["x"] * 6000, groups, 0.2)
  assert len(chosen) == 1200
  assert sum(n < 3000 for n in chosen) == pytest.approx(600, abs=60)


def test_copies_that_contradict_each_other_count_for_the_commonest() -> None:
  rows = [classifier_data.Row(n, text, "x") for n, text in enumerate("ааабвгд")]
  strata = ["x", "y", "y", "x", "x", "y", "y"]
  groups = [[0, 1, 2], [3], [4], [5], [6]]
  chosen = classifier_splits.by_hash(rows, strata, groups, 0.5)
  # Of y, whose texts are а, г and д, a half of five rows; of x one of two.
  assert sum(n in (3, 4) for n in chosen) == 1
  assert sum(n in (0, 1, 2, 5, 6) for n in chosen) == 2


def test_a_row_with_several_labels_counts_for_its_rarest() -> None:
  rows = [
    classifier_data.Row(0, "а", labels=labels)
    for labels in (("x",), ("x", "y"), ("x", "z", "y"), ())
  ]
  assert classifier_splits.strata(rows, "multi_label") == ["x", "y", "z", ""]


def test_parts_hold_every_row_once_and_their_share_of_every_label() -> None:
  rows = _rows(copies=2)
  labels = [row.label for row in rows]
  parts = classifier_splits.parts(rows, labels, 4)
  assert sorted(index for part in parts for index in part) == list(range(120))
  texts = [{rows[index].text for index in part} for part in parts]
  assert sum(map(len, texts)) == len(set.union(*texts))
  for part in parts:
    counted = [labels[index] for index in part]
    for label in ("weather", "sport"):
      assert 14 <= counted.count(label) <= 16
  order = list(range(120))
  random.Random(0).shuffle(order)
  again = classifier_splits.parts(
    [rows[index] for index in order], [labels[index] for index in order], 4
  )
  assert [
    {rows[order[index]].text for index in part} for part in again
  ] == texts


def test_a_label_with_one_text_is_in_no_part() -> None:
  lone = classifier_data.Row(0, "Ганц мөр", "rare")
  rows = [*_rows(), lone, lone]
  parts = classifier_splits.parts(rows, [row.label for row in rows], 3)
  assert set.union(*parts) == set(range(60))


@pytest.mark.parametrize("count", [2, 9, 10, 701, 75_661])
def test_the_predecessors_split_is_scikit_learns(count: int) -> None:
  expected = model_selection.train_test_split(
    np.arange(count), test_size=0.2, random_state=42
  )
  for ours, theirs in zip(
    classifier_splits.predecessor(count), expected, strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)


def test_the_predecessors_split_of_eduge_stays_what_it_is() -> None:
  # Pinned, so that no release of numpy or scikit-learn moves published scores.
  train, test = classifier_splits.predecessor(75_661)
  assert (len(train), len(test)) == (60_528, 15_133)
  digest = hashlib.sha256()
  for part in (train, test):
    digest.update(part.astype("<i8").tobytes())
  assert digest.hexdigest()[:16] == "5ceca27aef67285f"
