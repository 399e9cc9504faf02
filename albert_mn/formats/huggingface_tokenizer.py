"""A SentencePiece model as Hugging Face's tokenizer.json: the same ids.

transformers' own conversion of a SentencePiece model gives other ids, for three
reasons: its normalizer applies rules in another way than SentencePiece (see
rule_steps), its pre-tokenizer handles the white space of each part of a text
separately, and it knows no user-defined pieces. So the normalizer is written
out here, as steps on the whole text:

1. codes replace [MASK] and the user-defined pieces: no later step changes them;
2. the settings and the rules of the model are applied;
3. runs of spaces become one space, spaces at both ends are removed, and one
   space is put in front;
4. the user-defined pieces and [MASK] replace their codes.

A vocab.txt of WordPiece becomes a tokenizer.json too.
"""

import functools
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tokenizers
from sentencepiece import sentencepiece_model_pb2

from albert_mn.formats import (
  fast_tokenizers,
  huggingface,
  mask_steps,
  rule_steps,
)
from albert_mn.models import model_directory
from data_prep.base import options
from data_prep.encoding import tokenization, wordpiece
from data_prep.files import records, storage

_SPACE = "▁"
# A code replaces a piece while the normalizer works. It consists of this letter
# and a private letter, which begin at _STANDS_FOR.
_ESCAPE = "\ufff1"
_STANDS_FOR = 0xF0000
# Number subtracted from the score of pieces that must not be chosen.
_NEVER = 100
# Score for each byte of a user-defined piece after the first byte, as in
# sentencepiece 0.2.3. (The version in tensorflow-text uses -0.1 for the whole
# piece. Trained pieces have scores of at most 0, so in either version no
# user-defined piece is divided.)
_USER_DEFINED = 0.1
# The codes of [MASK] for WordPiece: two letters that Unicode has not assigned.
_MASK_CODES = ("\ufff2", "\ufff3")
_SHARP = "#"
# First letters of two private ranges, which texts do not contain. Letters of
# the first range replace the user-defined pieces of a BPE model; letters of the
# second replace those that Python and tokenizers change differently.
_STAND_INS, _ODD = 0x10F000, 0x10D000


