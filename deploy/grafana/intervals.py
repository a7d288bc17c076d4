"""Intervals of confidence in PromQL, at 95 %: Wilson's for a rate, Newcombe's for the difference of two rates.

Wilson, E. B. (1927): Probable inference, the law of succession, and statistical inference. JASA 22.
Newcombe, R. G. (1998): Interval estimation for the difference between independent proportions, method 10.
Statistics in Medicine 17.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.grafana.queries import ratio

_Z = 1.959964
"""Of the normal distribution 95 % lie within so many standard deviations."""

_ZZ, _HALF, _QUARTER = (f"{_Z**2 / part:.6f}" for part in (1, 2, 4))


@dataclass(frozen=True)
class Share:
    """So many of so many, both as PromQL that gives one value without labels."""

    part: str
    whole: str

    @property
    def rate(self) -> str:
        """The share. A part can pass its whole when it began before the window; that counts as all of it."""
        return f"clamp_max({ratio(self.part, self.whole)}, 1)"

    @property
    def low(self) -> str:
        """Lower bound of the rate."""
        return self._bound("-")

    @property
    def high(self) -> str:
        """Upper bound of the rate."""
        return self._bound("+")

    def _bound(self, sign: str) -> str:
        spread = f"sqrt({self.whole} * {self.rate} * (1 - {self.rate}) + {_QUARTER})"
        reach = f"({self.whole} * {self.rate} + {_HALF} {sign} {_Z} * {spread})"
        return f"clamp({ratio(reach, f'{self.whole} + {_ZZ}')}, 0, 1)"


def difference(one: Share, other: Share) -> dict[str, str]:
    """Return the difference of two rates with its bounds, by what each is; no data while either group is empty."""
    measured = f"{one.rate} - {other.rate}"
    return {
        "low": f"{measured} - {_beyond(one.rate, one.low, other.high, other.rate)}",
        "difference": measured,
        "high": f"{measured} + {_beyond(one.high, one.rate, other.rate, other.low)}",
    }


def _beyond(above: str, below: str, other_above: str, other_below: str) -> str:
    return f"sqrt(({above} - {below}) ^ 2 + ({other_above} - {other_below}) ^ 2)"
