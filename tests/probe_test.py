"""Tests of the probe: its refusals, its mean, and that it changes no run."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.models import configs, encoders
from albert_mn.pretrain import history, probe
from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.encoding import tokenization
from tests import conftest, running

SHAPE = dict(
  vocab_size=400,
  embedding_size=8,
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=32,
  hidden_dropout_prob=0.1,
  attention_probs_dropout_prob=0.1,
  max_position_embeddings=conftest.DYNAMIC_LENGTH,
)
TEXTS = ("Хүн бүр эрх чөлөөтэй.", "Цас орлоо", "Хөл бөмбөг тоглов, хожив.")


def _options(path: pathlib.Path, *lines: str) -> probe.Options:
  path = path / "probe.tsv"
  path.write_text("\n".join(lines) + "\n", "utf-8")
  return probe.Options(probe_file=str(path))


def _rows(*counts: int) -> list[str]:
  return ["text\tlabel"] + [
    f"Өгүүлбэр {label} {row}\tшошго {label}"
    for label, count in enumerate(counts)
    for row in range(count)
  ]


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (["text\tcategory", "Цас орлоо\tspорт"], "one column 'label' in"),
    (["text\tlabel"], "a header and at least one row in"),
    (["text\tlabel", "\tспорт"], "a text under 'text' at"),
    (_rows(9), "expected at least two labels .* got only 'шошго 0'"),
    (_rows(9, 4), "at least 5 rows of every label .* got 4 of 'шошго 1'"),
  ],
)
def test_what_cannot_be_cross_validated_is_refused(
  tmp_path: pathlib.Path, lines: list[str], message: str
) -> None:
  with pytest.raises(options.InputError, match=message):
    probe.rows(_options(tmp_path, *lines))


def test_of_many_rows_some_are_taken_and_five_of_each_label(
  tmp_path: pathlib.Path,
) -> None:
  lines = _rows(60, 5, 35)
  settings = dataclasses.replace(_options(tmp_path, *lines), probe_rows=40)
  taken = probe.rows(settings)
  labels = [row.label for row in taken]
  assert len(taken) == 40
  assert labels.count("шошго 1") == 5
  assert labels.count("шошго 0") > labels.count("шошго 2") > 5
  (tmp_path / "probe.tsv").write_text(
    "\n".join(lines[:1] + lines[:0:-1]) + "\n", "utf-8"
  )
  turned = {row.text for row in probe.rows(settings)}
  assert turned == {row.text for row in taken}


@pytest.fixture(scope="module")
def encoder() -> encoders.AlbertEncoder:
  return encoders.AlbertEncoder(configs.AlbertConfig.from_dict(SHAPE, "x"), 1)


def test_the_mean_is_over_a_texts_own_pieces(
  encoder: encoders.AlbertEncoder, tokenizer_file: str
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  # So many texts that there are two batches, of two lengths.
  texts = [" ".join(TEXTS[: 1 + n % 3]) * (1 + n % 2) for n in range(40)]
  rows = [classifier_data.Row(n, text) for n, text in enumerate(texts)]
  length = conftest.DYNAMIC_LENGTH
  features = probe.Probe(rows, tokenizer, length, 1).features(
    encoder, tf.distribute.get_strategy()
  )
  for row, text in enumerate(texts):
    (own,) = tokenizer.encode([text])
    own = own[: length - 2]
    ids = np.array([[tokenizer.cls_id, *own, tokenizer.sep_id]], np.int32)
    vectors = encoder(ids, np.ones_like(ids), np.zeros_like(ids))
    mean = vectors.sequence_output.numpy()[0, 1:-1].mean(axis=0)
    np.testing.assert_allclose(features[row], mean, rtol=1e-4, atol=1e-5)


def _probe(tokenizer_file: str) -> probe.Probe:
  rows = [
    classifier_data.Row(n, TEXTS[0], "цаг агаар" if n % 4 else "спорт")
    for n in range(80)
  ]
  return probe.Probe(rows, tokenization.Tokenizer(tokenizer_file), 16, 1)


def test_what_the_features_tell_is_found_and_nothing_else(
  tokenizer_file: str,
) -> None:
  asked = _probe(tokenizer_file)
  noise = np.random.default_rng(1).normal(size=[80, 6])
  told = noise.copy()
  told[:, 0] = [100 * (n % 4 == 0) for n in range(80)]
  clear, blind = asked.score(told), asked.score(noise)
  assert (clear.accuracy, clear.deviation) == (1.0, 0.0)
  assert blind.majority == clear.majority == 0.75
  assert blind.accuracy <= 0.76
  assert asked.score(noise) == blind
  assert str(clear) == (
    "accuracy 1.000 ± 0.000 over 5 folds of 80 texts; the commonest label's "
    "share is 0.750"
  )


def test_an_encoder_that_gives_one_vector_for_all_tells_nothing(
  tokenizer_file: str,
) -> None:
  assert _probe(tokenizer_file).score(np.ones([80, 4])).accuracy == 0.75


STEPS = 12


def _flags(folder: pathlib.Path, output: pathlib.Path) -> list[str]:
  (folder.parent / "small.json").write_text(json.dumps(SHAPE))
  return [
    str(running.ROOT / "run_pretraining.py"),
    "--do_train",
    "--do_eval",
    f"--input_file={folder}/train-*.tfrecord",
    f"--eval_input_file={folder}/eval-*.tfrecord",
    f"--albert_config_file={folder.parent}/small.json",
    f"--output_dir={output}",
    "--train_batch_size=8",
    "--nojit_compile",
    f"--num_train_steps={STEPS}",
    "--num_warmup_steps=2",
    "--learning_rate=0.01",
    "--iterations_per_loop=6",
    "--save_checkpoints_steps=6",
  ]


def _probed(interval: int) -> list[str]:
  return [
    f"--probe_file={running.ROOT}/sample/sib200/dev.tsv",
    "--label_column=category",
    f"--probe_interval={interval}",
  ]


def _checkpoint(output: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns name → value of weights and optimizer slots at the last step."""
  reader = tf.train.load_checkpoint(
    str(output / f"checkpoints/model.ckpt-{STEPS}")
  )
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if "OBJECT_GRAPH" not in name
  }


