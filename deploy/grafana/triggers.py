"""Triggers: what the rules do about customers who left, and what happens to the commands."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.intervals import Share, difference
from deploy.grafana.panels import Part, dashboard, graph, number, ranking, row
from deploy.grafana.queries import RATE, SHOWN, increase, quantile, ratio, series, total

BY_THE_HOUR = "By the hour: each point is the hour that ends there."
TRIGGER = 'trigger=~"$trigger"'
OUTCOMES = (
    "Rounds by outcome: commanded; no_op (fired, nothing would change); no_match; unjoined (no ticket came in time); "
    "cancelled (the customer returned, or another episode began); closed; historic (before act_from); dry_run; "
    "held_out (left alone by the holdout); held (by a limit)."
)


def make() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "lapse-triggers",
        "Triggers",
        "Rounds and how they end, what fires, and how soon the commands are carried out.",
        since="now-24h",
        variables=("lapse_triggers_fired_total.trigger",),
        parts=(*_headline(), *_rounds(), *_commands(), *_held(), *_holdout(), *_shadow(), *_revisions()),
    )


def share(outcome: str, over: str = RATE) -> str:
    """Return the share of rounds that ended so, among all that ended."""
    part = increase("lapse_rounds_total", f'outcome="{outcome}"', over=over)
    return ratio(part, increase("lapse_rounds_total", over=over))


def fired(over: str = RATE) -> str:
    """Return how often each trigger fired."""
    return increase("lapse_triggers_fired_total", TRIGGER, by="trigger", over=over)


def applied(over: str) -> str:
    """Return commands that came back, of those written."""
    return ratio(increase("lapse_commands_applied_total", over=over), increase("lapse_commands_total", over=over))


def _headline() -> tuple[Part, ...]:
    return (
        row("In the time shown"),
        number(
            "Fired",
            "Triggers that fired, dry runs included.",
            "short",
            {"fired": increase("lapse_triggers_fired_total", TRIGGER, over=SHOWN)},
            decimals=0,
        ),
        number(
            "Commands",
            "Commands written: one for each round that fired and would change something.",
            "short",
            {"commands": increase("lapse_commands_total", over=SHOWN)},
            decimals=0,
        ),
        number(
            "Carried out",
            "Commands whose id came back in a ticket update / commands written, both in the time shown.",
            "percentunit",
            {"applied": applied(SHOWN)},
            limits=(0.9, 0.98),
            low_is_bad=True,
            decimals=1,
        ),
        number(
            "Unjoined",
            "Rounds that ended because no row of their ticket came within join_wait / all rounds.",
            "percentunit",
            {"unjoined": share("unjoined", SHOWN)},
            limits=(0.01, 0.05),
            decimals=1,
        ),
        number(
            "Triggers that never fired",
            "Triggers of the file that did not fire in the time shown; the ranking below names them.",
            "short",
            {"silent": f"count({fired(SHOWN)} == 0) or vector(0)"},
        ),
        number(
            "Rounds waiting",
            "Rounds that wait for their time or for their ticket, now.",
            "short",
            {"waiting": total(series("lapse_pending_rounds"))},
        ),
    )


def _rounds() -> tuple[Part, ...]:
    return (
        row("What fires"),
        graph(
            "Rounds by outcome",
            f"{OUTCOMES} {BY_THE_HOUR}",
            "short",
            {"{{outcome}}": increase("lapse_rounds_total", by="outcome")},
            stacked=True,
            hourly=True,
        ),
        graph(
            "Rounds that led to no command, as shares",
            f"Of all rounds that ended. {OUTCOMES} {BY_THE_HOUR}",
            "percentunit",
            {
                name: share(outcome)
                for name, outcome in (
                    ("no match", "no_match"),
                    ("no-op", "no_op"),
                    ("unjoined", "unjoined"),
                    ("cancelled", "cancelled"),
                    ("closed", "closed"),
                )
            },
            at_most=1,
            hourly=True,
        ),
        graph(
            "Fired, by trigger",
            f"How often each trigger fired, dry runs included. {BY_THE_HOUR}",
            "short",
            {"{{trigger}}": fired()},
            hourly=True,
        ),
        ranking(
            "Fired in the time shown, by trigger",
            "How often each trigger of the file fired in the time shown, most often first; those at 0 are silent.",
            "short",
            {"{{trigger}}": f"sort_desc({fired(SHOWN)})"},
        ),
    )


def _commands() -> tuple[Part, ...]:
    return (
        row("What becomes of it"),
        graph(
            "Commands written and carried out",
            "Carried out: the command's id came back in a ticket update. A gap that stays means that the consumer of "
            f"action-commands does not keep up, refuses them, or does not name them in its updates. {BY_THE_HOUR}",
            "short",
            {
                "written": increase("lapse_commands_total"),
                "carried out": increase("lapse_commands_applied_total"),
            },
            hourly=True,
            width=8,
        ),
        graph(
            "From command to applied",
            "From a command's issued_at to the occurred_at of the ticket update that carries its id; only those that "
            f"came back are in it. {BY_THE_HOUR}",
            "s",
            {f"{share:.0%} within": quantile(share, "lapse_command_apply_seconds") for share in (0.5, 0.9, 0.99)},
            hourly=True,
            width=8,
        ),
        graph(
            "Rounds waiting, and workers by ruleset",
            "Rounds that wait for their time or their ticket; and how many workers run which triggers, by the digest "
            "that every command carries. Two digests for long mean a rollout that got stuck.",
            "short",
            {
                "rounds waiting": total(series("lapse_pending_rounds")),
                "workers with {{ruleset}}": f"count by (ruleset) ({series('lapse_ruleset_info')})",
            },
            width=8,
        ),
    )


def _held() -> tuple[Part, ...]:
    return (
        row("With a limit"),
        graph(
            "Commands held, by trigger",
            "For triggers with a limit: commands that went to held-commands, because the trigger fired more often than "
            f"its limit allows. Release or discard them with lapse held. {BY_THE_HOUR}",
            "short",
            {"{{trigger}}": increase("lapse_held_commands_total", by="trigger")},
            hourly=True,
        ),
        ranking(
            "Held in the time shown, by trigger",
            "How many commands each trigger's limit held in the time shown, most first.",
            "short",
            {"{{trigger}}": f"sort_desc({increase('lapse_held_commands_total', by='trigger', over=SHOWN)})"},
        ),
    )


def returned(group: str) -> Share:
    """Return the share of a group's abandonments after which the customer came back."""
    of_group = f'group="{group}"'
    return Share(
        increase("lapse_holdout_returns_total", of_group, over=SHOWN),
        increase("lapse_holdout_abandonments_total", of_group, over=SHOWN),
    )


