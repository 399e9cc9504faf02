"""Tests of reading labelled rows by column, with labels of every type."""

import dataclasses
import gzip
import json
import pathlib
from typing import Any

import pytest

from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.files import tables

ROOT = pathlib.Path(__file__).resolve().parents[1]
WEATHER = ("Өнөөдөр цас орлоо", "Маргааш бороо орно", "Салхи шуурга тавина")
SPORT = ("Бөхийн барилдаан болов", "Хоёр баг тоглолоо", "Хөлбөмбөг эхэллээ")


def _file(folder: pathlib.Path, name: str, text: str) -> str:
  path = folder / name
  path.write_text(text, encoding="utf-8")
  return str(path)


def _rows(copies: int = 1) -> list[classifier_data.Row]:
  return [
    classifier_data.Row(0, f"{text} {number}", label)
    for number in range(10)
    for texts, label in ((WEATHER, "weather"), (SPORT, "sport"))
    for text in texts
    for _ in range(copies)
  ]


def test_a_tsv_takes_a_quotation_mark_as_text(tmp_path: pathlib.Path) -> None:
  path = _file(tmp_path, "a.tsv", 'label\ttext\nx\t"Сайн уу\ny\tүг" гэв\n')
  assert classifier_data.read(path, "text", "label") == [
    classifier_data.Row(2, '"Сайн уу', "x"),
    classifier_data.Row(3, 'үг" гэв', "y"),
  ]


def test_a_csv_takes_quoted_commas_quotes_and_line_breaks(
  tmp_path: pathlib.Path,
) -> None:
  path = _file(tmp_path, "a.csv", 'text,label\n"Тийм, ""за""\nгэв",x\nхоёр,y\n')
  assert classifier_data.read(path, "text", "label") == [
    classifier_data.Row(2, 'Тийм, "за"\nгэв', "x"),
    classifier_data.Row(4, "хоёр", "y"),
  ]


def test_a_compressed_file_with_byte_order_mark_and_windows_line_ends_is_read(
  tmp_path: pathlib.Path,
) -> None:
  content = "\ufefftext\tlabel\r\nхоёр\tx\r\n\r\nгурав\ty\r\n"
  path = tmp_path / "a.tsv.gz"
  path.write_bytes(gzip.compress(content.encode("utf-8")))
  rows = classifier_data.read(str(path), "text", "label")
  assert [(row.line, row.text, row.label) for row in rows] == [
    (2, "хоёр", "x"),
    (4, "гурав", "y"),
  ]


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("a.tsv", "", "got an empty file"),
    ("a.tsv", "text\tlabel\n", "got a header only"),
    ("a.tsv", "body\ttopic\na\tb\n", "got columns 'body', 'topic'"),
    ("a.tsv", "text\ttext\tlabel\na\tb\tc\n", "got columns 'text', 'text'"),
    ("a.tsv", "text\tlabel\na\tx\nb\n", "a.tsv:3; got 1"),
    ("a.tsv", "text\tlabel\na\tx\tz\n", "a.tsv:2; got 3"),
    ("a.csv", 'text,label\n"a\nb",x\nc,y,z\n', "a.csv:4; got 3"),
    ("a.csv", 'text,label\na,x\n"b,y\nc,z\n', "a.csv:3; got unexpected end"),
    (
      "a.tsv",
      "text\tlabel\na\tx\n\ty\nb\t\n",
      "a.tsv:3; got an empty one (and 1 bad rows more)",
    ),
    ("a.txt", "text\tlabel\na\tx\n", "ends in .csv, .tsv or .jsonl"),
  ],
)
def test_a_bad_file_is_named_with_its_place(
  tmp_path: pathlib.Path, name: str, text: str, message: str
) -> None:
  with pytest.raises(options.InputError) as caught:
    classifier_data.read(_file(tmp_path, name, text), "text", "label")
  assert message in str(caught.value)


