"""SentencePiece's normalisation rules as equivalent steps of tokenizer.json.

At each position SentencePiece applies the longest rule, and never changes the
result again. tokenizers' `Precompiled` looks at grapheme clusters and applies
the shortest rule: И with a combining breve becomes и without breve. For rules
of one letter it is correct, if each cluster has only one letter. So the steps
are:

1. rules of one letter whose result a longer rule may use (ａ to a before an
   accent), or that no longer rule involves;
2. rules of several letters, the longest first;
3. the 11,172 rules of Hangul, by NFC, while all other letters that NFC would
   change are hidden;
4. the other rules of one letter (ﬁ to fi), and the hidden letters.

In steps 1, 3 and 4 a separator after each affected letter makes it a cluster of
its own; the same step removes the separator. A hidden letter is replaced by a
letter that step 1 has removed from the text.
"""

import base64
import collections
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sentencepiece

from data_prep.base import options
from data_prep.encoding import tokenization

# A letter that marks places while steps work; texts must not contain it.
SEPARATOR = "\ufff0"
_SYLLABLES = range(0xAC00, 0xD7A4)
_ENDINGS = 28  # final jamo of a syllable, including none
# Placeholders if step 1 removes too few letters, as with small tables: texts do
# not contain these.
_PRIVATE = range(0x10E000, 0x10F000)
_LATER_JAMO = (range(0x1161, 0x1176), range(0x11A8, 0x11C3))

Step = dict[str, Any]
_Rules = Mapping[str, str]


def replace(source: str, target: str) -> Step:
  """Returns a step that replaces every `source` in a text by `target`."""
  pattern = {"String": source}
  return {"type": "Replace", "pattern": pattern, "content": target}


def replace_all(expression: str, target: str) -> Step:
  """Returns a step that replaces every match of a regular expression.

  Args:
    expression: in Ruby's syntax.
    target: the replacement.
  """
  pattern = {"Regex": expression}
  return {"type": "Replace", "pattern": pattern, "content": target}


def of(table: bytes) -> Iterator[Step]:
  """Yields the steps of tokenizer.json that equal SentencePiece's rule table.

  The text that the steps normalise must not contain SEPARATOR.

  Args:
    table: SentencePiece's precompiled_charsmap.

  Raises:
    options.InputError: for rules that the steps cannot express. Tables of
      Unicode normalisation can be expressed.
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
  replacements = {}
  for source in sorted(several.keys() - syllables):
    target = several[source]
    replacements[source] = next(free) if target in held else target
    if replacements[source] != target:
      late[replacements[source]] = target
  yield from longest_first(replacements)
  if syllables:
    hidden = {letter: next(free) for letter in _changed_by_nfc(several, early)}
    yield from letter_by_letter(hidden)
    yield {"type": "NFC"}
    late |= {code: late.get(letter, letter) for letter, code in hidden.items()}
  yield from letter_by_letter(late)


def _read(table: bytes) -> dict[str, str]:
  """Returns the rules of a compiled table: string → its replacement.

  Args:
    table: SentencePiece's precompiled_charsmap.
  """
  spec = sentencepiece.sentencepiece_model_pb2.NormalizerSpec(
    precompiled_charsmap=table
  )
  reader = sentencepiece.SentencePieceNormalizer(normalizer_spec=spec)
  return dict(reader.decompile())


def _free(early: set[str]) -> Iterator[str]:
  """Yields letters that no text contains after step 1, for use as placeholders.

  They are harmless letters of `early`, then private characters of Unicode.

  Args:
    early: the letters that step 1 removes from the text.

  Raises:
    options.InputError: when there are no more such letters.
  """
  yield from sorted(filter(_is_inert, early))
  yield from map(chr, _PRIVATE)
  raise _inexpressible("too few of one letter to hide others behind")


def _inexpressible(got: str) -> options.InputError:
  """Returns the InputError for rules that tokenizer.json cannot express.

  Args:
    got: a phrase that describes the rules.
  """
  return options.InputError(
    "rules of normalisation that tokenizer.json can express",
    got,
    "use the SentencePiece model itself",
  )


def longest_first(rules: _Rules) -> Iterator[Step]:
  """Yields steps that apply rules, at each position the longest matching rule.

  If a rule may begin inside another rule's match (as aa and aab in aaab), a
  separator first marks the matches from left to right.

  Args:
    rules: string → its replacement.
  """
  begins = {s[:end] for s in rules for end in range(1, len(s))}
  letters = {
    letter
    for source in rules
    if any(source[place:] in begins for place in range(1, len(source)))
    for letter in source
  }
  ordered = sorted(rules, key=lambda source: (-len(source), source))
  marked = [source for source in ordered if letters & set(source)]
  if marked:
    each = "|".join(map(escaped, marked))
    yield replace_all(rf"(?:{each})\K", SEPARATOR)
  for source in ordered:
    end = SEPARATOR if letters & set(source) else ""
    yield replace(source + end, rules[source])


def escaped(text: str) -> str:
  """Returns the regular expression that matches a text and nothing else."""
  return "".join(rf"\x{{{ord(letter):X}}}" for letter in text)


def letter_by_letter(rules: _Rules) -> Iterator[Step]:
  """Yields steps that apply rules of one letter, in any context.

  Args:
    rules: letter → its replacement; {} yields no step.
  """
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
  """Returns the letters that step 1 may replace, before all other rules.

  The target of such a letter is one letter, which no rule of one letter
  replaces. Longer rules treat both alike: a longer rule with the letter also
  exists with the target in its place and the same result, and the reverse.

  Args:
    rules: all rules.
    single: the rules of one letter.
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
  """Returns the letters of `early` that step 1 must not replace after all.

  For such a letter a longer rule gives another result with the letter than with
  the letter's target, or only one of the two rules exists.

  Args:
    several: the rules of more than one letter.
    bare: those rules of `several` that contain no letter of `early`.
    early: the letters to check.
    single: letter → its target.
  """
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
  """Returns the results of longer rules that a step after step 2 would change.

  SentencePiece never changes the result of a rule again, so these results need
  protection.

  Args:
    several: the rules of more than one letter.
    single: the rules of one letter.
  """
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
  """Returns whether a character is safe as a placeholder.

  A safe character is a letter, number or symbol that NFC leaves unchanged, and
  neither a combining mark nor Hangul.
  """
  return (
    unicodedata.category(letter)[0] in "LNS"
    and not unicodedata.combining(letter)
    and unicodedata.normalize("NFC", letter) == letter
    and not _is_hangul(letter)
  )


def _is_hangul(letter: str) -> bool:
  return "HANGUL" in unicodedata.name(letter, "")


def _composes_hangul(source: str, target: str) -> bool:
  """Returns whether a rule composes a Hangul syllable as NFC does.

  Args:
    source: the text that the rule replaces.
    target: the replacement.
  """
  composed = unicodedata.normalize("NFC", source)
  return ord(target[:1] or " ") in _SYLLABLES and composed == target


def _changed_by_nfc(several: _Rules, early: set[str]) -> Iterable[str]:
  """Yields the letters that NFC would move, compose or decompose.

  The letters of `early`, and Hangul's vowels and final consonants (jamo), are
  not among them.

  Args:
    several: the rules of more than one letter.
    early: the letters that step 1 removes from the text.
  """
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