@pytest.mark.slow
def test_a_probed_run_ends_bit_for_bit_where_another_does(
  dynamic_records: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  programs = running.Programs()
  programs.succeed(*_flags(dynamic_records, tmp_path / "alone"))
  log = programs.succeed(
    *_flags(dynamic_records, tmp_path / "probed"), *_probed(4)
  )
  alone, probed = (_checkpoint(tmp_path / x) for x in ("alone", "probed"))
  assert alone.keys() == probed.keys()
  assert len(alone) > 40
  for name, value in alone.items():
    np.testing.assert_array_equal(value, probed[name], err_msg=name)
  curves = history.curves(str(tmp_path / "probed/events/eval"))
  assert [x for x, _ in curves["probe_accuracy"]] == [0, 4, 8, 12]
  assert [x for x, _ in curves["loss"]] == [6, 12]
  assert len(re.findall(r"probe: accuracy 0\.\d+ ± 0\.\d+ over 5", log)) == 4
  page = (tmp_path / "probed/training_report.html").read_text("utf-8")
  assert "Probe: accuracy" in page
  assert "Bits per character" in page
  assert "Probe: accuracy" not in (
    tmp_path / "alone/training_report.html"
  ).read_text("utf-8")
  # What is only watched with is no other run.
  written = json.loads((tmp_path / "probed/run.json").read_text())
  assert written["flags"]["probe_interval"] == 4
  assert written["versions"]["tensorflow"] == tf.__version__
  assert "already at step 12 of 12" in programs.succeed(
    *_flags(dynamic_records, tmp_path / "probed")
  )
  assert re.search(
    r"step 12 of 12: .*; 0\.\d+ epochs, [\d,]+ tokens; [\d,]+ sequences/s, "
    r"[\d,]+ tokens/s, [\d,]+ % of the peak, input .* % of a step; 0m00s left",
    log,
  )
  train = history.curves(str(tmp_path / "probed/events/train"))
  assert train.keys() >= {
    "loss",
    "learning_rate",
    "gradient_norm",
    "trust_ratio_median",
    "mfu",
    "sequences_per_second",
    "tokens_per_second",
    "input_share",
    "tokens",
  }


def test_a_labelled_set_that_does_not_do_stops_the_run_before_it_starts(
  dynamic_records: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  error = running.Programs().refuse(
    *_flags(dynamic_records, tmp_path / "run"), *_probed(0)[:1]
  )
  assert "one column 'label' in" in error
  assert "name the column with --label_column" in error
  assert not (tmp_path / "run").exists()
