"""Tests each command of docs/migration.md, in order, on small checkpoints."""

import dataclasses
import json
import pathlib
import re
import shlex
import shutil
import tarfile
import typing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from official.nlp.modeling import networks

from albert_mn.export import exports
from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import conversion, remote_weights
from albert_mn.models import configs, model_directory
from albert_mn.tasks import classifier
from data_prep.base import options
from data_prep.encoding import tokenizer_training
from data_prep.files import manifest
from tests import foreign_configs_test, http_server, running, tf1_saver

REFERENCE = pathlib.Path(__file__).parent / "reference"
PAGE = (running.ROOT / "docs/migration.md").read_text("utf-8")
COMMANDS = [
  line
  for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
  for line in block.splitlines()
]
PROGRAMS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
  "albert_mn.convert_checkpoint": (conversion.run, [conversion.Options]),
  "albert_mn.download_checkpoint": (
    remote_weights.fetch,
    [remote_weights.Options],
  ),
  "albert_mn.export_model": (exports.run, [exports.Options]),
  "run_classifier.py": (
    classification.run,
    [classification.Options, fine_tuning.Recipe],
  ),
}


def _run(command: str, environment: dict[str, str]) -> None:
  """Runs a command in this process: starting twelve would take minutes."""
  for name, value in environment.items():
    command = command.replace(f"${name}", value)
  words = [w for w in shlex.split(command) if w not in ("python", "-m")]
  run, classes = PROGRAMS[words[0]]
  flags = dict(_flag(word) for word in words[1:])
  made = [cls(**_fields(cls, flags)) for cls in classes]
  assert not flags, f"no such flags: {flags}"
  run(*made)


def _flag(word: str) -> tuple[str, str]:
  name, _, value = word.removeprefix("--").partition("=")
  return name, value or "true"


def _fields(cls: Any, flags: dict[str, str]) -> dict[str, Any]:
  """Returns the fields of a class that `flags` has, and removes them there."""
  hints = typing.get_type_hints(cls)
  values = {}
  for name in cls.__dataclass_fields__:
    flag = options.flag_name(cls.__dataclass_fields__[name])
    if flag in flags:
      value = flags.pop(flag)
      values[name] = {bool: value == "true", int: value, str: value}[
        hints[name]
      ]
      values[name] = hints[name](values[name])
  return values


def _tf1(
  folder: pathlib.Path,
  name: str,
  step: str,
  config: str,
  arrays: dict[str, np.ndarray] | None = None,
) -> None:
  """Writes a reference checkpoint of google-research under another name."""
  folder.mkdir()
  reader = tf.train.load_checkpoint(str(REFERENCE / name / "model.ckpt"))
  held = {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}
  held |= arrays or {}
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for key, array in held.items():
      tf.compat.v1.get_variable(key, initializer=array)
    session.run(tf.compat.v1.global_variables_initializer())
    saver = tf.compat.v1.train.Saver()
    saver.save(session, f"{folder}/{step}", write_state=False)
  shutil.copy(REFERENCE / name / "config.json", folder / config)


@pytest.fixture(scope="module")
def place(
  tmp_path_factory: pytest.TempPathFactory,
  tokenizer_file: str,
  udhr: pathlib.Path,
) -> pathlib.Path:
  """The folder with all folders and files that docs/migration.md names."""
  place = tmp_path_factory.mktemp("migration")
  _tf1(
    place / "albert_base",
    "albert_g1_trained",
    "model.ckpt-best",
    "albert_config.json",
  )
  shutil.copy(tokenizer_file, place / "albert_base" / "30k-clean.model")
  output = np.random.default_rng(0).normal(size=[3, 64]).astype(np.float32)
  _tf1(
    place / "albert_topics",
    "albert_g3",
    "model.ckpt-300",
    "albert_config.json",
    {"output_weights": output, "output_bias": output[:, 0]},
  )
  shutil.copy(tokenizer_file, place / "albert_topics" / "30k-clean.model")
  (place / "labels.txt").write_text("спорт\nурлаг\nэдийн засаг\n", "utf-8")
  google = place / "multi_cased_L-12_H-768_A-12"
  _tf1(google, "bert_trained", "bert_model.ckpt", "bert_config.json")
  pieces = (REFERENCE / "hf_topics/vocab.txt").read_text("utf-8").split("\n")
  # google's configs count every line of their vocabularies.
  lines = pieces[:-1] + [f"[unused{i}]" for i in range(1, 1001 - len(pieces))]
  lines += ["ү" * 90] * (1000 - len(lines))
  (google / "vocab.txt").write_text("\n".join(lines) + "\n", "utf-8")
  rows = "".join(f"сайн {n}\tа\nхоёр {n}\tб\n" for n in range(12))
  (place / "train.tsv").write_text(f"text\tlabel\n{rows}", "utf-8")
  _tf1(
    place / "mongolian_bert",
    "bert_trained",
    "model.ckpt-4000000",
    "bert_config.json",
  )
  shutil.copy(tokenizer_file, place / "mongolian_bert" / "mn_uncased.model")
  _hub_modules(place, tokenizer_file, (google / "vocab.txt").read_bytes())
  _of_tf_models(place / "tf_models_bert", google)
  tweets = place / "tweets"
  tweets.mkdir()
  shutil.copy(REFERENCE / "mn_tweet_bert.bin", tweets / "pytorch_model.bin")
  shutil.copy(REFERENCE / "hf_topics/vocab.txt", tweets)
  values = json.loads((REFERENCE / "hf_topics/config.json").read_text("utf-8"))
  keep = (*foreign_configs_test.SHAPE, "hidden_act")
  text = json.dumps({name: values[name] for name in keep})
  (tweets / "bert_config.json").write_text(text)
  (place / "authors.txt").write_text("нэг\nхоёр\nгурав\n", "utf-8")
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(udhr), output_dir=f"{place}/tokenizer", vocab_size=300
    )
  )
  shutil.copy(udhr, place / "held_out.txt")
  return place


