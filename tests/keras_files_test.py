"""Tests that files of Keras are recognised, and named in the error."""

import json
import pathlib

import pytest

from albert_mn.formats import conversion, initial_weights
from data_prep.base import options


def _preset(folder: pathlib.Path, hub: str, name: str) -> pathlib.Path:
  """Writes the files of a preset as KerasHub's save_to_preset names them."""
  folder.mkdir()
  place = f"{hub}.src.models.{name.lower()}.{name.lower()}_backbone"
  config = {
    "module": place,
    "class_name": f"{name}Backbone",
    "config": {"vocabulary_size": 30000, "num_layers": 12, "dtype": "float32"},
    "registered_name": f"{hub}>{name}Backbone",
  }
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "metadata.json").write_text('{"keras_version": "3.8.0"}')
  (folder / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
  config["registered_name"] = f"{hub}>{name}Tokenizer"
  (folder / "tokenizer.json").write_text(json.dumps(config))
  (folder / "assets/tokenizer").mkdir(parents=True)
  (folder / "assets/tokenizer/vocabulary.spm").write_bytes(b"")
  return folder


@pytest.mark.parametrize("hub", ["keras_hub", "keras_nlp"])
@pytest.mark.parametrize("name", ["Albert", "Bert", "DebertaV3"])
@pytest.mark.parametrize("file", ["", "model.weights.h5"])
def test_a_preset_of_keras_hub_is_named(
  hub: str, name: str, file: str, tmp_path: pathlib.Path
) -> None:
  folder = _preset(tmp_path / "preset", hub, name)
  with pytest.raises(options.InputError) as caught:
    initial_weights.format_of(str(folder / file))
  assert f"a KerasHub preset ({hub}>{name}Backbone)" in str(caught.value)
  assert "configuration" not in str(caught.value)


def test_the_converter_names_a_preset_in_one_line(
  tmp_path: pathlib.Path,
) -> None:
  folder = _preset(tmp_path / "preset", "keras_hub", "Albert")
  with pytest.raises(options.InputError, match="presets of KerasHub and other"):
    conversion.run(
      conversion.Options(
        init_checkpoint=str(folder), output_dir=f"{tmp_path}/out"
      )
    )
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  "name", ["tf_model.h5", "albert.keras", "x.weights.h5"]
)
def test_another_file_of_keras_is_named(
  name: str, tmp_path: pathlib.Path
) -> None:
  (tmp_path / name).write_bytes(b"")
  with pytest.raises(options.InputError, match="a file of Keras at"):
    initial_weights.format_of(f"{tmp_path}/{name}")


def test_a_folder_with_weights_of_keras_alone_says_how_to_go_on(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / "tf_model.h5").write_bytes(b"")
  (tmp_path / "config.json").write_text('{"model_type": "bert"}')
  with pytest.raises(
    options.InputError, match=r"got tf_model.h5 alone: load it"
  ):
    initial_weights.read(str(tmp_path))
