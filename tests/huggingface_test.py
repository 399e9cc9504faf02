"""Tests that Hugging Face's directories give the outputs of transformers."""

import io
import json
import logging
import os
import pathlib
import pickle
import re
import shutil
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from albert_mn.formats import huggingface, initial_weights
from albert_mn.models import (
  configs,
  pickled_tensors,
  pretraining,
  tensor_files,
)
from data_prep.base import options
from data_prep.files import records

REFERENCE = pathlib.Path(__file__).parent / "reference"
ALBERT, BERT = REFERENCE / "hf_albert", REFERENCE / "hf_bert"


def _loaded(folder: pathlib.Path) -> pretraining.PretrainingModel:
  config = initial_weights.settle_config("", "", str(folder))
  model = pretraining.PretrainingModel(config, 0)
  initial_weights.load(str(folder), model.parts())
  return model


def _compare(
  model: pretraining.PretrainingModel, reference: pathlib.Path, error: float
) -> None:
  """Compares a model's outputs on real pieces with those of transformers."""
  expected = np.load(reference / "outputs.npz")
  inputs = [expected[n] for n in ("input_ids", "input_mask", "segment_ids")]
  real = inputs[1].astype(bool)
  encoded = model.encoder(*inputs)
  every = np.tile(np.arange(real.shape[1], dtype=np.int32), [len(real), 1])
  features = dict(
    zip(
      (records.INPUT_IDS, records.INPUT_MASK, records.SEGMENT_IDS),
      inputs,
      strict=True,
    )
  )
  output = model(features | {records.MASKED_LM_POSITIONS: every})
  arrays = {
    "sequence_output": encoded.sequence_output.numpy(),
    "pooled_output": encoded.pooled_output.numpy(),
    "mlm_logits": output.masked_lm_logits.numpy(),
    "sent_logits": output.sentence_logits.numpy(),
  }
  for key, value in arrays.items():
    want = expected[key]
    if value.ndim == 3:
      value, want = value[real], want[real]
    np.testing.assert_allclose(value, want, rtol=0, atol=error, err_msg=key)


