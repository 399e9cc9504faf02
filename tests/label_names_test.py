"""Tests of label names that a person would read as the same name.

The cases are of the bug report "Right where it is silently wrong": Мэдээ and
мэдээ were two classes, without a word.
"""

import logging

import pytest

from data_prep.classification import classifier_data, label_names

SHORT_I = "\u0439"  # й
SHORT_I_IN_TWO = "\u0438\u0306"  # и and a breve
ALIKE = {
  "case": ("Мэдээ", "мэдээ"),
  "all upper case": ("МЭДЭЭ", "мэдээ"),
  "two spaces": ("улс төр", "улс  төр"),
  "a no-break space": ("улс төр", "улс\u00a0төр"),
  "an ideographic space": ("улс төр", "улс\u3000төр"),
  "a tab": ("улс төр", "улс\tтөр"),
  "no space": ("улс төр", "улстөр"),
  "a zero-width space": ("мэдээ", "мэ\u200bдээ"),
  "a soft hyphen": ("мэдээ", "мэ\u00adдээ"),
  "a variation selector": ("\u182d\u180b", "\u182d"),
  "a letter in two": (f"эдги{SHORT_I}н", f"эдги{SHORT_I_IN_TWO}н"),
  "case of a letter in two": ("Й", SHORT_I_IN_TWO),
  "case and space": ("Эрүүл  Мэнд", "эрүүл\u00a0мэнд"),
  "Latin": ("Straße", "STRASSE"),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_names_that_look_alike_are_one_group(kind: str) -> None:
  pair = ALIKE[kind]
  assert label_names.alike([*pair, "спорт", pair[0]]) == [tuple(sorted(pair))]
  assert len(set(map(label_names.shown, pair))) == 2, "the warning shows why"


@pytest.mark.parametrize(
  "names",
  [
    ("улс төр", "улс-төр"),
    ("и", "й"),
    ("е", "ё"),
    ("о", "ө"),
    ("1", "2"),
    ("a", "а"),  # Latin and Cyrillic
    ("м2", "м²"),
    ("үнэн", "үнэн!"),
  ],
)
def test_names_of_other_letters_are_no_group(names: tuple[str, str]) -> None:
  assert label_names.alike(names) == []


def _warned(
  caplog: pytest.LogCaptureFixture, counts: dict[str, int]
) -> list[str]:
  with caplog.at_level(logging.WARNING):
    label_names.warn_of_alike(counts)
  return [record.getMessage() for record in caplog.records]


def test_the_warning_names_both_and_their_counts(
  caplog: pytest.LogCaptureFixture,
) -> None:
  counts = {"Мэдээ": 1200, "мэдээ": 3, "спорт": 7, "СПОРТ": 1, "цаг агаар": 5}
  medee, sport = _warned(caplog, counts)
  assert "'Мэдээ' (1,200 rows), 'мэдээ' (3 rows)" in medee
  assert "'СПОРТ' (1 rows), 'спорт' (7 rows)" in sport


def test_what_is_not_seen_is_escaped_in_the_warning(
  caplog: pytest.LogCaptureFixture,
) -> None:
  (said,) = _warned(
    caplog, {"улс төр": 4, "улс\u00a0төр": 2, "улс\u200bтөр": 1}
  )
  assert r"'улс төр' (4 rows)" in said
  assert r"'улс\xa0төр' (2 rows)" in said
  assert r"'улс\u200bтөр' (1 rows)" in said
  assert "3 different labels" in said


def test_different_names_are_not_warned_of(
  caplog: pytest.LogCaptureFixture,
) -> None:
  assert _warned(caplog, {"мэдээ": 4, "спорт": 2}) == []


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (["б", "а"], ["б", "а"]),
    (["text", "line"], ["text (2)", "line (2)"]),
    (["Text", "мэдээ"], ["Text", "мэдээ"]),
    (["text", "text (2)"], ["text (3)", "text (2)"]),
    (["a b", "a  b", "a\u00a0b"], ["a b", "a b (2)", "a b (3)"]),
    (["a  b", "a b (2)", "a b"], ["a b", "a b (2)", "a b (3)"]),
    (["la\tbel", "label "], ["la bel", "label (2)"]),
  ],
)
def test_names_of_columns_are_distinct(
  names: list[str], expected: list[str]
) -> None:
  distinct = label_names.distinct(names, {"line", "label", "text"})
  assert distinct == expected
  assert len({"line", "label", "text", *distinct}) == 3 + len(names)


def test_rows_are_counted_under_their_labels_of_any_type() -> None:
  row = classifier_data.Row
  rows = [row(2, "а", label="Мэдээ"), row(3, "б", label="мэдээ")]
  counts = classifier_data.label_counts
  assert counts([*rows, rows[0]], "class") == {"Мэдээ": 2, "мэдээ": 1}
  several = [
    row(2, "а", labels=("x", "y")),
    row(3, "б"),
    row(4, "в", labels=("x",)),
  ]
  assert counts(several, "multi_label") == {"x": 2, "y": 1}
  spans = ((0, 1, "LOC"), (2, 3, "LOC"), (4, 5, "Loc"))
  assert counts([row(2, "а б в", entities=spans)], "entities") == {
    "LOC": 1,
    "Loc": 1,
  }
  assert counts([row(2, "а", label="3.5")], "regression") == {}
