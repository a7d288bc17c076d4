"""A stand-in for Zendesk's ticket API: a real HTTP server that behaves as the documentation says, and keeps a record.

`python -m streams.testing.zendesk` runs one as a process. Where the documentation is silent or contradicts itself, the
module that decides says so. Nothing here was compared with a live account.
"""
