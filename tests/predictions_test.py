"""Tests that each line of the input gives one JSON line, in order."""

import gzip
import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from albert_mn.tasks import classifier, problems
from bert_tweet import batching, predictions
from data_prep.base import options
from data_prep.files import storage, text_lines
from tests import running


def _answers(topics: str, **settings: Any) -> list[dict[str, Any]]:
  predictor = classifier.Predictor.load(topics)
  given = predictions.Options(model_dir=topics, **settings)
  predict = batching.of_like_length(predictor.probabilities, 4)
  return [
    json.loads(line)
    for batch in text_lines.gathered(given.lines(), 4)
    for line in predictions.answers(batch, predictor.problem, predict)
  ]


def test_every_line_is_answered_in_its_place(
  topics: str, tmp_path: pathlib.Path
) -> None:
  texts = [("үүрэг " if i % 3 else "эрх ") * (1 + i % 9) for i in range(30)]
  raw = [text.encode("utf-8") for text in texts]
  raw[0] = b"\xef\xbb\xbf" + raw[0] + b"\r"
  raw[3], raw[7], raw[8] = b"\xc3\xf0", b" \t", "a\u2028b\x85c".encode()
  path = tmp_path / "texts.txt.gz"
  path.write_bytes(gzip.compress(b"\n".join(raw)))
  answers = _answers(topics, input_file=str(path))
  assert [row["line"] for row in answers] == [*range(1, 31)]
  assert answers[3] == {"line": 4, "error": "not UTF-8: byte 0xc3 at 0"}
  assert answers[7] == {"line": 8, "error": "empty"}
  assert answers[8]["text"] == "a\u2028b\x85c"
  good = [i for i in range(30) if i not in (3, 7, 8)]
  assert [answers[i]["text"] for i in good] == [texts[i] for i in good]
  predictor = classifier.Predictor.load(topics)
  expected = predictor.probabilities([texts[i] for i in good])
  for i, row in zip(good, expected, strict=True):
    np.testing.assert_allclose(
      [answers[i]["probabilities"][name] for name in predictor.names],
      row,
      atol=1e-5,
    )
    assert answers[i]["label"] == predictor.names[int(row.argmax())]


def test_an_answer_is_one_line_for_every_reader(topics: str) -> None:
  problem = problems.SingleLabel(("a\u2029b", "c"))
  (answer,) = predictions.answers(
    [text_lines.Line({"line": 1}, "x\u2028y\x85z")],
    problem,
    lambda texts: np.array([[0.25, 0.75]] * len(texts)),
  )
  assert len(answer.splitlines()) == 1
  assert json.loads(answer) == {
    "line": 1,
    "text": "x\u2028y\x85z",
    "label": "c",
    "probabilities": {"a\u2029b": 0.25, "c": 0.75},
  }


def test_several_labels_and_numbers_are_told_as_what_they_are() -> None:
  row = np.array([0.75, 0.25, 0.5000001])
  several = problems.MultiLabel(("a", "b", "c"))
  assert predictions.answer_of(several, row) == {
    "labels": ["a"],
    "probabilities": {"a": 0.75, "b": 0.25, "c": 0.5},
  }
  assert predictions.answer_of(problems.Regression(), np.array([-3.25])) == {
    "value": -3.25
  }


def test_lines_of_several_files_say_which(
  tmp_path: pathlib.Path,
) -> None:
  for name in "ab":
    (tmp_path / name).write_text("эрх\n", "utf-8")
  given = predictions.Options(model_dir="x", input_file=f"{tmp_path}/*")
  assert [line.place for line in given.lines()] == [
    {"file": str(tmp_path / name), "line": 1} for name in "ab"
  ]


def test_a_line_without_end_is_named_and_not_held_in_memory(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(storage, "MAX_LINE_BYTES", 100)
  path = tmp_path / "long"
  path.write_bytes(b"a" * 1050 + b"\nb\n" + b"c" * 99)
  given = predictions.Options(model_dir="x", input_file=str(path))
  lines = list(given.lines())
  assert [line.error for line in lines] == ["longer than 100 bytes", "", ""]
  assert [line.place["line"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_line_of_exactly_the_limit_is_predicted_wherever_it_stands(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  mark: bytes,
  end: bytes,
) -> None:
  """The line end and the byte order mark do not count."""
  monkeypatch.setattr(storage, "MAX_LINE_BYTES", 100)
  path = tmp_path / "lines"
  given = predictions.Options(model_dir="x", input_file=str(path))
  sizes = [100, 101, 99, 102, 103, 5, 104, 201, 205, 100]
  for last in (99, 100, 101):
    lines = [b"a" * size for size in (*sizes, last)]
    path.write_bytes(mark + (end or b"\n").join(lines) + end)
    errors = [line.error for line in given.lines()]
    assert errors == [
      "longer than 100 bytes" if size > 100 else "" for size in (*sizes, last)
    ]


def test_a_file_that_ends_in_the_middle_gives_what_came_before(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "cut.gz"
  raw = gzip.compress(np.random.default_rng(0).bytes(40_000).hex().encode())
  path.write_bytes(gzip.compress(b"x\n" * 10) + raw[: len(raw) // 2])
  given = predictions.Options(model_dir="x", input_file=str(path))
  seen = []
  with pytest.raises(options.InputError, match="cut"):
    for batch in text_lines.gathered(given.lines(), 4):
      seen += batch
  assert len(seen) >= 10


def test_two_inputs_are_one_too_many() -> None:
  with pytest.raises(options.InputError, match="leave one out"):
    predictions.Options(model_dir="x", input_text="a", input_file="b")


def test_a_person_at_the_keyboard_gets_an_answer_a_line(topics: str) -> None:
  """A line that cannot be read gets an answer too; the input stays open."""
  with subprocess.Popen(
    [sys.executable, "-m", "bert_tweet.predict", f"--model_dir={topics}"],
    cwd=running.ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  ) as process:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    for line, key in (("эрх тэгш".encode(), "label"), (b"\xff", "error")):
      process.stdin.write(line + b"\n")
      process.stdin.flush()
      assert key in json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(60) == 0
    assert (
      b"1 texts predicted, 1 lines could not be read" in process.stderr.read()
    )
