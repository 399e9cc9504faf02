"""Tests that configs are compared with the shapes in checkpoints."""

import dataclasses
import json
import pathlib
import random
import shutil
from typing import Any

import pytest
import tensorflow as tf

from albert_mn.formats import (
  huggingface,
  initial_weights,
  tf1_checkpoints,
  tf_models_checkpoints,
)
from albert_mn.models import blueprints, configs, encoders, model_directory
from data_prep.base import options

REFERENCE = pathlib.Path(__file__).parent / "reference"
SMALL = configs.AlbertConfig(
  vocab_size=50,
  embedding_size=8,
  hidden_size=16,
  num_hidden_layers=4,
  num_hidden_groups=2,
  inner_group_num=2,
  num_attention_heads=2,
  intermediate_size=24,
  max_position_embeddings=20,
  type_vocab_size=3,
)
BERT = configs.BertConfig(
  vocab_size=50,
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=4,
  intermediate_size=24,
  max_position_embeddings=20,
)


@pytest.mark.parametrize(
  "config", [SMALL, dataclasses.replace(SMALL, embedding_size=16), BERT]
)
def test_a_blueprint_has_the_names_and_shapes_of_the_encoder(
  config: configs.AlbertConfig,
) -> None:
  built = encoders.AlbertEncoder(config, seed=0)
  blueprint = blueprints.Encoder(config)
  for names in (tf1_checkpoints, tf_models_checkpoints, huggingface):
    shapes = [
      {
        part: {name: tuple(weight.shape) for name, weight in table.items()}
        for part, table in names.tables({"encoder": encoder}).items()
      }
      for encoder in (built, blueprint)
    ]
    assert shapes[0] == shapes[1]
  assert (
    config.encoder_weights
    == sum(int(tf.size(v)) for v in built.trainable_variables)
    - (config.hidden_size + 1) * config.hidden_size
  ), "without the pooler"


def _ours(folder: pathlib.Path, config: configs.AlbertConfig) -> pathlib.Path:
  """Writes an encoder's checkpoint and config; returns the config's path."""
  encoder = encoders.AlbertEncoder(config, seed=0)
  tf.train.Checkpoint(encoder=encoder).write(str(folder / "model.ckpt"))
  (folder / config.FILE).write_text(config.to_json())
  return folder / config.FILE


