"""Tests that a spoilt model folder loads, or ends in one line of error.

The mutations are made of seeds. They are harmless: sizes stay small, and what
is cut or emptied is refused by the checks of this project's own.
"""

import copy
import json
import os
import pathlib
import random
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from albert_mn.finetune import classification
from albert_mn.models import model_directory
from data_prep.base import options
from data_prep.files import json_files, manifest
from tests import exported

_VALUES: tuple[Any, ...] = (
  None,
  True,
  False,
  0,
  -1,
  1,
  2,
  3,
  7,
  1.5,
  -0.5,
  "",
  "a",
  "спорт",
  "\n",
  "../x",
  "/etc/x",
  "a\0b",
  "\u202e",
  [],
  [[]],
  [1],
  ["a", "a"],
  [["a"]],
  {},
  {"a": 1},
  1e308,
  10**30,
  10**400,
  float("nan"),
  float("inf"),
  "x" * 3000,
)
_NAMES = (manifest.NAME, "labels.json", "albert_config.json")
_TEXT = "сайн байна уу"


def _places(
  value: Any, place: tuple[Any, ...] = ()
) -> Iterator[tuple[Any, ...]]:
  """Yields the keys that lead to each value of JSON."""
  yield place
  if isinstance(value, dict):
    for key, held in value.items():
      yield from _places(held, (*place, key))
  elif isinstance(value, list):
    for number, held in enumerate(value):
      yield from _places(held, (*place, number))


def _changed(rng: random.Random, content: Any) -> Any:
  """Returns a copy of JSON with one value changed, removed or moved."""
  content, new = copy.deepcopy(content), rng.choice(_VALUES)
  *above, last = rng.choice([place for place in _places(content) if place])
  owner = content
  for key in above:
    owner = owner[key]
  way = rng.randrange(5)
  if way == 0:
    del owner[last]
  elif way == 1 and isinstance(owner, dict):
    owner[str(new)[:50]] = owner.pop(last)
  elif way == 1:
    owner.append(owner[last])
  else:
    owner[last] = new
  return content


_BYTES: tuple[Callable[[bytes, int], bytes], ...] = (
  lambda raw, at: raw[:at],
  lambda raw, at: raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :],
  lambda raw, at: raw[:at] + b"\0" + raw[at:],
  lambda raw, at: b"\xef\xbb\xbf" + raw,
  lambda raw, at: raw.decode().encode("utf-16"),
  lambda raw, at: b"[" * 20_000,
  lambda raw, at: raw.replace(b"1", b"1" * 5_000, 1),
  lambda raw, at: raw.replace(b"1", b"NaN", 1),
  lambda raw, at: raw.replace(b"1", b"1e999", 1),
  lambda raw, at: b"",
)


def _spoil_json(rng: random.Random, folder: pathlib.Path) -> None:
  """Spoils a JSON file of a folder; the manifest gets its new size."""
  path = folder / rng.choice(_NAMES)
  raw = path.read_bytes()
  if rng.random() < 0.7:
    raw = json.dumps(_changed(rng, json.loads(raw))).encode()
  else:
    raw = rng.choice(_BYTES)(raw, rng.randrange(len(raw)))
  path.write_bytes(raw)
  if path.name != manifest.NAME:
    content = json.loads((folder / manifest.NAME).read_bytes())
    content["files"][path.name]["bytes"] = len(raw)
    (folder / manifest.NAME).write_text(json.dumps(content))


