"""Encodes texts in which [MASK] stands for a missing word or part of a word.

The pieces around [MASK] are those of training, where a piece was replaced after
the text had been encoded: no space stands between [MASK] and a full stop.
"""

import dataclasses
import unicodedata

import numpy as np

from data_prep.base import options
from data_prep.encoding import tokenization

MASK = "[MASK]"


@dataclasses.dataclass(frozen=True)
class Masked:
  """A text as `[CLS] text [SEP]`, with the places of its masks.

  Attributes:
    ids: int32 [length].
    places: [masks], the index of each mask in `ids`.
    continues: [masks], whether a letter, a digit or another mask stands
      directly before the mask, as in `сайн[MASK]`.
    continued: [masks], the same of the character behind it, as in `[MASK]ын`.
  """

  ids: np.ndarray
  places: list[int]
  continues: list[bool]
  continued: list[bool]


def encode(tokenizer: tokenization.Tokenizer, text: str) -> Masked:
  """Returns a text with [MASK] as ids.

  `Монголын [MASK].` gives [CLS] ▁Монголын [MASK] . [SEP].

  Args:
    tokenizer: the tokenizer of the model that will read the ids.
    text: the text, in which [MASK] is in capital letters.

  Raises:
    options.InputError: when no [MASK] is in the text.
  """
  first, *rest = text.split(MASK)
  if not rest:
    raise options.InputError(
      f"a text with {MASK}",
      repr(text),
      f"put {MASK} in the place of the missing word",
    )
  ids = [tokenizer.cls_id, *tokenizer.encode([first.rstrip()])[0].tolist()]
  places = []
  for part in rest:
    places.append(len(ids))
    ids += [tokenizer.mask_id, *_behind(tokenizer, part)]
  ids.append(tokenizer.sep_id)
  return Masked(
    np.array(ids, np.int32),
    places,
    [_joins(part[-1:], bool(n)) for n, part in enumerate([first, *rest[:-1]])],
    [_joins(part[:1], n < len(rest)) for n, part in enumerate(rest, 1)],
  )


def _behind(tokenizer: tokenization.Tokenizer, part: str) -> list[int]:
  """Returns the ids of the text behind a mask, up to the next one or the end.

  Letters directly behind the mask are encoded as `Tokenizer.behind` does; after
  white space, words begin.

  Args:
    tokenizer: the tokenizer.
    part: that text.
  """
  words = part.split()
  joined = words.pop(0) if part[:1].strip() else ""
  ids, apart = tokenizer.behind(joined), " ".join(words)
  return [*ids, *tokenizer.inside(apart, begins=True)] if words else ids


def _joins(letter: str, has_mask: bool) -> bool:
  """Returns whether a character beside a mask belongs to the mask's word.

  Args:
    letter: the character; "" at the end of the text or beside another mask.
    has_mask: whether another mask stands there if there is no character.
  """
  return unicodedata.category(letter)[0] in "LMN" if letter else has_mask
