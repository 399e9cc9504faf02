"""Documents to TFRecords: order, pairs, held-out documents, bytes."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from data_prep import (
  examples,
  instances,
  options,
  pretraining_data,
  records,
  tokenization,
)
from tests import running


def test_wordpiece_makes_no_records() -> None:
  with pytest.raises(options.InputError, match="--resize_vocabulary"):
    pretraining_data.Options(
      input_file="x", spm_model_file="vocab.txt", output_dir="y"
    )


def _flags(corpus: object, model: str, out: object, *more: str) -> list[str]:
  return [
    "-m",
    "data_prep.create_pretraining_data",
    f"--input_file={corpus}",
    f"--spm_model_file={model}",
    f"--output_dir={out}",
    "--max_seq_length=64",
    "--eval_fraction=0.2",
    "--dupe_factor=3",
    *more,
  ]


def _parsed(pattern: str) -> list[dict[str, np.ndarray]]:
  files = sorted(tf.io.gfile.glob(pattern))
  return [
    {k: v.numpy()[0] for k, v in row.items()}
    for row in tf.data.TFRecordDataset(files)
    .batch(1)
    .map(lambda s: records.parse_pretraining(s, records.Shape(64, 10)))
  ]


@pytest.fixture(scope="module")
def folder(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  out = tmp_path_factory.mktemp("records")
  programs.succeed(*_flags(udhr, tokenizer_file, out, "--num_workers=1"))
  return out


def test_the_bytes_do_not_depend_on_workers_and_a_second_run_changes_nothing(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  folder: pathlib.Path,
  tmp_path: pathlib.Path,
) -> None:
  first = running.digests(folder)
  assert "manifest.json" in first and "tokenizer.model" in first
  for workers in (2, 3):
    out = tmp_path / "same"
    programs.succeed(
      *_flags(udhr, tokenizer_file, out, f"--num_workers={workers}")
    )
    assert running.digests(out) == first
  programs.succeed(
    *_flags(udhr, tokenizer_file, tmp_path / "same", "--random_seed=2")
  )
  other = running.digests(tmp_path / "same")
  assert (
    other["eval-00000-of-00001.tfrecord"]
    == first["eval-00000-of-00001.tfrecord"]
  ), "another seed moves no document out of evaluation"
  trained = [n for n in first if n.startswith("train")]
  assert all(other[name] != first[name] for name in trained)


def test_shards_of_an_earlier_run_do_not_stay(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  for shards in (6, 2):
    programs.succeed(
      *_flags(udhr, tokenizer_file, tmp_path, f"--num_shards={shards}")
    )
  assert len(list(tmp_path.glob("train-*"))) == 2
  assert not list(tmp_path.glob(".*"))


def test_held_out_documents_are_in_no_training_example(
  folder: pathlib.Path,
  udhr: pathlib.Path,
  tokenizer_file: str,
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)

  def sentences(pattern: str) -> set[str]:
    return {_unmasked(row, tokenizer) for row in _parsed(f"{folder}/{pattern}")}

  trained, held_out = sentences("train-*"), sentences("eval-*")
  documents = udhr.read_text(encoding="utf-8").split("\n\n")
  apart = {
    i for i, d in enumerate(documents) for s in held_out if _shares(d, s)
  }
  used = {i for i, d in enumerate(documents) for s in trained if _shares(d, s)}
  assert len(apart) == round(0.2 * len(documents))
  assert not apart & used
  assert apart | used == set(range(len(documents)))


def _unmasked(
  row: dict[str, np.ndarray], tokenizer: tokenization.Tokenizer
) -> str:
  ids = row[records.INPUT_IDS].copy()
  real = row[records.MASKED_LM_WEIGHTS] == 1
  positions = row[records.MASKED_LM_POSITIONS][real]
  ids[positions] = row[records.MASKED_LM_IDS][real]
  segments = np.split(ids, np.nonzero(ids == tokenizer.sep_id)[0])
  return "\n".join(
    tokenizer.decode([i for i in part if not tokenizer.special[i]])
    for part in segments
  )


def _shares(document: str, text: str) -> bool:
  """Says whether a long enough piece of one stands in the other."""
  flat = " ".join(document.split())
  return any(
    len(part) > 30 and part.strip()[5:35] in flat for part in text.split("\n")
  )


def test_names_types_and_lengths_are_those_of_google_research_albert(
  folder: pathlib.Path,
) -> None:
  path = str(next(folder.glob("train-*")))
  raw = next(iter(tf.data.TFRecordDataset(path))).numpy()
  example = tf.train.Example.FromString(raw)
  lengths = {
    name: (f.WhichOneof("kind"), len(getattr(f, f.WhichOneof("kind")).value))
    for name, f in example.features.feature.items()
  }
  assert lengths == {
    "input_ids": ("int64_list", 64),
    "input_mask": ("int64_list", 64),
    "segment_ids": ("int64_list", 64),
    "token_boundary": ("int64_list", 64),
    "masked_lm_positions": ("int64_list", 10),
    "masked_lm_ids": ("int64_list", 10),
    "masked_lm_weights": ("float_list", 10),
    "next_sentence_labels": ("int64_list", 1),
  }
  again = example.SerializeToString(deterministic=True)
  assert len(again) == len(raw), "the bytes are protobuf's own"


def test_rows_are_cls_a_sep_b_sep_and_lone_sentences_have_label_minus_one(
  folder: pathlib.Path, tokenizer_file: str
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  labels = []
  for row in _parsed(f"{folder}/train-*"):
    ids = row[records.INPUT_IDS]
    length = row[records.INPUT_MASK].sum()
    label = int(row[records.NEXT_SENTENCE_LABELS])
    labels.append(label)
    assert ids[0] == tokenizer.cls_id and ids[length - 1] == tokenizer.sep_id
    assert (ids[length:] == tokenizer.pad_id).all()
    assert (ids == tokenizer.sep_id).sum() == (1 if label == -1 else 2)
    assert (row[records.SEGMENT_IDS].max() == 0) == (label == -1)
  assert set(labels) == {-1, 0, 1}
  pairs = [label for label in labels if label >= 0]
  assert 0.35 < np.mean(pairs) < 0.65


def test_a_chunk_keeps_its_order_or_is_swapped_and_never_leaves_its_document() -> (
  None
):
  ends = list(range(7, 7 * 40, 7))
  found = instances.create(
    [instances.Span(5, ends), instances.Span(6, [4, 4 + 3])],
    max_seq_length=40, short_seq_prob=0.0, seed=1,
  )  # fmt: skip
  second = found.keys[:, 0] == 6
  assert found.starts[second].min() >= ends[-1], "documents follow each other"
  found = instances.Instances(
    found.keys[~second], found.starts[~second], found.lengths[~second],
    found.labels[~second],
  )  # fmt: skip
  for start, length, label in zip(
    found.starts, found.lengths, found.labels, strict=True
  ):
    assert start.min() >= 0 and (start + length).max() <= ends[-1]
    assert length.sum() <= 37 and length.min() > 0
    assert (start[0] < start[1]) == (label == instances.IN_ORDER)
  assert set(found.labels) == {instances.IN_ORDER, instances.SWAPPED}


def test_a_random_next_sentence_is_anothers_and_what_it_displaced_comes_next() -> (
  None
):
  spans = [
    instances.Span(i, list(range(5, 5 * 40, 5)), uses=2) for i in range(9)
  ]
  size = spans[0].ends[-1]
  found = instances.create(
    spans, max_seq_length=48, short_seq_prob=0.1, random_next_sentence=True,
    seed=1,
  )  # fmt: skip
  own = found.keys[:, :1].astype(np.int64) * size
  inside = (found.starts >= own) & (found.starts + found.lengths <= own + size)
  labels = found.labels
  assert set(labels) <= {instances.IN_ORDER, instances.SWAPPED, -1}
  assert inside[:, 0].all()
  pair = labels >= 0
  assert (inside[:, 1] == (labels == instances.IN_ORDER))[pair].all()
  paired = labels[pair]
  assert 0.35 < np.mean(paired) < 0.65
  assert (found.lengths[labels >= 0] > 0).all()
  assert found.lengths.sum(1).max() <= 45
  # Nothing goes to waste: every piece stands in an A or an in-order B.
  for document in range(9):
    for use in range(2):
      rows = (found.keys[:, 0] == document) & (found.keys[:, 1] == use)
      covered = np.zeros(9 * size + 99, int)
      for row in np.nonzero(rows)[0]:
        for side in range(1 if labels[row] == instances.SWAPPED else 2):
          start, length = found.starts[row, side], found.lengths[row, side]
          covered[start : start + length] += 1
      assert covered[document * size : (document + 1) * size].mean() > 0.9
      assert covered.max() == 1


def test_isolated_lines_fill_examples_without_a_pair(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  lines = tmp_path / "headlines.txt"
  words = udhr.read_text("utf-8").split()
  lines.write_text(
    "\n".join(map(" ".join, zip(words, words[1:], strict=False)))
  )
  programs.succeed(
    "-m", "data_prep.create_pretraining_data",
    f"--isolated_lines_file={lines}", f"--spm_model_file={tokenizer_file}",
    f"--output_dir={tmp_path / 'out'}", "--max_seq_length=64",
    "--short_seq_prob=0",
  )  # fmt: skip
  counts = json.loads((tmp_path / "out/manifest.json").read_text())["counts"]
  assert counts["train_pairs"] == 0
  assert counts["train_padding"] < 0.1 * counts["train_positions"]
  rows = _parsed(f"{tmp_path}/out/train-*")
  assert {int(row[records.NEXT_SENTENCE_LABELS]) for row in rows} == {-1}


def test_a_weight_decides_how_often_files_are_used(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  found = {}
  for weight in ("", ":2", ":0.5"):
    out = tmp_path / f"out{weight}"
    flags = _flags(f"{udhr}{weight}", tokenizer_file, out, "--dupe_factor=2")
    programs.succeed(*flags, "--eval_fraction=0")
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    found[weight] = counts["train_letters"]
  assert found[":2"] == 2 * found[""] == 4 * found[":0.5"]
  settings = examples.Recipe(dupe_factor=1)
  uses = [examples._uses(i, 0.3, settings) for i in range(4000)]
  assert set(uses) == {0, 1} and abs(np.mean(uses) - 0.3) < 0.03


def test_the_set_google_reads_has_the_names_given_and_no_label_minus_one(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  names = [f"{tmp_path}/tf_examples.tfrecord-{i}" for i in range(2)]
  said = programs.succeed(
    "-m", "data_prep.create_pretraining_data", f"--input_file={udhr}",
    f"--spm_model_file={tokenizer_file}", f"--output_file={','.join(names)}",
    "--max_seq_length=64", "--sentence_pairs_only", "--do_permutation",
  )  # fmt: skip
  assert (
    f"--input_file={','.join(names)} --max_seq_length=64 "
    "--max_predictions_per_seq=20" in said
  )
  for name in names:
    for raw in tf.data.TFRecordDataset(name):
      feature = tf.train.Example.FromString(raw.numpy()).features.feature
      assert feature["next_sentence_labels"].int64_list.value[0] in (0, 1)
      assert len(feature["masked_lm_positions"].int64_list.value) == 20


@pytest.mark.parametrize("packs", [False, True])
def test_the_forecast_is_near_what_is_made(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
  packs: bool,
) -> None:
  more = ["--pack_sequences"] if packs else []
  corpus = tmp_path / "corpus.txt"
  text = udhr.read_text(encoding="utf-8")
  # Documents of a sentence: several fit into a row.
  corpus.write_text(text.replace("\n", "\n\n") if packs else text, "utf-8")
  said = programs.succeed(*_flags(corpus, tokenizer_file, tmp_path, *more))
  (forecast,) = re.findall(r"about ([\d,]+) examples to train on", said)
  counts = json.loads((tmp_path / "manifest.json").read_text())["counts"]
  made = counts["train_examples"]
  assert abs(int(forecast.replace(",", "")) - made) < 0.15 * made


@pytest.mark.parametrize("value", [0, 127, 128, 16383, 16384, 99999])
def test_numbers_of_every_length_survive_serialisation(value: int) -> None:
  rows = np.full((2, 8), value, np.int64)
  batch = records.PretrainingBatch(
    input_ids=rows,
    input_mask=rows > 0,
    segment_ids=rows,
    token_boundary=rows > 0,
    next_sentence_labels=np.array([-1, 1]),
    masked_lm_positions=rows[:, :3],
    masked_lm_ids=rows[:, :3],
    masked_lm_weights=np.ones((2, 3), np.float32),
  )
  for raw, label in zip(records.serialize(batch), (-1, 1), strict=True):
    feature = tf.train.Example.FromString(raw).features.feature
    assert list(feature["input_ids"].int64_list.value) == [value] * 8
    assert list(feature["next_sentence_labels"].int64_list.value) == [label]
    assert list(feature["masked_lm_weights"].float_list.value) == [1.0] * 3


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "expected a corpus with sentences"),
    ("Сайн".encode("utf-16"), "byte order mark of UTF-16"),
    (b"\xd1\xe0\xe9\xed", "expected UTF-8 text"),
    (b"x" * (2 << 20), "expected lines of at most"),
  ],
)
def test_a_bad_corpus_ends_in_one_clear_line_and_leaves_nothing(
  programs: running.Programs,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
  content: bytes,
  message: str,
) -> None:
  (tmp_path / "bad.txt").write_bytes(content)
  out = tmp_path / "out"
  line = programs.refuse(*_flags(tmp_path / "bad.txt", tokenizer_file, out))
  assert message in line
  assert not out.exists() or not list(out.iterdir())


def test_a_model_that_is_none_is_refused(
  programs: running.Programs, udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  line = programs.refuse(*_flags(udhr, str(udhr), tmp_path / "out"))
  assert "expected a SentencePiece model" in line


def test_a_killed_run_leaves_no_manifest_and_the_next_one_is_whole(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  folder: pathlib.Path,
  tmp_path: pathlib.Path,
) -> None:
  process = subprocess.Popen(
    [sys.executable, *_flags(udhr, tokenizer_file, tmp_path / "out")],
    cwd=programs.root,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 60
  while not list(tmp_path.glob(".out.unfinished/.spill-*/*")):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.002)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert not (tmp_path / "out").exists()
  programs.succeed(*_flags(udhr, tokenizer_file, tmp_path / "out"))
  assert list(tmp_path.iterdir()) == [tmp_path / "out"]
  assert not list(tmp_path.glob("out/.*"))
  made = json.loads((tmp_path / "out" / "manifest.json").read_text())
  want = json.loads((folder / "manifest.json").read_text())
  assert made == want
