"""Tests that PyTorch's pickles give their tensors, and can run no code."""

import io
import pathlib
import pickle
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from albert_mn.models import pickled_tensors, tensor_files
from data_prep.base import options

REFERENCE = pathlib.Path(__file__).parent / "reference"
BERT = REFERENCE / "hf_bert"

FLOATS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
TWO = b"\x80\x02"


def _text(text: str) -> bytes:
  raw = text.encode()
  return b"X" + len(raw).to_bytes(4, "little") + raw


def _storage(key: str = "0", numbers: bytes = b"K\x04") -> bytes:
  parts = _text("storage") + FLOATS + _text(key) + _text("cpu") + numbers
  return b"(" + parts + b"tQ"


def _tensor(
  shape: bytes = b"K\x04\x85", strides: bytes = b"K\x01\x85"
) -> bytes:
  place = _storage() + b"K\x00" + shape + strides
  return REBUILD + b"(" + place + b"\x89ccollections\nOrderedDict\n)RtR"


def _zipped(pickled: bytes, folder: pathlib.Path, **files: bytes) -> str:
  path = folder / "pytorch_model.bin"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", pickled)
    for name, content in files.items():
      archive.writestr(f"archive/data/{name[1:]}", content)
  return str(path)


def _generated(draw: random.Random, depth: int = 0) -> Any:
  kind = draw.randrange(8 if depth < 4 else 5)
  if kind < 5:
    return draw.choice(
      [
        None,
        True,
        False,
        0,
        255,
        70000,
        -1,
        2**40,
        -(2**70),
        1.5,
        "",
        "үг",
        "ab",
      ]
    )
  size = draw.randrange(4)
  values = [_generated(draw, depth + 1) for _ in range(size)]
  if kind == 5:
    return values
  return (
    tuple(values) if kind == 6 else {str(n): v for n, v in enumerate(values)}
  )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_are_those_that_were_pickled(protocol: int) -> None:
  draw = random.Random(protocol)
  for _ in range(100):
    value = _generated(draw)
    raw = pickle.dumps(value, protocol)
    assert pickled_tensors.load(b"x" + raw + b"y", 1) == (value, 1 + len(raw))


def test_a_tensor_is_described_and_a_count_as_a_key_becomes_text() -> None:
  raw = TWO + b"}(" + _text("a") + _tensor() + b"K\x07" + b"Nu."
  value, _ = pickled_tensors.load(raw)
  place = pickled_tensors.Storage("F32", "0", 4)
  assert value == {"a": pickled_tensors.Tensor(place, 0, (4,), (1,)), "7": None}


def _nested(levels: int) -> bytes:
  return TWO + b"]" * levels + b"a" * (levels - 1) + b"."


