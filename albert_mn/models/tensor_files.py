"""Safe reading of tensors from safetensors and PyTorch files.

A safetensors file is a length, a JSON header and raw data. A PyTorch file is a
pickle that names tensors and points into raw data: in a zip archive or, before
version 1.6, one after the other. A pickle is a program, of which nothing is run
(albert_mn.models.pickled_tensors). All tensors together have at most two
elements for each byte of the file.
"""

import contextlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from albert_mn.models import pickled_tensors
from data_prep.base import options
from data_prep.files import storage

_LONGEST_HEADER = 100 << 20  # bytes, as in the safetensors library
# Largest number of tensor elements for each byte of the file: 1 for bool, and
# more because several names may share a storage. An element has four bytes.
_MOST_PER_BYTE = 2
_MOST_ENTRIES = 100_000  # files in the archive of a PyTorch file (guess)
_ENTRY = b"PK\x01\x02"  # the first bytes of an entry in a zip's directory
# Keys under which training programs store the weights.
_NESTED = ("state_dict", "model_state_dict", "model")
_LEGACY_BEGINS = (0x1950A86A20F9469CFC6C, 1001)  # magic number, version
# Errors that reading a damaged or hostile file may raise.
_DAMAGE = (
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  MemoryError,
  NotImplementedError,
  RecursionError,
  struct.error,
  TypeError,
  ValueError,
  zipfile.BadZipFile,
)


def read(path: str) -> dict[str, np.ndarray]:
  """Returns name → tensor of a .safetensors or PyTorch file.

  A file whose name ends in .safetensors is read as safetensors, any other file
  as PyTorch's. Floating-point tensors become float32; other types stay.

  Values of a PyTorch file that are no tensors are left out.

  Raises:
    options.InputError: when the path is a device, pipe or folder, when the file
      is damaged, or when its pickle names a function that no tensor needs.
    FileNotFoundError: when a local file is missing.
  """
  if storage.is_special(path):
    raise options.InputError(
      f"whole tensors in {path}", "no regular file", "mend the path"
    )
  raw = storage.read_bytes(path)
  with _naming_damage(path):
    if path.endswith(".safetensors"):
      return _safetensors(raw)
    if zipfile.is_zipfile(io.BytesIO(raw)):
      return _zipped(raw)
    return _legacy(raw)


@contextlib.contextmanager
def _naming_damage(path: str) -> Iterator[None]:
  """Context manager that raises InputError in place of the errors of _DAMAGE.

  Args:
    path: the file, for the message.
  """
  try:
    yield
  except _DAMAGE as error:
    raise options.InputError(
      f"whole tensors in {path}",
      f"{type(error).__name__}: {str(error)[:200]}",
      "copy it again, or save it as safetensors",
    ) from error


