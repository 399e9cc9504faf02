"""Tests that the pieces around [MASK] in tokenizer.json are training's.

Reported of other exports as huggingface/transformers 24565, 31513 and 12678: a
stray ▁ stands between [MASK] and a full stop or a suffix.
"""

import random
from collections.abc import Iterator

import pytest
import tokenizers

from albert_mn.formats import huggingface_tokenizer, rule_steps
from data_prep.encoding import masked_texts, tokenization
from tests import tokenizer_kinds

_MASK = "[MASK]"


@pytest.fixture(scope="module", params=tokenizer_kinds.KINDS)
def both(
  request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tokenization.Tokenizer, tokenizers.Tokenizer]:
  """A tokenizer, and its tokenizer.json as `tokenizers` reads it."""
  folder = tmp_path_factory.mktemp("masks")
  model, ours = tokenizer_kinds.KINDS[request.param].made(folder / "model")
  huggingface_tokenizer.write(str(folder), ours, model, 128)
  path = str(folder / "tokenizer.json")
  return ours, tokenizers.Tokenizer.from_file(path)


_Both = tuple[tokenization.Tokenizer, tokenizers.Tokenizer]

# A text, and what its words are in training: [MASK], or a stretch and whether it
# begins a word.
_TEXTS: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...] = (
  ("Монголын [MASK].", (("Монголын", True), (_MASK, True), (".", False))),
  ("[MASK].", ((_MASK, True), (".", False))),
  ("[MASK]ын хот", ((_MASK, True), ("ын", False), ("хот", True))),
  ("хотоос [MASK]ийн", (("хотоос", True), (_MASK, True), ("ийн", False))),
  ("[MASK] хот", ((_MASK, True), ("хот", True))),
  ("  [MASK]  хот ", ((_MASK, True), ("хот", True))),
  ("хот [MASK]", (("хот", True), (_MASK, True))),
  ("[MASK]", ((_MASK, True),)),
  ("[MASK] [MASK]", ((_MASK, True), (_MASK, True))),
  (
    "хот[MASK][MASK], аа",
    (("хот", True), (_MASK, True), (_MASK, True), (",", False), ("аа", True)),
  ),
  (
    "[MASK], [MASK]; [MASK]!",
    (
      (_MASK, True),
      (",", False),
      (_MASK, True),
      (";", False),
      (_MASK, True),
      ("!", False),
    ),
  ),
  (
    "(«[MASK]») гэв",
    (
      ("(", True),
      ("«", False),
      (_MASK, True),
      ("»", False),
      (")", False),
      ("гэв", True),
    ),
  ),
  (
    "хот\n[MASK]\nгол\t[MASK]",
    (("хот", True), (_MASK, True), ("гол", True), (_MASK, True)),
  ),
  ("[MASK]-д 2", ((_MASK, True), ("-д", False), ("2", True))),
  ("5[MASK]5", (("5", True), (_MASK, True), ("5", False))),
)


def _expected(
  ours: tokenization.Tokenizer, words: tuple[tuple[str, bool], ...]
) -> list[int]:
  ids: list[int] = []
  for stretch, begins in words:
    if stretch == _MASK:
      ids.append(ours.mask_id)
    else:  # WordPiece's punctuation is never the rest of a word
      apart = not stretch[0].isalnum() and not _joins(ours)
      ids += ours.inside(stretch, begins or apart)
  return ids


def _joins(ours: tokenization.Tokenizer) -> bool:
  """Returns whether a piece may join punctuation and a word.

  In WordPiece it may not.
  """
  return "##ын" not in ours.pieces(range(ours.vocab_size))


