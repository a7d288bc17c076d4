"""Kafka clients: reaching brokers, topics, reading logs in bulk, and the transactional producer."""