@pytest.mark.parametrize(
  ("raw", "message"),
  [
    (TWO + b"cos\nsystem\n.", "os.system, which no tensor needs"),
    (TWO + b"cbuiltins\neval\n.", "builtins.eval, which no tensor needs"),
    (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system, which no"),
    (TWO + b"ctorch\nload\n.", "torch.load, which no tensor needs"),
    (b"cos system\nx\n.", "os system.x, which no|os.system x, which no"),
    (TWO + b"]\x81.", "the opcode NEWOBJ, which no tensor needs"),
    (TWO + b"(i__main__\nX\n.", "the opcode INST, which no tensor needs"),
    (TWO + b"N2.", "the opcode DUP, which no tensor needs"),
    (TWO + b"C\x01x.", "the opcode SHORT_BINBYTES, which no tensor needs"),
    (TWO + b"I1\n.", "the opcode INT, which no tensor needs"),
    (TWO + b"\x82\x01.", "the opcode EXT1, which no tensor needs"),
    (TWO + b"}]Ns.", "a key that is no text"),
    (TWO + b"}NNs.", "a key that is no text"),
    (TWO + b"}N\x85Ns.", "a key that is no text"),
    (TWO + b"}\x88Ns.", "a key that is no text"),
    (TWO + b"}J\xff\xff\xff\xffNs.", "a key that is no text"),
    (TWO + b"}" + _text("a" * 1001) + b"Ns.", "a key that is no text of 1000"),
    (TWO + b"}(" + (_text("a") + b"N") * 2 + b"u.", "a key that occurs twice"),
    (_nested(33), "more than 32 levels of nesting"),
    (TWO + b")" + b"\x85" * 34 + b".", "more than 32 levels of nesting"),
    (TWO + b"]q\x00h\x00a.", "a container in itself"),
    (
      TWO + b"]q\x00]q\x01h\x00ah\x00h\x01a.",
      "no list that may still be filled",
    ),
    (TWO + b"(" * 101, "more than 100 open marks"),
    (TWO + b"N" * 300_000 + b".", "more than 300,000 steps"),
    (
      TWO
      + b"N"
      + b"".join(b"r" + n.to_bytes(4, "little") for n in range(100_001)),
      "more than 100,000 memorised values",
    ),
    (TWO + b"h\x05.", "5"),
    (TWO + b"K\x01K\x02.", "too many values"),
    (TWO + b".", "not enough values"),
    (TWO + b"N", "exhausted"),
    (TWO + b"NR.", "an empty stack"),
    (TWO + b"K\x01)R.", "a call of something that is no function"),
    (TWO + REBUILD + b")R.", "missing"),
    (TWO + b"N}b.", "no dict where one is needed"),
    (
      TWO + _storage(numbers=b"J\xff\xff\xff\xff") + b".",
      "without type or size",
    ),
    (TWO + _storage(numbers=b"G" + bytes(8)) + b".", "without type or size"),
    (TWO + _tensor(shape=b"]") + b".", "no tuple where one is needed"),
    (
      TWO + _tensor(shape=b"G" + bytes(8) + b"\x85") + b".",
      "short tuple of cou",
    ),
    (
      TWO + _tensor(strides=b"J\xff\xff\xff\xff\x85") + b".",
      "short tuple of co",
    ),
    (
      TWO + _tensor(shape=b"(" + b"K\x01" * 17 + b"t") + b".",
      "short tuple of co",
    ),
    (TWO + _tensor(strides=b")") + b".", "whose parts do not fit"),
  ],
)
def test_what_no_tensor_needs_and_what_exceeds_a_limit_is_refused(
  raw: bytes, message: str, tmp_path: pathlib.Path
) -> None:
  path = _zipped(raw, tmp_path)
  with pytest.raises(options.InputError, match=message):
    tensor_files.read(path)


def test_a_pickle_longer_than_the_limit_is_not_walked(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(pickled_tensors, "MOST_BYTES", 100)
  path = _zipped(TWO + _text("a" * 200) + b".", tmp_path)
  with pytest.raises(options.InputError, match="a pickle of 208 bytes"):
    tensor_files.read(path)
  with pytest.raises(ValueError, match="200 bytes"):
    pickled_tensors.load(TWO + _text("a" * 200) + b".")


def test_each_storage_is_read_once(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  names = b"".join(_text(str(n)) + _tensor() for n in range(50))
  raw = TWO + b"}(" + names + b"u."
  numbers = np.arange(4, dtype="<f4")
  opened: list[str] = []
  whole = zipfile.ZipFile.read

  def counted(archive: zipfile.ZipFile, name: str) -> bytes:
    opened.append(name)
    return whole(archive, name)

  monkeypatch.setattr(zipfile.ZipFile, "read", counted)
  arrays = tensor_files.read(_zipped(raw, tmp_path, _0=numbers.tobytes()))
  assert len(arrays) == 50
  assert (arrays["7"] == numbers).all()
  assert opened == ["archive/data.pkl", "archive/data/0"]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (bytes(15), "a storage of 15 bytes"),
    (bytes(4000), "a storage of 4,000 bytes"),
  ],
)
def test_a_storage_has_the_size_that_the_pickle_says(
  tmp_path: pathlib.Path, content: bytes, message: str
) -> None:
  raw = TWO + b"}" + _text("a") + _tensor() + b"s."
  with pytest.raises(options.InputError, match=message):
    tensor_files.read(_zipped(raw, tmp_path, _0=content))


def test_an_archive_that_pytorch_would_not_write_is_refused(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  raw = TWO + b"}" + _text("a") + _tensor() + b"s."
  path = pathlib.Path(_zipped(raw, tmp_path, _0=bytes(16)))
  whole = path.read_bytes()

  def refused(content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(options.InputError, match=message):
      tensor_files.read(str(path))

  # The sizes of the last entry in the directory: it claims a gigabyte.
  place = whole.rindex(b"PK\x01\x02") + 20
  size = (1 << 30).to_bytes(4, "little")
  refused(whole[:place] + size * 2 + whole[place + 8 :], "larger than the arch")
  flags = whole.rindex(b"PK\x01\x02") + 8
  refused(whole[:flags] + b"\x01" + whole[flags + 1 :], "encrypted, which")
  refused(whole.replace(b"data/0", b"data.pkl"[:6]), "two files|whole tensors")
  monkeypatch.setattr(tensor_files, "_MOST_ENTRIES", 1)
  refused(whole, "more than 1 files in it")


def test_a_device_or_folder_is_no_file_of_weights(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / "model.safetensors").mkdir()
  for path in ("model.safetensors", "pytorch_model.bin"):
    (tmp_path / "pytorch_model.bin").unlink(missing_ok=True)
    (tmp_path / "pytorch_model.bin").symlink_to("/dev/zero")
    with pytest.raises(options.InputError, match="no regular file"):
      tensor_files.read(str(tmp_path / path))


def _changed(draw: random.Random, raw: bytes) -> bytes:
  """Returns bytes with a few changed, cut off, doubled or put elsewhere."""
  changed = bytearray(raw)
  for _ in range(draw.randrange(1, 6)):
    place = draw.randrange(len(changed))
    length = draw.choice([1, 1, 1, 2, 40])
    kind = draw.randrange(4)
    if kind == 0:
      changed[place : place + length] = draw.randbytes(length)
    elif kind == 1:
      changed[place:place] = draw.choice(
        [
          b"]",
          b"}",
          b"(",
          b"t",
          b"u",
          b"a",
          b"R",
          b"Q",
          b"0",
          b"h\x00",
          b"b",
          b"2",
        ]
      )
    elif kind == 2:
      del changed[place : place + length]
    else:
      source = draw.randrange(len(changed))
      changed[place:place] = changed[source : source + length]
  return bytes(changed)


def _repacked(change: Callable[[bytes], bytes]) -> bytes:
  """Returns the reference's archive with another pickle."""
  file = io.BytesIO()
  with (
    zipfile.ZipFile(BERT / "pytorch_model.bin") as source,
    zipfile.ZipFile(file, "w") as target,
  ):
    for entry in source.infolist():
      content = source.read(entry)
      is_pickle = entry.filename.endswith("/data.pkl")
      target.writestr(entry.filename, change(content) if is_pickle else content)
  return file.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "archive", "legacy"])
def test_generated_mutations_are_read_or_end_in_one_line(
  tmp_path: pathlib.Path, kind: str
) -> None:
  draw = random.Random(kind)
  path = tmp_path / "pytorch_model.bin"
  archive = (BERT / "pytorch_model.bin").read_bytes()
  legacy = (BERT / "legacy.bin").read_bytes()
  refused = 0
  for _ in range(150):
    path.write_bytes(
      _repacked(lambda raw: _changed(draw, raw))
      if kind == "pickle"
      else _changed(draw, archive if kind == "archive" else legacy)
    )
    try:
      arrays = tensor_files.read(str(path))
    except options.InputError as error:
      refused += 1
      assert "whole tensors in" in str(error)
    else:
      assert sum(a.nbytes for a in arrays.values()) <= 8 * path.stat().st_size
  assert refused > 20
