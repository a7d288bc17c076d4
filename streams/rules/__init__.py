"""Trigger files: parsing, lints, inline tests, schema, and Zendesk's exports."""
