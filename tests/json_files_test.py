"""Tests of JSON files with missing, unknown and wrongly typed fields."""

import dataclasses
import logging
import pathlib
from typing import Any

import pytest

from data_prep.base import options
from data_prep.files import json_files


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Settings as an earlier run wrote them."""

  steps: int
  rate: float = 0.1
  name: str = "lamb"
  sizes: tuple[int, ...] = ()
  limit: int | None = None


def _deep(levels: int) -> Any:
  """Returns lists nested `levels` deep."""
  nested: Any = []
  for _ in range(levels):
    nested = [nested]
  return nested


def test_what_a_file_does_not_name_has_its_default() -> None:
  recipe = json_files.made(Recipe, {"steps": 3, "sizes": [1, 2]}, "a file")
  assert recipe == Recipe(3, sizes=(1, 2))


def test_fields_of_a_later_version_are_left_out_and_named_in_one_line(
  caplog: pytest.LogCaptureFixture,
) -> None:
  values = {"steps": 3, "warmth": {"a": 1}, "colour": "улаан"}
  with caplog.at_level(logging.WARNING, "absl"):
    assert json_files.made(Recipe, values, "optimizer in run.json") == Recipe(3)
  (record,) = caplog.records
  assert record.getMessage() == (
    "optimizer in run.json: this version does not know colour, warmth, and "
    "leaves it out"
  )


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ([], "expected a file to be an object; got []"),
    (None, "expected a file to be an object; got null"),
    ("текст", 'expected a file to be an object; got "текст"'),
    ({"rate": 1.0}, 'expected steps in a file; got {"rate": 1.0}'),
    ({"steps": "3"}, 'steps of a file to be a whole number; got "3"'),
    ({"steps": 3.5}, "steps of a file to be a whole number; got 3.5"),
    ({"steps": True}, "steps of a file to be a whole number; got true"),
    ({"steps": 3, "rate": float("nan")}, "rate of a file to be a number; got"),
    ({"steps": 3, "rate": 10**400}, "rate of a file to be a number; got 1000"),
    ({"steps": 3, "rate": -(10**400)}, "rate of a file to be a number; got -1"),
    ({"steps": _deep(5_000)}, "to be a whole number; got lists or objects nes"),
    ({"steps": 3, "name": 5}, "name of a file to be a string; got 5"),
    ({"steps": 3, "sizes": ["a"]}, "sizes of a file to be a list"),
    ({"steps": 3, "limit": []}, "to be a whole number or null; got []"),
  ],
)
def test_another_type_is_one_line_that_names_the_field(
  values: Any, message: str
) -> None:
  with pytest.raises(options.InputError) as caught:
    json_files.made(Recipe, values, "a file")
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"{",
    b'{"a": 1',
    b"\xff\xfe{",
    b"[" * 100_000,
    b'{"a": 1' + b"1" * 5_000 + b"}",
    b'["\\ud83d"]',
    b'{"\\uDE00\\ud83d": 1}',
  ],
)
def test_a_file_that_is_not_json_is_one_line_that_names_it(
  content: bytes, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "run.json"
  path.write_bytes(content)
  with pytest.raises(options.InputError, match=r"JSON in .*run\.json"):
    json_files.read(str(path))


def test_two_halves_of_a_character_are_one(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "labels.json"
  path.write_text(r'["\ud83d\uDE00", "\\ud83d"]')
  assert json_files.read(str(path)) == ["😀", r"\ud83d"]


@pytest.mark.parametrize("content", ["[]", '[["a", 1]]', '"a"', "5", "null"])
def test_other_json_is_no_object(content: str, tmp_path: pathlib.Path) -> None:
  """Python would make a dictionary of a list of pairs, and of an empty list."""
  path = tmp_path / "run.json"
  path.write_text(content)
  with pytest.raises(options.InputError, match=r"object in .*run\.json; got"):
    json_files.read_object(str(path))


def test_a_file_of_one_long_line_is_read_with_its_line_ends(
  tmp_path: pathlib.Path,
) -> None:
  """A tokenizer.json of 32,000 Cyrillic pieces has no line break at all."""
  path = tmp_path / "tokenizer.json"
  text = "сайн\r\n" * 400_000
  path.write_bytes(
    b"\xef\xbb\xbf"
    + ('{"a": "' + text + '"}').replace("\r\n", "\\r\\n").encode()
  )
  assert json_files.read_object(str(path)) == {"a": text}


@pytest.mark.parametrize("content", [None, "", "[1]", '{"tag": 5}', "null"])
def test_a_note_that_cannot_be_read_is_as_none(
  content: str | None, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "note.json"
  if content is not None:
    path.write_text(content)
  assert json_files.read_note(str(path), dict[str, str]) is None
