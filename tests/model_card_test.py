"""Tests that a model card says what the files say, and nothing else."""

import pathlib
from typing import Any

import yaml

from albert_mn.export import model_card
from tests import exported

_DESCRIBED: dict[str, Any] = dict(
  parameters=dict(max_seq_length=24, do_lower_case=False),
  counts=dict(global_step=12),
  inputs=dict(training_rows="0123456789abcdef0123"),
)


def _card(folder: pathlib.Path, to: str = "huggingface", **given: str) -> str:
  export = model_card.Export(
    to,
    "tokenizer: SentencePiece",
    "tokenizer.model",
    ["outputs: 1e-6 apart"],
    24,
    1,
    "of texts longer than 24 pieces it reads the first 22 pieces",
    given.get("alone", ""),
    given.get("license_", ""),
    given.get("data", ""),
    "mn",
  )
  config = exported.SHAPES["albert"]
  return model_card.text(
    _DESCRIBED, config, exported.LABELS, export, str(folder)
  )


def _matter(card: str) -> dict[str, Any]:
  matter: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
  return matter


def _section(card: str, name: str) -> str:
  return card.split(f"## {name}\n\n")[1].split("\n\n## ")[0]


def test_what_no_file_says_is_said_to_be_missing(
  tmp_path: pathlib.Path,
) -> None:
  card = _card(tmp_path)
  for name in ("Data", "Evaluation", "Fine-tuning report"):
    assert _section(card, name).startswith("*Not known"), name
  assert _matter(card) == dict(
    language="mn",
    library_name="transformers",
    pipeline_tag="text-classification",
  )


def test_results_report_and_licence_are_told(tmp_path: pathlib.Path) -> None:
  (tmp_path / "eval_results.txt").write_text(
    "eval_accuracy = 0.75\neval_loss = 0.4\nglobal_step = 12\n"
  )
  (tmp_path / "report.txt").write_text("Baseline: 0.7\n")
  card = _card(tmp_path, license_="cc-by-4.0", data="Мэдээ: CC BY 4.0.")
  assert "eval_accuracy = 0.75" in _section(card, "Evaluation")
  assert "Baseline: 0.7" in _section(card, "Fine-tuning report")
  assert _section(card, "Data") == "Мэдээ: CC BY 4.0."
  matter = _matter(card)
  assert matter["license"] == "cc-by-4.0"
  (result,) = matter["model-index"][0]["results"]
  assert result["metrics"] == [dict(type="accuracy", value=0.75)]


def test_results_of_another_step_are_not_this_models(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / "eval_results.txt").write_text(
    "eval_accuracy = 0.75\nglobal_step = 11\n"
  )
  card = _card(tmp_path)
  assert "0.75" not in card
  assert "are of step 11" in _section(card, "Evaluation")
  assert "model-index" not in _matter(card)
