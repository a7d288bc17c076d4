"""`python -m tests.kafka_kit up`: a real Apache Kafka on a free loopback port until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading

from tests.kafka_kit.broker import Broker


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka_kit")
    parser.add_argument("verb", choices=["up"], help="start a broker and print its host:port")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a broker property")
    chosen = parser.parse_args()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with Broker(dict(pair.split("=", 1) for pair in chosen.set)) as broker:
        print(broker.bootstrap, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            over.wait()


if __name__ == "__main__":
    main()
