"""Tests that steps of tokenizer.json normalise as SentencePiece's rules."""

import functools
import json
import random
import unicodedata
from collections.abc import Mapping, Sequence

import pytest
import sentencepiece
import tokenizers

from albert_mn.formats import rule_steps
from data_prep.base import options
from data_prep.encoding import tokenization

_NORMALIZER = sentencepiece.SentencePieceNormalizer
_SPEC = sentencepiece.sentencepiece_model_pb2.NormalizerSpec


@functools.cache
def _both(rules: str) -> tuple[tokenizers.Tokenizer, _NORMALIZER]:
  """Returns a rule as steps of `tokenizers`, and as SentencePiece has it."""
  spec = _NORMALIZER(rule_name=rules).serialized_normalizer_spec()
  return _of_spec(spec), _NORMALIZER(
    normalizer_spec=spec,
    add_dummy_prefix=False,
    escape_whitespaces=False,
    remove_extra_whitespaces=False,
  )


def _of_spec(spec: bytes) -> tokenizers.Tokenizer:
  table = _SPEC.FromString(spec).precompiled_charsmap
  content = {
    "version": "1.0",
    "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]]},
    "normalizer": {
      "type": "Sequence",
      "normalizers": list(rule_steps.of(table)),
    },
  }
  return tokenizers.Tokenizer.from_str(json.dumps(content))


def _pools() -> list[list[str]]:
  """Returns pools of characters: marks, composed ones, Hangul, all."""
  every = [
    letter
    for letter in tokenization.every_letter()
    if letter != rule_steps.SEPARATOR
  ]
  hangul = (
    range(0x1100, 0x1200),
    range(0x3131, 0x318F),
    range(0xFFA0, 0xFFDD),
    range(0xAC00, 0xAC40),
  )
  return [
    [letter for letter in every if unicodedata.combining(letter)],
    [letter for letter in every if unicodedata.decomposition(letter)],
    [chr(point) for part in hangul for point in part],
    [c for c in every if unicodedata.category(c) not in ("Cn", "Co")],
    list("aeioUAIиеИЕУαωΩ"),
    # Scripts of 2024, where a rule may begin in the end of another.
    [
      chr(point)
      for point in (
        *range(0x16D63, 0x16D6B),
        0x1611E,
        0x1611F,
        0x16121,
        0x16129,
        0x113B8,
        0x113C2,
        0x113C9,
      )
    ],
  ]


def _texts(pools: Sequence[Sequence[str]], number: int) -> list[str]:
  draw = random.Random(7)
  texts = []
  for _ in range(number):
    chosen = draw.choices(pools, k=2)  # each text mixes two kinds
    size = draw.randint(1, 14)
    texts.append("".join(draw.choice(draw.choice(chosen)) for _ in range(size)))
  return texts


@pytest.mark.parametrize("rules", ["nmt_nfkc", "nfkc_cf"])
def test_any_letters_side_by_side_are_normalised_as_there(rules: str) -> None:
  steps, upstream = _both(rules)
  assert steps.normalizer is not None
  for text in _texts(_pools(), 4_000):
    normalized = steps.normalizer.normalize_str(text)
    assert ascii(normalized) == ascii(upstream.normalize(text)), ascii(text)


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("саи\u0306н хое\u0308р", "сайн хоёр"),
    ("И\u0306\u0301", "Й\u0301"),
    ("𝐞\u0301", "é"),
    ("ﬁ\u0301", "fi\u0301"),  # no í: what came of a rule is not looked at again
    ("\u1112\u1161\u11ab", "한"),
    ("\uff76\uff9e", "ガ"),
    ("가\u11a8", "가\u11a8"),  # a syllable and an ending stay two
    ("a\u0301\u0323 a\u0323\u0301", "á\u0323 ạ\u0301"),
    ("e\x01\u0301", "e\u0301"),
    ("①\u20e3\u00a0²\u0301", "1\u20e3 2\u0301"),
  ],
)
def test_textbook_cases_of_nmt_nfkc(text: str, expected: str) -> None:
  steps, upstream = _both("nmt_nfkc")
  assert steps.normalizer is not None
  assert upstream.normalize(text) == expected
  assert steps.normalizer.normalize_str(text) == expected


def _of_rules(rules: Mapping[str, str]) -> bytes:
  made: bytes = _NORMALIZER(
    norm_map=list(rules.items())
  ).serialized_normalizer_spec()
  return made


def test_a_result_that_another_rule_is_about_stays_as_it_is() -> None:
  rules = {"ab": "c", "bd": "z", "c": "y", "q": "a", "①": "1"}
  rules |= {"xx": "2", "xxy": "3", "xy": "4"}
  spec = _of_rules(rules)
  steps = _of_spec(spec)
  assert steps.normalizer is not None
  upstream = _NORMALIZER(
    normalizer_spec=spec,
    add_dummy_prefix=False,
    escape_whitespaces=False,
    remove_extra_whitespaces=False,
  )
  expected = {"ab": "c", "abd": "cd", "c": "y", "qb": "ab", "qbd": "az"}
  expected |= {"xxxy": "24", "xxy": "3", "xxxxy": "23", "xxx": "2x"}
  for text, want in expected.items():
    assert upstream.normalize(text) == want
    assert steps.normalizer.normalize_str(text) == want


def test_a_small_table_hides_its_targets_behind_private_letters() -> None:
  steps = _of_spec(_of_rules({"ab": "c", "c": "yy", "дд": "ab"}))
  for text, want in {
    "ab": "c",
    "abc": "cyy",
    "дд": "ab",
    "ддc": "abyy",
  }.items():
    assert steps.normalizer.normalize_str(text) == want


def test_rules_that_no_steps_express_are_refused() -> None:
  many = {f"{chr(0x4E00 + i)}x": "c" for i in range(5_000)}
  with pytest.raises(options.InputError, match="too few of one letter"):
    _of_spec(_of_rules({**many, "c": "yy"}))
