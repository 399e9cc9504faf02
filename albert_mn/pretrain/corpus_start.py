"""Initial weights from counts of the training text, for `--initialization`.

A model that starts from random weights spends its first minutes on facts that
can be counted in seconds: how frequent each piece is, which pieces stand near
each other, and that neighbours matter more than distant positions. Here these
facts are the initial weights. The architecture and the names of the weights
stay ALBERT's and BERT's.

  output bias           log frequency of each piece
  word embeddings       factorised co-occurrence (Levy and Goldberg 2014)
  position embeddings   sinusoids, in dimensions that words do not use
  query and key         some heads look at fixed distances (the idea of
                        Trockman and Kolter 2023, mimetic initialisation)
  value and output      the last head adds the mean of the text to each
                        position, so that [CLS] begins as a summary

All other weights keep their random values.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse
import tensorflow as tf
import threadpoolctl
from absl import logging
from sklearn.utils import extmath

from albert_mn.models import configs, encoders, pretraining
from albert_mn.pretrain import inputs
from data_prep.encoding import tokenization
from data_prep.files import records
from data_prep.pretraining import cooccurrence

# Largest number of pieces to count. Records are shuffled, so the first records
# are a fair sample, and after 64 million pieces the statistics hardly change.
MOST_PIECES = 1 << 26
_RECORDS_A_STRETCH = 4096

# Mean norm of a word embedding and of a position embedding. Layer norm removes
# the scale of their sum, so only their ratio matters there. But the output
# layer uses the word embeddings too, so their norm sets the scale of the
# logits.
_LENGTH = 0.5
# The exponent that makes frequent contexts count less (Levy et al. 2015,
# section 3.1, context distribution smoothing).
_SMOOTHING = 0.75
# The shortest wave is just longer than two positions.
_SHORTEST_WAVE = 2.5
# The offsets at which the heads look, in the order of the heads.
_OFFSETS = (-1, 1, -2, 2, -3, 3)
_GAIN = 4.0  # scale of queries and keys in the position dimensions
_NOISE = 0.01


@dataclasses.dataclass(frozen=True)
class Statistics:
  """Log frequencies and vectors of the pieces of a vocabulary.

  Attributes:
    log_frequencies: float32 [vocab_size], log(count + 0.5) minus its mean over
      the pieces.
    vectors: float32 [vocab_size, width], similar for pieces with similar
      neighbours, with a mean norm of about 1; zeros for pieces that do not
      occur.
  """

  log_frequencies: np.ndarray
  vectors: np.ndarray


def of_records(
  record_set: inputs.RecordSet,
  tokenizer: tokenization.Tokenizer,
  config: configs.AlbertConfig,
  workers: int = 0,
) -> Statistics:
  """Counts the pieces of records; returns their log frequencies and vectors.

  Pieces with similar neighbours get similar vectors, as `of_counts` computes
  them. Counting ends at the block of records that reaches MOST_PIECES. Special
  pieces are not counted; masked pieces count as the pieces that they replaced.

  Args:
    record_set: the training records.
    tokenizer: the tokenizer that made the records.
    config: the model to initialize; its `word_dimensions` are the width of the
      vectors.
    workers: number of processes; 0 means one for each core.
  """
  # Kept in memory, because parsing takes time: 64 million pieces take 0.3 GB,
  # the tables 2 GB.
  stretches = list(_stretches(record_set, tokenizer.special))
  frequencies = cooccurrence.frequencies(stretches, tokenizer.vocab_size)
  counts = cooccurrence.count(stretches, frequencies, workers)
  logging.info(
    "initialization: counted %s pieces, %d of %d kinds",
    f"{frequencies.sum():,}",
    np.count_nonzero(frequencies),
    tokenizer.vocab_size,
  )
  return of_counts(counts, word_dimensions(config))


def _stretches(
  record_set: inputs.RecordSet, special: np.ndarray
) -> Iterator[np.ndarray]:
  """Yields the piece ids of 4,096 records at a time, as one array int32 [n].

  The function ends after the array that reaches MOST_PIECES pieces, or after
  the last record. Masked pieces have their true ids. A −1 marks the end of a
  text: special pieces, padding, and the end of a record.
  """
  dataset = tf.data.TFRecordDataset(list(record_set.files))
  left = MOST_PIECES
  for serialized in dataset.batch(_RECORDS_A_STRETCH).prefetch(1):
    features = records.parse_pretraining(serialized, record_set.shape)
    ids = _unmasked({n: value.numpy() for n, value in features.items()})
    text = (features[records.INPUT_MASK].numpy() > 0) & ~special[ids]
    ids = np.where(text, ids, -1)
    ids = np.pad(ids, ((0, 0), (0, 1)), constant_values=-1).reshape(-1)
    # Of several -1 in a row, only the first is kept, so that padding takes no
    # memory.
    yield ids[(ids >= 0) | (np.roll(ids, 1) >= 0)]
    left -= int(text.sum())
    if left <= 0:
      return


def _unmasked(features: dict[str, np.ndarray]) -> np.ndarray:
  """Returns the piece ids before masking, int32 [rows, length].

  Args:
    features: name → array of records, with the names in
      data_prep.files.records.
  """
  ids = features[records.INPUT_IDS].copy()
  if records.MASKED_LM_IDS in features:
    rows, slots = np.nonzero(features[records.MASKED_LM_WEIGHTS])
    positions = features[records.MASKED_LM_POSITIONS][rows, slots]
    ids[rows, positions] = features[records.MASKED_LM_IDS][rows, slots]
  return ids


def of_counts(counts: cooccurrence.Counts, width: int) -> Statistics:
  """Returns log frequencies and vectors, computed from co-occurrence counts.

  The vectors are factors of the counts. Half of the dimensions come from
  neighbouring pieces, which reflect grammar; the other half from pieces of the
  same block of text, which reflect the topic.

  Args:
    counts: counts of the training text.
    width: dimensions of the vectors, at least 2.
  """
  smoothed = np.log(counts.frequencies + 0.5)
  # With one thread the result does not depend on the number of cores.
  with threadpoolctl.threadpool_limits(1):
    halves = [
      _factors(table, dimensions)
      for table, dimensions in (
        (counts.near, width - width // 2),
        (counts.together, width // 2),
      )
    ]
  return Statistics(
    (smoothed - smoothed.mean()).astype(np.float32),
    (np.hstack(halves) / np.sqrt(2)).astype(np.float32),
  )


def _factors(table: np.ndarray, width: int) -> np.ndarray:
  """Returns U·√S of the singular value decomposition of a table's PPMI.

  PPMI is the positive pointwise mutual information (Levy and Goldberg 2014,
  sections 3.1 and 4), here as a sparse matrix.

  Args:
    table: int64 [vocab_size, contexts], co-occurrence counts.
    width: number of columns to return.

  Returns:
    float64 [vocab_size, width], with a mean norm of the rows of 1; zeros in
      columns beyond the table's size, and everywhere if nothing was counted.
  """
  pairs = scipy.sparse.coo_matrix(table)
  rows = table.sum(1).astype(np.float64)
  columns = table.sum(0).astype(np.float64) ** _SMOOTHING
  expected = rows[pairs.row] * columns[pairs.col] / max(columns.sum(), 1.0)
  information = np.maximum(np.log(pairs.data / expected), 0.0)
  matrix = scipy.sparse.csr_matrix(
    (information, (pairs.row, pairs.col)), shape=table.shape
  )
  rank = min(width, *table.shape)
  left, strengths, _ = extmath.randomized_svd(
    matrix, rank, n_iter=4, random_state=0
  )
  factors = np.zeros((len(table), width))
  factors[:, :rank] = left * np.sqrt(strengths)
  length = np.linalg.norm(factors, axis=1).mean()
  return factors / length if length else factors


def position_dimensions(config: configs.AlbertConfig) -> int:
  """Returns the number of embedding dimensions used for positions.

  The number is even, and at most each of these: a quarter of the embedding, 32,
  and the width of an attention head.
  """
  head = config.hidden_size // config.num_attention_heads
  return min(config.embedding_size // 4, head, 32) // 2 * 2


def word_dimensions(config: configs.AlbertConfig) -> int:
  """Returns the number of embedding dimensions used for words.

  These are all dimensions but those of `position_dimensions`.
  """
  return config.embedding_size - position_dimensions(config)


def assign(
  model: pretraining.PretrainingModel,
  statistics: Statistics,
  special: np.ndarray,
  seed: int,
) -> None:
  """Replaces random weights of a new model by weights from statistics.

  Args:
    model: a new model.
    statistics: statistics whose vectors have `word_dimensions` dimensions.
    special: bool [vocab_size], whether a piece is special, such as [CLS].
    seed: seed of the special pieces' vectors, of the projection and of the
      noise.
  """
  config, encoder = model.encoder.config, model.encoder
  random = np.random.default_rng(seed)
  model.masked_lm.bias.assign(statistics.log_frequencies)
  encoder.embedding_table.assign(
    _word_table(config, statistics.vectors, special, random)
  )
  places = position_dimensions(config)
  waves = _waves(config.max_position_embeddings, places)
  positions = np.zeros((config.max_position_embeddings, config.embedding_size))
  positions[:, :places] = _LENGTH * _sinusoids(
    np.arange(config.max_position_embeddings), waves
  )
  encoder.embedding_variables()["position_embeddings"].assign(positions)
  to_hidden = np.eye(config.embedding_size)
  if encoder.projection:
    square = random.normal(size=2 * (config.hidden_size,))
    to_hidden = np.linalg.qr(square)[0][: config.embedding_size]
    encoder.projection.kernel.assign(to_hidden)
  for group in encoder.groups:
    for block in group:
      _look_at_neighbours(block, to_hidden[:places], waves, random)
      _add_the_mean(block, to_hidden[places:])


def _word_table(
  config: configs.AlbertConfig,
  vectors: np.ndarray,
  special: np.ndarray,
  random: np.random.Generator,
) -> np.ndarray:
  """Returns the word embeddings, [vocab_size, embedding_size].

  The position dimensions are 0. Special pieces, and pieces that do not occur,
  have random vectors.
  """
  places, width = position_dimensions(config), vectors.shape[1]
  table = np.zeros((config.vocab_size, config.embedding_size))
  table[:, places:] = _LENGTH * vectors
  unseen = special | ~vectors.any(1)
  table[unseen, places:] = random.normal(
    scale=_LENGTH / np.sqrt(width), size=(int(unseen.sum()), width)
  )
  return table


def _waves(length: int, dimensions: int) -> np.ndarray:
  """Returns the angular frequencies of the sinusoids, [dimensions / 2].

  The unit is radians per position. The wavelengths form a geometric series from
  2.5 to 2 · `length` positions.

  Args:
    length: largest number of positions.
    dimensions: number of dimensions for positions.
  """
  lengths = np.geomspace(_SHORTEST_WAVE, 2 * length, dimensions // 2)
  return 2 * np.pi / lengths


def _sinusoids(positions: np.ndarray, waves: np.ndarray) -> np.ndarray:
  """Returns cosines, then sines, [positions, 2 · waves], with rows of norm 1.

  Args:
    positions: [positions].
    waves: [waves], the angular frequencies in radians per position.
  """
  angles = positions[:, None] * waves
  return np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(len(waves))


def _look_at_neighbours(
  block: encoders.EncoderBlock,
  to_hidden: np.ndarray,
  waves: np.ndarray,
  random: np.random.Generator,
) -> None:
  """Sets queries and keys so that the first heads look at fixed offsets.

  `_offsets` names the heads and their offsets; the last heads do not change.

  The query at position i is rotated by the angle of the offset d, so that it is
  most similar to the key at position i + d: q · k = Σ cos(ω (i + d − j)).

  Args:
    block: the block to change.
    to_hidden: [position dimensions, hidden_size], the map from these dimensions
      of the embeddings to the layers' inputs.
    waves: [position dimensions / 2], angular frequencies.
    random: generator of the noise.
  """
  query, key = (block.parts()[name].kernel for name in ("query", "key"))
  queries, keys = query.numpy(), key.numpy()  # [hidden, heads, width]
  hidden, heads, width = queries.shape
  places = len(to_hidden)
  for head, offset in enumerate(_offsets(heads)):
    for kernel in (queries, keys):
      kernel[:, head] = random.normal(scale=_NOISE, size=(hidden, width))
    turned = _turn(offset, waves) @ to_hidden  # [places, hidden]
    queries[:, head, :places] += _GAIN * turned.T
    keys[:, head, :places] += _GAIN * to_hidden.T
  query.assign(queries)
  key.assign(keys)


def _add_the_mean(block: encoders.EncoderBlock, to_hidden: np.ndarray) -> None:
  """Sets the last head so that it adds the mean of the text's word vectors.

  The head's queries and keys are close to 0, so its attention is uniform. Its
  values are the leading dimensions of both halves of the vectors (`of_counts`);
  the output projection puts these values back in the same dimensions.

  Args:
    block: the block to change.
    to_hidden: [width, hidden_size], the map from word dimensions to the layers'
      inputs.
  """
  query, key, value, output = (
    block.parts()[name].kernel
    for name in ("query", "key", "value", "attention_output")
  )
  size = min(query.shape[2], len(to_hidden)) // 2  # dimensions of each half
  half = len(to_hidden) - len(to_hidden) // 2
  copied = np.vstack([to_hidden[:size], to_hidden[half : half + size]])
  for kernel in (query, key):
    changed = kernel.numpy()  # [hidden, heads, width]
    changed[:, -1] *= _NOISE
    kernel.assign(changed)
  values, outputs = value.numpy(), output.numpy()
  values[:, -1], outputs[-1] = 0, 0
  values[:, -1, : len(copied)] = copied.T
  outputs[-1, : len(copied)] = copied
  value.assign(values)
  output.assign(outputs)


def _offsets(heads: int) -> Sequence[int]:
  """Returns the relative positions at which the first attention heads look.

  Head k looks at the k-th offset. There are at most six offsets; the last
  heads, at least a quarter of all, have none.

  Args:
    heads: number of attention heads.
  """
  return _OFFSETS[: 3 * heads // 4]


def _turn(offset: int, waves: np.ndarray) -> np.ndarray:
  """Returns the rotation matrix that shifts sinusoids by an offset.

  Args:
    offset: number of positions.
    waves: the angular frequencies, [position dimensions / 2].

  Returns:
    [position dimensions, position dimensions].
  """
  cosines = np.diag(np.cos(offset * waves))
  sines = np.diag(np.sin(offset * waves))
  return np.block([[cosines, -sines], [sines, cosines]])
