"""What befalls the simulated world, drawn from the seed: the weather of its network, and blows at points in time.

profile    weather             blows
quiet      delays              none
moves      delays              cells join, are drained and leave; slots and pins change
lossy      all fates           moves
kills      delays              kill orders raised and lifted, moves
crashes    delays              cells, the shard, supervisors, the root and the run die; moves
storm      all fates           everything, power cuts too
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .network import Weather
from .script import BUSY_S

BLOWS_BEGIN_S = 0.8

MOVES = ("join", "drain", "leave", "slots", "pin")
CRASHES = ("cell", "cell", "cell", "shard", "supervisor", "root", "run")
KILLS = ("kill", "kill", "lift")

CALM = Weather()
ROUGH = Weather(0.05, 0.02, 0.03, 0.02, 0.06, push_lost=0.15, delay_s=0.005, slow=0.05, slow_s=0.4)


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    weather: Weather
    blows: tuple[str, ...]
    blows_max: int
    strict: bool = False  # Nothing fails here, so nothing may be lost.


PROFILES = (
    Profile("quiet", CALM, (), 0, strict=True),
    Profile("moves", CALM, MOVES, 6, strict=True),
    Profile("lossy", ROUGH, MOVES, 3),
    Profile("kills", CALM, KILLS + MOVES, 8),
    Profile("crashes", CALM, CRASHES + MOVES, 7),
    Profile("storm", ROUGH, CRASHES + CRASHES + KILLS + MOVES + ("power",), 10),
)


@dataclass(frozen=True, slots=True)
class Blow:
    at_s: float
    kind: str


def profile_of(seed: int) -> Profile:
    return PROFILES[seed % len(PROFILES)]


def blows(profile: Profile, rng: random.Random) -> list[Blow]:
    count = rng.randint(1, profile.blows_max) if profile.blows else 0
    span_s = BUSY_S - BLOWS_BEGIN_S + 0.8
    drawn = [Blow(BLOWS_BEGIN_S + rng.random() * span_s, rng.choice(profile.blows)) for _ in range(count)]
    return sorted(drawn, key=lambda blow: blow.at_s)
