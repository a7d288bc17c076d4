"""A real Apache Kafka for tests and benchmarks: one broker, KRaft, loopback only, gone when the test is.

>>> from tests.kafka_kit import Broker
"""

from tests.kafka_kit.broker import Broker, KafkaKitError

__all__ = ["Broker", "KafkaKitError"]
