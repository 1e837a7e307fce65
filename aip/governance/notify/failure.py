"""Why a receiver was not told."""

from __future__ import annotations

from ...errors import Undelivered

GIVEN_UP = frozenset({410})  # "Gone" is the one answer by which a receiver says that it wants no more.


class NotTold(Undelivered):
    """`final`: trying again is pointless."""

    code = "undelivered.notification"
    retryable = True

    def __init__(self, message: str, *, final: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint, final=final)
        self.final = final
