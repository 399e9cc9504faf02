"""Tests that shown text has no control characters, markup or formulas."""

import json
import logging as py_logging
import pathlib

import pytest

from albert_mn.export import model_card
from albert_mn.inference import predictions as table
from bert_tweet import predictions
from data_prep.base import options, shown_text
from tests import exported, running

# The terminal's red, its other CSI, a bell, right to left, an isolate, a BOM.
_UNSEEN = "\x1b[31m\x9b31m\a\u202e\u2066\ufeff\x00"
_WORDS = ("сайн", "Ёлка 12 %", "👩\u200d🔬", "a\nb", "\ud800", _UNSEEN)


@pytest.mark.parametrize("word", _WORDS)
def test_every_way_of_showing_a_text_is_one_line_of_what_is_seen(
  word: str,
) -> None:
  for show in (shown_text.printable, shown_text.markdown, shown_text.cell):
    assert show(word).isprintable()
  held = json.dumps({"text": word}, ensure_ascii=False)
  line = shown_text.json_escaped(held)
  assert line.isprintable()
  assert json.loads(line) == {"text": word}


def test_what_is_seen_stays_as_it_is() -> None:
  text = "Сайн уу? «Ёлка» – й, ү 12 % (а/б) 👍"
  assert shown_text.printable(text) == text
  assert shown_text.cell(text) == text
  assert shown_text.escaped("a\n\tb\x1b", kept="\n\t") == "a\n\tb\\x1b"


@pytest.mark.parametrize(
  ("text", "shown"),
  [
    ("=1+1", "'=1+1"),
    (" =cmd|' /C x'!A1", "'=cmd|' /C x'!A1"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("+976 11 22", "'+976 11 22"),
    ("- Сайн уу?", "'- Сайн уу?"),
    ("\t=1", "'=1"),
    ("-0.25", "-0.25"),
    ("+1e-3", "+1e-3"),
    ("a=b", "a=b"),
    ("'=1", "'=1"),
    ('"=1+1"', '\'"=1+1"'),
    ('" @SUM(A1)', "'\" @SUM(A1)"),
    ("＝1+1", "'＝1+1"),
    ('"Сайн уу?" гэв', '"Сайн уу?" гэв'),
  ],
)
def test_no_cell_is_a_formula_and_numbers_stay_numbers(
  text: str, shown: str
) -> None:
  assert shown_text.cell(text) == shown


def test_predictions_hold_no_formulas(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "predictions.tsv"
  with path.open("w") as file:
    table.tab_separated(file, ["3", "=1", "0.25", "-\x1b x"])
  assert path.read_text() == "3\t'=1\t0.25\t'-\\x1b x\n"


def test_a_json_line_of_a_prediction_shows_nothing_unseen() -> None:
  line = predictions._json({"text": _UNSEEN, "label": "спорт"})
  assert line.isprintable()
  assert json.loads(line) == {"text": _UNSEEN, "label": "спорт"}


def test_messages_and_log_lines_hold_no_control_characters() -> None:
  error = options.InputError("a file", f"none at {_UNSEEN}\nx", "mend it")
  assert str(error).isprintable()
  record = py_logging.LogRecord(
    "absl", py_logging.INFO, "a.py", 1, "%s\n%s", ("a" + _UNSEEN, "b"), None
  )
  lines = options._Formatter("%(message)s").format(record).split("\n")
  assert len(lines) == 2
  assert all(line.isprintable() for line in lines)


def test_a_file_name_reaches_the_terminal_without_its_controls(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  line = programs.refuse(
    "-m",
    "data_prep.build_corpus",
    f"--input_file={tmp_path}/\x1b[31m\u202e",
    f"--output_dir={tmp_path}/out",
  )
  assert line.isprintable()
  assert "\\x1b[31m\\u202e" in line


def test_labels_mean_nothing_in_a_model_card(tmp_path: pathlib.Path) -> None:
  labels = ("<img src=x>", "[a](http://x)", "a\n# b", "```", "\x1b\u202e", "|")
  (tmp_path / "report.txt").write_text("\n".join([*labels, "````", "<b>"]))
  described = dict(
    parameters={"note|<b>": "<i>|\u202e[x](y)"},
    counts={},
    inputs={"<b>\n# c": "`<i>`"},
  )
  export = model_card.Export(
    "huggingface",
    "tokenizer: none",
    "",
    [],
    24,
    1,
    "of texts it reads",
    "",
    "",
    "",
    "mn",
  )
  card = model_card.text(
    described, exported.SHAPES["albert"], labels, export, str(tmp_path)
  )
  assert shown_text.escaped(card, kept="\n") == card
  (title,) = (line for line in card.splitlines() if line.startswith("# A"))
  for sign in "<[`|":
    assert sign not in title.replace(f"\\{sign}", "")
  (row,) = (line for line in card.splitlines() if "note" in line)
  assert row.replace("\\|", "").count("|") == 3
  assert "<" not in row.replace("\\<", "")
  (line,) = (line for line in card.splitlines() if "# c" in line)
  for sign in "<`#":
    assert sign not in line.replace(f"\\{sign}", "")
  assert "\n`````text\n" in card
  assert "\n`````\n" in card