def write(
  folder: str,
  tokenizer: tokenization.Tokenizer,
  tokenizer_file: str,
  longest: int,
) -> None:
  """Writes tokenizer.json, tokenizer_config.json and a copy of the model file.

  The copy is spiece.model, or vocab.txt for WordPiece.

  Args:
    folder: the folder to write in.
    tokenizer: the tokenizer of `tokenizer_file`, with its settings.
    tokenizer_file: SentencePiece's model, or WordPiece's vocab.txt.
    longest: the model_max_length for transformers, in pieces.

  Raises:
    options.InputError: for a model that tokenizer.json cannot express.
  """
  by_words = tokenization.is_wordpiece(tokenizer_file)
  name = model_directory.VOCABULARY if by_words else huggingface.TOKENIZER
  storage.copy(tokenizer_file, os.path.join(folder, name))
  content = (
    _of_wordpiece(tokenizer)
    if by_words
    else _of_sentencepiece(storage.read_bytes(tokenizer_file), tokenizer)
  )
  steps = content["normalizer"]["normalizers"]
  steps.append(
    fast_tokenizers.carrier(tokenizer_file, tokenizer.settings, steps)
  )
  specials = special_pieces(tokenizer)
  content = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
      _special(number, piece, normalized=number == tokenizer.mask_id)
      for number, piece in sorted(set(specials.values()))
    ],
    "post_processor": _frame(specials),
  } | content
  config = {
    # Another class would replace the normalizer by its own.
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


def _mask(tokenizer: tokenization.Tokenizer) -> str:
  return tokenizer.pieces([tokenizer.mask_id])[0]


def special_pieces(
  tokenizer: tokenization.Tokenizer,
) -> dict[str, tuple[int, str]]:
  """Returns "pad", "unk", "cls", "sep" and "mask" → (id, text of the piece)."""
  ids = {
    "pad": tokenizer.pad_id,
    "unk": tokenizer.unk_id,
    "cls": tokenizer.cls_id,
    "sep": tokenizer.sep_id,
    "mask": tokenizer.mask_id,
  }
  return {n: (i, tokenizer.pieces([i])[0]) for n, i in ids.items()}


def _of_wordpiece(tokenizer: tokenization.Tokenizer) -> rule_steps.Step:
  """Returns the content of tokenizer.json for a vocab.txt.

  The steps are written out, because tokenizers' `BertNormalizer` removes
  private characters, uses an older table of punctuation than Python,
  lower-cases every Σ to σ, and treats one block of Chinese characters as
  letters of words.
  """
  pieces = tokenizer.pieces(range(tokenizer.vocab_size))
  return {
    "normalizer": {
      "type": "Sequence",
      "normalizers": list(_bert_normalization(tokenizer)),
    },
    "pre_tokenizer": {
      "type": "Sequence",
      "pretokenizers": [
        _split(f"[{_spaces()}]+", "Removed"),
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


def _split(expression: str, behavior: str) -> rule_steps.Step:
  return {
    "type": "Split",
    "pattern": {"Regex": expression},
    "behavior": behavior,
    "invert": False,
  }


def _bert_normalization(
  tokenizer: tokenization.Tokenizer,
) -> Iterator[rule_steps.Step]:
  """Yields the steps of a normalizer that changes letters as wordpiece.words does.

  The pre-tokenizer splits the text into words. Letters right behind [MASK] get
  the prefix ##, so that WordPiece reads them as the rest of a word. The
  pre-tokenizer does not split at #, so a step here puts spaces around each # of
  the text itself.
  """
  settings = tokenizer.settings
  mask = mask_steps.Mask(_mask(tokenizer), *_MASK_CODES)
  for letter in (rule_steps.SEPARATOR, *_MASK_CODES):
    yield rule_steps.replace(letter, _ESCAPE)  # read as an unknown piece
  yield from mask.hidden()
  yield rule_steps.replace_all(f"[{_dropped()}]", "")
  steps = [*_lower_case()] if settings.do_lower_case else []
  if settings.strip_accents:
    steps.append({"type": "NFD"})
    steps.append(rule_steps.replace_all(f"[{_marks()}]", ""))
  yield from _as_python(steps, _of_bert, settings)
  yield rule_steps.replace(_SHARP, f" {_SHARP} ")
  # A text that has become [MASK] only here, such as one with a soft hyphen
  # inside, is not the mask token.
  yield rule_steps.replace(mask.piece, f"{mask.piece[0]} {mask.piece[1:]}")
  separate = f"^{_spaces()}{_words_of_their_own()}{mask.begin}"
  yield mask.with_behind(separate, wordpiece.CONTINUES)
  yield from mask.shown()


def _of_bert(settings: tokenization.Settings, letter: str) -> str:
  """Returns a letter after WordPiece's normalisation.

  Args:
    settings: whether to lower-case, and whether to strip marks.
    letter: the letter.
  """
  return wordpiece.folded(
    letter, settings.do_lower_case, settings.strip_accents
  )


def _as_python(
  steps: Sequence[rule_steps.Step],
  python: Callable[[tokenization.Settings, str], str],
  settings: tokenization.Settings,
) -> Iterator[rule_steps.Step]:
  """Yields `steps`, corrected so that each letter is changed as in Python.

  The package tokenizers and Python know different versions of Unicode: 55
  capitals have a small letter in only one of the two. Before `steps`, such
  letters are replaced by private letters; after `steps`, these are replaced by
  Python's results.

  Args:
    steps: steps of a normalizer, for text without SEPARATOR.
    python: returns Python's result for a letter.
    settings: the first argument of `python`.
  """
  odd = _unlike(json.dumps(steps), python, settings) if steps else {}
  hidden = {letter: chr(_ODD + place) for place, letter in enumerate(odd)}
  yield from rule_steps.letter_by_letter(hidden)
  yield from steps
  back = {hidden[letter]: result for letter, result in odd.items()}
  yield from rule_steps.letter_by_letter(back)


@functools.cache  # takes a second
def _unlike(
  steps: str,
  python: Callable[[tokenization.Settings, str], str],
  settings: tokenization.Settings,
) -> dict[str, str]:
  """Returns letter → Python's result, where the steps give another result.

  Args:
    steps: steps of a normalizer, as JSON, so that results can be cached.
    python: returns Python's result for a letter.
    settings: the first argument of `python`.
  """
  normalizer = tokenizers.Tokenizer.from_str(
    json.dumps(
      {
        "version": "1.0",
        "normalizer": {"type": "Sequence", "normalizers": json.loads(steps)},
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
      }
    )
  ).normalizer
  letters = [c for c in tokenization.every_letter() if c != "\n"]
  replacements = {}
  for begin in range(0, len(letters), 4096):
    block = letters[begin : begin + 4096]
    theirs = normalizer.normalize_str("\n".join(block)).split("\n")
    for letter, their in zip(block, theirs, strict=True):
      if (ours := python(settings, letter)) != their:
        replacements[letter] = ours
  return replacements


@functools.cache  # takes half a second
def _dropped() -> str:
  """Returns the characters that BERT's cleaning removes.

  They are ranges for the inside of a regular expression's [].
  """
  return tokenization.ranges(
    c for c in tokenization.every_letter() if not wordpiece.cleaned(c)
  )


@functools.cache
def _marks() -> str:
  """Returns the combining marks, as ranges for a regular expression.

  They are for the inside of [].
  """
  return tokenization.ranges(
    filter(wordpiece.is_mark, tokenization.every_letter())
  )


@functools.cache
def _spaces() -> str:
  """Returns the white space characters, as ranges for a regular expression.

  They are for the inside of [].
  """
  return tokenization.ranges(filter(str.isspace, tokenization.every_letter()))


@functools.cache
def _words_of_their_own() -> str:
  """Returns the characters that are words by themselves, such as punctuation.

  The result is ranges for the inside of a regular expression's []. The
  character # is left out.
  """
  return tokenization.ranges(
    c
    for c in tokenization.every_letter()
    if c != _SHARP
    and (wordpiece.is_punctuation(c) or wordpiece.cleaned(c) == f" {c} ")
  )


@functools.cache
def _lower_case() -> tuple[rule_steps.Step, ...]:
  """Returns steps that lower-case a text as str.lower does.

  The surprising case is Σ, which becomes ς at the end of a word and σ
  elsewhere.
  """
  cased, inside = [], []  # letters that decide, letters to skip
  for letter in tokenization.every_letter():
    if f"{letter}Σ".lower().endswith("ς"):
      cased.append(letter)
    elif f"a{letter}Σ".lower().endswith("ς"):
      inside.append(letter)
  casing, between = (
    tokenization.ranges(cased),
    tokenization.ranges(inside),
  )
  last = rf"[{casing}][{between}]*\KΣ(?![{between}]*[{casing}])"
  return rule_steps.replace_all(last, "ς"), {"type": "Lowercase"}


def _of_sentencepiece(
  model: bytes, tokenizer: tokenization.Tokenizer
) -> rule_steps.Step:
  """Returns the content of tokenizer.json for a SentencePiece model.

  The ids are equal for every text that has no literal special piece (bytes such
  as <0x41> are special pieces) and no two equally likely divisions.

  Raises:
    options.InputError: for a model that tokenizer.json cannot express.
  """
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  _check(proto)
  return {
    "normalizer": {
      "type": "Sequence",
      "normalizers": list(_normalization(proto, tokenizer)),
    },
    "pre_tokenizer": None,
    "decoder": _decoder(_stand_ins(proto)),
    "model": _model(proto, tokenizer.settings),
  }


def limits(tokenizer: tokenization.Tokenizer) -> list[str]:
  """Returns warnings about texts that may get other ids in tokenizer.json.

  The result is [] if the ids are the same for all texts.
  """
  if not tokenizer.divided:
    return []
  return [
    "tokenizer.json: other ids are possible where a comma follows a digit: it "
    "knows no pieces such as `▁22,`, which google-research/albert takes first "
    "and divides then"
  ]


def _check(proto: Any) -> None:
  """Raises InputError for a model that tokenizer.json cannot express.

  Such a model is neither unigram nor BPE, marks spaces behind words, has
  user-defined pieces of spaces alone, or does not replace spaces by ▁.
  """
  kinds = (proto.trainer_spec.UNIGRAM, proto.trainer_spec.BPE)
  for wrong, what in (
    (proto.trainer_spec.model_type not in kinds, "neither unigram nor BPE"),
    (proto.trainer_spec.treat_whitespace_as_suffix, "spaces behind words"),
    (
      not all(p.strip(f" {_SPACE}") for p in _user_pieces(proto)),
      "pieces of the user that are spaces",
    ),
    (not proto.normalizer_spec.escape_whitespaces, "spaces that stay spaces"),
  ):
    if wrong:
      raise options.InputError(
        "a SentencePiece model that tokenizer.json can express",
        what,
        "train a unigram model with data_prep.train_tokenizer",
      )


def _special(number: int, piece: str, normalized: bool) -> rule_steps.Step:
  """Returns the entry of a special piece in added_tokens.

  Args:
    number: the piece's id.
    piece: the piece's text.
    normalized: whether tokenizers looks for the piece in the normalised text,
      not in the original text: see mask_steps.
  """
  return {
    "id": number,
    "content": piece,
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": normalized,
    "special": True,
  }


def _frame(specials: Mapping[str, tuple[int, str]]) -> rule_steps.Step:
  """Returns the template of `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`.

  B and its [SEP] have segment id 1, all other pieces 0.

  Args:
    specials: the result of `special_pieces`.
  """

  def special(name: str, segment: int) -> rule_steps.Step:
    return {"SpecialToken": {"id": specials[name][1], "type_id": segment}}

  def text(name: str, segment: int) -> rule_steps.Step:
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


def _is_bpe(proto: Any) -> bool:
  return bool(proto.trainer_spec.model_type == proto.trainer_spec.BPE)


def _user_pieces(proto: Any) -> list[str]:
  """Returns the user-defined pieces of a SentencePiece model, in id order."""
  return [p.piece for p in proto.pieces if p.type == p.USER_DEFINED]


def _stand_ins(proto: Any) -> dict[str, str]:
  """Returns user-defined piece → a private letter that replaces it, for BPE.

  SentencePiece never merges user-defined pieces with others. The BPE of
  tokenizers cannot exclude pieces from merges, but never divides a single
  letter. The result is {} for a Unigram model.
  """
  pieces = _user_pieces(proto) if _is_bpe(proto) else []
  return {p: chr(_STAND_INS + place) for place, p in enumerate(pieces)}


def _decoder(stand_ins: Mapping[str, str]) -> rule_steps.Step:
  """Returns the decoder of tokenizer.json, which turns pieces into text.

  Args:
    stand_ins: the result of `_stand_ins`, which the decoder undoes.
  """
  return {
    "type": "Sequence",
    "decoders": [
      *(rule_steps.replace(code, piece) for piece, code in stand_ins.items()),
      rule_steps.replace(_SPACE, " "),
      {"type": "ByteFallback"},
      {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
  }


def _normalization(
  proto: Any, tokenizer: tokenization.Tokenizer
) -> Iterator[rule_steps.Step]:
  """Yields the steps by which tokenizer.json normalises text as a model does.

  They apply the settings and SentencePiece's rules, replace spaces by ▁, and
  keep [MASK] and user-defined pieces intact.

  Args:
    proto: the SentencePiece model.
    tokenizer: the tokenizer of the model, with its settings.
  """
  spec, settings = proto.normalizer_spec, tokenizer.settings
  codes = (_ESCAPE + chr(place) for place in itertools.count(_STANDS_FOR))
  letters = dict(zip((_ESCAPE, rule_steps.SEPARATOR), codes, strict=False))
  mask = mask_steps.Mask(_mask(tokenizer), next(codes), next(codes))
  pieces = dict(zip(_user_pieces(proto), codes, strict=False))
  for letter, code in letters.items():
    yield rule_steps.replace(letter, code)
  yield from mask.hidden()
  yield from _before_the_model(settings)
  prefix = {"type": "Prepend", "prepend": _SPACE}  # if the text is not empty
  if spec.add_dummy_prefix and not spec.remove_extra_whitespaces:
    yield prefix
  yield from rule_steps.longest_first(pieces)
  if spec.precompiled_charsmap:
    yield from rule_steps.of(spec.precompiled_charsmap)
  if spec.remove_extra_whitespaces:
    yield rule_steps.replace_all(" +", " ")
    yield rule_steps.replace_all(rf"\A |[ {_SPACE}]+\z", "")
    if spec.add_dummy_prefix:
      yield prefix
  yield rule_steps.replace(" ", _SPACE)
  for piece, code in reversed(pieces.items()):
    yield rule_steps.replace(code, piece.replace(" ", _SPACE))
  yield from _stood_in(_stand_ins(proto), letters[_ESCAPE])
  yield mask.without_before(_SPACE)
  yield from mask.shown()
  for letter, code in reversed(letters.items()):
    yield rule_steps.replace(code, letter)


def _before_the_model(
  settings: tokenization.Settings,
) -> Iterator[rule_steps.Step]:
  """Yields the steps that normalise a text as `Settings.apply` does.

  The text must not contain SEPARATOR.

  Args:
    settings: the settings before the SentencePiece model.
  """
  if settings.replace_quotes:
    yield rule_steps.replace("``", '"')
    yield rule_steps.replace("''", '"')
  steps: list[rule_steps.Step] = []
  if settings.strip_accents:
    steps.append({"type": "NFKD"})
    # `StripAccents` would remove characters of emoji too.
    marks = tokenization.combining_marks()
    steps.append(rule_steps.replace_all(f"[{marks}]", ""))
  if settings.do_lower_case:
    steps += _lower_case()
  yield from _as_python(steps, tokenization.Settings.apply, settings)


def _stood_in(
  stand_ins: Mapping[str, str], unknown: str
) -> Iterator[rule_steps.Step]:
  """Yields steps that replace user-defined pieces by single letters.

  Args:
    stand_ins: piece → letter; {} unless the model is BPE.
    unknown: the text in place of such a letter if the input text contains the
      letter itself.
  """
  if stand_ins:
    letters = tokenization.ranges(stand_ins.values())
    yield rule_steps.replace_all(f"[{letters}]", unknown)
    yield from rule_steps.longest_first(stand_ins)


def _model(proto: Any, settings: tokenization.Settings) -> rule_steps.Step:
  """Returns the model of tokenizer.json: a Unigram model, or a BPE model.

  A Unigram model lists the pieces with their scores. With split_digit_commas,
  _NEVER is subtracted from the scores of pieces such as `▁22,`, so that no text
  contains these pieces.
  """
  fallback = bool(proto.trainer_spec.byte_fallback)
  if _is_bpe(proto):
    return _bpe(proto, fallback)
  vocabulary = []
  for piece in proto.pieces:
    score = piece.score
    if piece.type == piece.USER_DEFINED:
      score = _USER_DEFINED * (len(piece.piece.encode()) - 1)
    elif settings.split_digit_commas and tokenization.ends_in_digit_and_comma(
      piece.piece
    ):
      score -= _NEVER
    vocabulary.append([piece.piece, score])
  return {
    "type": "Unigram",
    "unk_id": _unknown(proto),
    "vocab": vocabulary,
    "byte_fallback": fallback,
  }


def _unknown(proto: Any) -> int:
  """Returns the id of the unknown piece of a SentencePiece model."""
  return next(i for i, p in enumerate(proto.pieces) if p.type == p.UNKNOWN)


def _bpe(proto: Any, fallback: bool) -> rule_steps.Step:
  """Returns the BPE model of tokenizer.json.

  The merges of the model are sorted by the score of the resulting piece,
  highest first. Merges with equal scores are sorted by the resulting piece,
  then by the length of the first part.

  Args:
    proto: the SentencePiece model.
    fallback: whether unknown characters become pieces of bytes.
  """
  normal = {p.piece: p.score for p in proto.pieces if p.type == p.NORMAL}
  stand_ins = _stand_ins(proto)
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
    "vocab": {
      stand_ins.get(p.piece, p.piece): i for i, p in enumerate(proto.pieces)
    },
    "merges": [[p[:cut], p[cut:]] for _, p, cut in sorted(merges)],
  }
