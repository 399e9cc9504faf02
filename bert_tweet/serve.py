"""Serves a classifier over HTTP: a page to type into, and a JSON API.

    python -m bert_tweet.serve --model_dir=run/model --port=8000

After SIGTERM or Ctrl-C the server finishes the requests that it has begun, in
ten seconds at most.
"""

import ipaddress
import socket

import uvicorn
from absl import logging

from albert_mn.tasks import classifier
from bert_tweet import server
from data_prep.base import options

_GRACE = 10  # seconds


def main(settings: server.Options) -> None:
  """Binds the port, loads the model, and serves until a signal comes."""
  # Bound before the model is loaded: a port that is taken is known at once.
  with _bound(settings.host, settings.port) as bound:
    predictor = classifier.Predictor.load(settings.model_dir)
    serving = server.Server(predictor, settings)
    serving.warm_up()
    host, port = bound.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host

    def started() -> None:
      logging.info(
        "serving %s at http://%s:%d/", settings.model_dir, place, port
      )

    uvicorn.Server(
      uvicorn.Config(
        serving.app(started),
        # uvicorn's own lines would hold the query, and so the text.
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        loop="asyncio",
        http="h11",
        ws="none",
      )
    ).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
  try:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = addresses[0]
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(address)
  except OSError as error:
    raise options.InputError(
      f"to listen at {host}, port {port}",
      error.strerror or str(error),
      "give another --host or --port, or end what listens there",
    ) from error
  if not ipaddress.ip_address(address[0]).is_loopback:
    logging.warning("%s is open to the network, and there is no login", host)
  return bound


if __name__ == "__main__":
  options.run(main, server.Options)