@pytest.mark.parametrize(("text", "words"), _TEXTS)
def test_the_pieces_around_a_mask_are_those_of_training(
  both: _Both,
  text: str,
  words: tuple[tuple[str, bool], ...],
  request: pytest.FixtureRequest,
) -> None:
  name = request.node.callspec.params["both"]
  if name == "all spaces" and text != " ".join(text.split()):
    pytest.skip("there a second space is a piece")
  ours, theirs = both
  encoding = theirs.encode(text, add_special_tokens=False)
  if name == "no space in front":
    words = ((words[0][0], False), *words[1:])
  expected = _expected(ours, words)
  assert encoding.ids == expected, encoding.tokens
  cls, *ids, sep = masked_texts.encode(ours, text).ids.tolist()
  assert (cls, ids, sep) == (ours.cls_id, expected, ours.sep_id)
  shown = [
    t
    for i, t in zip(encoding.ids, encoding.tokens, strict=True)
    if i == ours.mask_id
  ]
  assert shown == [_MASK] * text.count(_MASK)


def _masked(
  ours: tokenization.Tokenizer, draw: random.Random
) -> Iterator[tuple[str, list[int]]]:
  """Yields (a real line with [MASK] in place of a run of pieces, its ids)."""
  for path in sorted(tokenizer_kinds.CORPUS.glob("*.txt")):
    lines = path.read_text("utf-8").splitlines()
    for line in draw.sample(lines, min(200, len(lines))):
      ids = ours.encode([line])[0].tolist()
      if not ids or ours.special[ids].any() or "<0x" in str(ours.pieces(ids)):
        continue  # these pieces do not say which letter of the line they are
      begin = draw.randrange(len(ids))
      end = draw.randrange(begin, min(begin + 3, len(ids))) + 1
      if ours.pieces(ids[:begin])[-1:] == ["▁"]:
        continue  # a user's text cannot say whether it goes with [MASK]
      before, out, after = map(
        ours.pieces, (ids[:begin], ids[begin:end], ids[end:])
      )
      if not _joins(ours):
        text = " ".join([*before, *out[:1], *after])
        mask = ("##" if out[0].startswith("##") else "") + _MASK
        text = " ".join([*before, mask, *after]).replace(" ##", "")
      else:
        mask = ("▁" if out[0].startswith("▁") else "") + _MASK
        text = "".join([*before, mask, *after]).replace("▁", " ")
        text = text.removeprefix(" ")
      yield text, [*ids[:begin], ours.mask_id, *ids[end:]]


def test_a_run_of_pieces_is_replaced_as_by_trainings_masking(
  both: _Both,
) -> None:
  ours, theirs = both
  texts = dict(_masked(ours, random.Random(18)))
  assert len(texts) > 200
  for text, expected in texts.items():
    encoding = theirs.encode(text, add_special_tokens=False)
    assert encoding.ids == expected, (
      text,
      encoding.tokens,
      ours.pieces(expected),
    )
    assert masked_texts.encode(ours, text).ids[1:-1].tolist() == expected


def test_the_offsets_of_a_mask_are_its_place_in_the_text(both: _Both) -> None:
  ours, theirs = both
  text = "хотын [MASK]-аас, [MASK][MASK]."
  encoding = theirs.encode(text, add_special_tokens=False)
  places = [
    encoding.offsets[place]
    for place, number in enumerate(encoding.ids)
    if number == ours.mask_id
  ]
  assert places == [(6, 12), (18, 24), (24, 30)]
  assert encoding.offsets[-1] == (30, 31)


def test_letters_of_the_codes_are_not_taken_for_a_mask(both: _Both) -> None:
  ours, theirs = both
  codes = ("\ufff1", "\ufff2", "\ufff3", rule_steps.SEPARATOR)
  letters = [*codes, *map(chr, range(0xF0000, 0xF0009)), "[MASK", "MASK]", " "]
  if not _joins(ours):
    letters.append("[MA\xadSK]")  # the soft hyphen is dropped later
  draw = random.Random(12)
  texts = ["".join(draw.choices(letters, k=8)) for _ in range(300)]
  texts = [text for text in texts if _MASK not in text]
  for text, ids in zip(texts, ours.encode(texts), strict=True):
    encoding = theirs.encode(text, add_special_tokens=False)
    assert encoding.ids == ids.tolist(), ascii(text)
