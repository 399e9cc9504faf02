"""Tests that the code in model cards runs, for each format and kind of model.

interop_test runs the lines that need transformers.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from albert_mn.export import export_source, exports
from albert_mn.tasks import classifier
from tests import card_code, running, tokenizer_kinds

_TEXT = "сайн байна уу"


def _export(model_dir: str, to: str, out: pathlib.Path, **more: Any) -> str:
  exports.run(
    exports.Options(model_dir=model_dir, to=to, output_dir=str(out), **more)
  )
  return str(out)


def _values(export: str) -> list[Any]:
  """Runs the Python of a card; returns what its bare expressions gave."""
  shown: list[Any] = []
  exec(card_code.shown(card_code.python(export)), {"shown": shown})
  return shown


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
  "kind",
  [
    "pairs",
    *(
      pytest.param(kind, marks=_SLOW)
      for kind in ("class", "multi_label", "regression")
    ),
  ],
)
def test_the_code_of_a_saved_models_card_gives_the_predictors_answer(
  kind: str, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  folder = card_code.saved(kind, tmp_path / "model", tokenizer_file)
  (outputs,) = _values(_export(folder, "saved_model", tmp_path / "out"))
  text = (_TEXT, "сайн уу") if kind == "pairs" else _TEXT
  expected = classifier.Predictor.load(folder).probabilities([text])
  told = outputs["values" if kind == "regression" else "probabilities"]
  np.testing.assert_allclose(
    np.reshape(told, [1, -1]), expected, rtol=1e-4, atol=1e-5
  )
  card = pathlib.Path(tmp_path / "out/README.md").read_text("utf-8")
  assert all(
    name in card.split("It gives ")[1].split("\n")[0] for name in outputs
  )


@pytest.mark.slow
@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_the_code_of_an_encoders_card_gives_the_pooled_output(
  with_tokenizer: bool, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  folder = card_code.saved(
    "pretrained", tmp_path / "model", tokenizer_file if with_tokenizer else ""
  )
  out = _export(folder, "encoder", tmp_path / "out", max_seq_length=9)
  pooled = _values(out)
  source = export_source.opened(folder)
  rows = [[2, 3]]
  if with_tokenizer:
    pieces = source.tokenizer().encode([_TEXT])[0]
    rows.insert(0, [2, *pieces, 3])
  for ids, value in zip(rows, pooled, strict=True):
    row = np.array([ids], np.int32)
    given = (row, np.ones_like(row), np.zeros_like(row))
    expected = source.parts["encoder"](*given).pooled_output
    np.testing.assert_allclose(value, expected, atol=1e-5)


def _write(path: pathlib.Path, rows: Sequence[Sequence[str]]) -> None:
  path.write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("kind", card_code.KINDS)
def test_the_commands_of_a_model_directorys_card_train_or_predict(
  kind: str,
  alone: bool,
  tokenizer_file: str,
  programs: running.Programs,
  tmp_path: pathlib.Path,
) -> None:
  folder = card_code.saved(kind, tmp_path / "model", tokenizer_file)
  out = _export(folder, "weights", tmp_path / "out", model_card=alone)
  (command,) = card_code.commands(out)
  _write(
    tmp_path / "texts.tsv", [("text", "text_pair"), (_TEXT, "сайн уу")] * 2
  )
  labelled = [
    (f"{word} байна {n}", word) for n in range(20) for word in ("уул", "ус")
  ]
  _write(tmp_path / "rows.tsv", [("text", "label"), *labelled])
  paths = {
    out: folder if alone else out,
    "run": str(tmp_path / "run"),
    "texts.tsv": str(tmp_path / "texts.tsv"),
    "rows.tsv": str(tmp_path / "rows.tsv"),
  }
  given = [
    f"{flag}={paths.get(value, value)}" if value else flag
    for flag, _, value in (word.partition("=") for word in command)
  ]
  programs.succeed(*given)
  name = {"pretrained": "report.txt", "entities": "predictions.jsonl"}
  assert (tmp_path / "run" / name.get(kind, "predictions.tsv")).exists()


@pytest.mark.parametrize(
  "to",
  [
    "tf1",
    "weights",
    pytest.param("tflite", marks=_SLOW),
    pytest.param("saved_model", marks=_SLOW),
  ],
)
def test_a_card_names_the_files_that_lie_beside_it(
  to: str, tmp_path: pathlib.Path
) -> None:
  vocabulary = tokenizer_kinds.KINDS["WordPiece"].made(tmp_path / "words")[0]
  pieces = pathlib.Path(vocabulary).read_text("utf-8").splitlines()[:400]
  pathlib.Path(vocabulary).write_text("\n".join(pieces) + "\n", "utf-8")
  folder = card_code.saved("class", tmp_path / "model", vocabulary, "bert")
  _export(folder, to, tmp_path / "out")
  card = (tmp_path / "out/README.md").read_text("utf-8")
  assert "tokenizer.model" not in card
  usage = card.split("## How to use")[1].split("## Checked")[0]
  for name in ("vocab.txt", "bert_config.json", "labels.json"):
    assert name not in usage or (tmp_path / "out" / name).exists()
  assert "albert" not in usage.replace("google-research/albert", "")