def test_a_file_to_predict_needs_no_labels(tmp_path: pathlib.Path) -> None:
  path = _file(tmp_path, "a.csv", 'id,text\n7,хоёр\n8,""\n')
  (_, first), (line, second) = classifier_data.stream(
    path, classifier_data.Columns()
  )
  assert first == classifier_data.Row(2, "хоёр")
  assert line == 3
  assert isinstance(second, tables.Bad)


def _jsonl(folder: pathlib.Path, *rows: object) -> str:
  lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
  return _file(folder, "a.jsonl", "".join(lines))


def _streamed(
  path: str, labelled: bool = True, **columns: str
) -> list[classifier_data.Row | str]:
  """Returns the rows of a file; a bad row is the reason why it is bad."""
  chosen = classifier_data.Columns(**columns)
  return [
    row.reason if isinstance(row, tables.Bad) else row
    for _, row in classifier_data.stream(path, chosen, labelled)
  ]


def test_labels_of_json_are_names_whatever_their_type(
  tmp_path: pathlib.Path,
) -> None:
  labels = ("цаг агаар ☀️", " x ", 1, 2.5, True, None, "", ["x"])
  path = _jsonl(tmp_path, *({"text": "хоёр", "label": n} for n in labels))
  rows = _streamed(path)
  assert [row.label for row in rows[:5] if not isinstance(row, str)] == [
    "цаг агаар ☀️",
    "x",
    "1",
    "2.5",
    "true",
  ]
  assert rows[5:] == [
    "expected a label under 'label', got none",
    "expected a label under 'label', got none",
    "expected the name of a label, got ['x']",
  ]


def test_rows_to_predict_may_lack_labels_but_not_texts(
  tmp_path: pathlib.Path,
) -> None:
  path = _jsonl(
    tmp_path,
    {"text": "нэг"},
    {"text": "хоёр", "label": "x"},
    {"text": " "},
    {"label": "x"},
    {"text": 3, "label": "x"},
    {"text": "дөрөв", "label": ""},
    {"text": "тав", "label": ["x"]},
  )
  assert _streamed(path, labelled=False) == [
    classifier_data.Row(1, "нэг"),
    classifier_data.Row(2, "хоёр", "x"),
    "expected a text under 'text', got an empty one",
    "expected a text under 'text', got none",
    "expected a text under 'text', got 3",
    classifier_data.Row(6, "дөрөв"),
    classifier_data.Row(7, "тав"),
  ]
  bare = _file(tmp_path, "bare.csv", "text\nнэг\n")
  assert _streamed(bare, labelled=False) == [classifier_data.Row(2, "нэг")]
  with pytest.raises(options.InputError, match="--label_column"):
    _streamed(bare)


def test_pairs_of_texts_are_read(tmp_path: pathlib.Path) -> None:
  path = _file(tmp_path, "a.tsv", "a\tb\tlabel\nнэг\tхоёр\tx\nнэг\t\tx\n")
  assert _streamed(path, text_column="a", text_pair_column="b") == [
    classifier_data.Row(2, "нэг", "x", text_pair="хоёр"),
    "expected a text under 'b', got an empty one",
  ]


def test_rows_with_several_labels_are_read_by_separator_or_as_json(
  tmp_path: pathlib.Path,
) -> None:
  path = _file(tmp_path, "a.csv", 'text,label\nнэг,"x; y z;x"\nхоёр,\n')
  several = [("x", "y z"), ()]
  assert [
    getattr(row, "labels", row)
    for row in _streamed(path, label_type="multi_label", label_separator=";")
  ] == several
  refused = _streamed(path, label_type="multi_label")[0]
  assert "or give --label_separator" in str(refused)
  path = _jsonl(
    tmp_path,
    {"text": "нэг", "label": ["x", "y z"]},
    {"text": "хоёр", "label": []},
  )
  assert [
    getattr(row, "labels", row)
    for row in _streamed(path, label_type="multi_label")
  ] == several


