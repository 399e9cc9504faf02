"""A rule table of SentencePiece's, as steps of tokenizer.json that do the same.

SentencePiece takes the longest rule at each place, and never looks at what came
of it again. tokenizers' `Precompiled` looks at grapheme clusters and takes the
shortest: И with a breve of its own becomes и without any. For rules of one
letter it is right, if no cluster has two. So:

 1. rules of one letter whose result a longer rule may take (a for ａ, before an
    accent), or that no longer rule is about;
 2. rules of several letters, the longest first;
 3. Hangul's 11,172 of them, by NFC, from which all else is hidden meanwhile;
 4. the other rules of one letter (fi for ﬁ), and what was hidden.

Behind each letter that 1, 3 or 4 are about comes a separator, a cluster of its
own, which the same step takes away. What is hidden stands as a letter that step
1 left none of.
"""

import base64
import collections
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sentencepiece

from data_prep import options, tokenization

# A text must have none of its own.
SEPARATOR = "\ufff0"
_SYLLABLES = range(0xAC00, 0xD7A4)
_ENDINGS = 28  # of a syllable, none among them
# Where step 1 leaves too few letters out, as of small tables: nobody uses these.
_PRIVATE = range(0x10E000, 0x10F000)
_LATER_JAMO = (range(0x1161, 0x1176), range(0x11A8, 0x11C3))

Step = dict[str, Any]
_Rules = Mapping[str, str]


def replace(source: str, target: str) -> Step:
  """Replaces a string."""
  pattern = {"String": source}
  return {"type": "Replace", "pattern": pattern, "content": target}


def replace_all(expression: str, target: str) -> Step:
  """Replaces what an expression matches; Ruby's syntax."""
  pattern = {"Regex": expression}
  return {"type": "Replace", "pattern": pattern, "content": target}


def of(table: bytes) -> Iterator[Step]:
  """Yields the steps of a compiled table, for text without SEPARATOR.

  Raises:
    options.InputError: for rules too odd for them; Unicode's are not.
  """
  rules = _read(table)
  single = {s: t for s, t in rules.items() if len(s) == 1}
  early = _early(rules, single)
  several = {
    s: t for s, t in rules.items() if len(s) > 1 and not early & set(s)
  }
  late = {s: t for s, t in single.items() if s not in early}
  free = _free(early)
  yield from letter_by_letter({s: single[s] for s in early})

  syllables = {s for s, t in several.items() if _composes_hangul(s, t)}
  if len(syllables) != len(_SYLLABLES):
    syllables = set()
  held = _taken_again(several, single)
  turns = {}
  for source in sorted(several.keys() - syllables):
    target = several[source]
    turns[source] = next(free) if target in held else target
    if turns[source] != target:
      late[turns[source]] = target
  yield from in_turn(turns)
  if syllables:
    hidden = {letter: next(free) for letter in _changed_by_nfc(several, early)}
    yield from letter_by_letter(hidden)
    yield {"type": "NFC"}
    late |= {code: late.get(letter, letter) for letter, code in hidden.items()}
  yield from letter_by_letter(late)


def _read(table: bytes) -> dict[str, str]:
  """Returns SentencePiece's compiled rules: source → target."""
  spec = sentencepiece.sentencepiece_model_pb2.NormalizerSpec(
    precompiled_charsmap=table
  )
  reader = sentencepiece.SentencePieceNormalizer(normalizer_spec=spec)
  return dict(reader.decompile())


def _free(early: set[str]) -> Iterator[str]:
  """Yields letters to stand for others: none of them in a text, or hardly."""
  yield from sorted(filter(_is_inert, early))
  yield from map(chr, _PRIVATE)
  raise _other("too few of one letter to hide others behind")


def _other(got: str) -> options.InputError:
  return options.InputError(
    "rules of normalisation that tokenizer.json can express",
    got,
    "use the SentencePiece model itself",
  )


def in_turn(rules: _Rules) -> Iterator[Step]:
  """Yields steps that take rules, at each place the longest.

  Where one may begin in the end of another (aab in aaab, beside aa), a
  separator first shows which ones are met from left to right.
  """
  begins = {s[:end] for s in rules for end in range(1, len(s))}
  letters = {
    letter
    for source in rules
    if any(source[place:] in begins for place in range(1, len(source)))
    for letter in source
  }
  ordered = sorted(rules, key=lambda source: (-len(source), source))
  apart = [source for source in ordered if letters & set(source)]
  if apart:
    each = "|".join(map(escaped, apart))
    yield replace_all(rf"(?:{each})\K", SEPARATOR)
  for source in ordered:
    end = SEPARATOR if letters & set(source) else ""
    yield replace(source + end, rules[source])


