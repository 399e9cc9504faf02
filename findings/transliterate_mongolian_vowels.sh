#!/usr/bin/env bash
# transliterate 1.10.2: Latin Mongolian comes back with every u as ү and every
# o as о.
#
# The package has a Mongolian table. у and ү are both written u, ө and о both o,
# so that the way back has to choose: it takes ү for each u and о for each o,
# whatever the other vowels of the word are, although vowel harmony decides
# most words (шувуу has back vowels only). щ and ы stay Cyrillic on the way to
# Latin, and the signs ъ and ь become i. Seen on 2026-12-01:
#
#   шувуу → shuwuu → шүвүү      өндөр → ondor → ондор
#   юу → yuu → юү               объект → obiyekt → обиект
#   щётка → щyotka              ыг → ыg
#
# In the product: the module latin_script of data_prep chooses by the word's
# other vowels (shuwuu → шувуу, ondor → өндөр), and no package is used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  transliterate==1.10.2
"$folder/venv/bin/python" - <<'PYTHON'
import transliterate

EXPECTED = {
  "шувуу": ("shuwuu", "шүвүү"), "өндөр": ("ondor", "ондор"),
  "юу": ("yuu", "юү"), "объект": ("obiyekt", "обиект"),
  "щётка": ("щyotka", "щётка"), "ыг": ("ыg", "ыг"),
  "хүүхэд": ("khuukhed", "хүүхэд"),
}
for word, expected in EXPECTED.items():
  latin = transliterate.translit(word, "mn", reversed=True)
  back = transliterate.translit(latin, "mn")
  print(word, "->", latin, "->", back)
  assert (latin, back) == expected
PYTHON
