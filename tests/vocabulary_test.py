"""Tests of moving models to other tokenizers: kept rows, means, the loss."""

import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.formats import conversion, initial_weights, vocabulary
from albert_mn.models import configs, model_directory, pretraining
from data_prep.base import options
from data_prep.encoding import tokenization, tokenizer_training

CONFIG = configs.AlbertConfig(
  vocab_size=400,
  embedding_size=8,
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=32,
  max_position_embeddings=128,
)


@pytest.fixture(scope="module")
def smaller_file(
  udhr: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
  """The path of a BPE tokenizer of 250 pieces, trained on `udhr`."""
  folder = str(tmp_path_factory.mktemp("smaller"))
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(udhr), output_dir=folder, vocab_size=250, model_type="bpe"
    )
  )
  return f"{folder}/{tokenization.MODEL_NAME}"


def _model() -> pretraining.PretrainingModel:
  model = pretraining.PretrainingModel(CONFIG, 1)
  bias = np.random.default_rng(0).normal(size=400)
  model.masked_lm.bias.assign(bias.astype(np.float32))
  return model


def test_kept_pieces_keep_their_rows_and_new_ones_are_means(
  tokenizer_file: str, smaller_file: str
) -> None:
  old = tokenization.Tokenizer(smaller_file)
  new = tokenization.Tokenizer(tokenizer_file)
  origins = vocabulary.origins(old, new)
  assert (
    origins.kept + origins.divided + origins.without == new.vocab_size == 400
  )
  assert min(origins.kept, origins.divided) > 50
  assert not origins.without
  assert origins.old[new.mask_id] == (old.mask_id,)
  held = set(old.pieces(range(old.vocab_size)))
  checked = 0
  for number, piece in enumerate(new.pieces(range(new.vocab_size))):
    parts = "".join(old.pieces(origins.old[number]))
    assert parts == piece, "the old pieces spell the new one"
    assert (len(origins.old[number]) == 1) == (piece in held)
    checked += len(origins.old[number]) > 2
  assert checked
  rows = np.random.default_rng(0).normal(size=[250, 8])
  moved = vocabulary.means(rows, origins)
  for number, parts_ in enumerate(origins.old):
    np.testing.assert_allclose(
      moved[number], rows[list(parts_)].mean(0), atol=1e-6
    )


def test_a_piece_inside_a_word_is_not_one_that_begins_it(
  tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  """SentencePiece marks the beginning of a word, WordPiece what goes on."""
  lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "эрх", "##эрх"]
  path = tmp_path / "vocab.txt"
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
  old = tokenization.Tokenizer(str(path))
  new = tokenization.Tokenizer(tokenizer_file)
  origins = vocabulary.origins(old, new)
  pieces = new.pieces(range(new.vocab_size))
  assert origins.old[pieces.index("▁эрх")] == (5,)
  assert origins.old[new.pad_id] == (0,)
  assert origins.old[new.mask_id] == (4,)
  assert origins.without
  assert (1,) in origins.old
  assert old.inside("эрх", False) == [6]


def test_moving_to_the_same_tokenizer_changes_nothing(
  tokenizer_file: str, udhr: pathlib.Path
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  origins = vocabulary.origins(tokenizer, tokenizer)
  assert origins.kept == 400
  model = _model()
  moved = vocabulary.moved(model, CONFIG, origins, 0)
  for variable, moved_variable in zip(
    model.variables, moved.variables, strict=True
  ):
    np.testing.assert_array_equal(variable, moved_variable)
  lines = udhr.read_text("utf-8").splitlines()[:6]
  guessed = vocabulary.contexts(lines, (tokenizer,))
  before, after = (
    vocabulary.bits_per_character(m, tokenizer, guessed) for m in (model, moved)
  )
  assert before == after > 0


def test_bits_are_those_of_the_guessed_words_characters(
  tokenizer_file: str,
) -> None:
  """The model gives every piece the same probability."""
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  model = pretraining.PretrainingModel(CONFIG, 1)
  model.encoder.embedding_table.assign(tf.zeros([400, 8]))
  contexts = vocabulary.contexts(
    ["Хүн бүр эрх чөлөөтэй байх эрхтэй юм", "", "🙂 эрх"], (tokenizer,)
  )
  assert [len(c.masked) for c in contexts] == [1, 1]
  assert contexts[1].words[contexts[1].masked[0]] == "эрх", "🙂 is not known"
  words = [c.words[c.masked[0]] for c in contexts]
  pieces = sum(map(len, tokenizer.encode(words)))
  expected = pieces * math.log2(400) / sum(map(len, words))
  bits = vocabulary.bits_per_character(model, tokenizer, contexts)
  assert bits == pytest.approx(expected, rel=1e-5)


def test_the_converter_moves_a_model_and_says_what_it_costs(
  tokenizer_file: str,
  smaller_file: str,
  udhr: pathlib.Path,
  tmp_path: pathlib.Path,
  capsys: pytest.CaptureFixture[str],
) -> None:
  model = _model()
  model_directory.save(
    str(tmp_path / "old"),
    "pretrained_model",
    config=CONFIG,
    parts=model.parts(),
    tokenizer_file=tokenizer_file,
    parameters={"do_lower_case": False},
    counts={"global_step": 7},
    inputs={},
  )
  conversion.run(
    conversion.Options(
      init_checkpoint=str(tmp_path / "old"),
      resize_vocabulary=smaller_file,
      held_out_file=str(udhr),
      output_dir=str(tmp_path / "new"),
    )
  )
  said = capsys.readouterr().out
  assert "pieces: 400 before, 250 after" in said
  assert " bits per character before, " in said
  config = model_directory.config(str(tmp_path / "new"))
  assert config
  assert config.vocab_size == 250
  moved = pretraining.PretrainingModel(config, 3)
  initial_weights.load(str(tmp_path / "new"), moved.parts())
  old = tokenization.Tokenizer(tokenizer_file)
  new = tokenization.Tokenizer(
    model_directory.tokenizer_file(str(tmp_path / "new"))
  )
  origins = vocabulary.origins(old, new)
  np.testing.assert_allclose(
    moved.masked_lm.bias,
    vocabulary.means(model.masked_lm.bias.numpy(), origins),
  )
  kept = [i for i, parts in enumerate(origins.old) if len(parts) == 1][:20]
  there = [origins.old[i][0] for i in kept]
  new_output, old_output = (
    m.encoder(
      tf.constant([ids]),
      tf.ones([1, 20], tf.int32),
      tf.zeros([1, 20], tf.int32),
    ).sequence_output
    for m, ids in ((moved, kept), (model, there))
  )
  np.testing.assert_array_equal(new_output, old_output)


def test_flags_that_do_not_go_together_are_refused(
  tokenizer_file: str, smaller_file: str
) -> None:
  with pytest.raises(options.InputError, match="give both or neither"):
    conversion.Options(
      init_checkpoint="a", output_dir="b", resize_vocabulary=tokenizer_file
    )
  with pytest.raises(options.InputError, match="train one with data_prep"):
    conversion.Options(
      init_checkpoint="a",
      output_dir="b",
      resize_vocabulary="vocab.txt",
      held_out_file="x",
    )
  with pytest.raises(options.InputError, match="both tokenizers can read"):
    vocabulary.contexts(
      ["🙂 🙂"],
      tuple(map(tokenization.Tokenizer, (tokenizer_file, smaller_file))),
    )