_FILES: tuple[Callable[[pathlib.Path, bytes], object], ...] = (
  lambda path, raw: None,
  lambda path, raw: path.mkdir(),
  lambda path, raw: path.write_bytes(raw[: len(raw) // 2]),
  lambda path, raw: path.write_bytes(b""),
  lambda path, raw: path.symlink_to("nowhere"),
  lambda path, raw: path.symlink_to(os.devnull),
  lambda path, raw: os.mkfifo(path),
)


def _spoil_file(rng: random.Random, folder: pathlib.Path) -> None:
  """Puts something else in the place of a random file of a folder."""
  path = folder / rng.choice(sorted(os.listdir(folder)))
  raw = path.read_bytes()
  path.unlink()
  rng.choice(_FILES)(path, raw)


@pytest.fixture(scope="module")
def whole(
  tokenizer_file: str, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("whole") / "model"
  exported.save_classifier(
    folder,
    exported.SHAPES["albert"],
    tokenizer_file,
    label_type="class",
    temperature=2.5,
  )
  return folder


def _one_line(error: Exception) -> None:
  said = str(error)
  assert said.isprintable()
  assert len(said) < 900, said


def test_two_hundred_manifests_and_labels_end_in_one_line_each(
  whole: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  refused = 0
  for seed in range(200):
    rng, folder = random.Random(seed), tmp_path / str(seed)
    shutil.copytree(whole, folder)
    (_spoil_file if seed % 4 == 0 else _spoil_json)(rng, folder)
    try:
      manifest.check(str(folder), "classifier")
      model_directory.labels(str(folder))
      model_directory.config(str(folder))
    except (options.InputError, OSError) as error:
      _one_line(error)
      refused += 1
    shutil.rmtree(folder)
  assert refused > 120


@pytest.mark.slow
def test_a_hundred_and_twenty_spoilt_models_load_or_end_in_one_line(
  whole: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  refused = 0
  for seed in range(1000, 1120):
    rng, folder = random.Random(seed), tmp_path / str(seed)
    shutil.copytree(whole, folder)
    (_spoil_file if seed % 4 == 0 else _spoil_json)(rng, folder)
    try:
      predictor = classification.load(str(folder))
      assert np.isfinite(predictor.probabilities([_TEXT])).all()
    except (options.InputError, OSError) as error:
      _one_line(error)
      refused += 1
    shutil.rmtree(folder)
  assert refused > 70


@pytest.mark.parametrize(
  "name", [manifest.NAME, "labels.json", "model.ckpt.index"]
)
def test_links_in_a_model_folder_are_refused_by_name(
  whole: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
  shutil.copytree(whole, tmp_path / "model")
  path = tmp_path / "model" / name
  path.unlink()
  path.symlink_to(whole / name)
  with pytest.raises(options.InputError, match=f"{name}; got a link: copy"):
    manifest.check(str(tmp_path / "model"), "classifier")
  (tmp_path / "linked").symlink_to(whole)  # the folder itself may be one
  assert manifest.check(str(tmp_path / "linked"), "classifier")


@pytest.mark.parametrize("name", ["./a", "a//b", "a/", "", ".", "a\\b", "a\nb"])
def test_a_manifest_names_plain_files(
  whole: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
  content = json.loads((whole / manifest.NAME).read_bytes())
  content["files"] = {name: content["files"]["labels.json"]}
  (tmp_path / manifest.NAME).write_text(json.dumps(content))
  with pytest.raises(options.InputError, match="names of files below") as told:
    manifest.check(str(tmp_path), "classifier")
  _one_line(told.value)


@pytest.mark.parametrize("path", ["/dev/null", "pipe", "folder"])
def test_json_is_read_of_files_alone(tmp_path: pathlib.Path, path: str) -> None:
  os.mkfifo(tmp_path / "pipe")
  (tmp_path / "folder").mkdir()
  with pytest.raises(options.InputError, match="got no regular file"):
    json_files.read(str(tmp_path / path))


def test_json_has_a_largest_size(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(json_files, "_MOST_BYTES", 1 << 20)
  path = tmp_path / "a.json"
  path.write_text(json.dumps("x" * ((1 << 20) - 2)))
  assert json_files.read(str(path))
  path.write_text(json.dumps("x" * ((1 << 20) - 1)))
  with pytest.raises(options.InputError, match="got more than 1 MB"):
    json_files.read(str(path))
