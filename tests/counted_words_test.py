"""Tests of training tokenizers from counted words: the seeds, the models."""

import collections
import io
import os
import pathlib
import random

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from data_prep.encoding import (
  seed_pieces,
  tokenization,
  tokenizer_training,
  training_progress,
  training_words,
)
from data_prep.files import storage
from tests import running

WIKIPEDIA = running.ROOT / "sample/pretrain/wiki_articles.txt"


def _trained(folder: pathlib.Path, counted: bool, **more: object) -> bytes:
  settings = tokenizer_training.Options(
    **{
      "input_file": str(WIKIPEDIA),
      "output_dir": str(folder),
      "vocab_size": 2000,
      "count_words_from": 0 if counted else 100_000,
      **more,
    }  # type: ignore[arg-type]
  )
  tokenizer_training.train(settings)
  return (folder / tokenization.MODEL_NAME).read_bytes()


def _pieces(model: bytes) -> dict[str, float]:
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  return {piece.piece: piece.score for piece in proto.pieces}


def _branching(sentences: list[str]) -> dict[str, int]:
  """Returns the seeds of sentences by their definition, each with its count."""
  behind = collections.defaultdict(set)
  counts: collections.Counter[str] = collections.Counter()
  for sentence in sentences:
    text = "▁" + sentence.replace(" ", "▁") + "\0"
    for start in range(len(text)):
      for end in range(start + 2, min(start + 17, len(text))):
        piece = text[start:end]
        if "▁" not in piece[1:]:
          counts[piece] += 1
          behind[piece].add(text[end].encode()[0])
  return {piece: n for piece, n in counts.items() if len(behind[piece]) > 1}


def test_seeds_are_the_substrings_that_go_on_in_several_ways() -> None:
  draws = random.Random(0)
  words = ["хаан", "хааны", "хаалга", "алаа", "ха-ха", "a", "ө" * 20, "лаа."]
  sentences = [
    " ".join(draws.choices(words, k=draws.randint(1, 5))) for _ in range(60)
  ]
  normal = training_words.Words.of(sentences).normalized("▁{}".format)
  made = list(seed_pieces.seeds(normal, 1.0))
  assert dict(made) == _branching(sentences)
  scores = [len(piece) * count for piece, count in made]
  assert scores == sorted(scores, reverse=True)


def test_no_seed_has_a_letter_that_is_too_rare_to_be_a_piece() -> None:
  words = [seed_pieces.Word("▁аяа", 500, 500), seed_pieces.Word("▁яъа", 1, 1)]
  everything, common = (
    "".join(piece for piece, _ in seed_pieces.seeds(words, coverage))
    for coverage in (1.0, 0.999)
  )
  assert "ъ" in everything
  assert "ъ" not in common
  assert "я" in common


def test_text_without_words_has_no_seeds() -> None:
  words = training_words.Words.of([])
  assert not list(seed_pieces.seeds(words.normalized("▁{}".format), 1.0))


def test_words_that_normalisation_divides_or_empties_are_counted() -> None:
  words = training_words.Words.of(["а\xa0б  в", "в \u200b"])
  normal = {"а\xa0б": "▁а▁б", "\u200b": ""}
  made = words.normalized(lambda word: normal.get(word, f"▁{word}"))
  assert sorted(made) == [("▁а", 1, 0), ("▁б", 1, 0), ("▁в", 1, 1)]


@pytest.mark.parametrize(
  "settings",
  [
    {"do_lower_case": True, "user_defined_symbols": "Монгол,@ХЭРЭГЛЭГЧ"},
    {"byte_fallback": True, "character_coverage": 0.99},
  ],
)
def test_the_model_of_counted_words_is_that_of_the_sentences(
  tmp_path: pathlib.Path, settings: dict[str, object]
) -> None:
  plain = _pieces(_trained(tmp_path / "plain", counted=False, **settings))
  counted = _pieces(_trained(tmp_path / "counted", counted=True, **settings))
  shared = plain.keys() & counted.keys()
  assert len(shared) >= 0.995 * len(plain)
  assert max(abs(plain[piece] - counted[piece]) for piece in shared) < 0.05


def test_bpe_of_counted_words_has_the_bytes_of_the_sentences(
  tmp_path: pathlib.Path,
) -> None:
  plain, counted = (
    _trained(tmp_path / name, counted=name == "counted", model_type="bpe")
    for name in ("plain", "counted")
  )
  assert plain == counted


def test_counted_words_in_another_order_give_the_same_bytes(
  tmp_path: pathlib.Path,
) -> None:
  lines = list(storage.lines(str(WIKIPEDIA)))[:300]
  made = []
  for name, ordered in (("here", lines), ("there", lines[::-1])):
    (corpus := tmp_path / f"{name}.txt").write_text("\n".join(ordered), "utf-8")
    made.append(
      _trained(
        tmp_path / name, counted=True, input_file=str(corpus), vocab_size=500
      )
    )
  first, second = made
  assert first == second
  assert str(tmp_path).encode() not in first


def test_standard_error_of_others_passes_through_a_training(
  capfd: pytest.CaptureFixture[str],
) -> None:
  lines = list(storage.lines(str(WIKIPEDIA)))[:300]
  with training_progress.logged(200):
    os.write(2, "эхлэв\n".encode())
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_writer=io.BytesIO(),
      vocab_size=200,
      num_threads=1,
      minloglevel=0,
    )
    os.write(2, b'  File "a.py", line 1\nwithout end')
  os.write(2, b", after\n")
  shown = capfd.readouterr().err
  assert shown == 'эхлэв\n  File "a.py", line 1\nwithout end, after\n'


def test_progress_tells_share_rounds_and_time_left(
  caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
  caplog.set_level("INFO", logger="absl")
  monkeypatch.setattr(training_progress, "_SECONDS", -1.0)
  sentences = ["Сайн байна уу"] * 2500
  assert list(training_progress.told(sentences, 2500, "told")) == sentences
  with training_progress.logged(16000):
    os.write(2, b"I0000 00:00:17 a.cc:9] EM sub_iter=0 size=44123 obj=11.3\n")
  assert "1,000 of 2,500 told, " in caplog.text
  assert " s left" in caplog.text
  assert "44,123 candidates left, 16,000 wanted" in caplog.text
  assert "obj" not in caplog.text
