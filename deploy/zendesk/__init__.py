"""What an account of Zendesk needs for `lapse ingest` and `lapse apply`: tables, as JSON that Zendesk's API takes."""
