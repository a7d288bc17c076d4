"""Kafka clients: broker connections, topics, bulk reads, and the transactional producer."""