def _safetensors(raw: bytes) -> dict[str, np.ndarray]:
  """Parses the bytes of a safetensors file; returns name → tensor.

  The format is that of huggingface.co/docs/safetensors, "Format".
  Floating-point tensors become float32.

  Raises:
    ValueError and others of _DAMAGE: when the bytes are damaged.
  """
  (length,) = struct.unpack_from("<Q", raw)
  begin = 8 + length
  if length > min(_LONGEST_HEADER, len(raw) - 8):
    raise ValueError(f"a header of {length:,} bytes")
  header = json.loads(raw[8:begin], object_pairs_hook=_once)
  header.pop("__metadata__", None)
  arrays = {}
  end = 0  # end of the previous tensor
  by_place = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
  for name, entry in by_place:
    first, last = entry["data_offsets"]
    if not 0 <= first <= last <= len(raw) - begin:
      raise ValueError(f"{name} outside of the file")
    if first < end:
      raise ValueError(f"{name} overlaps the tensor before it")
    flat = _flat(raw[begin + first : begin + last], entry["dtype"])
    if min(entry["shape"], default=0) < 0:
      raise ValueError(f"{name} of the shape {entry['shape']}")
    arrays[name] = flat.reshape(entry["shape"])
    end = last
  return arrays


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns a JSON object's (name, value) pairs as a dictionary.

  json calls this function for each object (object_pairs_hook).

  Args:
    pairs: the pairs, in the order of the file.

  Raises:
    ValueError: when a name occurs twice.
  """
  if len(dict(pairs)) != len(pairs):
    raise ValueError("a name that occurs twice")
  return dict(pairs)


def write(path: str, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes float32 tensors as safetensors, for PyTorch.

  The bytes do not depend on the order of the tensors.

  Args:
    path: path of the file.
    tensors: name → float32 array; another type is an AssertionError.
  """
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  end = 0
  for name, array in sorted(tensors.items()):
    assert array.dtype == np.float32, f"{name}: models are float32"
    begin, end = end, end + array.nbytes
    header[name] = dict(
      dtype="F32", shape=list(array.shape), data_offsets=[begin, end]
    )
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)  # raw data begins at a multiple of 8
  with storage.writing(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for _, array in sorted(tensors.items()):
      file.write(np.ascontiguousarray(array, "<f4").tobytes())


def _flat(raw: bytes, kind: str) -> np.ndarray:
  """Returns raw data as a flat array; floating-point types become float32.

  Args:
    raw: the bytes.
    kind: the type of their numbers, a key of pickled_tensors.TYPES.

  Raises:
    KeyError: for an unknown type.
    ValueError: when the bytes are no whole number of elements.
  """
  values = np.frombuffer(raw, pickled_tensors.TYPES[kind])
  if kind == "BF16":  # the upper half of a float32
    return (values.astype("<u4") << 16).view("<f4")
  return values.astype(np.float32) if values.dtype.kind == "f" else values


def _zipped(raw: bytes) -> dict[str, np.ndarray]:
  """Parses the bytes of a PyTorch file since version 1.6: name → tensor.

  Raises:
    ValueError and others of _DAMAGE: when the bytes are damaged.
  """
  # The central directory has an entry for each file, which zipfile reads at
  # once, before anything can be checked.
  if raw.count(_ENTRY) > _MOST_ENTRIES:
    raise ValueError(f"more than {_MOST_ENTRIES:,} files in it")
  with zipfile.ZipFile(io.BytesIO(raw)) as archive:
    entries = {entry.filename: entry for entry in archive.infolist()}
    _require_plain(archive.infolist(), len(raw))
    (pickled,) = [name for name in entries if name.endswith("/data.pkl")]
    if entries[pickled].file_size > pickled_tensors.MOST_BYTES:
      raise ValueError(f"a pickle of {entries[pickled].file_size:,} bytes")
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in entries:
      order = archive.read(f"{folder}byteorder")[:10]
      if order != b"little":
        raise ValueError(f"{order!r} byte order")
    content, _ = pickled_tensors.load(archive.read(pickled))
    return _taken(
      content,
      lambda place: archive.read(f"{folder}data/{place.key}"),
      _MOST_PER_BYTE * len(raw),
    )


def _require_plain(entries: list[zipfile.ZipInfo], size: int) -> None:
  """Raises ValueError for an archive that PyTorch does not write.

  Such an archive has a compressed or encrypted file, two files of one name, or
  files that together have more bytes than the archive.

  Args:
    entries: the files of the archive.
    size: number of bytes of the archive. Files that share bytes could claim
      many times as many.
  """
  if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
    raise ValueError("compressed, which PyTorch's files are not")
  if any(e.flag_bits & 1 for e in entries):
    raise ValueError("encrypted, which PyTorch's files are not")
  if len({e.filename for e in entries}) < len(entries):
    raise ValueError("two files of one name")
  if sum(e.file_size for e in entries) > size:
    raise ValueError("files that are larger than the archive")


def _legacy(raw: bytes) -> dict[str, np.ndarray]:
  """Parses the bytes of a PyTorch file before version 1.6: name → tensor.

  Raises:
    ValueError and others of _DAMAGE: when the bytes are damaged.
  """
  place = 0
  for expected in _LEGACY_BEGINS:
    value, place = pickled_tensors.load(raw, place)
    if value != expected:
      raise ValueError("not PyTorch's")
  _, place = pickled_tensors.load(raw, place)  # sizes of types there
  content, place = pickled_tensors.load(raw, place)
  content = _unwrapped(content)
  storages = {
    tensor.storage.key: tensor.storage
    for tensor in content.values()
    if isinstance(tensor, pickled_tensors.Tensor)
  }
  keys, place = pickled_tensors.load(raw, place)
  data = {}
  for key in keys:
    if key in data:
      raise ValueError("a storage that occurs twice")
    (numbers,) = struct.unpack_from("<q", raw, place)
    if numbers != storages[key].numbers:
      raise ValueError(f"a storage of {numbers} numbers")
    begin = place + 8
    place = begin + storages[key].bytes()
    data[key] = raw[begin:place]
  most = _MOST_PER_BYTE * len(raw)
  return _taken(content, lambda place: data[place.key], most)


def _unwrapped(content: Any) -> dict[str, Any]:
  """Returns the dictionary of an unpickled file that has the tensors by name.

  That is the file's own dictionary, or a dictionary in it under a key such as
  state_dict (_NESTED). Values that are no tensors are left in.

  Raises:
    ValueError: when there is no dictionary.
  """
  for name in _NESTED:
    if isinstance(content, dict) and isinstance(content.get(name), dict):
      content = content[name]
  if not isinstance(content, dict):
    raise ValueError(f"{type(content).__name__} instead of tensors by name")
  return content


def _taken(
  content: Any, data: Callable[[pickled_tensors.Storage], bytes], most: int
) -> dict[str, np.ndarray]:
  """Returns name → array, copied from the storages, each of which is read once.

  Args:
    content: the unpickled file. Its values that are no tensors are left out.
    data: returns the bytes of a storage in the file.
    most: largest number of elements in all arrays together. Thousands of names
      for one storage would exhaust memory.

  Raises:
    ValueError: when there are more than `most` elements, when a storage is not
      as its description in the pickle, or when a tensor exceeds its storage.
  """
  tensors = {
    name: tensor
    for name, tensor in _unwrapped(content).items()
    if isinstance(tensor, pickled_tensors.Tensor)
  }
  if sum(math.prod(tensor.shape) for tensor in tensors.values()) > most:
    raise ValueError(f"more than {most:,} numbers")
  storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
  flats = {}
  for key, place in storages.items():
    raw = data(place)
    if len(raw) != place.bytes():
      raise ValueError(f"a storage of {len(raw):,} bytes")
    flats[key] = _flat(raw, place.kind)
  arrays = {}
  for name, tensor in tensors.items():
    if tensor.storage != storages[tensor.storage.key]:
      raise ValueError("two storages of one name")
    arrays[name] = tensor.take(flats[tensor.storage.key])
  return arrays
