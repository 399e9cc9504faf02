#!/usr/bin/env bash
# tokenizers 0.23.3: a Replace normalizer keeps only the last letter's position.
#
# Replace("абв", "xyz") turns "дабве" into "дxyze". Each of x, y and z gets the
# offsets of "в" alone, the last of the three letters that were replaced. The
# offsets of "а" and "б" belong to no token, so the span of a word that begins
# with a replaced pattern begins too late: an entity "абв" is reported as "в".
# Replacing one letter by several ("…" by "...") loses nothing. Seen on
# 2026-11-30:
#
#   абв → xyz in дабве    x, y, z: offsets (3, 4), expected within (1, 4)
#   two spaces → one      the space: (2, 3), expected (1, 3)
#   … → ... in а…б        each full stop: (1, 2), right
#
# In the product: data_prep/text/alignment.py aligns pieces with what the user
# typed and does not use these offsets.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

EXPECTED = {
  ("абв", "xyz", "дабве"): [(0, 1), (3, 4), (3, 4), (3, 4), (4, 5)],
  ("  ", " ", "а  б"): [(0, 1), (2, 3), (3, 4)],
  ("…", "...", "а…б"): [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)],
}
for (pattern, content, text), offsets in EXPECTED.items():
  tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
  tokenizer.normalizer = normalizers.Replace(pattern, content)
  # A token for each letter, so that each has offsets of its own.
  tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
  actual = tokenizer.encode(text).offsets
  print(repr(pattern), "->", repr(content), "in", repr(text), actual)
  assert actual == offsets, f"expected {offsets}"
PYTHON
