"""Writes and parses every TFRecord schema.

Only this file spells the names of features. Names and types are
google-research/albert's. The writer makes the bytes of tf.train.Example for
whole batches with numpy and does not import TensorFlow; the reader uses tf.io.
"""

import dataclasses
import functools
import io
import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import google_crc32c
import numpy as np

from data_prep.base import options

if TYPE_CHECKING:
  import tensorflow as tf

INPUT_IDS = "input_ids"
INPUT_MASK = "input_mask"
SEGMENT_IDS = "segment_ids"
TOKEN_BOUNDARY = "token_boundary"
MASKED_LM_POSITIONS = "masked_lm_positions"
MASKED_LM_IDS = "masked_lm_ids"
MASKED_LM_WEIGHTS = "masked_lm_weights"
NEXT_SENTENCE_LABELS = "next_sentence_labels"
NEXT_SENTENCE_POSITIONS = "next_sentence_positions"


@dataclasses.dataclass(frozen=True)
class PretrainingBatch:
  """The features of pretraining examples: one in each row, or packed rows.

  In the shapes, `length` is the number of ids of a row, `predictions` the
  largest number of masked positions of a row, and `labels` the largest number
  of examples in a packed row (see `packing`).

  Attributes:
    input_ids: int64 [rows, length], padded with the pad id.
    input_mask: bool [rows, length]; in packed rows int64, the number of the
      example in its row, from 1; 0 on padding.
    segment_ids: int64 [rows, length], 0 in the first segment of an example and
      on padding, 1 in the second segment.
    token_boundary: bool [rows, length], whether a word begins at the position.
    next_sentence_labels: int64 [rows], −1 for no pair; in packed rows [rows,
      labels].
    next_sentence_positions: int64 [rows, labels], the position of each
      example's [CLS]; None if rows are not packed.
    masked_lm_positions, masked_lm_ids: int64 [rows, predictions], the masked
      positions and the ids that were there, padded with 0; None if masks are
      made in training.
    masked_lm_weights: float32 [rows, predictions], 1 for a masked position, 0
      for padding; None if masks are made in training.
  """

  input_ids: np.ndarray
  input_mask: np.ndarray
  segment_ids: np.ndarray
  token_boundary: np.ndarray
  next_sentence_labels: np.ndarray
  next_sentence_positions: np.ndarray | None = None
  masked_lm_positions: np.ndarray | None = None
  masked_lm_ids: np.ndarray | None = None
  masked_lm_weights: np.ndarray | None = None


# The features with a value for each position of a row.
_BY_POSITION = (INPUT_IDS, INPUT_MASK, SEGMENT_IDS, TOKEN_BOUNDARY)


def serialize(
  batch: PretrainingBatch, length: int = 0, pad_id: int = 0
) -> list[bytes]:
  """Returns a serialised tf.train.Example for each row.

  The features are in the order of their names; a feature that is None is left
  out. Rows that are shorter than `length` are padded as bytes, which costs less
  than padded arrays do.

  Args:
    batch: the features.
    length: the smallest number of positions of a row in the records.
    pad_id: the id that pads input_ids; the features beside it are padded with 0.
  """
  columns = []
  for name in sorted(f.name for f in dataclasses.fields(batch)):
    values = getattr(batch, name)
    if values is None:
      continue
    values = values.reshape(len(values), -1)
    missing = length - values.shape[1] if name in _BY_POSITION else 0
    padding = _varint(pad_id if name == INPUT_IDS else 0) * missing
    columns.append(_features(name, values, padding))
  return [
    _opening(1, len(content)) + content
    for content in map(b"".join, zip(*_joined(columns), strict=True))
  ]


