"""Tests of first weights that are computed from corpus statistics."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.models import configs, encoders, pretraining
from albert_mn.pretrain import corpus_start, initialization, inputs
from data_prep.encoding import tokenization
from data_prep.files import records
from data_prep.pretraining import cooccurrence

VOCAB = 40
SPECIAL = np.arange(VOCAB) < 5
ALBERT = configs.AlbertConfig(
  VOCAB,
  embedding_size=32,
  hidden_size=64,
  num_hidden_layers=2,
  num_hidden_groups=2,
  num_attention_heads=4,
  intermediate_size=64,
  max_position_embeddings=32,
)
BERT = configs.BertConfig(
  VOCAB,
  hidden_size=64,
  num_hidden_layers=2,
  num_attention_heads=4,
  intermediate_size=64,
  max_position_embeddings=32,
)
FAMILIES = pytest.mark.parametrize("config", [ALBERT, BERT], ids=["A", "B"])


def _statistics(width: int) -> corpus_start.Statistics:
  """Returns statistics of texts of two subjects: pieces 5 to 19, 20 to 34."""
  random = np.random.default_rng(0)
  sequences = [
    np.append(random.integers(low, low + 15, 20), -1)
    for low in 200 * [5] + 100 * [20]
  ]
  stretch = np.concatenate(sequences).astype(np.int32)
  frequencies = cooccurrence.frequencies([stretch], VOCAB)
  counts = cooccurrence.count([stretch], frequencies, workers=1)
  return corpus_start.of_counts(counts, width)


def _started(config: configs.AlbertConfig) -> pretraining.PretrainingModel:
  model = pretraining.PretrainingModel(config, seed=1)
  statistics = _statistics(corpus_start.word_dimensions(config))
  corpus_start.assign(model, statistics, SPECIAL, seed=1)
  return model


def test_pieces_of_one_subject_have_like_vectors() -> None:
  vectors = _statistics(8).vectors[5:35]
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  likeness = vectors @ vectors.T
  within = (likeness[:15, :15].mean() + likeness[15:, 15:].mean()) / 2
  across = likeness[:15, 15:].mean()
  assert within > across + 0.5


def test_log_frequencies_differ_by_the_ratio_of_counts() -> None:
  log_frequencies = _statistics(8).log_frequencies
  first, second = log_frequencies[5:20].mean(), log_frequencies[20:35].mean()
  np.testing.assert_allclose(first - second, np.log(2), atol=0.05)


def test_the_output_layer_begins_with_the_frequencies_of_pieces() -> None:
  model = _started(ALBERT)
  width = corpus_start.word_dimensions(ALBERT)
  expected = _statistics(width).log_frequencies
  np.testing.assert_array_equal(model.masked_lm.bias, expected)


def _attention(model: pretraining.PretrainingModel) -> np.ndarray:
  """Returns the first block's attention, [heads, from, to]."""
  ids = tf.constant([np.random.default_rng(5).integers(5, 35, 20)])
  ones = tf.ones_like(ids)
  output = model.encoder(ids, ones, 0 * ones, with_attentions=True)
  shares: np.ndarray = output.attentions[0].numpy()[0]
  return shares


@FAMILIES
@pytest.mark.parametrize(("head", "offset"), [(0, -1), (1, 1), (2, -2)])
def test_a_head_looks_at_its_offset(
  config: configs.AlbertConfig, head: int, offset: int
) -> None:
  shares = _attention(_started(config))[head]
  for position in range(2, 18):
    assert shares[position].argmax() == position + offset


@FAMILIES
def test_the_last_head_takes_the_same_share_of_every_position(
  config: configs.AlbertConfig,
) -> None:
  shares = _attention(_started(config))[3]
  np.testing.assert_allclose(shares, 1 / shares.shape[1], rtol=0.05)


def _cls_vectors(model: pretraining.PretrainingModel) -> np.ndarray:
  """Returns the vectors at [CLS], [32, width], of 16 texts of each subject."""
  random = np.random.default_rng(4)
  texts = [
    random.integers(low, low + 15, 20) for low in (5, 20) for _ in range(16)
  ]
  ids = tf.constant(np.pad(texts, ((0, 0), (1, 0)), constant_values=2))
  ones = tf.ones_like(ids)
  hidden = model.encoder(ids, ones, 0 * ones).sequence_output
  vectors: np.ndarray = hidden[:, 0].numpy()
  return vectors


