"""A SentencePiece model as Hugging Face's tokenizer.json: the same ids.

Three things keep the usual conversion from them. Hugging Face's `Precompiled`
normaliser looks at grapheme clusters and takes the shortest rule, where
SentencePiece takes the longest: И with a breve of its own becomes и without
any. White space is handled in a pre-tokenizer, part by part. And there are no
pieces that the user defined. So the normalisation is written out here, as steps
on the whole text:

 1. pieces that the user defined are put out of reach of what follows;
 2. rules of several letters (и and a breve), the longest first;
 3. rules of one letter;
 4. white space: one space for several, none at the ends, one in front;
 5. what step 1 took away comes back.
"""

import base64
import functools
import json
import os
import struct
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from albert_mn import huggingface
from data_prep import options, records, storage, tokenization, wordpiece

_SPACE = "▁"
# Begins what stands for something else: this and a letter from _STANDS_FOR on.
_ESCAPE = "\ufff1"
_STANDS_FOR = 0xF0000  # for the escape itself, then for the user's pieces
# Latin, Greek, Cyrillic, their marks, punctuation, Roman and circled numbers,
# full width.
_COMMON = (
  range(0x530), range(0x1E00, 0x2190), range(0x2460, 0x2500),
  range(0x2581, 0x2582), range(0x3000, 0x3100), range(0xFB00, 0xFB07),
  range(0xFEFF, 0xFF61),
)  # fmt: skip
# A model of ours has at most 1,481 rules; NFKC has 240,000.
_MANY_RULES = 5_000
_HANGUL = (range(0x1100, 0x1200), range(0xAC00, 0xD7A4))
# As SentencePiece's unigram model favours what the user defined.
_USER_DEFINED_BONUS = 0.1

_Step = dict[str, Any]


def write(
  folder: str,
  tokenizer: tokenization.Tokenizer,
  tokenizer_file: str,
  longest: int,
) -> None:
  """Writes tokenizer.json, tokenizer_config.json and the model file itself.

  Args:
    folder: where.
    tokenizer: of that file, with its settings.
    tokenizer_file: SentencePiece's model, or WordPiece's vocab.txt.
    longest: pieces of an input, to which transformers cuts when it is told to.
  """
  by_words = tokenization.is_wordpiece(tokenizer_file)
  name = "vocab.txt" if by_words else huggingface.TOKENIZER
  storage.copy(tokenizer_file, os.path.join(folder, name))
  content = (
    _of_wordpiece(tokenizer)
    if by_words
    else _of_sentencepiece(storage.read_bytes(tokenizer_file), tokenizer)
  )
  specials = special_pieces(tokenizer)
  content = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
      _special(number, piece)
      for number, piece in sorted(set(specials.values()))
    ],
    "post_processor": _frame(specials),
  } | content
  config = {
    # A class of its own would make its normalisation anew, from nothing.
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": longest,
    "model_input_names": [
      records.INPUT_IDS,
      "token_type_ids",
      "attention_mask",
    ],
    "clean_up_tokenization_spaces": False,
    **{f"{name}_token": piece for name, (_, piece) in specials.items()},
  }
  for name, values in (
    (huggingface.FAST_TOKENIZER, content),
    (huggingface.TOKENIZER_CONFIG, config),
  ):
    with storage.writing(os.path.join(folder, name)) as file:
      json.dump(values, file, ensure_ascii=False, indent=1)
      file.write("\n")


def special_pieces(
  tokenizer: tokenization.Tokenizer,
) -> dict[str, tuple[int, str]]:
  """Returns "pad", "unk", "cls", "sep" and "mask", each with id and piece."""
  ids = {
    "pad": tokenizer.pad_id,
    "unk": tokenizer.unk_id,
    "cls": tokenizer.cls_id,
    "sep": tokenizer.sep_id,
    "mask": tokenizer.mask_id,
  }
  return {n: (i, tokenizer.pieces([i])[0]) for n, i in ids.items()}


def _of_wordpiece(tokenizer: tokenization.Tokenizer) -> _Step:
  """Describes a vocab.txt.

  Not by `BertNormalizer`: it drops private characters, knows an older table of
  punctuation than Python, takes every Σ for σ, and a block of Chinese for none.
  """
  pieces = tokenizer.pieces(range(tokenizer.vocab_size))
  return {
    "normalizer": {
      "type": "Sequence",
      "normalizers": list(_bert_normalization(tokenizer.settings)),
    },
    "pre_tokenizer": {
      "type": "Sequence",
      "pretokenizers": [
        _split(f"[{tokenization.ranges(str.isspace)}]+", "Removed"),
        _split(f"[{_words_of_their_own()}]", "Isolated"),
      ],
    },
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
    "model": {
      "type": "WordPiece",
      "unk_token": pieces[tokenizer.unk_id],
      "continuing_subword_prefix": "##",
      "max_input_chars_per_word": tokenizer.settings.longest_word,
      "vocab": {piece: i for i, piece in enumerate(pieces)},
    },
  }


