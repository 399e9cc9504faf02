"""Tests that each row of a broken table comes out, as cells or as a reason."""

import csv
import gzip
import pathlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.base import options
from data_prep.files import tables

TEXT = [tables.Wanted("text", "--text_column")]


def _cells(
  folder: pathlib.Path, name: str, content: str | bytes
) -> list[tuple[int, object]]:
  """Returns (line, text) of each row of a file; for a bad row the reason."""
  path = folder / name
  raw = content.encode() if isinstance(content, str) else content
  path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
  return [
    (line, row.reason if isinstance(row, tables.Bad) else row[0])
    for line, row in tables.cells(str(path), TEXT)
  ]


@pytest.mark.parametrize(
  ("name", "content", "expected"),
  [
    (
      "width.tsv",
      "id\ttext\n1\tнэг\n2\n3\tгурав\tилүү\n4\tдөрөв\n",
      [
        (2, "нэг"),
        (3, "expected 2 columns, as in the header, got 1"),
        (4, "expected 2 columns, as in the header, got 3"),
        (5, "дөрөв"),
      ],
    ),
    (
      "empty_cells.tsv",
      "\n\ttext\n1\tнэг\n\t\n\n  \n2\tхоёр\n\n",
      [(3, "нэг"), (4, ""), (7, "хоёр")],
    ),
    (
      "one_column.tsv",
      "text\nнэг\n\nхоёр\n",
      [(2, "нэг"), (3, ""), (4, "хоёр")],
    ),
    (
      "one_column.csv",
      "text\nнэг\n\nхоёр\n",
      [(2, "нэг"), (3, ""), (4, "хоёр")],
    ),
    (
      "coding.csv",
      b"text\n\xd0\xb0\n\xe0\xf1\n\xd0\xb1\n",
      [(2, "а"), (3, "expected UTF-8 text, got byte 0xe0"), (4, "б")],
    ),
    (
      "open_quote.csv",
      'text,id\nнэг,1\n"хоёр,2\nгурав,3\n"дөрөв\nтав",4\n',
      [
        (2, "нэг"),
        (3, "expected a well-formed CSV row, got ',' expected after '\"'"),
        (4, "гурав"),
        (5, "дөрөв\nтав"),
      ],
    ),
    (
      "last_quote.csv.gz",
      'text,id\n"нэг,1\nхоёр,2\n',
      [
        (2, "expected a well-formed CSV row, got unexpected end of data"),
        (3, "хоёр"),
      ],
    ),
    (
      "quoted_but_not_text.csv",
      b'text,id\n"\xd0\xb0\n\xe0",1\n\xd0\xb1,2\n',
      [
        (2, "expected a well-formed CSV row, got unexpected end of data"),
        (3, "expected UTF-8 text, got byte 0xe0"),
        (4, "б"),
      ],
    ),
    (
      "quotes_inside.csv",
      'text,id\nүг" гэв,1\n"""За"", гэв",2\n',
      [(2, 'үг" гэв'), (3, '"За", гэв')],
    ),
    (
      "json.jsonl",
      '{"text": "нэг"}\n\n{"text"\n["хоёр"]\n{"id": 3}\n{"text": "\\ud83d"}\n',
      [
        (1, "нэг"),
        (3, "expected a JSON object, got '{\"text\"'"),
        (4, "expected a JSON object, got '[\"хоёр\"]'"),
        (5, None),
        (6, "\ufffd"),
      ],
    ),
    (
      "windows.csv",
      '\ufefftext,id\r\nнэг,1\r\n"хо\r\nёр",2\r\n',
      [(2, "нэг"), (3, "хо\nёр")],
    ),
  ],
)
def test_every_row_comes_out_whole_or_told(
  tmp_path: pathlib.Path,
  name: str,
  content: str | bytes,
  expected: list[tuple[int, object]],
) -> None:
  assert _cells(tmp_path, name, content) == expected


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_excels_unicode_text_is_read(
  tmp_path: pathlib.Path, order: str
) -> None:
  content = "\ufefftext\tid\r\nхоёр 😀\t1\r\nгурав\t2\r\n".encode(order)
  expected = [(2, "хоёр 😀"), (3, "гурав")]
  assert _cells(tmp_path, "a.tsv", content) == expected
  cut = "expected UTF-16 text, got half a character"
  assert _cells(tmp_path, "a.tsv", content[:-9])[1:] == [(3, cut)]