@FAMILIES
def test_cls_begins_as_a_summary_of_the_text(
  config: configs.AlbertConfig,
) -> None:
  def subjects_apart(model: pretraining.PretrainingModel) -> float:
    """Returns the distance of the subjects' centres, in deviations."""
    first, second = np.split(_cls_vectors(model), 2)
    distance = np.linalg.norm(first.mean(0) - second.mean(0))
    return float(distance / np.sqrt(first.var(0).sum() + second.var(0).sum()))

  random_weights = pretraining.PretrainingModel(config, seed=1)
  assert subjects_apart(_started(config)) > 2 * subjects_apart(random_weights)


@FAMILIES
def test_every_block_and_only_known_weights_change(
  config: configs.AlbertConfig,
) -> None:
  before = pretraining.PretrainingModel(config, seed=1)
  changed = {
    old.name.split(":")[0]
    for old, new in zip(
      before.trainable_variables,
      _started(config).trainable_variables,
      strict=True,
    )
    if not np.array_equal(old, new)
  }
  expected = {
    "encoder/word_embeddings/embeddings",
    "position_embeddings/embeddings",
    "masked_lm/output_bias/bias",
    *(
      f"group_{group}/inner_group_0/self_attention/{part}/kernel"
      for group in range(2)
      for part in ("query", "key", "value", "attention_output")
    ),
  }
  if config is ALBERT:
    expected.add("encoder/embedding_projection/kernel")
  assert changed == expected


def test_the_same_counts_and_seed_give_the_same_bytes() -> None:
  first, second = _started(ALBERT), _started(ALBERT)
  for variable, same in zip(first.variables, second.variables, strict=True):
    assert variable.numpy().tobytes() == same.numpy().tobytes()


def test_saved_statistics_come_back_and_those_of_other_records_do_not(
  tmp_path: pathlib.Path,
) -> None:
  statistics, folder = _statistics(8), str(tmp_path / "initialization")
  initialization.save(folder, statistics, {"records": "a"})
  back = initialization.saved(folder, 8, {"records": "a"})
  assert back
  np.testing.assert_array_equal(back.vectors, statistics.vectors)
  np.testing.assert_array_equal(
    back.log_frequencies, statistics.log_frequencies
  )
  assert initialization.saved(folder, 8, {"records": "b"}) is None
  assert initialization.saved(folder, 6, {"records": "a"}) is None


def test_records_are_parsed_once_and_padding_counts_for_nothing(
  dynamic_records: pathlib.Path,
  tokenizer_file: str,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  record_set = inputs.record_set(f"{dynamic_records}/train-*.tfrecord")
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  config = configs.AlbertConfig(
    tokenizer.vocab_size,
    embedding_size=16,
    hidden_size=16,
    num_attention_heads=2,
    intermediate_size=16,
  )
  parse = records.parse_pretraining
  rows: list[int] = []

  def counted(
    serialized: tf.Tensor, shape: records.Shape
  ) -> dict[str, tf.Tensor]:
    features = parse(serialized, shape)
    ids = features[records.INPUT_IDS].numpy()
    text = (features[records.INPUT_MASK].numpy() > 0) & ~tokenizer.special[ids]
    rows.extend(np.where(text, ids, -1))
    return features

  monkeypatch.setattr(records, "parse_pretraining", counted)
  statistics = corpus_start.of_records(record_set, tokenizer, config, workers=1)
  assert len(rows) == record_set.count()
  whole = [np.append(row, -1) for row in rows]
  frequencies = cooccurrence.frequencies(whole, tokenizer.vocab_size)
  counts = cooccurrence.count(whole, frequencies, workers=1)
  width = corpus_start.word_dimensions(config)
  expected = corpus_start.of_counts(counts, width)
  np.testing.assert_array_equal(statistics.vectors, expected.vectors)


def test_more_dimensions_than_columns_are_filled_with_zeros() -> None:
  assert _statistics(2 * VOCAB).vectors.shape == (VOCAB, 2 * VOCAB)


def test_dropout_and_packing_see_the_same_encoder() -> None:
  """In packed rows the positions of each example begin anew."""
  model = _started(ALBERT)
  ids = tf.constant([[2, 6, 7, 3, 2, 6, 7, 3]])
  mask = tf.constant([[1, 1, 1, 1, 2, 2, 2, 2]])
  firsts = tf.constant([[0, 4]])
  hidden = model.encoder(ids, mask, 0 * ids, None, firsts).sequence_output
  np.testing.assert_allclose(hidden[0, :4], hidden[0, 4:], atol=1e-5)
  assert isinstance(model.encoder, encoders.AlbertEncoder)
