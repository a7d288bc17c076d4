"""`python -m streams` is `lapse`."""

from streams.cli import main

if __name__ == "__main__":
    main()
