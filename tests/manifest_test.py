"""Tests of reading manifests: whole, damaged, of another version."""

import json
import pathlib
from typing import Any

import pytest

from albert_mn.formats import conversion
from albert_mn.models import model_directory
from albert_mn.tasks import classifier
from data_prep.base import options
from data_prep.classification import classifier_sets
from data_prep.encoding import tokenization
from data_prep.files import manifest, storage
from data_prep.pretraining import examples


def _write(folder: pathlib.Path, **changed: Any) -> None:
  """Writes a manifest of one file, with other values of some of its keys."""
  (folder / "a.txt").write_text("сайн\n", "utf-8")
  manifest.write(
    str(folder),
    "classifier",
    parameters={},
    files=["a.txt"],
    counts={},
    inputs={},
  )
  path = folder / manifest.NAME
  content = json.loads(path.read_text("utf-8")) | changed
  kept = {name: value for name, value in content.items() if value is not ...}
  path.write_text(json.dumps(kept))


FILE = {"bytes": 9, "sha256": "0" * 64}


@pytest.mark.parametrize(
  "content", ["[]", "[[1, 2]]", "null", '"a"', "7", "{", "", "\x00"]
)
def test_a_manifest_that_is_no_object_is_one_line(
  content: str, tmp_path: pathlib.Path
) -> None:
  (tmp_path / manifest.NAME).write_text(content)
  with pytest.raises(options.InputError, match=r"manifest\.json.*: make the"):
    manifest.find(str(tmp_path))


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"format_version": 2}, "use the release that wrote it"),
    ({"format_version": [1]}, "use the release that wrote it"),
    ({"kind": ...}, "kind in .*; got none"),
    ({"kind": ["corpus"]}, "kind in .* to be a string; got"),
    ({"files": ...}, "files in .*; got none"),
    ({"files": ["a.txt"]}, "files in .* to be an object"),
    ({"files": {"a.txt": 9}}, "a.txt in .* to be an object; got 9"),
    ({"files": {"a.txt": {"bytes": 9}}}, "sha256 in a.txt of .*; got none"),
    ({"files": {"a.txt": FILE | {"bytes": "9"}}}, "bytes in a.txt of .* whole"),
    ({"files": {"../a.txt": FILE}}, "one that leads outside, ../a.txt"),
    ({"files": {"/a.txt": FILE}}, "one that leads outside, /a.txt"),
    ({"parameters": []}, "parameters in .* to be an object"),
    ({"counts": "12"}, "counts in .* to be an object"),
    ({"inputs": None}, "inputs in .* to be an object; got null"),
    (
      {"parameters": {"temperature": "warm"}},
      "temperature in the param.*number",
    ),
    ({"parameters": {"max_seq_length": "128"}}, "max_seq_length in the param"),
    ({"parameters": {"text_pair": 1}}, "text_pair in the .* true or false"),
    ({"counts": {"global_step": 1.5}}, "global_step in the counts of .* whole"),
    ({"counts": {"loss": None}}, "loss in the counts of .* a number; got null"),
  ],
)
def test_a_part_of_another_type_is_one_line_that_names_it(
  changed: dict[str, Any], message: str, tmp_path: pathlib.Path
) -> None:
  _write(tmp_path, **changed)
  with pytest.raises(options.InputError, match=message):
    manifest.check(str(tmp_path), "classifier")


def test_what_other_versions_name_or_do_not_name_stops_nothing(
  tmp_path: pathlib.Path,
) -> None:
  _write(tmp_path, parameters=..., counts=..., inputs=..., licence="Apache-2.0")
  content = manifest.check(str(tmp_path), "classifier")
  assert content["parameters"] == content["counts"] == content["inputs"] == {}
  assert content["licence"] == "Apache-2.0"