def _split(expression: str, behavior: str) -> _Step:
  return {
    "type": "Split",
    "pattern": {"Regex": expression},
    "behavior": behavior,
    "invert": False,
  }


def _bert_normalization(settings: tokenization.Settings) -> Iterator[_Step]:
  """As wordpiece.words does it, but for the words."""
  yield _replace_all(f"[{_dropped()}]", "")
  if settings.do_lower_case:
    yield from _lower_case()
  if settings.strip_accents:
    yield {"type": "NFD"}
    yield _replace_all(f"[{_marks()}]", "")


@functools.cache  # to ask a million characters takes half a second
def _dropped() -> str:
  return tokenization.ranges(lambda c: not wordpiece.cleaned(c))


@functools.cache
def _marks() -> str:
  return tokenization.ranges(lambda c: unicodedata.category(c) == "Mn")


@functools.cache
def _words_of_their_own() -> str:
  return tokenization.ranges(
    lambda c: wordpiece.is_punctuation(c) or wordpiece.cleaned(c) == f" {c} "
  )


@functools.cache
def _lower_case() -> tuple[_Step, ...]:
  """As str.lower, which knows the ς at the end of a word."""

  def cased(letter: str) -> bool:
    return f"{letter}Σ".lower().endswith("ς")

  inside = tokenization.ranges(
    lambda c: not cased(c) and f"a{c}Σ".lower().endswith("ς")
  )
  letters = tokenization.ranges(cased)
  last = rf"[{letters}][{inside}]*\KΣ(?![{inside}]*[{letters}])"
  return _replace_all(last, "ς"), {"type": "Lowercase"}


def _of_sentencepiece(model: bytes, tokenizer: tokenization.Tokenizer) -> _Step:
  """Describes a SentencePiece model.

  Equal ids are promised for every text without a literal special piece (bytes
  such as <0x41> are some). Where the rules are NFKC's, Hangul in single jamo,
  and what NFKC decomposes when it has an accent (𝐞́), are excepted.

  Raises:
    options.InputError: for a model that cannot be expressed.
  """
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  _check(proto)
  return {
    "normalizer": {
      "type": "Sequence",
      "normalizers": list(_normalization(proto, tokenizer.settings)),
    },
    "pre_tokenizer": None,
    "decoder": _decoder(),
    "model": _model(proto),
  }


def _check(proto: Any) -> None:
  users = [p.piece for p in proto.pieces if p.type == p.USER_DEFINED]
  kinds = (proto.trainer_spec.UNIGRAM, proto.trainer_spec.BPE)
  bpe = proto.trainer_spec.model_type == proto.trainer_spec.BPE
  for wrong, what in (
    (proto.trainer_spec.model_type not in kinds, "neither unigram nor BPE"),
    (bpe and users, f"BPE with pieces of the user: {users[:3]}"),
    (proto.trainer_spec.treat_whitespace_as_suffix, "spaces behind words"),
    (not proto.normalizer_spec.escape_whitespaces, "spaces that stay spaces"),
  ):
    if wrong:
      raise options.InputError(
        "a SentencePiece model that tokenizer.json can express",
        what,
        "train a unigram model with data_prep.train_tokenizer",
      )


def _special(number: int, piece: str) -> _Step:
  return {
    "id": number,
    "content": piece,
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
  }


def _frame(specials: Mapping[str, tuple[int, str]]) -> _Step:
  """`[CLS] A [SEP]`, and `B [SEP]` with the other segment id."""

  def special(name: str, segment: int) -> _Step:
    return {"SpecialToken": {"id": specials[name][1], "type_id": segment}}

  def text(name: str, segment: int) -> _Step:
    return {"Sequence": {"id": name, "type_id": segment}}

  single = [special("cls", 0), text("A", 0), special("sep", 0)]
  frames = [specials["cls"], specials["sep"]]
  return {
    "type": "TemplateProcessing",
    "single": single,
    "pair": [*single, text("B", 1), special("sep", 1)],
    "special_tokens": {
      piece: {"id": piece, "ids": [number], "tokens": [piece]}
      for number, piece in frames
    },
  }


