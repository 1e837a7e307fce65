"""A simulator that passes everything proves nothing: each mutant of the road must break a promise, and the right one."""

from __future__ import annotations

import mutants
import pytest

from aip.simulation.road import simulate

SEEDS_MAX = 150

# Which rows may be the first to notice.
ROWS_OF: dict[mutants.Mutant, set[str]] = {
    mutants.a_frame_is_taken_twice: {"D1", "D2", "D4"},
    mutants.a_mailbox_takes_what_comes_late: {"D1", "D4", "O1"},
    mutants.a_hand_over_drops_the_mail: {"D2"},
    mutants.an_incarnation_is_given_twice: {"A2"},
    mutants.an_activation_starts_without_its_state: {"A5"},
    mutants.a_fenced_incarnation_still_counts: {"A3"},
    mutants.an_order_is_looked_at_by_the_sender_only: {"K1"},
    mutants.an_order_is_never_read_again: {"K1"},
    mutants.an_answer_is_given_twice: {"D1"},
    mutants.a_stall_queue_loses_its_order: {"O1", "O3"},
    mutants.a_full_mailbox_swallows: {"D2", "O3"},
    mutants.a_lost_frame_is_nobodys_business: {"D2", "D5"},
    mutants.a_lost_frame_is_sent_again: {"D1", "D2", "D4"},
    mutants.an_intent_is_not_waited_for: {"E1"},
    mutants.a_done_effect_is_done_again: {"E2"},
    mutants.a_doubtful_effect_is_done_again: {"E3"},
    mutants.a_cancellation_is_not_sent: {"O5"},
    mutants.a_deadline_is_not_watched: {"D1"},
    mutants.a_death_fails_no_call: {"D5"},
    mutants.two_turns_at_once: {"O2"},
    mutants.a_circle_of_chains_is_not_probed: {"O4"},
    mutants.a_chain_does_not_see_itself: {"O4"},
    mutants.a_stream_ends_well_with_parts_missing: {"D3"},
    mutants.a_permit_is_kept: {"leak"},
    mutants.an_old_membership_is_adopted: {"A4", "D5", "O1", "live"},
    mutants.a_run_dispatches_before_it_writes: {"J1"},
}

# Where to look first: the seed that noticed when all were last searched in order. Any other of them does as well.
LAST_NOTICED_AT: dict[mutants.Mutant, int] = {
    mutants.a_mailbox_takes_what_comes_late: 38,
    mutants.a_hand_over_drops_the_mail: 74,
    mutants.a_fenced_incarnation_still_counts: 613,
    mutants.an_order_is_looked_at_by_the_sender_only: 17,
    mutants.an_order_is_never_read_again: 11,
    mutants.a_lost_frame_is_nobodys_business: 14,
    mutants.a_doubtful_effect_is_done_again: 23,
    mutants.a_death_fails_no_call: 71,
    mutants.a_stream_ends_well_with_parts_missing: 20,
    mutants.an_old_membership_is_adopted: 265,
}


@pytest.mark.parametrize("mutant", ROWS_OF, ids=lambda mutant: mutant.__name__)
def test_the_simulator_notices_when(mutant: mutants.Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in (LAST_NOTICED_AT.get(mutant, 0), *range(SEEDS_MAX)):
        violations = simulate(seed).violations
        if violations:
            assert violations[0].row in ROWS_OF[mutant], f"seed {seed}: {violations[0]}"
            return
    raise AssertionError(f"{SEEDS_MAX} seeds did not notice")


def test_every_mutant_is_tried() -> None:
    named = {
        each
        for name, each in vars(mutants).items()
        if callable(each) and getattr(each, "__module__", "") == "mutants"
    }
    assert named == set(ROWS_OF)
    assert len(named) >= 10
