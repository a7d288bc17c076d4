"""Zendesk in and out: its webhooks become input records."""
