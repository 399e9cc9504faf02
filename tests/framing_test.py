"""Tests of model inputs: truncated pairs, head, head_tail and windows."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from data_prep.base import options
from data_prep.encoding import framing, tokenization

TEXT = "Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй, адилхан нэр төртэй, ижил эрхтэй."


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: str) -> tokenization.Tokenizer:
  return tokenization.Tokenizer(tokenizer_file)


def test_a_short_text_stands_between_its_frames(
  tokenizer: tokenization.Tokenizer,
) -> None:
  (pieces,) = tokenizer.encode([TEXT])
  for long_text in framing.LONG_TEXTS:
    framed = framing.Framer(tokenizer, 128, long_text).frame([TEXT, ""])
    assert framed.ids[0].tolist() == [
      tokenizer.cls_id,
      *pieces,
      tokenizer.sep_id,
    ]
    assert framed.ids[1].tolist() == [tokenizer.cls_id, tokenizer.sep_id]
    assert framed.cut == 0


def test_a_text_is_not_taken_for_a_list_of_its_letters(
  tokenizer: tokenization.Tokenizer,
) -> None:
  with pytest.raises(options.InputError, match=r"give it as \[text\]"):
    framing.Framer(tokenizer, 128).frame(TEXT)


def test_heads_and_tails_of_a_long_text(
  tokenizer: tokenization.Tokenizer,
) -> None:
  (pieces,) = tokenizer.encode([TEXT])
  head = framing.Framer(tokenizer, 14, "head").frame([TEXT])
  assert head.ids[0][1:-1].tolist() == pieces[:12].tolist()
  both = framing.Framer(tokenizer, 14, "head_tail").frame([TEXT])
  assert both.ids[0][1:-1].tolist() == [*pieces[:3], *pieces[-9:]]
  for framed in (head, both):
    assert framed.cut == 1
    assert (framed.sizes[0], framed.read[0]) == (len(pieces), 12)


@pytest.mark.parametrize("length", [7, 8, 16])
def test_windows_hold_every_piece_and_overlap(
  length: int, tokenizer: tokenization.Tokenizer
) -> None:
  (pieces,) = tokenizer.encode([TEXT])
  framed = framing.Framer(tokenizer, length, "windows").frame(["нэг", TEXT])
  windows = [
    (int(start), ids[1:-1].tolist())
    for ids, start, owner in zip(
      framed.ids, framed.starts, framed.owners, strict=True
    )
    if owner == 1
  ]
  held: set[int] = set()
  for start, ids in windows:
    assert len(ids) == length - 2
    assert ids == pieces[start : start + len(ids)].tolist()
    held.update(range(start, start + len(ids)))
  assert held == set(range(len(pieces)))
  for (earlier, ids), (later, _) in itertools.pairwise(windows):
    assert earlier < later <= earlier + (len(ids) + 1) // 2
  assert framed.cut == 0
  np.testing.assert_allclose(framed.shares()[0], 1.0)
  np.testing.assert_allclose(framed.shares()[1:].sum(), 1.0, rtol=1e-6)
  scores = np.arange(2 * len(framed.ids), dtype=np.float32).reshape(-1, 2)
  np.testing.assert_allclose(
    framed.pooled(scores), [scores[0], scores[1:].mean(axis=0)], rtol=1e-6
  )


def _google_truncated(
  first: list[int], second: list[int], most: int
) -> tuple[list[int], list[int]]:
  """Returns a pair truncated as by google's _truncate_seq_pair.

  That function of google-research/bert removes one piece at a time.
  """
  first, second = list(first), list(second)
  while len(first) + len(second) > most:
    (first if len(first) > len(second) else second).pop()
  return first, second


@pytest.mark.parametrize("length", range(3, 40, 4))
def test_a_pair_is_cut_as_googles(
  length: int, tokenizer: tokenization.Tokenizer
) -> None:
  texts = [TEXT, TEXT[:20], "", TEXT * 2]
  for first in texts:
    for second in texts:
      framed = framing.Framer(tokenizer, length).frame([(first, second)])
      pieces = [ids.tolist() for ids in tokenizer.encode([first, second])]
      first_ids, second_ids = _google_truncated(
        pieces[0], pieces[1], length - 3
      )
      cls, sep = tokenizer.cls_id, tokenizer.sep_id
      assert framed.ids[0].tolist() == [cls, *first_ids, sep, *second_ids, sep]
      assert framed.second_starts[0] == len(first_ids) + 2
      assert framed.cut == (sum(map(len, pieces)) > length - 3)


def test_remembered_texts_are_tokenised_once(
  tokenizer: tokenization.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
  asked: list[str] = []
  encode = tokenizer.encode

  def noted(texts: Sequence[str]) -> list[np.ndarray]:
    asked.extend(texts)
    return encode(texts)

  monkeypatch.setattr(tokenizer, "encode", noted)
  framer = framing.Framer(tokenizer, 16, remembered=2)
  texts = ["нэг", "хоёр", "нэг", "гурав"]
  fresh = [
    ids.tolist() for ids in framing.Framer(tokenizer, 16).frame(texts).ids
  ]
  asked.clear()
  for _ in range(2):
    assert [ids.tolist() for ids in framer.frame(texts).ids] == fresh
  # The third text is one too many to be remembered.
  assert asked == ["нэг", "хоёр", "гурав", "гурав"]


def test_no_texts_are_no_inputs(tokenizer: tokenization.Tokenizer) -> None:
  framed = framing.Framer(tokenizer, 16, "windows").frame([])
  assert framed.ids == []
  assert framed.cut == 0
  assert framed.pooled(np.zeros([0, 3])).shape == (0, 3)


def test_what_is_not_read_is_counted(
  tokenizer: tokenization.Tokenizer,
) -> None:
  (pieces,) = tokenizer.encode([TEXT])
  framer = framing.Framer(tokenizer, 14)
  framer.frame(["нэг"])
  assert framer.counts.summary(14) == ""
  framer.frame([TEXT])
  lost = 100 * (len(pieces) - 12) / framer.counts.pieces
  assert framer.counts.summary(14).startswith(
    f"1 of 2 texts are longer than 14 pieces: {lost:.1f} % of all pieces"
  )
  windows = framing.Framer(tokenizer, 14, "windows")
  framed = windows.frame(["нэг", TEXT])
  assert windows.counts.summary(14).endswith(
    f"are read in {len(framed.ids) - 1} windows"
  )
