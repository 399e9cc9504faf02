#!/usr/bin/env bash
# google-cloud-storage 3.17.1: a streamed read does not compare CRC32C
#
# A server of the JSON API sends an object's CRC32C in x-goog-hash. If the body
# has other bytes, download_as_bytes() raises DataCorruption; blob.open("rb")
# returns the bytes without an error, since each of its chunks is a ranged
# download, whose checksum is not compared. Seen on 2026-12-01 with an object
# of 12 bytes of which one was changed:
#
#   download_as_bytes()      DataCorruption
#   open("rb").read()        12 bytes, the changed ones
#
# In the product: data_prep/files/gcs.py computes the CRC32C of what is
# streamed, and compares it with the object's at the end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  google-cloud-storage==3.17.1 google-crc32c==1.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import base64
import http.server
import json
import threading

import google_crc32c
from google.auth import credentials
from google.cloud import storage
from google.cloud.storage import exceptions

TRUE, CHANGED = "сайн у".encode() + b"1", "сайн у".encode() + b"2"
assert TRUE != CHANGED and len(TRUE) == len(CHANGED) == 12
checksum = base64.b64encode(
    google_crc32c.Checksum(TRUE).digest()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def do_GET(self):
    media = "alt=media" in self.path
    body = CHANGED if media else json.dumps({
        "name": "o", "bucket": "b", "size": "12", "generation": "1",
        "crc32c": checksum}).encode()
    part = media and "Range" in self.headers
    self.send_response(206 if part else 200)
    if part:
      self.send_header("Content-Range", "bytes 0-11/12")
    if media:
      self.send_header("x-goog-hash", f"crc32c={checksum}")
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def log_message(self, *args):
    pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = storage.Client(
    project="p", credentials=credentials.AnonymousCredentials(),
    client_options={"api_endpoint": f"http://127.0.0.1:{server.server_port}"})
blob = client.bucket("b").blob("o")
try:
  blob.download_as_bytes(checksum="crc32c")
  raised = False
except exceptions.DataCorruption:
  raised = True
with client.bucket("b").get_blob("o").open("rb") as reader:
  streamed = reader.read()
print("download_as_bytes raised DataCorruption:", raised)
print("open('rb') returned the changed bytes:", streamed == CHANGED)
assert raised and streamed == CHANGED
server.shutdown()
PYTHON
