"""Realistic traffic for the two inputs. The same seed gives the same bytes; a broker is the limit on speed.

Every conversation is a small play: a customer opens it, an agent picks it up, they exchange messages, and then
somebody leaves, comes back, solves or ends it. All records of a play are generated when its conversation opens;
`generate` interleaves the plays by the time at which their records reach the broker.

Record sizes are those typical of helpdesks: about 545 bytes per ticket update, about 280 per session state.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from operator import itemgetter
from random import Random
from typing import NamedTuple

import msgspec

from streams.core.names import Topic

Millis = int

# The minimum number of records to generate before they are sorted and the finished part is yielded.
_CHUNK = 4096
_TEN_YEARS: Millis = 10 * 366 * 86_400_000
DEFAULT_START: Millis = 1_772_359_200_000  # 2026-03-01T10:00:00Z


class Record(NamedTuple):
    """A Kafka record to send. `timestamp`, in milliseconds, is when it reaches the broker."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    timestamp: Millis


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The kind of traffic to generate. Shares are between 0 and 1. Raises ValueError for an invalid number.

    `late`, `doubled` and `broken` are shares of all records: sent some seconds late, sent twice, and followed by a
    damaged copy that must become a dead letter.
    """

    seed: int = 1
    start: Millis = DEFAULT_START
    """The instant at which the first conversation opens."""
    tickets: int | None = None
    """Total number of conversations; None: unlimited."""
    first_ticket: int = 50_000
    """Ticket id of the first conversation; the following ids count up from it."""
    duration: float | None = None
    """Seconds of traffic; records that would reach the broker later are left out. None: until every play has ended."""
    rate: float = 1.0
    """Conversations opened per second."""
    pace: float = 1.0
    """How many times faster than real time people act: at 10, a return after one minute happens after 6 s."""
    messages: float = 8.0
    """Average number of messages per conversation between arriving and leaving."""
    leaving: float = 0.45
    """Probability that a customer leaves without a word, each time they are present."""
    returning: float = 0.5
    """Share of the customers who left that return, after seconds or minutes."""
    late: float = 0.004
    doubled: float = 0.006
    broken: float = 0.002

    def __post_init__(self) -> None:
        """Reject invalid numbers."""
        for field in ("leaving", "returning", "late", "doubled", "broken"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} is a share between 0 and 1, not {getattr(self, field)}")
        for field in ("rate", "pace", "messages"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be more than 0, not {getattr(self, field)}")
        for field in ("tickets", "duration"):
            if (value := getattr(self, field)) is not None and value < 0:
                raise ValueError(f"{field} must not be negative, not {value}")


def generate(profile: Profile) -> Iterator[Record]:
    """Yield the records in the order in which they reach the broker; endless if the profile sets no limit."""
    until = math.inf if profile.duration is None else profile.start + profile.duration * 1000
    # Plays are tuples (timestamp, number, topic, key, value). The number keeps records with equal timestamps in order.
    waiting: list[_Written] = []
    play = _Play(profile)
    opened = 0
    opening = float(profile.start)
    while (profile.tickets is None or opened < profile.tickets) and opening < until:
        # At least as many new records as are waiting, so that each is sorted a few times and not once per chunk.
        enough = max(_CHUNK, 2 * len(waiting))
        while len(waiting) < enough and opened != profile.tickets and opening < until:
            play.conversation(profile.first_ticket + opened, int(opening), waiting)
            opened += 1
            opening += play.exponential(1000 / profile.rate)
        # Later conversations have no record before `opening`, so all records before it are in their final order.
        waiting.sort()
        settled = bisect_left(waiting, min(opening, until), key=itemgetter(0))
        for timestamp, _, topic, key, value in waiting[:settled]:
            yield Record(_TOPICS[topic], key, value, timestamp)
        del waiting[:settled]
    for timestamp, _, topic, key, value in waiting:
        if timestamp >= until:
            return
        yield Record(_TOPICS[topic], key, value, timestamp)


# Atomic values only, with the topic as an index into _TOPICS. The cyclic garbage collector then does not track these
# tuples, which doubles the speed when hundreds of thousands are waiting.
_Written = tuple[Millis, int, int, bytes | None, bytes | None]
_TOPICS = (Topic.TICKETS, Topic.SESSIONS)
_TICKETS, _SESSIONS = 0, 1


# --- what people talk about -------------------------------------------------------------------------------------------

_SUBJECTS = (
    "Where is my parcel? The tracking page has not moved for days",
    "I was charged twice for one order and want the second one back",
    "The app signs me out every time I open it on my new phone",
    "Can I change the delivery address after the order was packed?",
    "The discount code from your newsletter is said to be expired",
    "One of the glasses in the box came broken, what do I do now?",
    "How do I cancel my subscription before the next payment is due?",
    "The invoice has our old company name on it, please send a new one",
)
_TAGS = ("web_messaging", "returns", "vip", "billing", "shipping", "bot_handover", "newsletter", "mobile_app")
_PRIORITIES = ("low", "normal", "normal", "normal", "high", "urgent")
_CHANNELS = ("web", "web", "web", "ios", "android", "whatsapp")
_GROUPS = tuple(str(36_000_412_000 + n) for n in range(7))
_AGENTS = tuple(str(40_077_310_000 + n) for n in range(40))

_LEFT = "user_inactive_or_offline"
_NOT_OPEN_ANY_MORE = "ticket_status_changed"
_AGENT_ENDED = "ended_by_agent"


class _Play:
    """Generates conversations, one at a time. One seeded generator is the only source of randomness."""

    # State of the current conversation.
    _into: list[_Written]
    _id: str
    _key: bytes
    _now: Millis
    _state: str
    _status: str
    _priority: str
    _assignee: str | None
    _tags: str
    _ticket_sequence: int
    _session_sequence: int
    _ticket_frame: str
    _session_frame: str

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._random = Random(profile.seed)  # noqa: S311 - traffic, not a secret
        self._number = 0
        self._iso = _Iso()
        # Cumulative shares, so that an ordinary record needs a single random draw.
        self._late = profile.late
        self._doubled = self._late + profile.doubled
        self._broken = self._doubled + profile.broken

    def exponential(self, mean: float) -> float:
        """Draw a duration from the exponential distribution."""
        return -math.log(1.0 - self._random.random()) * mean

    def conversation(self, ticket: int, opening: Millis, into: list[_Written]) -> None:
        """Append every record of one conversation that opens at `opening`."""
        chance = self._random.random
        profile = self._profile
        self._into = into
        self._begin(ticket, opening)

        self._session("active")
        if chance() < 0.04:
            # The ticket is created when the bot hands over. This customer is active, and may leave, before that.
            if chance() < 0.7:
                self._pass(2, 6)
                self._session("inactive", _LEFT)
            self._pass(3, 25)
        self._ticket()
        self._pass(4, 40)
        self._status = "open"
        self._assignee = _AGENTS[int(chance() * len(_AGENTS))]
        self._ticket()
        for _ in range(4):
            self._talk()
            if chance() >= profile.leaving:
                break
            self._leave()
            if chance() >= profile.returning:
                break
            # Half of those who return do so within seconds: they lost the connection and did not leave.
            if chance() < 0.5:
                self._pass(2, 45)
            else:
                self._pass(60, 900)
            self._session("active")
            self._status = "open"
            self._ticket()
        self._finish()

    # -- the scenes

    def _talk(self) -> None:
        chance = self._random.random
        for _ in range(1 + int(self.exponential(self._profile.messages - 0.5))):
            self._pass(4, 70)
            if chance() < 0.08:
                self._tags = f'{self._tags[:-1]},"{_TAGS[int(chance() * len(_TAGS))]}"]'
            if chance() < 0.05:
                self._priority = _PRIORITIES[int(chance() * len(_PRIORITIES))]
            self._ticket()
            if chance() < 0.3:
                self._session("active")

    def _leave(self) -> None:
        chance = self._random.random
        self._pass(15, 120)
        if chance() < 0.1:
            self._status = "pending"  # the agent asked a question and waits for an answer
            self._ticket()
            self._pass(1, 5)
        # Sources spell reasons in different ways.
        self._session("inactive", _LEFT if chance() < 0.8 else "User inactive or offline")
        if chance() < 0.05:
            self._pass(5, 30)
            self._session("inactive", _LEFT)

    def _finish(self) -> None:
        chance = self._random.random
        self._pass(10, 180)
        ended = chance() < 0.03
        if ended:
            self._session("ended", _AGENT_ENDED)
            self._pass(0.2, 1)
            self._session("inactive", _AGENT_ENDED)  # ending a session makes it inactive
        self._status = "solved"
        self._ticket()
        if self._state == "active":
            self._pass(0.5, 3)
            self._session("inactive", _NOT_OPEN_ANY_MORE)
        if not ended:
            self._pass(60, 600)
            self._session("ended", _AGENT_ENDED)
        self._pass(300, 1800)
        self._status = "closed"
        self._ticket()
        if chance() < 0.01:
            self._pass(30, 300)
            self._write(_TICKETS, None)
            self._write(_SESSIONS, None)

    # -- the records

    def _begin(self, ticket: int, opening: Millis) -> None:
        random = self._random
        self._id = str(ticket)
        self._key = self._id.encode()
        self._now = opening
        self._status = "new"
        self._priority = _PRIORITIES[int(random.random() * len(_PRIORITIES))]
        self._assignee = None
        self._tags = f'["{_TAGS[int(random.random() * len(_TAGS))]}"]'
        self._ticket_sequence = self._session_sequence = 0
        channel = _CHANNELS[int(random.random() * len(_CHANNELS))]
        requester = 41_000_000_000 + ticket
        self._ticket_frame = (
            f'"group_id":"{_GROUPS[int(random.random() * len(_GROUPS))]}","brand_id":"360002214112",'
            f'"ticket_form_id":"360000918233","requester_id":"{requester}","via":"native_messaging",'
            f'"subject":"{_SUBJECTS[int(random.random() * len(_SUBJECTS))]}",'
            f'"custom_fields":{{"360021":"{channel}_widget","360047":{int(random.random() * 9000)}}}'
        )
        self._session_frame = (
            f'"session_id":"{random.getrandbits(96):024x}","channel":"{channel}","user_id":"{requester}",'
            f'"source":"messaging-gateway","region":"eu-central","schema_version":1'
        )

    def _pass(self, least: float, most: float) -> None:
        """Advance time by `least` to `most` real-time seconds, scaled to the profile's pace, and by at least 1 ms."""
        seconds = (least + (most - least) * self._random.random()) / self._profile.pace
        self._now += 1 + int(seconds * 1000)

    def _ticket(self) -> None:
        self._ticket_sequence += 1
        now = self._iso(self._now)
        assignee = "null" if self._assignee is None else f'"{self._assignee}"'
        self._write(
            _TICKETS,
            f'{{"event_id":"t-{self._id}-{self._ticket_sequence}","ticket_id":"{self._id}","occurred_at":"{now}",'
            f'"sequence":{self._ticket_sequence},"command_id":null,"ticket":{{"status":"{self._status}",'
            f'"priority":"{self._priority}","type":"question","assignee_id":{assignee},{self._ticket_frame},'
            f'"tags":{self._tags},"updated_at":"{now}"}}}}',
        )

    def _session(self, state: str, reason: str | None = None) -> None:
        self._state = state
        self._session_sequence += 1
        spoken = "null" if reason is None else f'"{reason}"'
        self._write(
            _SESSIONS,
            f'{{"event_id":"s-{self._id}-{self._session_sequence}","ticket_id":"{self._id}",'
            f'"occurred_at":"{self._iso(self._now)}","sequence":{self._session_sequence},"state":"{state}",'
            f'"reason":{spoken},{self._session_frame}}}',
        )

    def _write(self, topic: int, text: str | None) -> None:
        value = None if text is None else text.encode()
        self._number = number = self._number + 1
        draw = self._random.random()
        if draw >= self._broken:
            self._into.append((self._now, number, topic, self._key, value))
        elif draw < self._late:
            self._into.append((self._later(5, 60), number, topic, self._key, value))
        elif draw < self._doubled:
            self._into.append((self._now, number, topic, self._key, value))
            self._number += 1
            self._into.append((self._later(0.05, 20), self._number, topic, self._key, value))
        else:
            self._into.append((self._now, number, topic, self._key, value))
            self._number += 1
            self._into.append((self._now, self._number, topic, *self._damaged(topic, value)))

    def _later(self, least: float, most: float) -> Millis:
        return self._now + 1 + int((least + (most - least) * self._random.random()) / self._profile.pace * 1000)

    def _damaged(self, topic: int, value: bytes | None) -> tuple[bytes | None, bytes]:
        """Return key and value of a record as a faulty source would send it."""
        sound = value or b"{}"
        required = b'"state"' if topic == _SESSIONS else b'"ticket"'
        damages: tuple[tuple[bytes | None, bytes], ...] = (
            (self._key, sound[: len(sound) * 2 // 3]),  # cut off: not_json
            (self._key, sound.replace(required, b'"payload"', 1)),  # invalid
            (None, sound),  # missing_key
            (b"0" + self._key, sound),  # key_mismatch
            (self._key, sound.replace(self._iso(self._now).encode(), self._iso(self._now + _TEN_YEARS).encode(), 1)),
        )
        return damages[int(self._random.random() * len(damages))]


class _Iso:
    """Converts milliseconds to RFC 3339 text. Many instants share the same second, so seconds are cached."""

    def __init__(self) -> None:
        self._seconds: dict[int, str] = {}

    def __call__(self, millis: Millis) -> str:
        second, rest = divmod(millis, 1000)
        text = self._seconds.get(second)
        if text is None:
            if len(self._seconds) > 50_000:
                self._seconds.clear()
            text = self._seconds[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{text}.{rest:03d}Z" if rest else f"{text}Z"