def test_numbers_are_checked_and_kept_as_written(
  tmp_path: pathlib.Path,
) -> None:
  path = _file(tmp_path, "a.tsv", "text\tlabel\nа\t1.50\nб\t3,5\nв\tnan\n")
  assert _streamed(path, label_type="regression") == [
    classifier_data.Row(2, "а", "1.50"),
    "expected a number such as 3.5, got '3,5'",
    "expected a number such as 3.5, got 'nan'",
  ]


def test_entities_are_checked_and_move_with_the_text(
  tmp_path: pathlib.Path,
) -> None:
  spans = (
    [[9, 14, "PER"], [0, 8, "LOC"]],
    [[0, 3, "LOC"], [2, 5, "PER"]],
    [[5, 5, "LOC"]],
    [[9, 18, "PER"]],
    [["0", 3, "LOC"]],
    "LOC",
  )
  path = _jsonl(
    tmp_path, *({"text": " Монголд Дорж оо", "label": s} for s in spans)
  )
  first, *refused = _streamed(path, label_type="entities")
  assert first == classifier_data.Row(
    1, "Монголд Дорж оо", entities=((0, 7, "LOC"), (8, 12, "PER"))
  )
  for reason, part in zip(
    refused,
    (
      "do not overlap",
      "in one of 16 characters",
      "in one of 16 characters",
      "[start, end, type]",
      "a JSON list",
    ),
    strict=True,
  ):
    assert part in str(reason)


@pytest.mark.parametrize("header", ["label\ttext", "id\tlabel\ttext"])
def test_tweets_are_read_by_name(tmp_path: pathlib.Path, header: str) -> None:
  lead = "9\t" if header.startswith("id") else ""
  path = _file(tmp_path, "a.tsv", f"{header}\n{lead}1\tтийм ээ\n")
  assert classifier_data.read_tweets(path) == [
    classifier_data.Row(2, "тийм ээ", "1")
  ]
  columns = classifier_data.tweet_columns(path, labelled=False)
  ((_, row),) = classifier_data.stream(path, columns)
  assert isinstance(row, classifier_data.Row)
  assert row.text == "тийм ээ"


def test_tweets_under_other_names_are_the_first_two_columns(
  tmp_path: pathlib.Path,
) -> None:
  path = _file(tmp_path, "a.tsv", "tweet\tauthor\nтийм ээ\t1\n")
  assert classifier_data.read_tweets(path) == [
    classifier_data.Row(2, "тийм ээ", "1")
  ]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("text\tlabel\nтийм\t2\n", "expected label 0 or 1"),
    ("тийм\t1\nүгүй\t0\n", "put the line text<TAB>label first"),
  ],
)
def test_tweets_of_another_shape_are_refused(
  tmp_path: pathlib.Path, text: str, message: str
) -> None:
  with pytest.raises(options.InputError) as caught:
    classifier_data.read_tweets(_file(tmp_path, "a.tsv", text))
  assert message in str(caught.value)


def test_one_label_only_is_refused() -> None:
  with pytest.raises(options.InputError, match="only 'sport'"):
    classifier_data.check_several_labels(
      [row for row in _rows() if row.label == "sport"]
    )


def test_the_sample_has_its_seven_topics_on_701_and_99_rows() -> None:
  train, dev = (
    classifier_data.read(
      str(ROOT / "sample" / "sib200" / name), "text", "category"
    )
    for name in ("train.tsv", "dev.tsv")
  )
  assert (len(train), len(dev)) == (701, 99)
  assert classifier_data.label_names(train) == [
    "entertainment",
    "geography",
    "health",
    "politics",
    "science/technology",
    "sports",
    "travel",
  ]


@pytest.mark.parametrize(
  "change",
  [
    {"text": "б"},
    {"label": "1"},
    {"text_pair": "б"},
    {"labels": ("x",)},
    {"entities": ((0, 1, "LOC"),)},
  ],
)
def test_the_fingerprint_changes_with_all_that_a_row_says(
  change: dict[str, Any],
) -> None:
  row = classifier_data.Row(2, "а", text_pair="в", labels=("y",))
  changed = dataclasses.replace(row, **change)
  assert classifier_data.fingerprint([row]) != classifier_data.fingerprint(
    [changed]
  )
