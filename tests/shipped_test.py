"""Tests that the shipped model is whole, small, and of the text it names."""

import os
import pathlib
import re
import subprocess
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.finetune import classification
from albert_mn.formats import initial_weights
from albert_mn.models import model_directory, pretraining, shipped
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import manifest, records
from tests import running

SAMPLE = running.ROOT / "sample"
SCRIPT = running.ROOT / "scripts" / "make_pretrained.sh"
_MOST_BYTES = 16_000_000


def _words(text: str) -> list[str]:
  return re.findall(r"\w+", text.lower())


def test_the_model_is_whole_small_and_has_a_card() -> None:
  folder = pathlib.Path(shipped.model_path())
  assert folder.is_relative_to(running.ROOT)
  manifest.check(str(folder), "pretrained_model")
  manifest.rehash(str(folder))
  names = {path.name for path in folder.iterdir()}
  listed = manifest.read(str(folder / manifest.NAME))["files"].keys()
  assert names == {*listed, manifest.NAME, "README.md"}
  size = sum(path.stat().st_size for path in folder.iterdir())
  assert size <= _MOST_BYTES, f"{size:,} bytes"


def _settled(**given: Any) -> classification.Options:
  return classification.Options(output_dir="runs", **given).settled()


def test_a_training_without_a_named_model_starts_from_the_repositorys() -> None:
  folder = shipped.model_path()
  assert _settled(do_train=True).init_checkpoint == folder
  nothing = _settled(do_train=True, init_checkpoint=classification.NOTHING)
  assert nothing.init_checkpoint == ""
  assert nothing.albert_config_file == f"{folder}/albert_config.json"
  assert nothing.spm_model_file == f"{folder}/tokenizer.model"
  # Whoever names a shape, or trains nothing, gets what he named.
  for given in (
    {"do_train": True, "albert_config_file": "small.json"},
    {"do_train": True, "init_checkpoint": "model"},
    {"do_predict": True},
  ):
    settings = _settled(**given)
    assert settings == classification.Options(output_dir="runs", **given)


def test_where_the_repositorys_model_is_not_there_a_model_is_asked_for(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(shipped, "model_path", lambda: "")
  with pytest.raises(options.InputError, match="a model to train; got none"):
    _settled(do_train=True)


def test_the_card_names_text_and_licences() -> None:
  card = (pathlib.Path(shipped.model_path()) / "README.md").read_text("utf-8")
  for words in ("cc-by-sa-4.0", "Mongolian Wikipedia", "Common Voice", "CC0"):
    assert words in card, words


def test_the_text_of_the_model_shares_no_five_words_with_sib_200() -> None:
  def runs(text: str) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

  rows = [
    line.split("\t")[-1]
    for name in ("train", "dev")
    for line in (SAMPLE / f"sib200/{name}.tsv").read_text("utf-8").splitlines()
  ]
  assert len(rows) == 802  # with two headers
  held = set().union(*map(runs, rows))
  for path in (SAMPLE / "pretrain").glob("*.txt"):
    assert not runs(path.read_text("utf-8")) & held, path.name


def test_the_model_guesses_masked_pieces_better_than_by_frequency() -> None:
  folder = shipped.model_path()
  config = model_directory.config(folder)
  assert config
  tokenizer = tokenization.Tokenizer(model_directory.tokenizer_file(folder))
  model = pretraining.PretrainingModel(config, 0)
  initial_weights.load(folder, model.parts())
  # Two sentences that nobody trained on.
  ids = [
    np.concatenate([[tokenizer.cls_id], pieces, [tokenizer.sep_id]])
    for pieces in tokenizer.encode(
      [
        "Улаанбаатар бол Монгол Улсын нийслэл хот юм.",
        "Тэр өчигдөр ном уншсан.",
      ]
    )
  ]
  gains = []
  for sentence in ids:
    places = np.arange(1, len(sentence) - 1)
    masked = np.tile(sentence, (len(places), 1))
    masked[np.arange(len(places)), places] = tokenizer.mask_id
    features = {
      records.INPUT_IDS: tf.constant(masked, tf.int32),
      records.INPUT_MASK: tf.ones(masked.shape, tf.int32),
      records.SEGMENT_IDS: tf.zeros(masked.shape, tf.int32),
      records.MASKED_LM_POSITIONS: tf.constant(places[:, None], tf.int32),
    }
    logits = model(features).masked_lm_logits[:, 0].numpy()
    bias = model.masked_lm.bias.numpy()
    rows, true = np.arange(len(places)), sentence[places]
    gains += list(_log_softmax(logits)[rows, true] - _log_softmax(bias)[true])
  assert np.mean(gains) > 0.3, gains


def _log_softmax(values: np.ndarray) -> np.ndarray:
  values = values - values.max(-1, keepdims=True)
  return values - np.log(np.exp(values).sum(-1, keepdims=True))


@pytest.mark.slow
def test_the_script_makes_the_tokenizer_and_records_the_model_is_of(
  tmp_path: pathlib.Path,
) -> None:
  folder = shipped.model_path()
  done = subprocess.run(
    [SCRIPT, tmp_path],
    env={**os.environ, "RECORDS_ONLY": "1"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  content = manifest.read(os.path.join(folder, manifest.NAME))
  assert content["inputs"]["records"] == manifest.identity(
    str(tmp_path / "records")
  )
  made = tmp_path / "tokenizer" / tokenization.MODEL_NAME
  assert (
    made.read_bytes()
    == pathlib.Path(model_directory.tokenizer_file(folder)).read_bytes()
  )
