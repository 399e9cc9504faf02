#!/usr/bin/env bash
# warcio 1.8.1 and FastWARC 2.0.1: an archive that was packed again is read by
# the second only.
#
# Common Crawl's .warc.gz files have a gzip member for each record. gunzip
# followed by gzip, as mirrors and file systems do it, leaves one member with
# the same content. warcio raises ArchiveLoadFailed after the first record; FastWARC reads
# all. Seen on 2026-12-01, three records:
#
#   a member for each record    warcio 3 records          FastWARC 3
#   one member                  warcio ArchiveLoadFailed  FastWARC 3
#
# In the product: data_prep/sources/web_archives.py reads both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  warcio==1.8.1 fastwarc==2.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import gzip
import io

import warcio
from fastwarc import warc
from warcio import exceptions, warcwriter

content = io.BytesIO()
writer = warcwriter.WARCWriter(content, gzip=True)
for number in range(3):
  response = f"HTTP/1.1 200 OK\r\n\r\n<p>Мэдээ {number}".encode()
  writer.write_record(writer.create_warc_record(
      f"http://example.mn/{number}", "response",
      payload=io.BytesIO(response)))
members = content.getvalue()
for name, archive, raises in [
  ("a member for each record", members, False),
  ("one member", gzip.compress(gzip.decompress(members)), True),
]:
  fast = len(list(warc.ArchiveIterator(io.BytesIO(archive))))
  count, failed = 0, False
  try:
    for _ in warcio.ArchiveIterator(io.BytesIO(archive)):
      count += 1
  except exceptions.ArchiveLoadFailed:
    failed = True
  print(f"{name}: FastWARC {fast}, warcio {count}, raised: {failed}")
  assert (fast, failed) == (3, raises)
PYTHON
