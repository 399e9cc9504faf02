#!/usr/bin/env bash
# mwparserfromhell 0.7.2: parser functions that are not read as templates.
#
# These are the functions whose text before the first "|" holds ">" or "<", or
# begins with a line break.
#
# MediaWiki's ParserFunctions allow both: {{#ifexpr:5 > 3|а|б}} shows "а"
# (https://www.mediawiki.org/wiki/Help:Extension:ParserFunctions). The parser
# applies the rules of page titles to what stands before the first "|", so the
# braces stay in the text, with both branches. The same condition with the entity
# &gt; is read. Seen on 2026-11-30:
#
#   {{#ifexpr:5 > 3|а|б}}      no template
#   {{#ifexpr:5 &gt; 3|а|б}}   a template named "#ifexpr:5 &gt; 3"
#   {{#if:⏎x|а|б}}             no template
#   {{#if:x⏎|а|б}}             a template
#
# In the product: data_prep/sources/wikitext.py and wikitext_templates.py prepare
# such functions before the page is parsed; tests/wikipedia_test.py holds the result.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  mwparserfromhell==0.7.2
"$folder/venv/bin/python" - <<'PYTHON'
import mwparserfromhell

EXPECTED = {
  "{{#ifexpr:5 > 3|а|б}}": [],
  "{{#ifexpr:5 < 3|а|б}}": [],
  "{{#ifexpr:5 &gt; 3|а|б}}": ["#ifexpr:5 &gt; 3"],
  "{{#if:\nx|а|б}}": [],
  "{{#if:x\n|а|б}}": ["#if:x\n"],
}
for wikitext, names in EXPECTED.items():
  parsed = mwparserfromhell.parse(wikitext)
  templates = [str(t.name) for t in parsed.filter_templates()]
  print(repr(wikitext), "->", templates)
  assert templates == names, f"expected {names}"
PYTHON
