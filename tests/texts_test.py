"""Tests of reading documents from plain text, JSON lines and tables."""

import gzip
import json
import pathlib
from typing import Any

import pytest

from data_prep.base import options
from data_prep.sources import texts
from data_prep.text import cleaning


def _items(path: pathlib.Path, **settings: Any) -> list[object]:
  return list(texts.items(str(path), texts.Options(**settings)))


@pytest.mark.parametrize(
  ("parted", "documents"),
  [
    ("blank_line", [("Сайн уу.", "Сайн."), ("Баяртай.",)]),
    ("line", [("Сайн уу.",), ("Сайн.",), ("Баяртай.",)]),
    ("file", [("Сайн уу.", "Сайн.", "Баяртай.")]),
  ],
)
def test_documents_of_plain_text_are_parted_as_asked(
  tmp_path: pathlib.Path, parted: str, documents: list[tuple[str, ...]]
) -> None:
  path = tmp_path / "a.txt"
  path.write_text("Сайн уу.\nСайн.\n\n \nБаяртай.\n", "utf-8")
  assert _items(path, documents=parted) == documents


def test_a_json_line_is_a_document(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.jsonl.gz"
  rows = [{"body": "Сайн уу.\nСайн."}, {"body": " "}, {"body": "Баяртай."}]
  text = "\n".join(json.dumps(row) for row in rows)
  path.write_bytes(gzip.compress(text.encode()))
  assert _items(path, text_field="body") == [
    ("Сайн уу.", "Сайн."),
    cleaning.Drop("row with blank text"),
    ("Баяртай.",),
  ]


def test_half_a_character_of_json_does_not_end_the_work(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.jsonl"
  path.write_text(r'{"text": "Сайн \ud83d уу \ud83d\ude00"}')
  assert _items(path) == [("Сайн \ufffd уу 😀",)]


@pytest.mark.parametrize("line", ['{"text": 1}', '{"txt": "а"}', "[]", "{"])
def test_a_bad_json_line_is_named(tmp_path: pathlib.Path, line: str) -> None:
  path = tmp_path / "a.jsonl"
  path.write_text('{"text": "Сайн уу."}\n' + line, "utf-8")
  with pytest.raises(options.InputError, match=r"a.jsonl:2"):
    _items(path)


def test_a_cell_of_a_table_is_a_document(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "a.csv"
  path.write_text('id,text\n1,"Сайн уу.\nСайн, ""за""."\n2,Баяртай.\n', "utf-8")
  assert _items(path) == [("Сайн уу.", 'Сайн, "за".'), ("Баяртай.",)]
  with pytest.raises(options.InputError, match="--text_field"):
    _items(path, text_field="body")
  path.write_text("id,text\n1\n", "utf-8")
  with pytest.raises(options.InputError, match=r"2 columns.*a.csv:2"):
    _items(path)
