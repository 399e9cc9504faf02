"""How a model from elsewhere wants its text normalised before the tokenizer.

Published models were trained on text that their programs changed first:
google-research/albert strips the marks of letters with any flags (сайн → саин),
transformers' AlbertTokenizer does so by default, and mongolian-bert's uncased
model lower-cases text outside of its SentencePiece model. Their published
scores hold only with the same normalisation, which this module reads from the
files beside the weights.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from absl import logging

from albert_mn.formats import fast_tokenizers, huggingface
from albert_mn.models import configs
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import json_files, storage

# Sentences on which models and tokenizers are compared: every letter, other
# scripts, marks.
SENTENCES = (
  "Сайн байна уу? Өнөөдөр Улаанбаатарт дулаан, салхигүй байна.",
  "Хоёр найз ёлкны өмнө зогсоод, «шинэ жилийн мэнд!» гэж хэлэв.",
  "Ерөнхийлөгч 2026 оны 11 дүгээр сарын 26-нд e-mail бичжээ 🙂.",
  "ЦАХИЛГААН ЭРЧИМ ХҮЧНИЙ ҮЙЛДВЭРЛЭЛИЙГ нэмэгдүүлэхгүй юу?",
)
# The longest word in transformers' BertTokenizer and tokenizers' WordPiece.
_LONGEST_WORD = 100
# Lower than the score of any trained piece.
_UNLIKELY = -50
_MARKED = "йёЙЁ"
_CYRILLIC = "абвгдежзиклмнопрстухцчшыэюя"


@dataclasses.dataclass(frozen=True)
class ReadSettings:
  """The text normalisation of another project's model, and how it was known.

  Attributes:
    settings: the settings with which the model was trained.
    reason: the source of the settings, as text.
  """

  settings: tokenization.Settings
  reason: str

  def repaired(self) -> "ReadSettings":
    """Returns the settings for further training on text that keeps й and ё.

    These settings neither strip marks nor replace quotes, and are otherwise
    unchanged.
    """
    kept = dataclasses.replace(
      self.settings, strip_accents=False, replace_quotes=False
    )
    return ReadSettings(
      kept, f"--repair_normalization, instead of {self.reason}"
    )

  def described(self) -> str:
    """Returns the settings and the reason as one line of text."""
    return f"{self.settings.described() or 'the text as it is'} ({self.reason})"


def alike(
  tokenizer_file: str,
  left: tokenization.Settings,
  right: tokenization.Settings,
) -> bool:
  """Returns whether a tokenizer gives the same ids with two settings.

  The ids of test texts are compared: SENTENCES, and the numbers from 0 to 99,
  each with a comma.

  Different settings may give the same ids: for instance when the SentencePiece
  model itself lower-cases.

  Args:
    tokenizer_file: the tokenizer.
    left, right: the settings to compare.
  """
  texts = (*SENTENCES, *(f"{number}," for number in range(100)))
  first, second = (
    tokenization.Tokenizer.with_settings(tokenizer_file, s).encode(texts)
    for s in (left, right)
  )
  pairs = zip(first, second, strict=True)
  return all(a.tolist() == b.tolist() for a, b in pairs)


def read(
  folder: str,
  tokenizer_file: str,
  family: type[configs.AlbertConfig],
  transformers: bool,
) -> ReadSettings:
  """Returns the normalisation settings of a model of another project.

  The settings come from tokenizer.json, else from tokenizer_config.json if that
  file states them. Otherwise they follow from the defaults of the programs that
  wrote the weights and from the letters of the vocabulary.

  Args:
    folder: the folder of the weights.
    tokenizer_file: the model's tokenizer.
    family: the class of the model's config.
    transformers: whether the weights are PyTorch's, so that transformers'
      defaults hold.

  Raises:
    options.InputError: when one of the files is damaged.
  """
  config_file = os.path.join(folder, huggingface.TOKENIZER_CONFIG)
  config = (
    json_files.read_object(config_file) if storage.exists(config_file) else {}
  )
  if config.get("tokenize_chinese_chars") is False:
    logging.warning(
      "Chinese characters were no words of their own in %s; here they are",
      config_file,
    )
  fast = os.path.join(folder, huggingface.FAST_TOKENIZER)
  wordpiece = tokenization.is_wordpiece(tokenizer_file)
  longest = (
    _LONGEST_WORD if transformers else tokenization.Settings.longest_word
  )
  if storage.exists(fast):
    return _of_tokenizer_json(fast, longest if wordpiece else None)
  if wordpiece:
    return _of_wordpiece(config, tokenizer_file, longest)
  if "keep_accents" in config:
    return _of_albert_tokenizer(config, huggingface.TOKENIZER_CONFIG)
  if family is configs.AlbertConfig and transformers:
    return _of_albert_tokenizer(config, "transformers' defaults for ALBERT")
  return _of_google(tokenization.Tokenizer(tokenizer_file), family)


def _of_tokenizer_json(path: str, longest: int | None) -> ReadSettings:
  """Returns the normalisation settings that a tokenizer.json states.

  Args:
    path: the file.
    longest: the longest word of WordPiece if the file states none; None for
      SentencePiece.

  Raises:
    options.InputError: when the file is damaged.
  """
  content = json_files.read_object(path)
  try:
    if made_from := fast_tokenizers.carried(content):
      reason = f"the export's own, in {huggingface.FAST_TOKENIZER}"
      return ReadSettings(made_from.settings, reason)
    settings = _of_normalizer(content.get("normalizer") or {})
    model = content.get("model") or {}
    if longest is not None:
      longest = int(model.get("max_input_chars_per_word", longest))
      settings = dataclasses.replace(settings, longest_word=longest)
    elif _lowers_digit_and_comma(model):
      settings = dataclasses.replace(settings, split_digit_commas=True)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise options.InputError(
      f"a normalizer and a model in {path}",
      f"{type(error).__name__} {error}",
      "copy it again",
    ) from error
  return ReadSettings(
    settings, f"the normalizer of {huggingface.FAST_TOKENIZER}"
  )


def _of_wordpiece(
  config: Mapping[str, Any], vocab_file: str, longest: int
) -> ReadSettings:
  """Returns the settings of another project's WordPiece model.

  The settings are do_lower_case and strip_accents in tokenizer_config.json. If
  the file has no do_lower_case, texts are lower-cased if the vocabulary has no
  capitals. Without strip_accents, marks are stripped if texts are lower-cased.

  Args:
    config: the content of tokenizer_config.json.
    vocab_file: path of vocab.txt.
    longest: the longest word, in characters.
  """
  if "do_lower_case" in config:
    lower = bool(config["do_lower_case"])
    strip = config.get("strip_accents")
    strip = lower if strip is None else bool(strip)
    reason = huggingface.TOKENIZER_CONFIG
  else:
    lower = strip = not _has_capitals(tokenization.Tokenizer(vocab_file))
    reason = "capital letters in the vocabulary"
    if lower:
      reason = f"no {reason}, and BERT's uncased models drop marks"
  settings = tokenization.Settings(lower, strip, longest_word=longest)
  return ReadSettings(settings, reason)


def _of_google(
  bare: tokenization.Tokenizer, family: type[configs.AlbertConfig]
) -> ReadSettings:
  """Returns the settings of google-research's programs for SentencePiece.

  Texts are lower-cased as `_case` says. Whether marks are stripped depends on
  the family.

  Args:
    bare: the SentencePiece model without settings.
    family: AlbertConfig, since ALBERT's tokenization.py strips all marks; or
      BertConfig with SentencePiece, as mongolian-bert, where marks are stripped
      if no piece has any.
  """
  lower, case = _case(bare)
  if family is not configs.AlbertConfig:
    settings = tokenization.Settings(lower, not _has_marks(bare))
    return ReadSettings(settings, f"the vocabulary's letters: {case}")
  settings = tokenization.Settings(
    lower, strip_accents=True, split_digit_commas=_joins_digit_and_comma(bare)
  )
  return ReadSettings(
    settings, f"as google-research/albert's tokenization.py; {case}"
  )


def _case(bare: tokenization.Tokenizer) -> tuple[bool, str]:
  """Returns (whether texts must be lower-cased before `bare`, the reason).

  Texts must be lower-cased if the vocabulary has no capitals and the
  SentencePiece model does not lower-case by itself. The reason is text for a
  person.
  """
  if _has_capitals(bare):
    return False, "pieces have capital letters"
  if _lower_cases(bare):
    return False, "the SentencePiece model lower-cases by itself"
  return True, "no piece has a capital letter"


def _of_albert_tokenizer(
  config: Mapping[str, Any], reason: str
) -> ReadSettings:
  """Returns the settings of transformers' AlbertTokenizer.

  The tokenizer always replaces quotes (`` and '' become ").

  Args:
    config: the content of tokenizer_config.json; missing keys have
      transformers' defaults.
    reason: the source of the settings, as text.
  """
  settings = tokenization.Settings(
    do_lower_case=bool(config.get("do_lower_case", True)),
    strip_accents=not config.get("keep_accents", False),
    replace_quotes=True,
  )
  return ReadSettings(settings, reason)


def _of_normalizer(normalizer: Mapping[str, Any]) -> tokenization.Settings:
  """Returns the settings that have the effect of a tokenizer.json's normalizer.

  Steps without a corresponding setting, for instance SentencePiece's own rules,
  are ignored.

  Args:
    normalizer: the normalizer in a tokenizer.json.
  """
  steps = normalizer.get("normalizers") or [normalizer]
  kinds = {str(step.get("type")) for step in steps}
  quotes = any((s.get("pattern") or {}).get("String") == "``" for s in steps)
  bert = next((s for s in steps if s.get("type") == "BertNormalizer"), None)
  if bert:
    lower = bool(bert.get("lowercase"))
    strip = bert.get("strip_accents")
    return tokenization.Settings(lower, lower if strip is None else bool(strip))
  return tokenization.Settings(
    "Lowercase" in kinds, bool({"NFD", "NFKD", "StripAccents"} & kinds), quotes
  )


def _lowers_digit_and_comma(model: Mapping[str, Any]) -> bool:
  """Returns whether all pieces such as `▁22,` have a score below -50.

  transformers 4 subtracts 100 from the scores of these pieces, so that its
  AlbertTokenizerFast comes close to AlbertTokenizer, which splits these pieces.
  The result is False if there are no such pieces, or the model is no Unigram.

  Args:
    model: the model in a tokenizer.json.
  """
  if model.get("type") != "Unigram":
    return False
  scores = [
    score
    for piece, score in model["vocab"]
    if tokenization.ends_in_digit_and_comma(piece)
  ]
  return bool(scores) and max(scores) < _UNLIKELY


def _letters(tokenizer: tokenization.Tokenizer) -> list[str]:
  """Returns the text of each piece, without the mark of its place (▁ or ##).

  Special pieces and bytes, such as <0x0A>, are left out.
  """
  return [
    tokenizer.letters(i)
    for i in range(tokenizer.vocab_size)
    if not tokenizer.special[i] and not tokenizer.letters(i).startswith("<0x")
  ]


def _has_capitals(tokenizer: tokenization.Tokenizer) -> bool:
  """Returns whether more than 1 % of the pieces contain capital letters.

  Pieces up to this bound may be symbols and abbreviations only. Special pieces
  and bytes do not count.
  """
  pieces = _letters(tokenizer)
  with_capitals = sum(bool(re.search("[A-ZА-ЯЁӨҮ]", piece)) for piece in pieces)
  return with_capitals > len(pieces) / 100


def _has_marks(tokenizer: tokenization.Tokenizer) -> bool:
  """Returns whether a vocabulary keeps the marks of Cyrillic letters.

  That is so if it has й or ё, or no Cyrillic letter at all.
  """
  letters = set("".join(_letters(tokenizer)))
  return bool(letters & set(_MARKED)) or not letters & set(_CYRILLIC)


def _joins_digit_and_comma(tokenizer: tokenization.Tokenizer) -> bool:
  """Returns whether a vocabulary has pieces that end in a digit and a comma.

  google-research/albert splits the comma from these pieces.
  """
  pieces = tokenizer.pieces(range(tokenizer.vocab_size))
  return any(map(tokenization.ends_in_digit_and_comma, pieces))


def _lower_cases(tokenizer: tokenization.Tokenizer) -> bool:
  """Returns whether a tokenizer ignores letter case.

  The test is whether САЙН БАЙНА УУ gets the same ids as сайн байна уу.
  """
  upper, lower = tokenizer.encode(["САЙН БАЙНА УУ", "сайн байна уу"])
  return upper.tolist() == lower.tolist()