def escaped(text: str) -> str:
  """Returns the regular expression that matches a text and nothing else."""
  return "".join(rf"\x{{{ord(letter):X}}}" for letter in text)


def letter_by_letter(rules: _Rules) -> Iterator[Step]:
  """Yields steps that take rules of one letter, whatever stands behind it."""
  if not rules:
    return
  letters = tokenization.ranges(rules)
  yield replace_all(f"(?<=[{letters}])", SEPARATOR)
  maker = sentencepiece.SentencePieceNormalizer(
    norm_map=sorted({**rules, SEPARATOR: ""}.items())
  )
  spec = sentencepiece.sentencepiece_model_pb2.NormalizerSpec.FromString(
    maker.serialized_normalizer_spec()
  )
  encoded = base64.b64encode(spec.precompiled_charsmap).decode("ascii")
  yield {"type": "Precompiled", "precompiled_charsmap": encoded}


def _early(rules: _Rules, single: _Rules) -> set[str]:
  """Returns letters that may be taken for another one before anything else.

  A letter may where that other one is in no longer rule, or where it may stand
  in its place in each of them.
  """
  several = {s: t for s, t in rules.items() if len(s) > 1}
  early = {
    letter
    for letter, target in single.items()
    if len(target) == 1 and target not in single
  }
  while True:
    bare = {s: t for s, t in several.items() if not early & set(s)}
    kept = early - _unlike(several, bare, early, single)
    if kept == early:
      return early
    early = kept


def _unlike(
  several: _Rules, bare: _Rules, early: set[str], single: _Rules
) -> set[str]:
  """Returns letters of `early` without a rule that their target has."""
  stand_ins = collections.defaultdict(list)
  for letter in early:
    stand_ins[single[letter]].append(letter)
  lacking: set[str] = set()
  seen: collections.Counter[str] = collections.Counter()
  for source, target in several.items():
    plain = "".join(single[c] if c in early else c for c in source)
    if bare.get(plain) == target:
      seen[plain] += 1
    else:
      lacking |= early & set(source)
  for source, target in bare.items():
    if seen[source] != math.prod(1 + len(stand_ins[c]) for c in source):
      for place, letter in enumerate(source):
        for stand_in in stand_ins[letter]:
          changed = source[:place] + stand_in + source[place + 1 :]
          if several.get(changed) != target:
            lacking.add(stand_in)
  return lacking


def _taken_again(several: _Rules, single: _Rules) -> set[str]:
  """Returns the targets that a later step would change."""
  around = collections.defaultdict(set)
  letters = {letter for source in several for letter in source}
  for source in several:
    for place, letter in enumerate(source):
      around[letter].add((source[:place], source[place + 1 :]))
  return {
    target
    for source, target in several.items()
    if any(letter in single for letter in target)
    or (len(target) != 1 and letters & set(target))
    or any(
      before + source + behind not in several
      for before, behind in around.get(target, ())
    )
  }


def _is_inert(letter: str) -> bool:
  """Says whether no step but ours does anything to a letter."""
  return (
    unicodedata.category(letter)[0] in "LNS"
    and not unicodedata.combining(letter)
    and unicodedata.normalize("NFC", letter) == letter
    and not _is_hangul(letter)
  )


def _is_hangul(letter: str) -> bool:
  return "HANGUL" in unicodedata.name(letter, "")


def _composes_hangul(source: str, target: str) -> bool:
  composed = unicodedata.normalize("NFC", source)
  return ord(target[:1] or " ") in _SYLLABLES and composed == target


def _changed_by_nfc(several: _Rules, early: set[str]) -> Iterable[str]:
  """Yields what NFC would move, compose or decompose, but for Hangul's jamo."""
  second = {letter for source in several for letter in source[1:]}
  for letter in tokenization.every_letter():
    jamo = any(ord(letter) in part for part in _LATER_JAMO)
    open_syllable = (
      ord(letter) in _SYLLABLES
      and (ord(letter) - _SYLLABLES.start) % _ENDINGS == 0
    )
    if letter in early or jamo:
      continue
    if (
      letter in second
      or open_syllable
      or unicodedata.combining(letter)
      or not unicodedata.is_normalized("NFC", letter)
    ):
      yield letter
