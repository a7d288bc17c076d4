"""Between Zendesk's JSON and trigger files: what its API exports, and what it takes back."""