@pytest.mark.parametrize("folder", [ALBERT, BERT], ids=lambda f: f.name)
def test_outputs_equal_those_of_transformers(
  folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  with caplog.at_level(logging.INFO, "absl"):
    model = _loaded(folder)
  assert "(Hugging Face); new: none; left over: none" in caplog.text
  _compare(model, folder, 1e-4)


def _bfloat16(array: np.ndarray) -> bytes:
  return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def _safetensors(
  tensors: dict[str, np.ndarray], path: pathlib.Path, kind: str = "F32"
) -> None:
  """Writes tensors to a file in the format of safetensors."""
  store = {
    "F32": lambda a: a.astype("<f4").tobytes(),
    "F16": lambda a: a.astype("<f2").tobytes(),
    "BF16": _bfloat16,
  }[kind]
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  data = b""
  for name, array in tensors.items():
    raw = store(array)
    places = [len(data), len(data) + len(raw)]
    header[name] = dict(dtype=kind, shape=array.shape, data_offsets=places)
    data += raw
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _albert() -> dict[str, np.ndarray]:
  return tensor_files.read(str(ALBERT / "model.safetensors"))


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_storage_is_read_as_float32(
  tmp_path: pathlib.Path, kind: str
) -> None:
  _safetensors(_albert(), tmp_path / "model.safetensors", kind)
  rounded = tensor_files.read(str(tmp_path / "model.safetensors"))
  share = {"F16": 2**-10, "BF16": 2**-7}[kind]  # of their mantissas
  for name, array in _albert().items():
    assert rounded[name].dtype == np.float32
    np.testing.assert_allclose(rounded[name], array, rtol=share, atol=1e-7)


def test_shards_without_the_family_in_names_and_with_old_ones_are_read(
  tmp_path: pathlib.Path,
) -> None:
  old = {
    name.removeprefix("albert.").replace(
      "LayerNorm.weight", "LayerNorm.gamma"
    ): a
    for name, a in _albert().items()
  }
  old["embeddings.position_ids"] = np.arange(16.0)
  shutil.copy(ALBERT / "config.json", tmp_path)
  shards: dict[str, dict[str, Any]] = {
    "one.safetensors": {},
    "two.safetensors": {},
  }
  for place, (name, array) in enumerate(sorted(old.items())):
    shards[list(shards)[place % 2]][name] = array
  for shard, tensors in shards.items():
    _safetensors(tensors, tmp_path / shard)
  index = {name: s for s, tensors in shards.items() for name in tensors}
  (tmp_path / "model.safetensors.index.json").write_text(
    json.dumps({"weight_map": index})
  )
  _compare(_loaded(tmp_path), ALBERT, 1e-4)


def test_a_pickle_from_before_pytorch_1_6_is_read(
  tmp_path: pathlib.Path,
) -> None:
  """legacy.bin has the weights of the newer file, rounded to bfloat16."""
  shutil.copy(BERT / "legacy.bin", tmp_path / "pytorch_model.bin")
  whole = tensor_files.read(str(BERT / "pytorch_model.bin"))
  rounded = tensor_files.read(str(tmp_path / "pytorch_model.bin"))
  assert whole.keys() == rounded.keys()
  for name, array in whole.items():
    np.testing.assert_allclose(rounded[name], array, rtol=2**-8, err_msg=name)


class _Hostile:
  """An object whose unpickling would make a folder."""

  def __init__(self, path: str) -> None:
    self._path = path

  def __reduce__(self) -> tuple[Any, ...]:
    return os.mkdir, (self._path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
  tmp_path: pathlib.Path, zipped: bool
) -> None:
  hostile = pickle.dumps({"a": _Hostile(str(tmp_path / "харь"))}, 2)
  file = io.BytesIO()
  if zipped:
    with zipfile.ZipFile(file, "w") as archive:
      archive.writestr("archive/data.pkl", hostile)
  else:
    file.write(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
    file.write(pickle.dumps(1001, 2) + pickle.dumps({}, 2) + hostile)
  path = tmp_path / "pytorch_model.bin"
  path.write_bytes(file.getvalue())
  with pytest.raises(options.InputError, match="mkdir, which no tensor needs"):
    tensor_files.read(str(path))
  assert not (tmp_path / "харь").exists()


@pytest.mark.parametrize(
  ("offset", "shape", "strides"),
  [(9, (4,), (1,)), (-1, (4,), (1,)), (0, (9, 9), (0, 0)), (0, (4,), (4,))],
)
def test_a_tensor_outside_of_its_storage_is_refused(
  offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
  tensor = pickled_tensors.Tensor(
    pickled_tensors.Storage("F32", "0", 10), offset, shape, strides
  )
  with pytest.raises(ValueError, match="outside of its storage"):
    tensor.take(np.zeros(10, np.float32))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_cut_or_garbled_file_is_named_in_one_line(
  tmp_path: pathlib.Path, name: str
) -> None:
  folder = ALBERT if name.endswith("safetensors") else BERT
  whole = (folder / name).read_bytes()
  path = tmp_path / name
  garbled = [whole[:end] for end in (0, 7, 100, len(whole) // 2, -1)]
  garbled += [b"\xff" * 8 + whole[8:], b"\x00" * len(whole)]
  for content in garbled:
    path.write_bytes(content)
    with pytest.raises(options.InputError, match=f"whole tensors in .*{name}"):
      tensor_files.read(str(path))


def test_a_header_that_points_back_into_itself_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  entry = dict(dtype="U8", shape=[4], data_offsets=[-4, 0])
  text = json.dumps({"a": entry}).encode()
  path = tmp_path / "model.safetensors"
  path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
  with pytest.raises(options.InputError, match="a outside of the file"):
    tensor_files.read(str(path))


@pytest.mark.parametrize(
  ("header", "message"),
  [
    ('{"a": [0, 4], "b": [2, 6]}', "b overlaps the tensor before it"),
    ('{"a": [0, 4], "a": [4, 8]}', "a name that occurs twice"),
    ('{"a": [0, 9]}', "a outside of the file"),
    ('{"a": [4, 0]}', "a outside of the file"),
    ('{"a": [0, 4], "long": [4, 7]}', "cannot reshape|must be a multiple"),
  ],
)
def test_offsets_that_no_writer_makes_are_refused(
  tmp_path: pathlib.Path, header: str, message: str
) -> None:
  entry = '{"dtype": "F16", "shape": [2], "data_offsets": '
  text = re.sub(r"(\[\d, \d\])", rf"{entry}\1}}", header).encode()
  path = tmp_path / "model.safetensors"
  path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
  with pytest.raises(options.InputError, match=message):
    tensor_files.read(str(path))


def test_a_header_longer_than_the_file_is_refused_unread(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "model.safetensors"
  for length in (2**63, 101 << 20, 3):
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(options.InputError, match=f"a header of {length:,} by"):
      tensor_files.read(str(path))


def test_many_names_for_one_storage_do_not_fill_the_memory() -> None:
  place = pickled_tensors.Storage("F32", "0", 1000)
  tensor = pickled_tensors.Tensor(place, 0, (1000,), (1,))
  names = {str(n): tensor for n in range(1000)}
  with pytest.raises(ValueError, match="more than 32,000 numbers"):
    tensor_files._taken(names, lambda _: bytes(4000), 32_000)
  two = {"state_dict": {"a": tensor, "b": tensor}, "epoch": 3}
  arrays = tensor_files._taken(two, lambda _: bytes(4000), 32_000)
  assert arrays.keys() == {"a", "b"}


def _config(tmp_path: pathlib.Path, **changes: Any) -> configs.AlbertConfig:
  values = json.loads((BERT / "config.json").read_text())
  (tmp_path / "config.json").write_text(json.dumps({**values, **changes}))
  return huggingface.config(str(tmp_path)).config


def test_each_gelu_is_the_one_that_it_is_there(tmp_path: pathlib.Path) -> None:
  names = {"gelu": "gelu_erf", "gelu_new": "gelu", "relu": "relu"}
  for theirs, ours in names.items():
    assert _config(tmp_path, hidden_act=theirs).hidden_act == ours


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"hidden_act": "silu"}, "hidden_act in .*'silu'"),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type="),
    ({"num_experts": 8}, "num_experts=8"),
    ({"model_type": "roberta"}, "albert or bert in .*'roberta'"),
    ({"hidden_size": "16"}, "hidden_size in .*whole number"),
  ],
)
def test_a_config_of_another_encoder_is_refused(
  tmp_path: pathlib.Path, changes: dict[str, Any], message: str
) -> None:
  with pytest.raises(options.InputError, match=message):
    _config(tmp_path, **changes)


def _refused(
  tmp_path: pathlib.Path, tensors: dict[str, np.ndarray], message: str
) -> None:
  shutil.copy(ALBERT / "config.json", tmp_path)
  _safetensors(tensors, tmp_path / "model.safetensors")
  with pytest.raises(options.InputError, match=message):
    _loaded(tmp_path)


def test_a_missing_or_unknown_weight_and_a_wrong_shape_are_named(
  tmp_path: pathlib.Path,
) -> None:
  name = "albert.encoder.albert_layer_groups.1.albert_layers.1.ffn.bias"
  lacking = _albert()
  del lacking[name]
  _refused(tmp_path, lacking, "missing .*groups.1.albert_layers.1.ffn.bias")
  more = _albert() | {"albert.encoder.albert_layer_groups.2.x": np.zeros(2)}
  _refused(tmp_path, more, "unused .*groups.2.x")
  misshapen = _albert() | {name: np.zeros(23)}
  _refused(tmp_path, misshapen, r"ffn.bias of the shape \(24,\); got \(23,\)")


def test_a_head_with_an_output_layer_of_its_own_is_left_over(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  """With transformers' `tie_word_embeddings` false, the encoder is as good."""
  words = _albert()["albert.embeddings.word_embeddings.weight"]
  untied = _albert() | {"predictions.decoder.weight": words + 1}
  values = json.loads((ALBERT / "config.json").read_text())
  text = json.dumps(values | {"tie_word_embeddings": False})
  (tmp_path / "config.json").write_text(text)
  _safetensors(untied, tmp_path / "model.safetensors")
  with caplog.at_level("INFO", logger="absl"):
    encoder = _loaded(tmp_path).encoder
  np.testing.assert_array_equal(encoder.embedding_table, words)
  assert "new: masked_lm;" in caplog.text
  assert "predictions.decoder.weight, predictions.LayerNorm" in caplog.text


def test_a_model_without_pooler_and_sentence_head_keeps_new_ones(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  """AlbertForMaskedLM has neither a pooler nor a sentence head."""
  parts = {
    name: array
    for name, array in _albert().items()
    if "pooler" not in name and "sop_classifier" not in name
  }
  parts["classifier.weight"] = np.zeros([9, 16])
  shutil.copy(ALBERT / "config.json", tmp_path)
  _safetensors(parts, tmp_path / "model.safetensors")
  with caplog.at_level(logging.INFO, "absl"):
    _loaded(tmp_path)
  assert "new: pooler, sentence; left over: classifier.weight" in caplog.text


def test_an_idle_projection_at_equal_widths_is_dropped_and_a_real_one_kept(
  tmp_path: pathlib.Path,
) -> None:
  values = json.loads((ALBERT / "config.json").read_text())
  tensors = _albert()
  place = "albert.encoder.embedding_hidden_mapping_in"
  for name, array in tensors.items():
    if array.ndim and array.shape[-1] == 8:
      tensors[name] = np.concatenate([array, array], -1)
  tensors["predictions.dense.weight"] = np.eye(16)
  tensors["predictions.dense.bias"] = np.zeros(16)
  tensors[f"{place}.weight"] = np.eye(16)
  tensors[f"{place}.bias"] = np.zeros(16)
  _safetensors(tensors, tmp_path / "model.safetensors")
  text = json.dumps(values | {"embedding_size": 16})
  (tmp_path / "config.json").write_text(text)
  assert _loaded(tmp_path).encoder.projection is None
  tensors[f"{place}.weight"] = 2 * np.eye(16)
  _safetensors(tensors, tmp_path / "model.safetensors")
  projection = _loaded(tmp_path).encoder.projection
  assert projection is not None
  np.testing.assert_array_equal(projection.kernel, 2 * np.eye(16))


def test_other_weights_have_another_identity_and_the_tokenizer_is_found(
  tmp_path: pathlib.Path,
) -> None:
  assert initial_weights.identity(str(ALBERT)) != initial_weights.identity(
    str(BERT)
  )
  assert initial_weights.tokenizer_file(str(ALBERT)) == ""
  shutil.copy(ALBERT / "config.json", tmp_path)
  (tmp_path / "spiece.model").write_bytes(b"x")
  path = initial_weights.tokenizer_file(str(tmp_path))
  assert path == f"{tmp_path}/spiece.model"


def test_tensors_that_are_written_are_read_again_as_the_same_bytes(
  tmp_path: pathlib.Path,
) -> None:
  path = str(tmp_path / "model.safetensors")
  tensors = _albert()
  tensor_files.write(path, tensors)
  first = pathlib.Path(path).read_bytes()
  arrays = tensor_files.read(path)
  assert arrays.keys() == tensors.keys()
  for name, array in tensors.items():
    np.testing.assert_array_equal(arrays[name], array)
  tensor_files.write(path, dict(reversed(tensors.items())))
  assert pathlib.Path(path).read_bytes() == first