def _joined(columns: Iterable[np.ndarray | list[bytes]]) -> list[list[bytes]]:
  """Returns columns of bytes, where neighbouring arrays have become one column.

  Args:
    columns: for each row its bytes, as a list or as an array, uint8 [rows, n].
  """
  joined: list[list[bytes]] = []
  for are_arrays, group in itertools.groupby(
    columns, lambda column: isinstance(column, np.ndarray)
  ):
    if are_arrays:
      together = np.concatenate(list(group), 1)
      ends = np.full(len(together), together.shape[1]).cumsum()
      joined.append(_cut(together.tobytes(), ends))
    else:
      joined += map(list, group)
  return joined


def _cut(flat: bytes, ends: np.ndarray) -> list[bytes]:
  """Returns the parts of bytes that end at `ends`, int [parts], ascending."""
  places = ends.tolist()
  return [flat[i:k] for i, k in zip([0, *places], places, strict=False)]


def _features(
  name: str, values: np.ndarray, padding: bytes
) -> np.ndarray | list[bytes]:
  """Returns for each row the bytes of one feature in tf.train.Features.

  Args:
    name: the name of the feature.
    values: [rows, n], the values: integers of at most 2^28 - 1, or negative, or
      float32 for masked_lm_weights.
    padding: the bytes that follow the values of each row.

  Returns:
    uint8 [rows, bytes] if all rows have equally many bytes, else a list.
  """
  if name == MASKED_LM_WEIGHTS:
    return _equally_long(name, values.astype("<f4").view(np.uint8), padding, 2)
  if values.dtype == bool or (
    int(values.min(initial=0)) >= 0 and int(values.max(initial=0)) < 0x80
  ):
    return _equally_long(name, values.astype(np.uint8), padding, 3)
  return [
    _start(name, 3, len(payload) + len(padding)) + payload + padding
    for payload in _packed(values)
  ]


def _equally_long(
  name: str, payloads: np.ndarray, padding: bytes, kind: int
) -> np.ndarray:
  """Returns the bytes of a feature whose payloads are equally long.

  Args:
    name: the name of the feature.
    payloads: uint8 [rows, n], the packed values of each row.
    padding: the bytes that follow each payload.
    kind: as in `_start`.

  Returns:
    uint8 [rows, bytes].
  """
  start = _start(name, kind, payloads.shape[1] + len(padding))
  made = np.empty(
    (len(payloads), len(start) + payloads.shape[1] + len(padding)), np.uint8
  )
  end = made.shape[1] - len(padding)
  made[:, : len(start)] = np.frombuffer(start, np.uint8)
  made[:, len(start) : end] = payloads
  made[:, end:] = np.frombuffer(padding, np.uint8)
  return made


def _packed(values: np.ndarray) -> list[bytes]:
  """Returns each row's int64 values as protobuf's packed varints.

  Args:
    values: integers [rows, n] of at most 2^28 − 1, or negative. Arrays with
      negative values should have few distinct values, else they take long.
  """
  if (values < 0).any():
    of = {int(v): _varint(int(v) & (1 << 64) - 1) for v in np.unique(values)}
    return [b"".join(map(of.__getitem__, row)) for row in values.tolist()]
  rest: np.ndarray = values.astype(np.uint32).ravel()
  assert int(rest.max()) < 1 << 28, "more than four varint bytes"
  sizes = np.ones(len(rest), np.int64)
  for bits in (7, 14, 21):
    sizes += rest >> bits > 0
  ends = np.cumsum(sizes)
  digits = np.empty(int(ends[-1]), np.uint8)
  place = ends - sizes  # of the next digit of each number that has one
  while len(rest):
    more = rest > 0x7F
    digits[place] = rest & 0x7F | more * np.uint32(0x80)
    rest, place = rest[more] >> 7, place[more] + 1
  return _cut(digits.tobytes(), ends[values.shape[1] - 1 :: values.shape[1]])