def _holdout() -> tuple[Part, ...]:
    acted_on, held_out = returned("acted_on"), returned("held_out")
    apart = difference(acted_on, held_out)
    return (
        row("With a holdout"),
        number(
            "Difference of the return rates",
            "Return rate of acted_on less that of held_out, over the time shown, with its interval at 95 % (Newcombe): "
            "below 0, fewer customers come back when Lapse acts. While the interval contains 0, chance alone could "
            "have made the difference. docs/does-it-help.md says how to read it, and after how many tickets.",
            "percentunit",
            {"from": apart["low"], "difference": apart["difference"], "to": apart["high"]},
            width=10,
            decimals=1,
        ),
        _return_rate("acted on", "Abandonments that led to a command", acted_on),
        _return_rate("held out", "Abandonments that would have led to a command without the holdout", held_out),
        number(
            "Abandonments held out",
            "In the time shown. The smaller group decides how narrow the intervals are; with fewer than a hundred only "
            "a very large difference can be seen.",
            "short",
            {"held out": held_out.whole},
            limits=(100, 400),
            low_is_bad=True,
            decimals=0,
        ),
        graph(
            "Abandonments, by group",
            "For a trigger file with a holdout: abandonments that led to a command (acted_on), and those that would "
            f"have led to one without the holdout (held_out). Each counts once. {BY_THE_HOUR}",
            "short",
            {"{{group}}": increase("lapse_holdout_abandonments_total", by="group")},
            hourly=True,
        ),
        graph(
            "Returns of these customers, by group",
            "How many of these customers came back, by group and by whether they did so within "
            "false_abandonment_window. Compare shares of the abandonments beside this panel, not numbers. Returns on a "
            f"new ticket are not seen. {BY_THE_HOUR}",
            "short",
            {"{{group}}, within the window: {{within}}": increase("lapse_holdout_returns_total", by="group, within")},
            hourly=True,
        ),
    )


def _return_rate(name: str, whose: str, share: Share) -> Part:
    return number(
        f"Return rate, {name}",
        f"{whose}: the share after which the customer was active again, over the time shown, with its interval at 95 % "
        "(Wilson).",
        "percentunit",
        {"from": share.low, "rate": share.rate, "to": share.high},
        width=5,
        decimals=1,
    )


def _shadow() -> tuple[Part, ...]:
    return (
        row("With a shadow"),
        graph(
            "Rounds of the shadow, beside the live rules",
            "A shadow is a candidate that is evaluated beside the live rules; nothing is commanded for it. Same: "
            "neither acts, or both with equal actions. Where only one acts, or both with different actions, "
            f"session-transitions has a record. {BY_THE_HOUR}",
            "short",
            {"{{result}}": increase("lapse_shadow_rounds_total", by="result")},
            hourly=True,
        ),
        graph(
            "Triggers of the shadow that would have fired",
            f"How often each trigger of the shadow fired; nothing came of it. {BY_THE_HOUR}",
            "short",
            {"{{trigger}}": increase("lapse_shadow_triggers_fired_total", by="trigger")},
            hourly=True,
        ),
    )


def _revisions() -> tuple[Part, ...]:
    return (
        row("Revisions"),
        graph(
            "Revision in use",
            "By partition, with rules from their topic; 0 with rules from a file. All should be on the same one.",
            "short",
            {"{{partition}}": f"max by (partition) ({series('lapse_rules_revision')})"},
            width=8,
        ),
        graph(
            "Newest revision not in use",
            "How long the newest revision has been effective without being in use in every partition.",
            "s",
            {"behind": f"max({series('lapse_rules_behind_seconds')})"},
            width=8,
        ),
        graph(
            "Refused entries",
            "Entries of the rules topic that a worker ignores or can't compile, by worker.",
            "short",
            {"{{instance}}": f"max by (instance) ({series('lapse_rules_refused_entries')})"},
            width=8,
        ),
    )
