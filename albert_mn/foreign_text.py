"""How a model from elsewhere wants its text, found out from what lies beside it.

The published models were trained on text that their programs changed first:
google-research/albert's drops the marks of letters whatever its flags say
(сайн → саин), transformers' AlbertTokenizer does by default, mongolian-bert's
uncased model lower-cases outside of its SentencePiece model. Their scores come
back under the same settings alone.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from absl import logging

from albert_mn import configs, huggingface
from data_prep import options, storage, tokenization

# What models and tokenizers are compared on: every letter, other scripts, marks.
SENTENCES = (
  "Сайн байна уу? Өнөөдөр Улаанбаатарт дулаан, салхигүй байна.",
  "Хоёр найз ёлкны өмнө зогсоод, «шинэ жилийн мэнд!» гэж хэлэв.",
  "Ерөнхийлөгч 2026 оны 11 дүгээр сарын 26-нд e-mail бичжээ 🙂.",
  "ЦАХИЛГААН ЭРЧИМ ХҮЧНИЙ ҮЙЛДВЭРЛЭЛИЙГ нэмэгдүүлэхгүй юу?",
)
# Of transformers' BertTokenizer, and of tokenizers' WordPiece.
_LONGEST_WORD = 100
_MARKED = "йёЙЁ"
_CYRILLIC = "абвгдежзиклмнопрстухцчшыэюя"


@dataclasses.dataclass(frozen=True)
class Found:
  """Settings, and the reason in words.

  Attributes:
    settings: of the training.
    reason: what says so.
  """

  settings: tokenization.Settings
  reason: str

  def repaired(self) -> "Found":
    """Returns what further training on intact text takes."""
    kept = dataclasses.replace(
      self.settings, strip_accents=False, replace_quotes=False
    )
    return Found(kept, f"--repair_normalization, instead of {self.reason}")

  def described(self) -> str:
    """Says it in a line."""
    return f"{self.settings.described() or 'the text as it is'} ({self.reason})"


def alike(
  tokenizer_file: str,
  one: tokenization.Settings,
  other: tokenization.Settings,
) -> bool:
  """Says whether two settings give the same ids: a model may lower-case too."""
  first, second = (
    tokenization.Tokenizer.with_settings(tokenizer_file, s).encode(SENTENCES)
    for s in (one, other)
  )
  pairs = zip(first, second, strict=True)
  return all(a.tolist() == b.tolist() for a, b in pairs)


def found(
  folder: str,
  tokenizer_file: str,
  family: type[configs.AlbertConfig],
  transformers: bool,
) -> Found:
  """Finds out what to do to a text.

  In this order: a tokenizer.json; what tokenizer_config.json says; what the
  programs of its family do.

  Args:
    folder: where the weights lie.
    tokenizer_file: the model's.
    family: of its config.
    transformers: whether the weights are PyTorch's, with transformers' rules.
  """
  fast = os.path.join(folder, huggingface.FAST_TOKENIZER)
  told = os.path.join(folder, huggingface.TOKENIZER_CONFIG)
  wordpiece = tokenization.is_wordpiece(tokenizer_file)
  config = huggingface.json_object(told) if storage.exists(told) else {}
  if config.get("tokenize_chinese_chars") is False:
    logging.warning(
      "Chinese characters were no words of their own in %s; here they are", told
    )
  longest = (
    _LONGEST_WORD if transformers else tokenization.Settings.longest_word
  )
  if storage.exists(fast):
    content = huggingface.json_object(fast)
    try:
      settings = _of_normalizer(content.get("normalizer") or {})
      if wordpiece:
        longest = content["model"].get("max_input_chars_per_word", longest)
        settings = dataclasses.replace(settings, longest_word=int(longest))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise options.InputError(
        f"a normalizer and a model in {fast}",
        f"{type(error).__name__} {error}",
        "copy it again",
      ) from error
    return Found(settings, f"the normalizer of {huggingface.FAST_TOKENIZER}")
  if wordpiece and "do_lower_case" in config:
    lower = bool(config["do_lower_case"])
    strip = config.get("strip_accents")
    strip = lower if strip is None else bool(strip)
    return Found(
      tokenization.Settings(lower, strip, longest_word=longest),
      huggingface.TOKENIZER_CONFIG,
    )
  if not wordpiece and "keep_accents" in config:
    return _of_albert_tokenizer(config, huggingface.TOKENIZER_CONFIG)
  bare = tokenization.Tokenizer(tokenizer_file)
  if wordpiece:
    lower = not _has_capitals(bare)
    return Found(
      tokenization.Settings(lower, lower, longest_word=longest),
      "no capital letter in the vocabulary, and BERT's uncased models drop marks"
      if lower
      else "capital letters in the vocabulary",
    )
  if family is configs.AlbertConfig and transformers:
    return _of_albert_tokenizer(config, "transformers' defaults for ALBERT")
  lower = not _has_capitals(bare) and not _lower_cases(bare)
  if family is configs.AlbertConfig:
    return Found(
      tokenization.Settings(lower, strip_accents=True),
      "google-research/albert drops the marks of letters",
    )
  strip = not _has_marks(bare)
  return Found(tokenization.Settings(lower, strip), "the vocabulary's letters")


def _of_albert_tokenizer(config: Mapping[str, Any], reason: str) -> Found:
  """Reads the keys of transformers' AlbertTokenizer, with its defaults."""
  settings = tokenization.Settings(
    do_lower_case=bool(config.get("do_lower_case", True)),
    strip_accents=not config.get("keep_accents", False),
    replace_quotes=True,
  )
  return Found(settings, reason)


def _of_normalizer(normalizer: Mapping[str, Any]) -> tokenization.Settings:
  """Reads the steps of tokenizer.json that are settings here."""
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


def _letters(tokenizer: tokenization.Tokenizer) -> list[str]:
  return [
    tokenizer.letters(i)
    for i in range(tokenizer.vocab_size)
    if not tokenizer.special[i] and not tokenizer.letters(i).startswith("<0x")
  ]


def _has_capitals(tokenizer: tokenization.Tokenizer) -> bool:
  """Says so where a hundredth of the pieces has one, more than a few symbols."""
  pieces = _letters(tokenizer)
  found = sum(bool(re.search("[A-ZА-ЯЁӨҮ]", piece)) for piece in pieces)
  return found > len(pieces) / 100


def _has_marks(tokenizer: tokenization.Tokenizer) -> bool:
  """Says so of a vocabulary that has й or ё, or no Cyrillic at all."""
  letters = set("".join(_letters(tokenizer)))
  return bool(letters & set(_MARKED)) or not letters & set(_CYRILLIC)


def _lower_cases(tokenizer: tokenization.Tokenizer) -> bool:
  """Says whether the model file itself makes small letters of capitals."""
  upper, lower = tokenizer.encode(["САЙН БАЙНА УУ", "сайн байна уу"])
  return upper.tolist() == lower.tolist()
