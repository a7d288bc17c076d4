"""The command line. Each verb calls the package that does the work, and imports it only when called."""

# `lapse --help` lists the verbs in the order of these imports.
# isort: off
from streams.cli import worker as worker
from streams.cli import topics as topics
from streams.cli import rules as rules
from streams.cli import revisions as revisions
from streams.cli import trials as trials
from streams.cli import records as records
from streams.cli import mapping as mapping
from streams.cli import ingest as ingest
from streams.cli import apply as apply
from streams.cli import doctor as doctor
from streams.cli import operations as operations
from streams.cli import held as held

# isort: on
from streams.cli.root import app, main

__all__ = ["app", "main"]