def _copied(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Copies a reference checkpoint; returns the path of its config."""
  shutil.copytree(REFERENCE / name, folder, dirs_exist_ok=True)
  return folder / "config.json"


# The sizes that a weight shows, in each family.
_SIZES = {
  "albert": [
    "vocab_size",
    "embedding_size",
    "hidden_size",
    "num_hidden_groups",
    "inner_group_num",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
  ],
  "bert": [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
  ],
}


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
  def build(*_: object, **__: object) -> None:
    raise AssertionError("built before the shapes were compared")

  monkeypatch.setattr(encoders.AlbertEncoder, "__init__", build)


_NAMES = (
  "hf_albert",
  "hf_bert",
  "albert_g3",
  "bert_trained",
  "ours",
  "ours_bert",
)


@pytest.fixture(scope="module", params=_NAMES)
def config_file(
  request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """The path of the config beside a checkpoint, for each format in turn."""
  folder = tmp_path_factory.mktemp(request.param)
  if request.param == "ours":
    return _ours(folder, SMALL)
  if request.param == "ours_bert":
    return _ours(folder, BERT)
  return _copied(folder, request.param)


@pytest.mark.usefixtures("nothing_is_built")
def test_a_config_that_claims_other_sizes_is_refused_before_anything_is_built(
  config_file: pathlib.Path,
) -> None:
  """Some 150 wrong configs are refused; the right one is accepted."""
  draw = random.Random(str(config_file.name))
  whole = config_file.read_text("utf-8")
  values: dict[str, Any] = json.loads(whole)
  bert = "num_hidden_groups" not in values
  assert initial_weights.settle_config("", "", str(config_file.parent))
  try:
    for _ in range(25):
      name = draw.choice(_SIZES["bert" if bert else "albert"])
      factor = draw.choice([2, 3, 8, 64, 1024, 1 << 17, 1 << 24])
      before = values.get(name, 1)
      changed = {**values, name: before * factor}
      config_file.write_text(json.dumps(changed))
      with pytest.raises(options.InputError) as refused:
        initial_weights.settle_config("", "", str(config_file.parent))
      assert "\n" not in str(refused.value), name
  finally:
    config_file.write_text(whole)


def test_a_mismatch_of_ours_is_named_with_both_shapes(
  tmp_path: pathlib.Path,
) -> None:
  _ours(tmp_path, SMALL)

  def refused(
    message: str, init_from_group0: bool = False, **sizes: Any
  ) -> None:
    config = dataclasses.replace(SMALL, **sizes)
    with pytest.raises(options.InputError, match=message):
      model_directory.require_fit(str(tmp_path), config, init_from_group0)

  refused(r"embeddings of the shape \(50, 8\), not \(51, 8\)", vocab_size=51)
  refused(r"got no encoder/groups/2/0/", num_hidden_groups=4)
  refused(r"got also encoder/groups/1/0/", num_hidden_groups=1)
  refused(r"got no encoder/groups/0/2/", inner_group_num=3)
  refused(r"got also encoder/groups/0/1/", True, inner_group_num=1)
  refused(r"groups/0/0/.*_key_dense/bias of the shape", num_attention_heads=4)
  with pytest.raises(options.InputError, match="got no encoder_1/groups/0/0/"):
    model_directory.require_fit(
      str(tmp_path), SMALL, encoders=("encoder", "encoder_1")
    )
  more = dataclasses.replace(SMALL, num_hidden_groups=4)
  model_directory.require_fit(str(tmp_path), more, True)
  model_directory.require_fit(str(tmp_path), SMALL)


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ({"vocab_size": 1 << 24}, "vocab_size .*from 1 to 8388608"),
    ({"max_position_embeddings": 1 << 21}, "max_position_embeddings .*1048576"),
    ({"num_hidden_layers": 2048}, "num_hidden_layers .*1024"),
    ({"num_hidden_groups": 10**30}, "num_hidden_groups .*1024"),
    ({"num_hidden_layers": 1024, "inner_group_num": 2}, "at most 1,024 blocks"),
    ({"vocab_size": 1 << 23, "embedding_size": 1 << 13}, "34,359,738,368 weig"),
    (
      {"hidden_size": 1 << 17, "intermediate_size": 1 << 17},
      "at most .* weights; got",
    ),
  ],
)
def test_an_absurd_model_is_refused_at_once(
  sizes: dict[str, int], message: str
) -> None:
  values = {"vocab_size": 50, "num_hidden_layers": 4, **sizes}
  with pytest.raises(options.InputError, match=message):
    configs.AlbertConfig.from_dict(values, "a.json")


def test_a_checkpoint_that_claims_more_than_its_files_have_is_not_read(
  tmp_path: pathlib.Path,
) -> None:
  _ours(tmp_path, SMALL)
  data = tmp_path / "model.ckpt.data-00000-of-00001"
  whole = data.read_bytes()
  data.write_bytes(whole[:100])
  for read in (initial_weights.read, model_directory.held_names):
    with pytest.raises(
      options.InputError, match=r"got 100 bytes of [\d,]+: copy"
    ):
      read(str(tmp_path))
  _copied(tmp_path / "tf1", "albert_g3")
  (tmp_path / "tf1/model.ckpt.data-00000-of-00001").write_bytes(whole[:100])
  with pytest.raises(
    options.InputError, match=r"got 100 bytes of [\d,]+: copy"
  ):
    initial_weights.read(str(tmp_path / "tf1"))


def test_a_variable_may_claim_no_more_than_there_is(
  tmp_path: pathlib.Path,
) -> None:
  """The variable has two rows, and claims to be a slice of a million rows."""
  tf.raw_ops.SaveV2(
    prefix=str(tmp_path / "model.ckpt"),
    tensor_names=["bert/embeddings/word_embeddings"],
    shape_and_slices=["1000000 4 0,2:0,4"],
    tensors=[tf.zeros([2, 4])],
  )
  with pytest.raises(
    options.InputError, match="got 32 bytes of 16,000,000: copy"
  ):
    initial_weights.read(str(tmp_path))
