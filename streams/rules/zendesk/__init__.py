"""Converts between Zendesk's JSON and trigger files, in both directions."""
