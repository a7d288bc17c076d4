"""Text files that people write: reading them, YAML with positions, durations, problems and suggestions."""