@functools.cache
def _start(name: str, kind: int, size: int) -> bytes:
  """Returns the bytes before the payload of a feature in tf.train.Features.

  Args:
    name: the name of the feature.
    kind: the field of tf.train.Feature: 2 for FloatList, 3 for Int64List.
    size: the length of the payload in bytes.
  """
  filler = bytes(size)
  value = _field(kind, _field(1, filler))
  entry = _field(1, _field(1, name.encode()) + _field(2, value))
  return entry[: len(entry) - size]


@functools.lru_cache(1 << 16)  # records of one file are of few lengths
def _opening(number: int, size: int) -> bytes:
  """Returns a protobuf field's tag and the length of its content."""
  return bytes([number << 3 | 2]) + _varint(size)


def _field(number: int, payload: bytes) -> bytes:
  """Returns a protobuf field of type bytes: tag, length and content.

  Args:
    number: the number of the field.
    payload: the content.
  """
  return _opening(number, len(payload)) + payload


def _varint(value: int) -> bytes:
  """Returns an integer of at least 0 as a varint of protobuf."""
  digits = bytearray()
  while value > 0x7F:
    digits.append(value & 0x7F | 0x80)
    value >>= 7
  digits.append(value)
  return bytes(digits)


def write(file: IO[bytes], serialized: Iterable[bytes]) -> None:
  """Appends records to a TFRecord file.

  Each record becomes its length, the CRC of the length, its bytes, and the CRC
  of the bytes.
  """
  for record in serialized:
    file.write(_header(len(record)) + record + _masked_crc(record))


@functools.lru_cache  # records of one file are of few lengths
def _header(length: int) -> bytes:
  """Returns the 12 bytes before a record: its length, and the length's CRC."""
  packed = struct.pack("<Q", length)
  return packed + _masked_crc(packed)


def _masked_crc(data: bytes) -> bytes:
  """Returns TFRecord's masked CRC-32C of data, 4 bytes.

  The formula is that of tensorflow/core/lib/hash/crc32c.h.
  """
  crc = google_crc32c.value(data)
  return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


class Shape(NamedTuple):
  """The lengths of the features, which all records of a set have in common.

  Attributes:
    max_seq_length: positions of a row.
    max_predictions_per_seq: masked positions of a row; 0 if the masks are made
      in training.
    labels: the largest number of examples in a packed row; 0 for records whose
      rows are single examples.
  """

  max_seq_length: int
  max_predictions_per_seq: int
  labels: int = 0


def shape(path: str) -> Shape:
  """Returns the lengths of the features in a file's first record.

  Raises:
    options.InputError: when the file cannot be read, has no record, or begins
      with a record that is no pretraining example.
  """
  import tensorflow as tf

  try:
    first = next(iter(tf.data.TFRecordDataset(path).take(1)), None)
    feature = tf.train.Example.FromString(
      b"" if first is None else first.numpy()
    ).features.feature
  except Exception as error:  # TensorFlow's and protobuf's share no base
    # TensorFlow puts the node's name, in double braces, first.
    reason = str(error).split("\n")[0].rsplit("}} ", 1)[-1]
    raise _no_records(path, reason) from error
  if first is None:
    raise _no_records(path, "no record")
  if INPUT_IDS not in feature or not (
    MASKED_LM_POSITIONS in feature or TOKEN_BOUNDARY in feature
  ):
    raise _no_records(path, f"features {sorted(feature)}")
  names = (INPUT_IDS, MASKED_LM_POSITIONS, NEXT_SENTENCE_POSITIONS)
  return Shape(*(len(feature[name].int64_list.value) for name in names))


def _no_records(path: str, got: str) -> options.InputError:
  """Returns the error for a file that has no pretraining example.

  Args:
    path: the path of the file.
    got: the content of the file in words.
  """
  return options.InputError(
    f"pretraining examples in {path}",
    got,
    "make them with data_prep.create_pretraining_data",
  )


