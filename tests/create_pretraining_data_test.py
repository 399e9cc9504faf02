"""Tests of making TFRecords: order, pairs, held-out documents, equal bytes."""

import collections
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import records
from data_prep.pretraining import examples, pretraining_data
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
  assert "manifest.json" in first
  assert "tokenizer.model" in first
  for workers in (2, 3):
    out = tmp_path / "same"
    programs.succeed(
      *_flags(udhr, tokenizer_file, out, f"--num_workers={workers}")
    )
    assert running.digests(out) == first
  programs.succeed(
    *_flags(udhr, tokenizer_file, tmp_path / "same", "--random_seed=2")
  )
  reseeded = running.digests(tmp_path / "same")
  assert (
    reseeded["eval-00000-of-00001.tfrecord"]
    == first["eval-00000-of-00001.tfrecord"]
  ), "another seed moves no document out of evaluation"
  trained = [n for n in first if n.startswith("train")]
  assert all(reseeded[name] != first[name] for name in trained)


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
  """Returns whether a document contains 55 letters of a line of a text.

  Only lines of more than 60 letters count.
  """
  flat = " ".join(document.split())
  return any(
    len(part) > 60 and part.strip()[5:60] in flat for part in text.split("\n")
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
    assert ids[0] == tokenizer.cls_id
    assert ids[length - 1] == tokenizer.sep_id
    assert (ids[length:] == tokenizer.pad_id).all()
    assert (ids == tokenizer.sep_id).sum() == (1 if label == -1 else 2)
    assert (row[records.SEGMENT_IDS].max() == 0) == (label == -1)
  assert set(labels) == {-1, 0, 1}
  pairs = [label for label in labels if label >= 0]
  assert 0.35 < np.mean(pairs) < 0.65


def _made(
  corpus: pathlib.Path, model: str, out: pathlib.Path, **more: Any
) -> dict[str, int]:
  """Makes records in this process; returns the manifest's counts."""
  given: dict[str, Any] = dict(
    input_file=str(corpus),
    spm_model_file=model,
    output_dir=str(out),
    max_seq_length=64,
    eval_fraction=0.0,
    dupe_factor=1,
    num_shards=1,
    num_workers=1,
  )
  pretraining_data.create(pretraining_data.Options(**(given | more)))
  content = json.loads((out / "manifest.json").read_text("utf-8"))
  return dict(content["counts"])


def _words(udhr: pathlib.Path, count: int, seed: int = 1) -> list[str]:
  """Returns random words of the Declaration, each with another number."""
  words = udhr.read_text("utf-8").split()
  chosen = np.random.default_rng(seed).integers(0, len(words), count)
  return [f"{words[i]}{number}" for number, i in enumerate(chosen)]


def _sentences(udhr: pathlib.Path, count: int, seed: int = 1) -> str:
  words = _words(udhr, 8 * count, seed)
  return "\n".join(" ".join(words[i : i + 8]) for i in range(0, 8 * count, 8))


_BOOK, _ARTICLE = 500, 3  # sentences


@pytest.mark.parametrize(
  "sizes",
  [[_BOOK] * 2, [_BOOK, *[_ARTICLE] * 40], [_ARTICLE] * 150],
  ids=["two books", "a book among articles", "articles"],
)
def test_random_next_sentences_have_balanced_labels_whatever_the_work_is_cut_into(
  sizes: list[int],
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """NVIDIA/DeepLearningExamples 421: a range of one document had no label 1."""
  corpus = tmp_path / "corpus.txt"
  texts = [_sentences(udhr, size, i) for i, size in enumerate(sizes)]
  corpus.write_text("\n\n".join(texts), "utf-8")
  digests = []
  for letters in (1 << 12, 1 << 30):
    monkeypatch.setattr(pretraining_data, "_LETTERS_A_RANGE", letters)
    out = tmp_path / str(letters)
    counts = _made(corpus, tokenizer_file, out, random_next_sentence=True)
    digests.append(running.digests(out))
  assert digests[0] == digests[1]
  in_order, random = counts["train_label_0"], counts["train_label_1"]
  assert in_order + random > 80
  assert 0.4 < random / (in_order + random) < 0.6
  assert counts["train_cut"] == 0


def test_a_single_document_has_the_label_minus_one_alone(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
  caplog: pytest.LogCaptureFixture,
) -> None:
  corpus = tmp_path / "corpus.txt"
  corpus.write_text(_sentences(udhr, 60), "utf-8")
  more = dict(random_next_sentence=True)
  with caplog.at_level("INFO", logger="absl"):
    counts = _made(corpus, tokenizer_file, tmp_path / "out", **more)
  assert counts["train_label_0"] == counts["train_label_1"] == 0
  assert counts["train_label_none"] == counts["train_examples"] > 10
  assert "every example has the label -1" in caplog.text
  with pytest.raises(options.InputError, match="no sentence pair in 1 doc"):
    more["sentence_pairs_only"] = True
    _made(corpus, tokenizer_file, tmp_path / "pairs", **more)


def test_other_documents_and_another_order_of_files_change_no_example(
  udhr: pathlib.Path, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  for i in range(6):
    path = tmp_path / f"{i}.txt"
    path.write_text(_sentences(udhr, 20 + 30 * i, i), "utf-8")
  files = []
  for order in ("012345", "530142"):
    corpus = ",".join(str(tmp_path / f"{i}.txt") for i in order)
    out = tmp_path / order
    _made(pathlib.Path(corpus), tokenizer_file, out, random_next_sentence=True)
    files.append((out / "train-00000-of-00001.tfrecord").read_bytes())
  assert files[0] == files[1]


_KINDS_OF_TEXT: dict[str, Callable[[pathlib.Path], str]] = {
  "numbered words": lambda udhr: " ".join(_words(udhr, 2000)),
  "Cyrillic": lambda udhr: _sentences(udhr, 80),
  "one-sentence documents": lambda udhr: _sentences(udhr, 80).replace(
    "\n", "\n\n"
  ),
  "empty documents": lambda udhr: "\n\n\n \n\n" + _sentences(udhr, 9),
  "traditional script": lambda _: " ".join(
    f"ᠮᠣᠩᠭᠣᠯ ᠤᠨ ᠬᠦᠮᠦᠨ{i}" for i in range(400)
  ),
  "Latin": lambda _: "\n".join(
    f"Sain baina uu, {i} dugaar?" for i in range(99)
  ),
  "one word": lambda _: "монгол" * 833 + "аа",
  "a word among words": lambda _: f"Энэ бол {'ү' * 700} үг.\nӨөр үг.",
}


@pytest.mark.parametrize("kind", _KINDS_OF_TEXT)
@pytest.mark.parametrize(
  "how",
  [
    {},
    {"random_next_sentence": True, "short_seq_prob": 0.5},
    {"masking": "dynamic", "pack_sequences": True},
  ],
  ids=["order", "next", "packed"],
)
def test_every_piece_of_every_document_reaches_the_records(
  kind: str,
  how: dict[str, Any],
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  """In facebookresearch/fairseq 1103, 33 of 2,000 words reached the records."""
  corpus = tmp_path / "corpus.txt"
  text = _KINDS_OF_TEXT[kind](udhr)
  corpus.write_text(text, "utf-8")
  counts = _made(corpus, tokenizer_file, tmp_path / "out", **how)
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  wanted = collections.Counter(
    np.concatenate(tokenizer.encode(text.split("\n"))).tolist()
  )
  path = tmp_path / "out/train-00000-of-00001.tfrecord"
  shown: collections.Counter[int] = collections.Counter()
  masked: list[float] = []
  for raw in tf.data.TFRecordDataset(str(path)):
    feature = tf.train.Example.FromString(raw.numpy()).features.feature
    ids = np.array(feature["input_ids"].int64_list.value)
    if "masked_lm_ids" in feature:
      masked.append(sum(feature["masked_lm_weights"].float_list.value))
      used = np.array(feature["masked_lm_weights"].float_list.value) == 1
      at = np.array(feature["masked_lm_positions"].int64_list.value)[used]
      ids[at] = np.array(feature["masked_lm_ids"].int64_list.value)[used]
    special = (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
    shown.update(ids[~np.isin(ids, special)].tolist())
  assert not wanted - shown
  assert counts["train_cut"] == 0
  assert counts["train_text_pieces"] == wanted.total()
  if how.get("masking") != "dynamic":
    assert min(masked) > 0, "every example has something to guess"
  if not how.get("random_next_sentence"):
    assert shown == wanted


def test_what_sentence_pairs_only_leaves_out_is_counted_as_cut(
  udhr: pathlib.Path, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  corpus = tmp_path / "corpus.txt"
  corpus.write_text(f"{_sentences(udhr, 20)}\n\nНэг үг.", "utf-8")
  more = dict(sentence_pairs_only=True, short_seq_prob=0.0)
  counts = _made(corpus, tokenizer_file, tmp_path / "out", **more)
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  assert counts["train_cut"] >= len(tokenizer.encode(["Нэг үг."])[0])
  assert (
    counts["train_pieces"] + counts["train_cut"]
    == (counts["train_text_pieces"])
  )


def test_isolated_lines_fill_examples_without_a_pair(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  lines = tmp_path / "headlines.txt"
  words = udhr.read_text("utf-8").split()
  lines.write_text("\n".join(map(" ".join, itertools.pairwise(words))))
  programs.succeed(
    "-m",
    "data_prep.create_pretraining_data",
    f"--isolated_lines_file={lines}",
    f"--spm_model_file={tokenizer_file}",
    f"--output_dir={tmp_path / 'out'}",
    "--max_seq_length=64",
    "--short_seq_prob=0",
  )
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
  letters = {}
  for weight in ("", ":2", ":0.5"):
    out = tmp_path / f"out{weight}"
    flags = _flags(f"{udhr}{weight}", tokenizer_file, out, "--dupe_factor=2")
    programs.succeed(*flags, "--eval_fraction=0")
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    letters[weight] = counts["train_letters"]
  assert letters[":2"] == 2 * letters[""] == 4 * letters[":0.5"]
  settings = examples.Recipe(dupe_factor=1)
  uses = [examples._uses(i, 0.3, settings) for i in range(4000)]
  assert set(uses) == {0, 1}
  assert abs(np.mean(uses) - 0.3) < 0.03


def test_the_set_google_reads_has_the_names_given_and_no_label_minus_one(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  names = [f"{tmp_path}/tf_examples.tfrecord-{i}" for i in range(2)]
  said = programs.succeed(
    "-m",
    "data_prep.create_pretraining_data",
    f"--input_file={udhr}",
    f"--spm_model_file={tokenizer_file}",
    f"--output_file={','.join(names)}",
    "--max_seq_length=64",
    "--sentence_pairs_only",
    "--do_permutation",
  )
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
  tmp_path: pathlib.Path,
) -> None:
  corpus, out = tmp_path / "corpus.txt", tmp_path / "out"
  # Of several ranges: the first one's examples are there long before the end.
  copies = (_sentences(udhr, 5, i) for i in range(700))
  corpus.write_text("\n\n".join(copies), "utf-8")
  flags = [*_flags(corpus, tokenizer_file, out), "--random_next_sentence"]
  process = subprocess.Popen(
    [sys.executable, *flags, "--num_workers=1"],
    cwd=programs.root,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  # The folder is written beside its name, and what is made first lies in it.
  deadline = time.monotonic() + 60
  while not list(tmp_path.glob(".out.unfinished/.spill-*/*")):
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.002)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert list(tmp_path.glob(".out.unfinished/pool-train-*"))
  assert not out.exists()
  programs.succeed(*flags)
  again = running.digests(out)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.txt", "out"]
  assert not [name for name in again if name.startswith((".", "pool"))]
  programs.succeed(*flags, f"--output_dir={tmp_path / 'whole'}")
  assert running.digests(tmp_path / "whole") == again
