"""Serves a classifier over HTTP: a page to type into, and a JSON API.

    python -m bert_tweet.serve --model_dir=run/model --port=8000

After SIGTERM or Ctrl-C the server finishes the requests that it has begun, in
ten seconds at most.
"""

import uvicorn
from absl import logging

from albert_mn.tasks import classifier
from bert_tweet import connections, server
from data_prep.base import options

_GRACE = 10  # seconds


def main(settings: server.Options) -> None:
  """Binds the port, loads the model, and serves until SIGTERM or Ctrl-C."""
  # Bound before the model is loaded: a port that is taken is known at once.
  with connections.bind(settings.host, settings.port) as bound:
    predictor = classifier.Predictor.load(settings.model_dir)
    serving = server.Server(predictor, settings)
    serving.warm_up()
    host, port = bound.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host

    def started() -> None:
      logging.info(
        "serving %s at http://%s:%d/", settings.model_dir, place, port
      )

    connections.Server(
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
      ),
      connections.Limits(settings.max_connections),
    ).run(sockets=[bound])


if __name__ == "__main__":
  options.run(main, server.Options)