def test_a_row_too_long_is_told_and_the_rest_read(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(tables, "MAX_ROW_BYTES", 5000)
  monkeypatch.setattr(tables, "_BLOCK_BYTES", 3000)
  rows = ["а" * n for n in (1, 2400, 2490, 2501, 9000, 3)]
  content = "text\n" + "\n".join(rows) + "\n"
  cells = _cells(tmp_path, "a.tsv", content)
  assert [line for line, _ in cells] == [2, 3, 4, 5, 6, 7]
  texts = [text for _, text in cells]
  assert texts[:3] + texts[5:] == [*rows[:3], rows[5]]
  assert all("a longer one" in str(text) for text in texts[3:5])
  content16 = b"\xff\xfe" + ("text\n" + "а" * 9000 + "\nб").encode("utf-16-le")
  assert [text for _, text in _cells(tmp_path, "b.tsv", content16)][1] == "б"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize(
  "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]
)
def test_a_row_of_exactly_the_limit_is_read_wherever_it_stands(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  encoding: str,
  end: str,
) -> None:
  """The line end and the byte order mark do not count."""
  monkeypatch.setattr(tables, "MAX_ROW_BYTES", 500)
  monkeypatch.setattr(tables, "_BLOCK_BYTES", 300)
  sizes = [500, 501, 499, 502, 503, 5, 504]
  mark = "\ufeff" if encoding == "utf-16-be" else ""
  for last in (499, 500, 501):
    rows = ["a" * size for size in (*sizes, last)]
    content = (end or "\n").join(["text", *rows]) + end
    cells = _cells(tmp_path, "a.tsv", (mark + content).encode(encoding))
    assert ["a longer one" in str(text) for _, text in cells] == [
      len(row) > 500 for row in rows
    ]
    assert [text for _, text in cells if "a longer" not in str(text)] == [
      row for row in rows if len(row) <= 500
    ]


def test_a_text_of_a_hundred_thousand_words_is_a_text_like_any_other(
  tmp_path: pathlib.Path,
) -> None:
  text = "хөдөлмөр " * 100_000
  assert _cells(tmp_path, "a.csv.gz", f'text\n"{text},"\nхоёр\n') == [
    (2, f"{text},"),
    (3, "хоёр"),
  ]


def test_a_file_is_never_held(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.csv"
  with path.open("w", encoding="utf-8") as file:
    file.write("text,id\n")
    for number in range(8_000):
      file.write(f'"{"Сайн, уу " * 80}",{number}\n')
  assert path.stat().st_size > 9e6
  tracemalloc.start()
  try:
    count = sum(1 for _ in tables.cells(str(path), TEXT))
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert count == 8_000
  assert peak < 7e6


_CELL = st.text().filter(lambda cell: cell.strip() and "\r" not in cell)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=5))
def test_what_pythons_csv_writes_is_read_back(
  tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
  path = tmp_path_factory.mktemp("tables") / "a.csv"
  with path.open("w", encoding="utf-8", newline="") as file:
    csv.writer(file).writerows([("text", "label"), *rows])
  wanted = [*TEXT, tables.Wanted("label", "--label_column")]
  assert [row for _, row in tables.cells(str(path), wanted)] == rows


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("a.jsonl", '{"body": "а"}\n', "the key 'text' in the objects"),
    ("a.jsonl", "", "at least one JSON object"),
    ("a.csv", "", "got an empty file"),
    ("a.csv", "text\n", "got a header only"),
    ("a.csv", "text;label\nа;б\n", "or, in a .tsv, tabs, not by ';'"),
    ("a.xlsx", "text\n", "ends in .csv, .tsv or .jsonl"),
    ("a.csv", b"\xe0\n", "UTF-8 text at"),
  ],
)
def test_a_file_of_another_kind_is_refused_before_its_rows(
  tmp_path: pathlib.Path, name: str, content: str | bytes, message: str
) -> None:
  with pytest.raises(options.InputError) as caught:
    _cells(tmp_path, name, content)
  assert message in str(caught.value)