def _decoder() -> _Step:
  return {
    "type": "Sequence",
    "decoders": [
      _replace(_SPACE, " "),
      {"type": "ByteFallback"},
      {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
  }


def _replace(source: str, target: str) -> _Step:
  pattern = {"String": source}
  return {"type": "Replace", "pattern": pattern, "content": target}


def _replace_all(expression: str, target: str) -> _Step:
  """Replaces what an expression matches; Ruby's syntax."""
  pattern = {"Regex": expression}
  return {"type": "Replace", "pattern": pattern, "content": target}


def _normalization(
  proto: Any, settings: tokenization.Settings
) -> Iterator[_Step]:
  spec = proto.normalizer_spec
  if settings.replace_quotes:
    yield _replace("``", '"')
    yield _replace("''", '"')
  if settings.strip_accents:
    yield {"type": "NFKD"}
    # Not `StripAccents`, which takes the signs of emoji for accents.
    yield _replace_all(f"[{tokenization.combining_marks()}]", "")
  if settings.do_lower_case:
    yield from _lower_case()
  users = [p.piece for p in proto.pieces if p.type == p.USER_DEFINED]
  hidden = [_ESCAPE, *sorted(users, key=len, reverse=True)] if users else []
  codes = [_ESCAPE + chr(_STANDS_FOR + i) for i in range(len(hidden))]
  for piece, code in zip(hidden, codes, strict=True):
    yield _replace(piece, code)
  if spec.precompiled_charsmap:
    yield from _rules(spec.precompiled_charsmap)
  if spec.remove_extra_whitespaces:
    yield _replace_all(" +", " ")
    yield _replace_all(rf"\A |[ {_SPACE}]+\z", "")
  if spec.add_dummy_prefix:
    yield {"type": "Prepend", "prepend": _SPACE}
  yield _replace(" ", _SPACE)
  for piece, code in reversed(list(zip(hidden, codes, strict=True))):
    yield _replace(code, piece.replace(" ", _SPACE))


def _rules(table: bytes) -> Iterator[_Step]:
  """Yields a step a rule; of NFKC's those for what occurs here.

  The other ones are left to `Precompiled`, which takes them for what they are
  unless a mark follows.
  """
  rules = charsmap_rules(table)
  own = [
    source
    for source in rules
    if len(rules) < _MANY_RULES or _is_common(source, rules)
  ]
  for source in sorted(own, key=lambda source: (-len(source), source)):
    yield _replace(source, rules[source])
  if len(own) < len(rules):
    encoded = base64.b64encode(table).decode("ascii")
    yield {"type": "Precompiled", "precompiled_charsmap": encoded}


def _is_common(source: str, rules: Mapping[str, str]) -> bool:
  """Says whether a rule is for common letters, or composes a letter.

  Hangul's 200,000 are left out.
  """
  if all(any(ord(c) in part for part in _COMMON) for c in source):
    return True
  return len(source) > 1 and all(
    rules.get(c, c) == c and not any(ord(c) in part for part in _HANGUL)
    for c in source
  )


def charsmap_rules(table: bytes) -> dict[str, str]:
  """Reads SentencePiece's compiled rule table: source → target.

  It is a Darts-clone double array (Yata's; sentencepiece's
  normalizer.cc, DecodePrecompiledCharsMap) and the targets behind it.
  """
  (length,) = struct.unpack_from("<I", table)
  units = struct.unpack_from(f"<{length // 4}I", table, 4)
  targets = table[4 + length :]
  rules: dict[str, str] = {}
  waiting = [(_offset(units[0]), b"")]
  while waiting:
    place, source = waiting.pop()
    for letter in range(1, 256):
      here = place ^ letter
      if here >= len(units) or units[here] & 0x800000FF != letter:
        continue
      inner, longer = here ^ _offset(units[here]), source + bytes([letter])
      if units[here] >> 8 & 1:  # a source ends here
        begin = units[inner] & 0x7FFFFFFF
        target = targets[begin : targets.index(0, begin)]
        rules[longer.decode()] = target.decode()
      waiting.append((inner, longer))
  return rules


def _offset(unit: int) -> int:
  return unit >> 10 << ((unit & 1 << 9) >> 6)


def _model(proto: Any) -> _Step:
  fallback = bool(proto.trainer_spec.byte_fallback)
  if proto.trainer_spec.model_type == proto.trainer_spec.BPE:
    return _bpe(proto, fallback)
  normal = [p.score for p in proto.pieces if p.type == p.NORMAL]
  vocabulary = []
  for piece in proto.pieces:
    score = piece.score
    if piece.type == piece.USER_DEFINED:
      score = len(piece.piece.encode()) * max(normal) - _USER_DEFINED_BONUS
    vocabulary.append([piece.piece, score])
  return {
    "type": "Unigram",
    "unk_id": _unknown(proto),
    "vocab": vocabulary,
    "byte_fallback": fallback,
  }


def _unknown(proto: Any) -> int:
  return next(i for i, p in enumerate(proto.pieces) if p.type == p.UNKNOWN)


def _bpe(proto: Any, fallback: bool) -> _Step:
  """Lists the merges that SentencePiece finds by their result's score."""
  normal = {p.piece: p.score for p in proto.pieces if p.type == p.NORMAL}
  merges = [
    (-score, piece, cut)
    for piece, score in normal.items()
    for cut in range(1, len(piece))
    if piece[:cut] in normal and piece[cut:] in normal
  ]
  return {
    "type": "BPE",
    "dropout": None,
    "unk_token": proto.pieces[_unknown(proto)].piece,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": True,
    "byte_fallback": fallback,
    "ignore_merges": False,
    "vocab": {p.piece: i for i, p in enumerate(proto.pieces)},
    "merges": [[p[:cut], p[cut:]] for _, p, cut in sorted(merges)],
  }
