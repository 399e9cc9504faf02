"""Tests that candidates for [MASK] have the probabilities of the head."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.inference import filled_lines, mask_filling
from albert_mn.models import configs, model_directory, pretraining, shipped
from data_prep.base import options
from data_prep.encoding import masked_texts, tokenization
from data_prep.files import records, text_lines
from tests import running, tokenizer_kinds

_TEXT = "Хүн бүр эрх [MASK], тэгш [MASK] төрдөг."
_SHAPE: dict[str, Any] = {
  "hidden_size": 32,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "intermediate_size": 64,
  "max_position_embeddings": 64,
  "initializer_range": 0.3,
}


def _model(family: str, tokenizer_file: str, folder: pathlib.Path) -> str:
  """Writes a pretrained model with large random weights; returns its path.

  Its vocabulary is a little larger than the tokenizer's, as some are.
  """
  size = tokenization.Tokenizer(tokenizer_file).vocab_size + 7
  config = (
    configs.BertConfig(vocab_size=size, **_SHAPE)
    if family == "BERT"
    else configs.AlbertConfig(vocab_size=size, embedding_size=16, **_SHAPE)
  )
  model_directory.save(
    str(folder / family),
    model_directory.PRETRAINED,
    config=config,
    parts=pretraining.PretrainingModel(config, seed=3).parts(),
    tokenizer_file=tokenizer_file,
    parameters={},
    counts={},
    inputs={},
  )
  return str(folder / family)


@pytest.fixture(scope="module", params=["shipped", "ALBERT", "BERT"])
def path(
  request: pytest.FixtureRequest,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> str:
  """The shipped model, a random ALBERT, and a random BERT with a vocab.txt."""
  if request.param == "shipped":
    return shipped.model_path()
  folder = tmp_path_factory.mktemp("models")
  if request.param == "BERT":
    tokenizer_file = tokenizer_kinds.wordpiece(folder / "words")
  return _model(request.param, tokenizer_file, folder)


@pytest.fixture(scope="module")
def filler(path: str) -> mask_filling.Filler:
  return mask_filling.load(path)


class _Head:
  """The masked-LM head of a model directory, called with padding.

  Args:
    path: the model directory.
  """

  def __init__(self, path: str) -> None:
    config = model_directory.config(path)
    assert config
    self.tokenizer = tokenization.Tokenizer(
      model_directory.tokenizer_file(path)
    )
    self._model = pretraining.PretrainingModel(config, seed=0)
    model_directory.restore(path, self._model.parts())

  def shares(self, ids: Sequence[int], place: int) -> np.ndarray:
    """Returns the probabilities of all pieces at a place, [vocab_size]."""
    row, padding = [*ids], [0] * (60 - len(ids))
    output = self._model(
      {
        records.INPUT_IDS: tf.constant([row + padding]),
        records.INPUT_MASK: tf.constant([[1] * len(row) + padding]),
        records.SEGMENT_IDS: tf.zeros([1, 60], tf.int32),
        records.MASKED_LM_POSITIONS: tf.constant([[place]]),
      }
    )
    shares: np.ndarray = tf.nn.softmax(output.masked_lm_logits).numpy()[0, 0]
    return shares


@pytest.fixture(scope="module")
def head(path: str) -> _Head:
  return _Head(path)


def test_the_pieces_have_the_probabilities_of_the_masked_lm_head(
  filler: mask_filling.Filler, head: _Head
) -> None:
  masked = masked_texts.encode(head.tokenizer, _TEXT)
  filled = filler.fill(_TEXT, top=100)
  assert len(filled) == 2
  for place, mask in zip(masked.places, filled, strict=True):
    shares = head.shares(masked.ids.tolist(), place)
    known = shares[: head.tokenizer.vocab_size]
    best = np.argsort(-known, kind="stable")[:100]
    names = head.tokenizer.pieces(best)
    assert len(mask.pieces) == 100
    for candidate, name, number in zip(mask.pieces, names, best, strict=True):
      assert candidate.probability == pytest.approx(known[number], abs=1e-6)
      # Two pieces of nearly the same probability may change places.
      assert candidate.text == name or mask.pieces[0].text == names[0]


def test_the_probability_of_a_word_is_the_product_that_the_module_defines(
  filler: mask_filling.Filler, head: _Head
) -> None:
  """The words are encoded as the tokenizer does; the beam may know more ways."""
  tokenizer = head.tokenizer
  masked = masked_texts.encode(tokenizer, _TEXT)
  before, after = np.split(masked.ids, [masked.places[0]])
  continues = ~tokenizer.word_starts & ~tokenizer.special
  lengths = set()
  for word, probability in filler.fill(_TEXT, top=8)[0].words:
    pieces = tokenizer.inside(word, begins=True)
    expected = 1.0
    for size in range(len(pieces) + 1):
      row = [*before, *pieces[:size], tokenizer.mask_id, *after[1:]]
      shares = head.shares(row, len(before) + size)[: tokenizer.vocab_size]
      last = size == len(pieces)
      expected *= 1 - shares[continues].sum() if last else shares[pieces[size]]
    lengths.add(len(pieces))
    assert probability >= expected - 1e-6
    if len(pieces) == 1:
      assert probability == pytest.approx(expected, abs=1e-6)
  assert lengths


def test_words_are_whole_ordered_and_sum_to_at_most_one(
  filler: mask_filling.Filler,
) -> None:
  for mask in filler.fill(_TEXT, top=100):
    shares = [share for _, share in mask.words]
    assert len(shares) > 20
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-6
    assert len({word for word, _ in mask.words}) == len(mask.words)
    assert all(word[0].isalnum() and " " not in word for word, _ in mask.words)


def test_a_narrow_beam_gives_the_first_words_of_a_wide_one(
  filler: mask_filling.Filler,
) -> None:
  wide = filler.fill(_TEXT, top=60)[0].words
  narrow = filler.fill(_TEXT, top=3)[0].words
  # Ways to spell a word that a narrow beam has no room for are missing.
  assert narrow[0].text in [word for word, _ in wide[:3]]
  assert narrow[0].probability <= wide[0].probability + 1e-9


def test_parts_of_words_are_completed_and_stems_are_not(
  filler: mask_filling.Filler,
) -> None:
  (behind,) = filler.fill("Монгол[MASK] хот", top=5)
  assert behind.words
  assert not any("#" in word for word, _ in behind.words)
  (stem,) = filler.fill("Монгол [MASK]ын хот", top=5)
  assert not stem.words
  assert len(stem.pieces) == 5
  first, _ = filler.fill("Монгол [MASK][MASK]", top=5)
  assert not first.words
  (whole,) = filler.fill("Монгол [MASK]. Хот", top=5)
  assert whole.words


def test_a_text_that_cannot_be_filled_is_refused_in_one_line(
  filler: mask_filling.Filler,
) -> None:
  with pytest.raises(
    options.InputError, match=r"expected a text with \[MASK\]"
  ):
    filler.fill("Монгол [mask] хот", top=1)
  most = filler.max_seq_length - 2
  assert filler.fill("[MASK]" + "." * (most - 1), top=1)
  with pytest.raises(options.InputError, match=f"at most {most} pieces"):
    filler.fill("[MASK]" + "." * most, top=1)


def test_a_model_without_the_head_is_refused(
  topics: str, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(
    options.InputError, match="got a classifier: give the pre"
  ):
    mask_filling.load(topics)
  config = configs.AlbertConfig(vocab_size=400, embedding_size=16, **_SHAPE)
  model_directory.save(
    str(tmp_path / "encoder"),
    model_directory.PRETRAINED,
    config=config,
    parts={"encoder": pretraining.PretrainingModel(config, seed=3).encoder},
    tokenizer_file=tokenizer_file,
    parameters={},
    counts={},
    inputs={},
  )
  with pytest.raises(options.InputError, match="an encoder without this head"):
    mask_filling.load(str(tmp_path / "encoder"))


def test_each_line_is_answered_in_its_format() -> None:
  filler = mask_filling.load(shipped.model_path())
  good = text_lines.Line({"line": 1}, "Монгол [MASK]\u202e хот")
  as_json = filled_lines.Options(format="json", top=2)
  content = json.loads(filled_lines.answer(filler, good, as_json))
  assert {"line": 1, "text": good.text}.items() <= content.items()
  (mask,) = filler.fill(good.text, 2)
  assert content["masks"] == filled_lines.values([mask])
  assert content["masks"][0]["pieces"][0]["text"] == mask.pieces[0].text
  table = filled_lines.answer(filler, good, filled_lines.Options(top=2))
  heading, names, *rows, last = table.split("\n")
  assert (heading, last) == ("Монгол [MASK]\\u202e хот", "")
  assert names.split() == ["word", "piece"]
  assert [row.split()[::2] for row in rows] == [
    [word.text, piece.text]
    for word, piece in zip(mask.words, mask.pieces, strict=True)
  ]
  bad = text_lines.Line({"line": 2}, "Монгол хот")
  assert (
    "[MASK]" in json.loads(filled_lines.answer(filler, bad, as_json))["error"]
  )
  line = filled_lines.answer(filler, bad, filled_lines.Options())
  assert line.startswith("line 2: expected a text with [MASK]")
  with pytest.raises(options.InputError, match="expected a text with"):
    filled_lines.answer(filler, bad, filled_lines.Options(text=bad.text))


@pytest.mark.slow
def test_the_command_of_the_readme_answers_with_the_shipped_model() -> None:
  command = ".venv/bin/python -m albert_mn.fill_mask --text='Монгол улсын нийслэл [MASK] хот'"
  assert command in (running.ROOT / "README.md").read_text("utf-8")
  done = subprocess.run(
    ["bash", "-c", command.replace(".venv/bin/python", sys.executable)],
    cwd=running.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("Монгол улсын нийслэл [MASK] хот\n  word ")
  assert "улсын" in done.stdout
