"""Tests of the part of a text that each piece covers, for all tokenizers.

Their sources are bug reports of others: huggingface/transformers 9744 and
12317, huggingface/tokenizers 892, google/sentencepiece 334.
"""

import functools
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from albert_mn.tasks import tagging
from data_prep.encoding import tokenization, wordpiece
from tests import tokenizer_kinds, troublesome_texts

_USERS = ["@USER", ":-)", "но", "№", "…", "б в"]
_KINDS: dict[str, dict[str, Any]] = {
  "unigram": {},
  "bpe": dict(model_type="bpe"),
  "char": dict(model_type="char", vocab_size=120),
  "word": dict(model_type="word"),
  "bytes": dict(byte_fallback=True, vocab_size=600),
  "users": dict(user_defined_symbols=_USERS),
  "suffix": dict(treat_whitespace_as_suffix=True),
  "spaces": dict(remove_extra_whitespaces=False),
  "suffix_and_spaces": dict(
    treat_whitespace_as_suffix=True, remove_extra_whitespaces=False
  ),
  "no_prefix": dict(add_dummy_prefix=False),
  "identity": dict(normalization_rule_name="identity"),
  "nfkc": dict(normalization_rule_name="nfkc"),
  "nfkc_cf": dict(normalization_rule_name="nfkc_cf"),
  "nmt_nfkc_cf": dict(normalization_rule_name="nmt_nfkc_cf"),
  "digit_commas": {},
  "wordpiece": {},
}
_SETTINGS = {
  "as trained": tokenization.Settings(),
  "lower": tokenization.Settings(do_lower_case=True),
  "strip": tokenization.Settings(strip_accents=True),
  "all": tokenization.Settings(True, True, True, True, 5),
}


@pytest.fixture(scope="module")
def model_file(
  tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], str]:
  """A function from a kind of tokenizer to the path of its file."""

  @functools.cache
  def made(kind: str) -> str:
    folder = tmp_path_factory.mktemp("tokenizer") / kind
    if kind == "wordpiece":
      return tokenizer_kinds.wordpiece(folder)
    options = dict(vocab_size=400, required_chars="ς⁄") | _KINDS[kind]
    path = tokenizer_kinds.foreign(folder, **options)
    if kind == "digit_commas":
      _add_pieces(path, ("▁22,", "5,", "▁22", "2,", "▁2,", "▁1⁄2,"))
    return path

  return made


def _add_pieces(path: str, pieces: Sequence[str]) -> None:
  content = pathlib.Path(path).read_bytes()
  proto = sentencepiece_model_pb2.ModelProto.FromString(content)
  known = {piece.piece for piece in proto.pieces}
  for piece in pieces:
    if piece not in known:
      proto.pieces.add(piece=piece, score=-1.0)
  pathlib.Path(path).write_bytes(proto.SerializeToString())


@functools.cache
def _lines() -> list[str]:
  texts = sorted(tokenizer_kinds.CORPUS.glob("*.txt"))
  return [
    line
    for text in texts
    for line in text.read_text("utf-8").splitlines()[:12]
    if line
  ]


class _Reader:
  """Reads the letters of a part of a text as a tokenizer does.

  It does not use the tokenizer's `segment`, which it tests.

  Args:
    path: the path of the tokenizer's file.
    settings: the settings of the tokenizer.
  """

  def __init__(self, path: str, settings: tokenization.Settings) -> None:
    self._settings = settings
    self._words = tokenization.is_wordpiece(path)
    self.tokenizer = tokenization.Tokenizer.with_settings(path, settings)
    if not self._words:
      self._model = sentencepiece.SentencePieceProcessor(model_file=path)

  def letters(self, stretch: str) -> bytes:
    """Returns the letters of a stretch after all normalisation."""
    if self._words:
      lower, strip = self._settings.do_lower_case, self._settings.strip_accents
      return _plain("".join(wordpiece.words(stretch, lower, strip)))
    return _plain(self._model.normalize(self._settings.apply(stretch)))

  def spelt(self, text: str) -> list[bytes | None]:
    """Returns the letters of each piece of a text, None for unknown words."""
    if self._words:
      (ids,) = self.tokenizer.encode([text])
      unknown = self.tokenizer.unk_id
      pieces = zip(ids, self.tokenizer.pieces(ids), strict=True)
      return [None if i == unknown else _letters_of(name) for i, name in pieces]
    names = self._model.encode(self._settings.apply(text), out_type=str)
    return [_letters_of(part) for name in names for part in self._parts(name)]

  def _parts(self, name: str) -> list[str]:
    divided = self.tokenizer.divided.get(self._model.piece_to_id(name))
    return self.tokenizer.pieces(divided) if divided else [name]


def _letters_of(piece: str) -> bytes:
  if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
    return bytes([int(byte[1], 16)])
  return _plain(piece.removeprefix("##") if piece != "##" else piece)


def _plain(text: str) -> bytes:
  return re.sub("[ ▁]", "", text).encode()


def _are_same(letters: bytes, expected: bytes) -> bool:
  """Returns whether letters are equal, where σ and ς count as the same."""
  first, last = "σ".encode(), "ς".encode()
  return letters.replace(last, first) == expected.replace(last, first)