def parse_pretraining(
  serialized: "tf.Tensor", of: Shape
) -> "dict[str, tf.Tensor]":
  """Returns the features of a batch of serialised pretraining examples.

  The examples were written by this project or by google-research/albert.

  Args:
    serialized: string [batch], serialised tf.train.Examples.
    of: the shape of all records, as `shape` returns it. If
      max_predictions_per_seq is 0, the result has token_boundary in place of
      masked_lm_positions, masked_lm_ids and masked_lm_weights.

  Returns:
    name → feature: int32 [batch, length] or [batch, predictions]; float32
      weights; next_sentence_labels int32 [batch], in packed records [batch,
      labels].
  """
  import tensorflow as tf

  def fixed(length: int, kind: Any = tf.int64) -> Any:
    return tf.io.FixedLenFeature([length], kind)

  masked = of.max_predictions_per_seq
  parsed = tf.io.parse_example(
    serialized,
    {
      INPUT_IDS: fixed(of.max_seq_length),
      INPUT_MASK: fixed(of.max_seq_length),
      SEGMENT_IDS: fixed(of.max_seq_length),
      NEXT_SENTENCE_LABELS: fixed(of.labels or 1),
      **({NEXT_SENTENCE_POSITIONS: fixed(of.labels)} if of.labels else {}),
      **(
        {
          MASKED_LM_POSITIONS: fixed(masked),
          MASKED_LM_IDS: fixed(masked),
          MASKED_LM_WEIGHTS: fixed(masked, tf.float32),
        }
        if masked
        else {TOKEN_BOUNDARY: fixed(of.max_seq_length)}
      ),
    },
  )
  features = {
    name: value if value.dtype == tf.float32 else tf.cast(value, tf.int32)
    for name, value in parsed.items()
  }
  if not of.labels:
    features[NEXT_SENTENCE_LABELS] = features[NEXT_SENTENCE_LABELS][:, 0]
  return features


def ends(file: IO[bytes], size: int, count: int) -> list[bytes]:
  """Returns a file's first `count` records, and some of its last records.

  Only the two ends of the file are read. The last records are those that begin
  in a stretch at the end of the file. The stretch is as long as the first
  records together; it is doubled until a record begins in the stretch. No
  record is returned twice. In the stretch, the beginning of a record is
  recognised by the checksum of its length.

  Args:
    file: a seekable file of TFRecords.
    size: the size of the file in bytes.
    count: number of records, at least 1.

  Raises:
    ValueError: when a record is damaged or truncated.
  """
  first = list(itertools.islice(read_framed(file), count))
  stretch, behind = file.tell(), size - file.tell()
  while behind:
    stretch = min(stretch, behind)
    file.seek(size - stretch)
    tail = file.read()
    for start in range(len(tail)):
      if _begins(tail[start : start + 12]):
        return first + list(read_framed(io.BytesIO(tail[start:])))
    if stretch == behind:
      raise ValueError("no whole record behind the first ones")
    stretch *= 2
  return first


def _begins(header: bytes) -> bool:
  """Returns whether 12 bytes are the length of a record and its checksum.

  The result is False for a record of 4 GiB or more.
  """
  return (
    len(header) == 12
    and header[4:8] == bytes(4)  # shorter than 4 GB; faster than the checksum
    and _masked_crc(header[:8]) == header[8:]
  )


def read_framed(file: IO[bytes]) -> Iterator[bytes]:
  """Yields the records of a TFRecord file, and verifies their checksums.

  Raises:
    ValueError: when a record is damaged or truncated.
  """
  while header := file.read(12):
    place = f"at {file.tell() - len(header):,} bytes"
    if not _begins(header):
      raise ValueError(f"a damaged record {place}")
    (length,) = struct.unpack("<Q", header[:8])
    record, checksum = file.read(length), file.read(4)
    if len(record) < length or len(checksum) < 4:
      raise ValueError(f"a cut record {place}")
    if _masked_crc(record) != checksum:
      raise ValueError(f"a damaged record {place}")
    yield record
