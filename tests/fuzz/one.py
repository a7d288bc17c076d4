"""The process that fuzzes one target: `python -m tests.fuzz.one TARGET CORPUS [libFuzzer's options]`."""

from __future__ import annotations

import sys


def main() -> None:
    """Instrument our code, then fuzz; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["streams"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS

    target = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