def _mistake(reader: _Reader, text: str, stretches: Sequence[str]) -> str:
  """Returns a part of a text that lacks the letters of its piece; "" if none.

  Pieces that share a letter are taken together.
  """
  wanted, given = b"", ""
  for letters, stretch in zip(reader.spelt(text), stretches, strict=True):
    if letters is None:
      wanted, given = b"", ""
      continue
    wanted, given = wanted + letters, given + stretch
    if _are_same(wanted, reader.letters(given)):
      wanted, given = b"", ""
  return given


@pytest.mark.parametrize("settings", _SETTINGS)
@pytest.mark.parametrize("kind", _KINDS)
def test_stretches_are_the_whole_text_and_each_has_its_pieces_letters(
  kind: str, settings: str, model_file: Callable[[str], str]
) -> None:
  reader = _Reader(model_file(kind), _SETTINGS[settings])
  texts = troublesome_texts.drawn(60) + _lines()
  texts += [
    "½, 22,2022,5,",
    "а\x01 ",
    "\x01а",
    "а▁",
    " ▁а ",
    "``а''б",
    "İ Σ ΑΣ",
  ]
  encoded = reader.tokenizer.encode(texts)
  for text, ids, stretches in zip(
    texts, encoded, reader.tokenizer.segment(texts), strict=True
  ):
    assert len(stretches) == len(ids), ascii(text)
    assert "".join(stretches) == (text if len(ids) else ""), ascii(text)
    assert not _mistake(reader, text, stretches), ascii((text, stretches))


_SPELT = ["unigram", "bpe", "char", "bytes", "suffix", "suffix_and_spaces"]


@pytest.mark.parametrize("kind", [*_SPELT, "spaces", "wordpiece"])
def test_words_begin_where_the_text_has_them(
  kind: str, model_file: Callable[[str], str]
) -> None:
  """Earlier, a model that marks the ends of words had one word per sentence."""
  tokenizer = tokenization.Tokenizer(model_file(kind))
  text = "Улаанбаатар хотын төв, Монголын нийслэл юм. Тэнд очив"
  words = "Улаанбаатар хотын төв , Монголын нийслэл юм . Тэнд очив".split()
  (ids,), (stretches,) = tokenizer.encode([text]), tokenizer.segment([text])
  rows = np.stack([ids, ids])
  begins = tokenizer.begins_words(rows)[1]
  begins[0] = True
  joined: list[str] = []
  for stretch, first in zip(stretches, begins, strict=True):
    joined += [""] * bool(first)
    joined[-1] += stretch
  assert [word.strip() for word in joined] == words


@pytest.mark.parametrize("kind", ["unigram", "suffix", "bytes", "char"])
@pytest.mark.parametrize(
  ("settings", "words"),
  [
    ("strip", "Тэр… Дорж гуай"),
    ("strip", "Саи\u0306н е\u0308стой №5 ½ Дорж"),
    ("strip", "ﬁ ㎏ ① Å 한국 Дорж"),
    ("lower", "İSTANBUL ΟΔΟΣ ЁСТОЙ Дорж"),
    ("all", "``Сайн'' \u201eтэр\u201c… İ №\u0301 Дорж"),
    ("as trained", "Тэр… ½ ﬁ а\u200b Дорж"),
  ],
)
def test_each_word_has_the_letters_that_were_typed(
  kind: str, settings: str, words: str, model_file: Callable[[str], str]
) -> None:
  """Earlier, `Дорж` had the letters `орж г`, three places too late."""
  tokenizer = tokenization.Tokenizer.with_settings(
    model_file(kind), _SETTINGS[settings]
  )
  (stretches,) = tokenizer.segment([words])
  places = tagging.places(words, stretches, tokenizer.is_blank)
  ends = {end for _, end in places}
  starts = {start for start, end in places if start < end}
  for match in re.finditer(r"\S+", words):
    assert match.start() in starts, match[0]
    assert match.end() in ends or words[match.end() - 1] == "\u200b", match[0]


_BEFORE = (
  "…",
  "№",
  "½",
  "ﬁ",
  "´",
  "¨",
  "Å",
  "İ",
  "``",
  "''",
  "и\u0306",
  "\u0301",
  "\u200b",
  "\xad",
  "\u200e",
  "\ufeff",
  "\x01",
  "\xa0",
  "😀",
  "👨‍👩‍👧‍👦",
  "ᠮᠣᠩ",
  "漢",
  "한",
  "22,",
)


@pytest.mark.parametrize("settings", _SETTINGS)
@pytest.mark.parametrize(
  "kind", [k for k in _KINDS if k not in ("users", "word")]
)
def test_entities_come_back_whatever_stands_around_them(
  kind: str, settings: str, model_file: Callable[[str], str]
) -> None:
  """Entities become tags of pieces, and these the same entities of the text."""
  tokenizer = tokenization.Tokenizer.with_settings(
    model_file(kind), _SETTINGS[settings]
  )
  for sign in _BEFORE:
    text = f" Тэр{sign} Дорж гуай {sign} Баянгол дүүрэг{sign}"
    spans = [
      (text.index(words), text.index(words) + len(words), name)
      for words, name in (("Дорж", "PER"), ("Баянгол", "LOC"))
    ]
    (stretches,) = tokenizer.segment([text])
    places = tagging.places(text, stretches, tokenizer.is_blank)
    tags = tagging.tags_of(spans, places)
    assert [
      (places[first][0], places[last][1], name)
      for first, last, name in tagging.stretches(tags)
    ] == spans, ascii(text)
