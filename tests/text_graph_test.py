"""Tests that graphs turn texts into the ids of Python's tokenizer."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.export import text_graph
from data_prep.encoding import framing, tokenization
from tests import troublesome_texts

_TEXTS = troublesome_texts.FEW


@pytest.mark.parametrize(
  "settings",
  [
    dict(do_lower_case=True),
    dict(strip_accents=True),
    dict(do_lower_case=True, strip_accents=True, replace_quotes=True),
    dict(split_digit_commas=True),
  ],
)
def test_strings_are_prepared_as_the_tokenizer_prepares_them(
  settings: dict[str, bool], digit_comma_file: str
) -> None:
  tokenizer = tokenization.Tokenizer(digit_comma_file, **settings)
  texts = [
    *_TEXTS,
    "22, 2022,5, 1,",
    "``Йо ёо\u0301'' ÀÉ ﬁ Ⅳ",
    "ЁЛКА İ ẞ",
    "А\0Б ΑΣ",  # tf.strings.lower ends at the NUL
    "\U0001e035\U000105c9Ⱟ",  # of Unicode 15 and 16: known to ICU alone
    "q\u0307\u0323 ﷺ",
    "के ☺️",
    "са\0й\0",  # where a string in C ends
    "ΟΔΟΣ ΑΣ, Σ \U0001d3b1\U0001fbf7",  # 🯷 is in Unicode since 13
  ]
  module = text_graph.TextToIds(tokenizer, digit_comma_file, 64)
  ids, mask, *_ = module.inputs(tf.constant(texts))
  for row, (expected, size) in enumerate(
    zip(tokenizer.encode(texts), mask.numpy().sum(1), strict=True)
  ):
    assert ids[row, 1 : size - 1].numpy().tolist() == expected[:62].tolist()


@pytest.mark.parametrize("long_text", framing.LONG_TEXTS)
@pytest.mark.parametrize("length", [3, 4, 9, 16])
def test_long_texts_are_framed_as_in_training(
  long_text: str, length: int, tokenizer_file: str
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  module = text_graph.TextToIds(tokenizer, tokenizer_file, length, long_text)
  texts = ["", *("аб вг " * size for size in range(1, 14)), " "]
  framed = framing.Framer(tokenizer, length, long_text).frame(texts)
  ids, mask, _, owners = tf.function(module.inputs)(tf.constant(texts))
  assert ids.shape[1] == mask.shape[1] == length
  assert len(ids) == len(framed.ids)
  for row, expected in enumerate(framed.ids):
    size = int(mask[row].numpy().sum())
    assert ids[row, :size].numpy().tolist() == expected.tolist()
    assert set(ids[row, size:].numpy()) <= {tokenizer.pad_id}
  if long_text == framing.WINDOWS:
    np.testing.assert_array_equal(owners, framed.owners)
  else:
    assert owners is None


@pytest.mark.parametrize("length", [3, 4, 9, 16])
def test_pairs_are_cut_as_in_training(length: int, tokenizer_file: str) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  module = text_graph.TextToIds(tokenizer, tokenizer_file, length)
  texts = ["", " ", *("аб вг " * size for size in (1, 2, 3, 5, 8))]
  firsts, seconds = zip(*itertools.product(texts, texts), strict=True)
  pairs = tf.function(module.pairs)(*map(tf.constant, (firsts, seconds)))
  framed = framing.Framer(tokenizer, length).frame(
    [(a, b) if b else a for a, b in zip(firsts, seconds, strict=True)]
  )
  assert pairs.ids.shape[1] == pairs.segments.shape[1] == length
  for row, expected in enumerate(framed.ids):
    size = int(pairs.mask[row].numpy().sum())
    assert pairs.ids[row, :size].numpy().tolist() == expected.tolist()
    assert set(pairs.ids[row, size:].numpy()) <= {tokenizer.pad_id}
    before = framed.second_starts[row]
    segments = [0] * before + [1] * (size - before) + [0] * (length - size)
    assert pairs.segments[row].numpy().tolist() == segments


def test_no_text_at_all_is_no_input(tokenizer_file: str) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  for long_text in framing.LONG_TEXTS:
    module = text_graph.TextToIds(tokenizer, tokenizer_file, 8, long_text)
    assert module.inputs(tf.constant([], tf.string)).ids.shape == (0, 8)
