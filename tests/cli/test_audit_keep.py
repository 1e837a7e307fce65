"""`aip audit erase | retain`: what is taken from a log, by a platform or with none, and that every proof holds behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from platform_double import T0, Double

from aip.governance.audit import Batch, Noted, log_path, read, verify
from aip.governance.entry import DROPPED, ERASED
from aip.governance.erasure import KeyFolder, Vault, personal
from aip.governance.key_file import signer_of
from aip.governance.log_writer import LogWriter
from aip.governance.segments import sealed
from aip.settings import Home

Type = Callable[..., Result]
ADA = "ada@example.org"
DAY_S = 86_400.0


@pytest.fixture
def vault(home: Home) -> Vault:
    return Vault(KeyFolder(home.root / "keys" / "persons"), os.urandom)


def writer_of(home: Home) -> LogWriter:
    signer = signer_of(home.root / "keys" / "audit.key", "aip/audit", os.urandom)
    return LogWriter(home.audit, signer, segment_bytes_max=2_000)


@pytest.fixture
def log(home: Home, vault: Vault) -> Path:
    """A log of a year, an entry a week, every tenth about a person; nobody writes it any more."""
    writer = writer_of(home)
    for n in range(52):
        detail = personal(ADA, {"address": "Bee Street 4"}) if n % 10 == 0 else {}
        note = Noted(n, T0 - (52 - n) * 7 * DAY_S, "effect.done", "mail/1", detail)
        writer.take(Batch("cell-1#1", [vault.sealed(note)]))
    writer.sync()
    statement = writer.statement()
    assert statement is not None
    writer.publish(*statement)
    writer.close()
    return log_path(home.audit)


@pytest.fixture
def down(platform: Double) -> None:
    platform.up = False


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def kinds(log: Path) -> list[str]:
    return [entry["kind"] for entry in read(log)]


def values(log: Path, vault: Vault) -> list[Any]:
    return [vault.opened(entry) for entry in read(log) if "personal" in entry["detail"]]


# Erasing --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("down")
def test_an_erased_person_can_be_read_by_nobody_and_every_proof_holds(
    log: Path, vault: Vault, home: Home, typed: Type
) -> None:
    before = [segment.path.read_bytes() for segment in sealed(log)]
    assert values(log, vault) == [{"address": "Bee Street 4"}] * 6
    answer = told(typed("audit", "erase", ADA, "--reason", "request 4711", "--yes", "-o", "json"))
    assert (answer["entries"], answer["erased"]) == (6, True)
    again = Vault(KeyFolder(home.root / "keys" / "persons"), os.urandom)
    assert values(log, again) == [None] * 6
    assert [segment.path.read_bytes() for segment in sealed(log)][: len(before)] == before
    last = list(read(log))[-1]
    assert (last["kind"], last["subject"], last["detail"]["reason"]) == (
        ERASED,
        answer["key"],
        "request 4711",
    )
    assert ADA not in log.read_text("utf-8")
    report = verify(log)
    assert report.ok
    assert report.checkpoint == report.first + report.entries


@pytest.mark.usefixtures("down")
def test_a_dry_run_says_what_would_be_erased_and_erases_nothing(log: Path, vault: Vault, typed: Type) -> None:
    answer = told(typed("audit", "erase", ADA, "--dry-run", "-o", "json"))
    assert answer == {"key": vault.key_id(ADA), "entries": 6, "erased": False}
    assert ERASED not in kinds(log)


@pytest.mark.parametrize(
    "words", [("erase", ADA), ("retain", "--days", "200"), ("erase", ADA, "-o", "json")], ids=" ".join
)
@pytest.mark.usefixtures("down")
def test_what_cannot_be_taken_back_waits_for_a_yes(log: Path, typed: Type, words: tuple[str, ...]) -> None:
    before = log.read_bytes()
    result = typed("audit", *words)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert log.read_bytes() == before


def test_a_person_of_whom_nothing_is_sealed_is_a_wrong_name(log: Path, typed: Type) -> None:
    result = typed("audit", "erase", "adda@example.org", "--yes")
    assert result.exit_code == 2
    assert "nothing in the log" in result.stderr


@pytest.mark.parametrize("words", [("erase", ADA), ("retain", "--days", "200")], ids=" ".join)
@pytest.mark.usefixtures("down")
def test_a_log_that_a_process_still_has_is_left_to_it(
    log: Path, home: Home, typed: Type, words: tuple[str, ...]
) -> None:
    holder = writer_of(home)
    before = [entry["hash"] for entry in read(log)]
    result = typed("audit", *words, "--yes")
    holder.close()
    assert result.exit_code == 1
    assert "audit.held" in result.stderr
    assert [entry["hash"] for entry in read(log)] == before


@pytest.mark.usefixtures("down")
def test_a_log_that_was_cut_is_evidence_and_is_not_worked_on(log: Path, vault: Vault, typed: Type) -> None:
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    assert typed("audit", "erase", ADA, "--yes").exit_code == 8
    assert vault.key_id(ADA) is not None


def test_a_running_platform_is_asked_to_do_it(
    log: Path, platform: Double, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = []
    dropped = iter([30, 2, 0])

    def ask(name: str, method: str, /, **arguments: Any) -> Any:
        asked.append((name, method, arguments))
        return {"key": "k"} if method == "erase" else {"dropped": next(dropped)}

    monkeypatch.setattr(platform, "ask", ask, raising=False)
    assert typed("audit", "erase", ADA, "--reason", "r", "--yes").exit_code == 0
    assert told(typed("audit retain --days 200 --yes -o json"))["dropped"] == 32
    assert [(name, method) for name, method, _ in asked] == [("audit", "erase")] + [("audit", "retain")] * 3
    assert asked[0][2]["person"] == ADA
    assert asked[0][2]["by"].startswith("user:")
    assert asked[1][2]["keep_days"] == 200


# Retention ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("down")
def test_old_bodies_go_by_the_segment_and_what_is_left_verifies(log: Path, typed: Type) -> None:
    many = len(sealed(log))
    due = told(typed("audit retain --days 200 --dry-run -o json"))
    assert 0 < due["segments"] < many
    assert due["dropped"] == 0
    assert len(sealed(log)) == many
    done = told(typed("audit retain --days 200 --yes -o json"))
    assert (done["entries"], done["dropped"]) == (due["entries"], due["entries"])
    report = verify(log)
    assert report.ok
    assert report.first == due["entries"]
    assert all(T0 - entry["at"] < 220 * DAY_S for entry in read(log))
    last = list(read(log))[-1]
    assert (last["kind"], last["detail"]["by"][:5]) == (DROPPED, "user:")


@pytest.mark.usefixtures("down")
def test_what_is_not_old_enough_stays_without_a_question(log: Path, typed: Type) -> None:
    result = typed("audit retain --days 4000")
    assert result.exit_code == 0
    assert "nothing is old enough" in result.stdout


@pytest.mark.usefixtures("down")
def test_less_than_six_months_has_to_be_said(log: Path, typed: Type) -> None:
    result = typed("audit retain --days 30 --yes")
    assert result.exit_code == 2
    assert "short" in result.stderr
    assert told(typed("audit retain --days 30 --short --yes -o json"))["dropped"] > 0
    assert verify(log).ok
