"""Makes the engine from triggers and settings."""

from __future__ import annotations

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.rounds import RoundPolicy
from streams.core.triggers import Ruleset
from streams.settings.settings import Settings


def make_engine(ruleset: Ruleset, settings: Settings) -> Engine:
    """Compile the triggers with the settings that affect decisions; without `act_from`, act from the beginning."""
    return Engine(
        Rules(ruleset),
        EngineSettings(
            rounds=RoundPolicy(
                join_wait=settings.join_wait,
                act_from=settings.act_from,
                dry_run=settings.dry_run,
            ),
            first_inactive_lapses=settings.first_inactive == "lapse",
            state_ttl=settings.state_ttl,
            abandonment_reasons=settings.abandonment_reasons,
            false_abandonment_window=settings.false_abandonment_window,
        ),
    )
