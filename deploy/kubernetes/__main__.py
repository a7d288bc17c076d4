"""Makes the PrometheusRule from the files in `deploy/prometheus`: `python -m deploy.kubernetes`.

With `--check` nothing is written; the exit code is 1 when the file is not what would be written.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

PROMETHEUS = Path(__file__).parents[1] / "prometheus"
RULE = Path(__file__).with_name("components") / "monitoring" / "prometheusrule.yaml"

HEAD = """\
# Made from deploy/prometheus by `python -m deploy.kubernetes`; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: lapse
  labels: {app.kubernetes.io/name: lapse}
spec:
  groups:
"""


def rendered() -> str:
    """Return the text of the PrometheusRule."""
    groups = [
        (PROMETHEUS / name).read_text("utf-8").partition("groups:\n")[2] for name in ("recording.yaml", "alerts.yaml")
    ]
    return HEAD + "\n".join(textwrap.indent(text, "  ") for text in groups)


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        RULE.write_text(rendered(), "utf-8")
    elif RULE.read_text("utf-8") != rendered():
        sys.exit(f"{RULE} is not what deploy/prometheus says; run python -m deploy.kubernetes")
