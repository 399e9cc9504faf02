"""Tests of masks: whole Mongolian words, the wanted share, 80/10/10."""

import dataclasses
import re

import numpy as np
import pytest

from data_prep.encoding import tokenization
from data_prep.pretraining import instances, masking

SETTINGS = masking.Settings(
  masked_lm_prob=0.15,
  max_predictions=40,
  whole_words=True,
  ngram=3,
  favor_shorter_ngram=True,
  seed=1,
)


@dataclasses.dataclass(frozen=True)
class Batch:
  """A masked batch of real text; the fields are those of `masking`."""

  ids: np.ndarray
  text: np.ndarray
  segments: np.ndarray
  words: masking.Words
  chosen: np.ndarray
  keys: np.ndarray
  tokenizer: tokenization.Tokenizer


def _batch(
  tokenizer_file: str, lines: list[str], settings: masking.Settings
) -> Batch:
  """Returns lines of more than 20 pieces as masked rows.

  The first half of a row is segment A, the rest segment B.
  """
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  rows = [ids[:125] for ids in tokenizer.encode(lines) if len(ids) > 20]
  stream, starts = np.concatenate(rows), np.cumsum([0, *map(len, rows)])[:-1]
  halves = np.array([len(row) // 2 for row in rows])
  keys = np.zeros((len(rows), 3), np.uint64)
  keys[:, 0] = np.arange(len(rows))
  segment_pairs = instances.Instances(
    keys,
    np.stack([starts, starts + halves], 1),
    np.stack([halves, np.array([len(r) for r in rows]) - halves], 1),
    np.zeros(len(rows), np.int64),
  )
  laid = instances.assemble(
    segment_pairs,
    stream,
    max_seq_length=128,
    pad_id=tokenizer.pad_id,
    cls_id=tokenizer.cls_id,
    sep_id=tokenizer.sep_id,
  )
  words = masking.words(
    laid.text,
    laid.segments,
    tokenizer.word_starts[laid.ids],
    settings,
  )
  taken = masking.choose(words, keys, settings)
  chosen = laid.text & np.take_along_axis(
    taken, np.maximum(words.of_piece, 0), 1
  )
  return Batch(
    laid.ids, laid.text, laid.segments, words, chosen, keys, tokenizer
  )


@pytest.fixture(scope="module")
def lines() -> list[str]:
  path = "sample/pretrain/wiki_articles.txt"
  with open(path, encoding="utf-8") as file:
    return [line.strip() for line in file if line.strip()]


def test_no_run_of_mongolian_letters_is_masked_in_part(
  tokenizer_file: str, lines: list[str]
) -> None:
  batch = _batch(tokenizer_file, lines[:800], SETTINGS)
  pieces = batch.tokenizer.pieces(range(batch.tokenizer.vocab_size))
  letters = [bool(re.search(r"[^\W_]", piece)) for piece in pieces]
  inner = broken = 0
  for row in range(len(batch.ids)):
    for column in range(1, 127):
      both = batch.text[row, column] and batch.text[row, column + 1]
      here, after = batch.ids[row, column], batch.ids[row, column + 1]
      if not both or pieces[after].startswith("▁"):
        continue
      if letters[here] and letters[after]:
        inner += 1
        state = batch.chosen[row, column], batch.chosen[row, column + 1]
        broken += state[0] != state[1]
  assert inner > 5000, "words of several pieces are what this is about"
  assert broken == 0


def test_without_whole_words_words_are_split(
  tokenizer_file: str, lines: list[str]
) -> None:
  settings = dataclasses.replace(SETTINGS, whole_words=False, ngram=1)
  batch = _batch(tokenizer_file, lines[:300], settings)
  follows = ~batch.tokenizer.word_starts[batch.ids[:, 1:]] & batch.text[:, 1:]
  split = follows & (batch.chosen[:, 1:] != batch.chosen[:, :-1])
  assert split.sum() > 100


@pytest.mark.parametrize("prob", [0.15, 0.4])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("ngram", [1, 3])
def test_the_masked_share_is_what_the_flag_says(
  tokenizer_file: str, lines: list[str], prob: float, whole: bool, ngram: int
) -> None:
  settings = dataclasses.replace(
    SETTINGS,
    masked_lm_prob=prob,
    whole_words=whole,
    ngram=ngram,
    max_predictions=64,
  )
  batch = _batch(tokenizer_file, lines[:800], settings)
  share = batch.chosen.sum() / batch.text.sum()
  assert share == pytest.approx(prob, abs=0.01)


def test_predictions_have_an_upper_bound(
  tokenizer_file: str, lines: list[str]
) -> None:
  settings = dataclasses.replace(SETTINGS, max_predictions=5)
  batch = _batch(tokenizer_file, lines[:300], settings)
  assert batch.chosen.sum(1).max() == 5


def test_a_row_of_long_words_has_masks_too(
  tokenizer_file: str,
) -> None:
  """A short row's words exceed its budget; a word exceeds max_predictions."""
  settings = dataclasses.replace(SETTINGS, max_predictions=20)
  lines = ["хэрэглэгчийнхээсээ " * 3, "ү" * 120, f"{'ү' * 90} үг байна"]
  batch = _batch(tokenizer_file, lines, settings)
  lengths = batch.words.lengths
  assert lengths[0].max() > 0.15 * lengths[0].sum()
  masked = batch.chosen.sum(1)
  assert masked[0] in lengths[0]
  assert masked[0] > 0
  assert 5 < masked[1] <= 20
  assert 0 < masked[2] <= 20


def test_special_pieces_and_padding_are_never_masked(
  tokenizer_file: str, lines: list[str]
) -> None:
  batch = _batch(tokenizer_file, lines[:300], SETTINGS)
  assert not batch.chosen[~batch.text].any()


@pytest.mark.parametrize(
  ("favor_shorter", "shares"),
  [(True, (6 / 11, 3 / 11, 2 / 11)), (False, (2 / 11, 3 / 11, 6 / 11))],
)
def test_ngram_lengths_follow_equation_1_of_the_albert_paper(
  favor_shorter: bool, shares: tuple[float, ...]
) -> None:
  settings = dataclasses.replace(SETTINGS, favor_shorter_ngram=favor_shorter)
  chance = (np.arange(110_000) + 0.5) / 110_000
  lengths = masking._ngram_lengths(chance, settings)
  for n, share in enumerate(shares, 1):
    assert (lengths == n).mean() == pytest.approx(share, abs=1e-4)


def test_no_ngram_crosses_a_segment_border() -> None:
  words = masking.Words(
    np.zeros((1, 4), np.int64),
    np.ones((1, 4), np.int64),
    np.array([[0, 0, 1, 1]]),
  )
  settings = dataclasses.replace(SETTINGS, masked_lm_prob=0.5, ngram=2)
  for key in range(50):
    keys = np.array([[key, 0, 0]], np.uint64)
    taken = masking.choose(
      words, keys, dataclasses.replace(settings, favor_shorter_ngram=False)
    )
    assert taken.sum() == 2
  wide = np.array([[0, 9]])
  taken = np.zeros((1, 4), bool)
  masking._offer(
    np.array([0]),
    np.array([1]),
    np.full((1, 4), 2),
    np.ones((1, 4), np.int64),
    np.array([[0, 0, 1, 1]]),
    taken,
    wide[0, 1:].copy(),
  )
  assert taken.tolist() == [[False, True, False, False]]


def test_eighty_ten_ten(tokenizer_file: str, lines: list[str]) -> None:
  batch = _batch(tokenizer_file, lines, SETTINGS)
  tokenizer = batch.tokenizer
  ordinary = np.nonzero(~tokenizer.special)[0]
  masked = masking.replace(
    batch.ids,
    batch.chosen,
    batch.keys,
    SETTINGS,
    mask_id=tokenizer.mask_id,
    ordinary_ids=ordinary,
  )
  seen = masked.ids[batch.chosen]
  truth = batch.ids[batch.chosen]
  assert (seen == tokenizer.mask_id).mean() == pytest.approx(0.8, abs=0.02)
  assert (seen == truth).mean() == pytest.approx(0.1, abs=0.02)
  replaced = seen[(seen != tokenizer.mask_id) & (seen != truth)]
  assert len(replaced) / len(seen) == pytest.approx(0.1, abs=0.02)
  assert not tokenizer.special[replaced].any()
  assert (masked.ids[~batch.chosen] == batch.ids[~batch.chosen]).all()
  rows = np.arange(len(batch.ids))[:, None]
  real = masked.weights == 1
  assert (batch.ids[rows, masked.positions] == masked.targets)[real].all()
  assert (masked.targets[~real] == 0).all()
  assert real.sum() == batch.chosen.sum()


def test_masks_do_not_depend_on_the_batch_a_row_is_in(
  tokenizer_file: str, lines: list[str]
) -> None:
  batch = _batch(tokenizer_file, lines[:100], SETTINGS)
  words = batch.words
  for row in (0, 7, 30):
    alone = masking.Words(
      words.of_piece[row : row + 1],
      words.lengths[row : row + 1],
      words.segments[row : row + 1],
    )
    taken = masking.choose(alone, batch.keys[row : row + 1], SETTINGS)
    whole = masking.choose(words, batch.keys, SETTINGS)
    assert (taken[0] == whole[row]).all()


@pytest.mark.parametrize(
  ("piece", "starts"),
  [
    ("▁сайн", True),
    ("йн", False),
    ("▁", True),
    (",", True),
    ("«", True),
    ("2019", False),
    ("ᠮ", False),
    ("́", False),
    ("<0xD1>", False),
  ],
)
def test_words_begin_where_sentencepiece_says_so(
  piece: str, starts: bool
) -> None:
  assert tokenization.starts_word(piece) == starts


def test_permutation_exchanges_as_many_other_words_to_be_guessed_too(
  tokenizer_file: str, lines: list[str]
) -> None:
  settings = dataclasses.replace(SETTINGS, max_predictions=12, permutation=True)
  assert settings.width() == 24
  batch = _batch(tokenizer_file, lines, SETTINGS)
  plain, both = (
    masking.mask(
      batch.ids,
      batch.text,
      batch.segments,
      batch.tokenizer.word_starts[batch.ids],
      batch.keys,
      how,
      mask_id=batch.tokenizer.mask_id,
      ordinary_ids=np.nonzero(~batch.tokenizer.special)[0],
    )
    for how in (
      dataclasses.replace(settings, permutation=False, slots=24),
      settings,
    )
  )
  differing = 0
  for row in range(len(batch.ids)):
    masked = set(plain.positions[row][plain.weights[row] == 1])
    guessed = both.positions[row][both.weights[row] == 1]
    moved = np.array(sorted(set(guessed) - masked), int)
    assert masked <= set(guessed), "the masks are those without permutation"
    assert (np.diff(guessed) > 0).all()
    assert len(moved) <= 12
    assert sorted(both.ids[row][moved]) == sorted(batch.ids[row][moved])
    rest = np.setdiff1d(np.arange(128), moved)
    assert (both.ids[row][rest] == plain.ids[row][rest]).all()
    targets = both.targets[row][both.weights[row] == 1]
    assert (targets == batch.ids[row][guessed]).all()
    differing += (both.ids[row][moved] != batch.ids[row][moved]).sum()
    words = batch.words.of_piece[row]
    for word in set(words[moved]):
      assert set(np.nonzero(words == word)[0]) <= set(moved), "whole words"
  assert differing > 5 * len(batch.ids)
