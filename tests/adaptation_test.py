"""Tests of the masked-LM steps before fine-tuning: their texts, their start."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.finetune import adaptation, classification, fine_tuning
from albert_mn.formats import initial_weights
from albert_mn.models import configs
from albert_mn.tasks import ensembles
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import manifest
from tests import running

SHAPE = {
  "vocab_size": 400,
  "embedding_size": 16,
  "hidden_size": 32,
  "num_hidden_layers": 1,
  "num_attention_heads": 2,
  "intermediate_size": 32,
  "max_position_embeddings": 32,
}
RECIPE = fine_tuning.Recipe(
  max_seq_length=16, train_batch_size=8, num_train_epochs=1.0, blend="off"
)
HELD_OUT = "бүх хүн эрх чөлөөтэй тэгш эрх нэр төртэй төрдөг юм"


@pytest.fixture(scope="module")
def rows(
  udhr: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """A folder with rows, unlabelled texts and the shape of a small model.

  The files are train.tsv, dev.tsv, more.txt and config.json; more.txt contains
  a text of dev.tsv in capitals.
  """
  folder = tmp_path_factory.mktemp("rows")
  lines = [line for line in udhr.read_text("utf-8").split("\n") if line][:24]
  train = [f"{line}\t{'аб'[i % 2]}" for i, line in enumerate(lines)]
  dev = [f"{HELD_OUT}\tа", "Энд өөр өгүүлбэр байна\tб"]
  for name, part in (("train", train), ("dev", dev)):
    text = "\n".join(["text\tlabel", *part]) + "\n"
    (folder / f"{name}.tsv").write_text(text, "utf-8")
  (folder / "config.json").write_text(json.dumps(SHAPE))
  (folder / "more.txt").write_text(
    f"Нэг өөр мөр энд байна\nӨмнө нь {HELD_OUT.upper()}\n\nЭнд  өөр\n", "utf-8"
  )
  return folder


def _from_nothing(
  rows: pathlib.Path,
  tokenizer_file: str,
  output: pathlib.Path,
  ensemble: int = 1,
) -> classification.Options:
  """Returns the options of a training without an initial model."""
  return classification.Options(
    do_train=True,
    data_dir=str(rows),
    spm_model_file=tokenizer_file,
    albert_config_file=str(rows / "config.json"),
    output_dir=str(output),
    ensemble=ensemble,
  )


@pytest.fixture(scope="module")
def run(
  rows: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """The output folder of a training from random weights.

  Before the training, the encoder was adapted to the texts in two steps.
  """
  output = tmp_path_factory.mktemp("adaptation") / "run"
  classification.run(
    _from_nothing(rows, tokenizer_file, output),
    RECIPE,
    adaptation.Options(adapt_steps="2", unlabeled_file=str(rows / "more.txt")),
  )
  return output


def test_adaptation_reads_training_texts_and_lines_that_repeat_no_held_out_text(
  rows: pathlib.Path, run: pathlib.Path
) -> None:
  read = (run / "adapted/texts.txt").read_text("utf-8").split("\n\n")
  train = (rows / "train.tsv").read_text("utf-8").splitlines()[1:]
  assert read[:24] == [" ".join(row.split("\t")[0].split()) for row in train]
  assert read[24:] == ["Нэг өөр мөр энд байна", "Энд өөр", ""]


def test_the_manifest_names_the_adapted_encoder(run: pathlib.Path) -> None:
  made = manifest.read(str(run / "model" / manifest.NAME))
  assert made["parameters"][adaptation.STEPS] == 2
  adapted = initial_weights.identity(str(run / "adapted/model"))
  assert made["inputs"]["init_checkpoint"] == adapted
  assert adaptation.ORIGIN not in made["inputs"], "from nothing"


def test_without_a_model_adaptation_begins_from_counts(
  run: pathlib.Path,
) -> None:
  """The bias of the output layer is the log frequency of each piece."""
  held = tf.train.load_checkpoint(str(run / "adapted/model/model.ckpt"))
  (name,) = (
    name
    for name in held.get_variable_to_shape_map()
    if name.startswith("masked_lm/output_bias")
  )
  bias = held.get_tensor(name)
  tokenizer = tokenization.Tokenizer(str(run / "adapted/model/tokenizer.model"))
  lines = (run / "adapted/texts.txt").read_text("utf-8").splitlines()
  counts = np.bincount(
    np.concatenate(tokenizer.encode(lines)), minlength=tokenizer.vocab_size
  )
  common = np.argsort(-counts)[:20]
  assert bias[common].min() > bias[counts == 0].max() + 1


@pytest.mark.slow  # it trains twice
def test_compare_start_reports_what_the_pretrained_weights_gave(
  rows: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  adapted = run / "adapted/model"
  results = classification.run(
    classification.Options(
      do_train=True,
      do_eval=True,
      compare_start=True,
      data_dir=str(rows),
      init_checkpoint=str(adapted),
      output_dir=str(tmp_path),
    ),
    RECIPE,
    adaptation.Options(adapt_steps="0"),
  )
  made = manifest.read(str(tmp_path / "from_nothing/model" / manifest.NAME))
  assert "init_checkpoint" not in made["inputs"]
  assert made["inputs"]["training_rows"]
  (note, *_) = json.loads((tmp_path / "report.json").read_text("utf-8"))[
    "notes"
  ]
  (with_them,) = re.findall(
    r"^The pretrained weights gave the network [+-]\d\.\d{3}: accuracy "
    r"(\d\.\d{3}) with them, \d\.\d{3} from nothing; better on \d rows",
    note,
  )
  assert float(with_them) == pytest.approx(results["eval_accuracy"], abs=6e-4)


@pytest.mark.parametrize(
  ("line", "repeats"),
  [
    ("Ерөнхийдөө " + HELD_OUT + " гэж бичжээ", True),
    (HELD_OUT.upper(), True),
    ("хүн эрх чөлөөтэй тэгш эрх нэр төртэй төрдөг", True),  # eight words
    ("эрх чөлөөтэй тэгш эрх нэр төртэй төрдөг", False),  # seven
    ("энэ бол богино мөр шүү", True),  # of a short text, all its words
    ("энэ бол мөр", False),
  ],
)
def test_a_line_repeats_a_text_with_which_it_shares_eight_words_in_a_row(
  line: str, repeats: bool
) -> None:
  kept_back = adaptation.Repeats([HELD_OUT, "Богино мөр"])
  assert (line in kept_back) == repeats


def test_words_with_letters_that_the_tokenizer_lacks_are_named(
  tokenizer_file: str,
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  lines = ["хүн бүр 好 эрх", "好 эрх", "эрх ☃"]
  assert adaptation.unknown_words(tokenizer, lines) == (
    "3 of 8 words of the training texts hold letters that the tokenizer does "
    "not know, such as 好, ☃"
  )
  assert not adaptation.unknown_words(tokenizer, ["хүн бүр эрх"])


def test_what_cannot_be_adapted_is_left_as_it_is_unless_steps_are_asked_for(
  tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  start = fine_tuning.Start(
    configs.AlbertConfig(vocab_size=999),
    tokenization.Tokenizer(tokenizer_file),
    tokenizer_file,
    "",
  )
  data = fine_tuning.Data(())

  def adapted(**flags: str) -> fine_tuning.Start:
    settings = adaptation.Options(**flags)  # type: ignore[arg-type]
    return adaptation.adapted(str(tmp_path), settings, RECIPE, start, data)

  assert adapted() is start
  assert adapted(adapt_steps="0") is start
  with pytest.raises(options.InputError, match=r"999 pieces.*adapt_steps=0"):
    adapted(adapt_steps="5")
  assert not list(tmp_path.iterdir())


def test_auto_adapts_from_nothing_and_with_unlabelled_texts() -> None:
  auto = adaptation.Options()
  assert auto.steps("") == 1
  assert auto.steps("run/model") == 0
  more = adaptation.Options(unlabeled_file="a.txt")
  assert more.steps("run/model") == adaptation.AUTO_STEPS
  assert adaptation.Options(adapt_steps="7").steps("run/model") == 7


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ({"adapt_steps": "-1"}, "auto or a whole number of at least 0; got -1"),
    ({"adapt_steps": "0", "unlabeled_file": "a.txt"}, "above 0"),
  ],
)
def test_wrong_flags_are_refused(flags: dict[str, str], said: str) -> None:
  with pytest.raises(options.InputError, match=said):
    adaptation.Options(**flags)  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_adaptation_that_is_killed_goes_on_and_ends_with_the_same_weights(
  rows: pathlib.Path,
  run: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  """The run starts from an adapted model, and is killed at a checkpoint."""
  recipe = dataclasses.asdict(RECIPE)
  command = [
    "run_classifier.py",
    "--do_train",
    f"--data_dir={rows}",
    f"--init_checkpoint={run}/adapted/model",
    "--adapt_steps=110",
    *(
      f"--{name}={recipe[name]}"
      for name in (
        "max_seq_length",
        "train_batch_size",
        "num_train_epochs",
        "blend",
      )
    ),
  ]
  running.Programs().succeed(*command, f"--output_dir={tmp_path}/whole")
  killed = [*command, f"--output_dir={tmp_path}/killed"]
  process = subprocess.Popen([sys.executable, *killed], cwd=running.ROOT)
  index = tmp_path / "killed/adapted/checkpoints/model.ckpt-100.index"
  try:
    deadline = time.monotonic() + 600
    while not index.exists():
      assert process.poll() is None
      assert time.monotonic() < deadline
      time.sleep(0.01)
  finally:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
  assert not (tmp_path / "killed/adapted/model").exists()
  running.Programs().succeed(*killed)
  for place in ("adapted/model", "model"):
    paths = [str(tmp_path / name / place) for name in ("whole", "killed")]
    whole, resumed = map(manifest.identity, paths)
    assert whole == resumed


def test_many_texts_without_a_named_tokenizer_get_one_of_their_own(
  rows: pathlib.Path,
  tmp_path: pathlib.Path,
  tokenizer_file: str,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  start = fine_tuning.Start(
    configs.AlbertConfig.from_file(str(rows / "config.json")),
    tokenization.Tokenizer(tokenizer_file),
    tokenizer_file,
    init_checkpoint="",
  )
  lines = (running.ROOT / "sample/pretrain/wiki_articles.txt").read_text(
    "utf-8"
  )
  (tmp_path / "texts.txt").write_text(lines, "utf-8")
  folder = str(tmp_path)
  assert adaptation._with_tokenizer_of(folder, start) is start, "520 kB"
  monkeypatch.setattr(adaptation, "_PIECES", {100_000: 600, 10_000_000: 900})
  own = adaptation._with_tokenizer_of(folder, start)
  assert own.tokenizer_file == f"{folder}/tokenizer/tokenizer.model"
  assert own.config.vocab_size == own.tokenizer.vocab_size == 600
  assert own.config.hidden_size == start.config.hidden_size
  written = os.stat(own.tokenizer_file).st_mtime_ns
  again = adaptation._with_tokenizer_of(folder, start)
  assert os.stat(again.tokenizer_file).st_mtime_ns == written, "not again"
  (tmp_path / "texts.txt").write_text(lines[:120_000], "utf-8")
  assert (
    adaptation._with_tokenizer_of(folder, start).tokenizer.vocab_size == 600
  )
  assert os.stat(own.tokenizer_file).st_mtime_ns != written, "other texts"


@pytest.mark.parametrize(
  ("flags", "chooses"),
  [
    ({"init_checkpoint": "none"}, True),
    ({"init_checkpoint": "none", "spm_model_file": "t.model"}, False),
    ({"init_checkpoint": "none", "albert_config_file": "c.json"}, False),
    ({}, False),
  ],
)
def test_a_tokenizer_is_chosen_where_nothing_names_one(
  flags: dict[str, str], chooses: bool
) -> None:
  settings = classification.Options(do_train=True, output_dir="o", **flags)  # type: ignore[arg-type]
  assert settings.chooses_tokenizer() == chooses


def _kernel(folder: pathlib.Path) -> np.ndarray:
  """Returns the kernel of the head in a model directory, [hidden, labels]."""
  return ensembles.members(classification.load(str(folder)).model)[
    0
  ].classifier.kernel.numpy()


@pytest.mark.slow
def test_a_frozen_encoder_stays_and_its_head_is_fitted_again_to_the_same(
  rows: pathlib.Path, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  recipe = dataclasses.replace(
    RECIPE, freeze_encoder=True, num_train_epochs=-1.0, pooling="mean"
  )
  heads = []
  for _ in range(2):  # the second time over the first
    classification.run(
      _from_nothing(rows, tokenizer_file, tmp_path / "run"),
      recipe,
      adaptation.Options(adapt_steps="auto"),
    )
    adapted, model = (
      tf.train.load_checkpoint(str(tmp_path / "run" / folder / "model.ckpt"))
      for folder in ("adapted/model", "model")
    )
    shapes = adapted.get_variable_to_shape_map()
    names = [name for name in shapes if name.startswith("encoder/")]
    assert names
    for name in names:
      value = adapted.get_tensor(name)
      np.testing.assert_array_equal(value, model.get_tensor(name))
    heads.append(_kernel(tmp_path / "run/model"))
    shutil.rmtree(tmp_path / "run/model")
  np.testing.assert_array_equal(heads[0], heads[1])
  # From many passes over few rows, far from the random weights of a new head.
  assert np.abs(heads[0]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fitted", "random"])
def test_a_head_begins_as_a_linear_model_of_the_encoders_vectors(
  rows: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path, start: str
) -> None:
  classification.run(
    classification.Options(
      do_train=True,
      data_dir=str(rows),
      init_checkpoint=str(run / "adapted/model"),
      output_dir=str(tmp_path / "run"),
    ),
    dataclasses.replace(RECIPE, learning_rate=0.0, head_start=start),
  )
  largest = np.abs(_kernel(tmp_path / "run/model")).max()
  # Random weights are cut off at two deviations of 0.02.
  assert (largest > 0.1) if start == "fitted" else (largest < 0.041)


def test_a_frozen_encoder_needs_weights(
  rows: pathlib.Path, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(options.InputError, match="whose encoder is to be frozen"):
    classification.run(
      _from_nothing(rows, tokenizer_file, tmp_path / "run"),
      dataclasses.replace(RECIPE, freeze_encoder=True),
      adaptation.Options(adapt_steps="0"),
    )
