"""The engine without Kafka: backtest over a capture."""