def test_settings_of_the_text_are_never_guessed_from_another_type() -> None:
  """In Python any string would be true, "false" too."""
  settings = tokenization.Settings.of({"strip_accents": True, "vocab_size": 9})
  assert settings == tokenization.Settings(strip_accents=True)
  with pytest.raises(
    options.InputError, match=r"strip_accents of the param.*fal"
  ):
    tokenization.Settings.of({"strip_accents": "false"})


def test_a_recipe_of_records_is_checked_by_its_types() -> None:
  assert examples.Recipe.of({"masked_lm_prob": 0.2, "later": []}) == (
    examples.Recipe(masked_lm_prob=0.2)
  )
  with pytest.raises(
    options.InputError, match=r"masked_lm_prob of .* a number"
  ):
    examples.Recipe.of({"masked_lm_prob": "0.2"})


def test_a_set_of_rows_is_read_by_the_same_rule(tmp_path: pathlib.Path) -> None:
  kind = classifier_sets.KIND
  _write(tmp_path, kind=kind, parameters={"columns": {"text_column": "үг"}})
  assert classifier_sets.columns_of(str(tmp_path)).text_column == "үг"
  assert classifier_sets.cleaning_of(str(tmp_path)) is None
  _write(
    tmp_path,
    kind=kind,
    parameters={"columns": {"text_column": 5}, "cleaning": {"authors": 5}},
  )
  with pytest.raises(options.InputError, match=r"text_column of .* a string"):
    classifier_sets.columns_of(str(tmp_path))
  with pytest.raises(
    options.InputError, match=r"authors of .* a string; got 5"
  ):
    classifier_sets.cleaning_of(str(tmp_path))


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{}", "labels in .* to be a list; got"),
    ("[]", "different labels in .*; got none"),
    ('["а", 5]', "labels in .* to be a list"),
    ('["а", "а"]', "different labels in .*; got .а. more than once"),
    ('["а"', "JSON in .*labels.json"),
  ],
)
def test_labels_of_another_type_are_one_line(
  content: str, message: str, tmp_path: pathlib.Path
) -> None:
  (tmp_path / model_directory.LABELS).write_text(content, "utf-8")
  with pytest.raises(options.InputError, match=message):
    model_directory.labels(str(tmp_path))


@pytest.mark.parametrize("content", ['["а", null]', '["а", ["б"]]', '["а"'])
def test_labels_of_the_user_are_strings_or_numbers(
  content: str, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "labels.json"
  path.write_text('["а", 2]', "utf-8")
  assert conversion.read_labels(str(path)) == ["а", "2"]
  path.write_text(content, "utf-8")
  with pytest.raises(
    options.InputError, match=r"labels\.json.*: mend the file"
  ):
    conversion.read_labels(str(path))


@pytest.mark.parametrize(
  ("parameters", "message"),
  [
    ({"label_type": "regressoin"}, "label_type in a manifest to be one of"),
    ({"long_text": "tail"}, "long_text in a manifest to be one of head"),
    ({"cleaning": {"latin_mongolian": 5}}, "latin_mongolian of .* a string"),
    ({"do_lower_case": "yes"}, "do_lower_case of .* true or false"),
    ({"temperature": 0}, "temperature in a manifest from 0.001 to 1000"),
    ({"temperature": 1e-320}, "temperature in a manifest from 0.001"),
    ({"longest_word": -1}, "longest_word to be at least 1"),
    ({"max_seq_length": -1}, "max_seq_length in a manifest to be from 3 to"),
    ({"max_seq_length": 1 << 40}, "max_seq_length in a manifest to be from 3"),
  ],
)
def test_a_classifiers_parameters_of_another_type_are_one_line(
  parameters: dict[str, Any],
  message: str,
  topics: str,
  tmp_path: pathlib.Path,
) -> None:
  model_directory.copy(topics, str(tmp_path))
  path = tmp_path / manifest.NAME
  content = json.loads(storage.read_text(str(path)))
  content["parameters"] |= parameters
  path.write_text(json.dumps(content))
  with pytest.raises(options.InputError, match=message):
    classifier.Predictor.load(str(tmp_path))