def _hub_modules(
  place: pathlib.Path, tokenizer_file: str, words: bytes
) -> None:
  """Writes a module of ALBERT, in an archive, and one of BERT, in a folder."""

  def arrays(name: str) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(REFERENCE / name / "model.ckpt"))
    names = reader.get_variable_to_shape_map()
    held = {n: reader.get_tensor(n) for n in names if "adam" not in n}
    return {f"module/{n}": array for n, array in held.items()}

  assets = {
    "albert_config.json": (REFERENCE / "albert_g3/config.json").read_bytes(),
    "30k-clean.model": pathlib.Path(tokenizer_file).read_bytes(),
  }
  module = place / "albert_hub"
  tf1_saver.save_module(arrays("albert_g3"), module, assets)
  with tarfile.open(place / "albert_base_2.tar.gz", "w:gz") as packed:
    packed.add(module, ".")
  tf1_saver.save_module(
    arrays("bert_trained"), place / "bert_hub", {"vocab.txt": words}
  )


def _of_tf_models(folder: pathlib.Path, google: pathlib.Path) -> None:
  """Writes a checkpoint of tf-models of the same shape as google's."""
  folder.mkdir()
  for name in ("bert_config.json", "vocab.txt"):
    shutil.copy(google / name, folder)
  config = configs.BertConfig.from_file(str(folder / "bert_config.json"))
  encoder = networks.BertEncoder(
    config.vocab_size,
    config.hidden_size,
    config.num_hidden_layers,
    config.num_attention_heads,
    intermediate_size=config.intermediate_size,
    max_sequence_length=config.max_position_embeddings,
    type_vocab_size=config.type_vocab_size,
  )
  tf.train.Checkpoint(encoder=encoder).write(f"{folder}/bert_model.ckpt")


@pytest.fixture(scope="module")
def environment(place: pathlib.Path) -> Iterator[dict[str, str]]:
  with http_server.running() as server:
    for path in (REFERENCE / "hf_topics").iterdir():
      server.files[f"/main/{path.name}"] = path.read_bytes()
    yield {"ADDRESS": f"{server.url}/main"}


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(
  place: pathlib.Path,
  environment: dict[str, str],
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.chdir(place)
  monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
  for command in COMMANDS:
    _run(command, environment)
    output = re.findall(r"--output_dir=(\S+)", command)[0]
    assert (place / output).exists(), command

  def parameters(name: str, kind: str = "pretrained_model") -> dict[str, Any]:
    return dict(manifest.check(str(place / name), kind)["parameters"])

  assert parameters("models/albert")["strip_accents"]
  assert "strip_accents" not in parameters("models/albert_repaired")
  assert not parameters("models/multilingual")["do_lower_case"]
  for name in ("topics", "tweets"):
    folder = str(place / "models" / name)
    assert parameters(f"models/{name}", classifier.KIND)
    predictor = classifier.Predictor.load(folder)
    probabilities = predictor.probabilities(["Сайн байна уу"])
    np.testing.assert_allclose(probabilities.sum(), 1)
  for name, kind in (("albert", "pretrained_model"), ("topics", "classifier")):
    again = f"models/{name}_again"
    held = running.digests(place / "models" / name)
    came = running.digests(place / again)
    for file in ("manifest.json", "albert_config.json"):
      del held[file], came[file]
    assert came == held, "there and back is the same to the last bit"
    original, returned = (
      dataclasses.replace(shape, inert=())  # google's idle keys stay there
      for shape in map(model_directory.config, (f"models/{name}", again))
      if shape
    )
    assert original == returned
    there = parameters(f"models/{name}", kind)
    back = parameters(again, kind)
    assert there["strip_accents"]
    assert back["strip_accents"]
  config = model_directory.config(str(place / "models/moved"))
  assert config
  assert config.vocab_size == 300
  assert (place / "runs/multilingual/report.txt").exists()
