"""Safe reading of tensors from safetensors and PyTorch files.

A safetensors file is a length, a JSON header and raw data. A PyTorch file is a
pickle that names tensors and points into raw data: in a zip archive or, before
version 1.6, one after the other. A pickle is a program, so the unpickler here
accepts only the few names that tensors need, and runs no code of the file.
"""

import collections
import contextlib
import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_prep.base import options
from data_prep.files import storage

# safetensors' name → numpy's type. numpy has none for BF16.
_TYPES = {
  "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8",
  "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
# PyTorch's name → safetensors' name.
_STORAGES = {
  "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16",
  "BFloat16Storage": "BF16", "LongStorage": "I64", "IntStorage": "I32",
  "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
  "BoolStorage": "BOOL",
}  # fmt: skip
_LONGEST_HEADER = 100 << 20  # bytes, as in the safetensors library
# Largest number of tensor elements for each byte of the file: 1 for bool, and
# more because several names may share a storage.
_MOST_PER_BYTE = 8
# Keys under which training programs store the weights.
_NESTED = ("state_dict", "model_state_dict", "model")
_LEGACY_BEGINS = (0x1950A86A20F9469CFC6C, 1001)  # magic number, version
# Errors that reading a damaged or hostile file may raise.
_DAMAGE = (
  ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
  NotImplementedError, pickle.UnpicklingError, RecursionError, struct.error,
  TypeError, ValueError, zipfile.BadZipFile,
)  # fmt: skip


def read(path: str) -> dict[str, np.ndarray]:
  """Returns name → tensor of a .safetensors or PyTorch file.

  Floating-point tensors become float32.

  Raises:
    options.InputError: when the file is damaged, or contains more than tensors.
  """
  raw = storage.read_bytes(path)
  with _naming_damage(path):
    if path.endswith(".safetensors"):
      return _safetensors(raw)
    if zipfile.is_zipfile(io.BytesIO(raw)):
      return _zipped(raw)
    return _legacy(raw)


@contextlib.contextmanager
def _naming_damage(path: str) -> Iterator[None]:
  try:
    yield
  except _DAMAGE as error:
    raise options.InputError(
      f"whole tensors in {path}",
      f"{type(error).__name__}: {str(error)[:200]}",
      "copy it again, or save it as safetensors",
    ) from error


def _safetensors(raw: bytes) -> dict[str, np.ndarray]:
  """Returns name → tensor of the bytes of a safetensors file.

  The format is that of huggingface.co/docs/safetensors, "Format".

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
  """Returns a JSON object's pairs as a dictionary.

  Raises:
    ValueError: when a key occurs twice.
  """
  if len(dict(pairs)) != len(pairs):
    raise ValueError("a name that occurs twice")
  return dict(pairs)


def write(path: str, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes float32 tensors as safetensors, for PyTorch.

  The bytes do not depend on the order of the tensors.
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
  """Returns raw data as a flat array; floating-point types become float32."""
  values = np.frombuffer(raw, _TYPES[kind])
  if kind == "BF16":  # the upper half of a float32
    return (values.astype("<u4") << 16).view("<f4")
  return values.astype(np.float32) if values.dtype.kind == "f" else values


class _Storage(NamedTuple):
  """A reference from a pickle to raw data."""

  kind: str
  key: str
  numbers: int

  def bytes(self) -> int:
    return self.numbers * np.dtype(_TYPES[self.kind]).itemsize


class _Tensor(NamedTuple):
  """A tensor in a pickle: a view of a storage."""

  storage: _Storage
  offset: int
  shape: Sequence[int]
  strides: Sequence[int]

  def take(self, flat: np.ndarray) -> np.ndarray:
    """Returns a copy of the tensor, taken from the elements of its storage.

    Raises:
      ValueError: when the tensor exceeds the storage.
    """
    shape, strides = tuple(self.shape), tuple(self.strides)
    ends = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    if (
      min((self.offset, *shape, *strides)) < 0
      or self.offset + sum(ends) >= flat.size
      or math.prod(shape) > flat.size
    ):
      raise ValueError("a tensor outside of its storage")
    steps = [step * flat.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(
      flat[self.offset :], shape, steps
    ).copy()


class _Unpickler(pickle.Unpickler):
  """Unpickles dictionaries of _Tensor; refuses everything else."""

  def find_class(self, module: str, name: str) -> Any:
    # New functions at each call: a pickle could modify a shared one.
    known: dict[tuple[str, str], Callable[..., Any]] = {
      ("collections", "OrderedDict"): collections.OrderedDict,
      ("torch._utils", "_rebuild_tensor"): lambda *told: _Tensor(*told[:4]),
      ("torch._utils", "_rebuild_tensor_v2"): lambda *told: _Tensor(*told[:4]),
      ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    }
    if module == "torch" and name in _STORAGES:
      return _STORAGES[name]
    if (module, name) not in known:
      raise pickle.UnpicklingError(f"{module}.{name}, which no tensor needs")
    return known[module, name]

  def persistent_load(self, pid: Any) -> _Storage:
    """Returns the _Storage of ("storage", kind, key, device, numbers).

    Before PyTorch 1.6 the tuple ends with a view, which must be None.
    """
    _, kind, key, _, numbers, *view = pid
    if any(view):
      raise pickle.UnpicklingError("a storage within a storage")
    return _Storage(kind, key, numbers)


def _zipped(raw: bytes) -> dict[str, np.ndarray]:
  with zipfile.ZipFile(io.BytesIO(raw)) as archive:
    if any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist()):
      raise ValueError("compressed, which PyTorch's files are not")
    (pickled,) = [n for n in archive.namelist() if n.endswith("/data.pkl")]
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
      order = archive.read(f"{folder}byteorder")
      if order != b"little":
        raise ValueError(f"{order!r} byte order")
    told = _Unpickler(io.BytesIO(archive.read(pickled))).load()
    return _taken(
      told,
      lambda place: archive.read(f"{folder}data/{place.key}"),
      _MOST_PER_BYTE * len(raw),
    )


def _legacy(raw: bytes) -> dict[str, np.ndarray]:
  file = io.BytesIO(raw)
  for expected in _LEGACY_BEGINS:
    if _Unpickler(file).load() != expected:
      raise ValueError("not PyTorch's")
  _Unpickler(file).load()  # sizes of types on the writing machine
  told = _unwrapped(_Unpickler(file).load())
  storages = {
    tensor.storage.key: tensor.storage
    for tensor in told.values()
    if isinstance(tensor, _Tensor)
  }
  data = {}
  for key in _Unpickler(file).load():
    (numbers,) = struct.unpack("<q", file.read(8))
    if numbers != storages[key].numbers:
      raise ValueError(f"a storage of {numbers} numbers")
    data[key] = file.read(storages[key].bytes())
  most = _MOST_PER_BYTE * len(raw)
  return _taken(told, lambda place: data[place.key], most)


def _unwrapped(told: Any) -> dict[str, Any]:
  """Returns name → tensor from an unpickled file or a nested dictionary of it.

  Raises:
    ValueError: when there is no dictionary.
  """
  for name in _NESTED:
    if isinstance(told, dict) and isinstance(told.get(name), dict):
      told = told[name]
  if not isinstance(told, dict):
    raise ValueError(f"{type(told).__name__} instead of tensors by name")
  return told


def _taken(
  told: Any, data: Callable[[_Storage], bytes], most: int
) -> dict[str, np.ndarray]:
  """Returns name → array, copied from the storages.

  Args:
    told: the unpickled file.
    data: returns the bytes of a storage.
    most: largest number of elements in all arrays. Thousands of names for one
      storage would exhaust memory.

  Raises:
    ValueError: when there are more elements.
  """
  arrays, numbers = {}, 0
  for name, tensor in _unwrapped(told).items():
    if not isinstance(tensor, _Tensor):
      continue
    numbers += math.prod(tensor.shape)
    if numbers > most:
      raise ValueError(f"more than {most:,} numbers")
    flat = _flat(data(tensor.storage), tensor.storage.kind)
    arrays[str(name)] = tensor.take(flat)
  return arrays
