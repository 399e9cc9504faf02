#!/usr/bin/env bash
# apache-beam 2.77.0: DirectRunner asks github.com for a program, and without an
# answer computes with another runner.
#
# DirectRunner passes most pipelines on to PrismRunner, whose program, Prism, is
# fetched when the first pipeline runs. If it cannot be fetched, DirectRunner
# goes on with FnApiRunner, so that the same script uses one runner on a machine
# with a network and another without. FnApiRunner, named by its class, asks for
# nothing. Seen on 2026-12-01, with a proxy on loopback that answers no request:
#
#   DirectRunner    CONNECT github.com:443    result 6
#   FnApiRunner     no request                result 6
#
# In the product: data_prep/base/beam_flags.py refuses runners that fetch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  apache-beam==2.77.0
HOME=$folder "$folder/venv/bin/python" - <<'PYTHON'
import os
import socketserver
import subprocess
import sys
import threading

PIPELINE = """
import sys
import apache_beam
from apache_beam.options import pipeline_options
options = pipeline_options.PipelineOptions([f"--runner={sys.argv[1]}"])
with apache_beam.Pipeline(options=options) as pipeline:
  total = pipeline | apache_beam.Create([1, 2, 3]) | apache_beam.CombineGlobally(sum)
  total | apache_beam.Map(lambda number: print("result", number))
"""
requests = []


class Recorder(socketserver.StreamRequestHandler):
  def handle(self):
    requests.append(self.rfile.readline().decode("latin-1").strip())


def run(runner):
  requests.clear()
  with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Recorder) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = f"http://127.0.0.1:{server.server_address[1]}"
    environment = os.environ | {
        "http_proxy": proxy, "https_proxy": proxy,
        "no_proxy": "localhost,127.0.0.1,::1"}
    done = subprocess.run(
        [sys.executable, "-c", PIPELINE, runner], env=environment, text=True,
        capture_output=True, check=True)
    server.shutdown()
  print(runner, [line.split()[:2] for line in requests], done.stdout.strip())
  return {tuple(line.split()[:2]) for line in requests}, done.stdout.strip()


direct = run("DirectRunner")
named = run("apache_beam.runners.portability.fn_api_runner.FnApiRunner")
assert direct == ({("CONNECT", "github.com:443")}, "result 6")
assert named == (set(), "result 6")
PYTHON
