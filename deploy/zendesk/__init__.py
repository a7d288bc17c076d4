"""What an account of Zendesk needs for `lapse ingest`: one table, as JSON that Zendesk's API takes."""
