"""The ledger: one example per rule, then any history at all, driven by hypothesis."""

from __future__ import annotations

import collections
import dataclasses
import inspect

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from insetgan_batch.methods.insetgan.sources import Source, new_item
from insetgan_batch.records import Item, Lease, Outcome, Status
from insetgan_batch.runtime import leases
from insetgan_batch.runtime.failures import REASONS, Caps
from insetgan_batch.runtime.leases import Counts, Decision, Ledger

LEASE_S = Caps().lease_s


def _item(item_id: str) -> Item:
    return new_item(item_id=item_id, canvas=Source(), insets={})


def _ledger(ids: str = "", caps: Caps | None = None, **crashes: int) -> Ledger:
    """A ledger in which every letter of `ids` is a waiting item."""
    ledger = Ledger(3, caps or Caps(max_crashes_alone=1), crashes)
    ledger.add(map(_item, ids))
    return ledger


def _ids(granted: list[Lease]) -> str:
    return "".join(lease.item.item_id for lease in granted)


def _end(lease: Lease, status: Status = Status.COMMITTED, reason: str = "") -> Outcome:
    return Outcome(lease.item.item_id, lease.attempt, status, reason)


# Granting


def test_items_are_granted_in_order_and_never_more_than_the_free_slots() -> None:
    ledger = _ledger("abcd")
    assert _ids(ledger.grant("w", 3, 0.0)) == "abc"
    assert ledger.grant("w", 0, 0.0) == []
    assert _ids(ledger.grant("v", 3, 0.0)) == "d"
    assert ledger.counts == Counts(waiting=0, leased=4, done=0, quarantined=0, suspects=0)
    assert _ids(ledger.leases_of("w")) == "abc"


def test_attempts_rise_over_the_whole_ledger_and_carry_the_epoch() -> None:
    ledger = _ledger("abc")
    granted = ledger.grant("w", 2, 0.0) + ledger.grant("v", 2, 0.0)
    assert [lease.attempt for lease in granted] == ["3-1", "3-2", "3-3"]
    ledger.finish(_end(granted[0], Status.FAILED))
    assert ledger.grant("w", 1, 0.0)[0].attempt == "3-4"


def test_only_the_first_lease_of_the_first_driver_says_that_none_had_the_item() -> None:
    firsts = []
    for epoch in (1, 2):
        ledger = Ledger(epoch, Caps())
        ledger.add([_item("a")])
        (first,) = ledger.grant("w", 1, 0.0)
        ledger.finish(_end(first, Status.FAILED))
        (second,) = ledger.grant("w", 1, 0.0)
        firsts.append((first.is_first, second.is_first))
    assert firsts == [(True, False), (False, False)]


def test_a_lease_says_who_has_it_and_until_when() -> None:
    (lease,) = _ledger("a").grant("w", 1, 100.0)
    assert (lease.worker_id, lease.expires_at_s) == ("w", 100.0 + LEASE_S)


def test_new_items_go_to_the_end_and_a_known_id_is_refused() -> None:
    ledger = _ledger("abc")
    done, quarantined = ledger.grant("w", 2, 0.0)
    ledger.finish(_end(done))
    ledger.finish(_end(quarantined, Status.QUARANTINED))
    ledger.add([_item("d")])
    for known in "abcd":
        with pytest.raises(ValueError, match=f"'{known}' is already in the ledger"):
            ledger.add([_item(known)])
    assert _ids(ledger.grant("w", 9, 0.0)) == "cd"


def test_an_empty_ledger_is_finished_and_new_work_reopens_it() -> None:
    ledger = _ledger()
    assert ledger.is_finished
    ledger.add([_item("a")])
    assert not ledger.is_finished
    (lease,) = ledger.grant("w", 1, 0.0)
    assert not ledger.is_finished
    ledger.finish(_end(lease))
    assert ledger.is_finished


# Outcomes


@pytest.mark.parametrize("status", [Status.COMMITTED, Status.DUPLICATE])
def test_a_commit_ends_the_item_and_its_repetition_is_ignored(status: Status) -> None:
    ledger = _ledger("a")
    (lease,) = ledger.grant("w", 1, 0.0)
    assert ledger.finish(_end(lease, status)) == Decision("done", "a", attempts=1)
    assert ledger.finish(_end(lease, status)) == Decision("ignore", "a")
    assert ledger.finish(_end(lease, Status.QUARANTINED)).kind == "ignore"
    assert ledger.counts == Counts(0, 0, done=1, quarantined=0, suspects=0)
    assert ledger.leases_of("w") == []


def test_a_late_commit_takes_the_item_out_of_the_queue() -> None:
    ledger = _ledger("ab")
    (lease,) = ledger.grant("w", 1, 0.0)
    ledger.lose_worker("w", crashed=False)
    assert ledger.finish(_end(lease)).kind == "done"
    assert _ids(ledger.grant("v", 9, 0.0)) == "b"


def test_a_late_commit_ends_the_lease_of_another_worker() -> None:
    ledger = _ledger("a")
    (early,) = ledger.grant("w", 1, 0.0)
    ledger.expire(LEASE_S)
    (late,) = ledger.grant("v", 1, LEASE_S)
    assert ledger.finish(_end(early)).kind == "done"
    assert ledger.leases_of("v") == []
    assert ledger.is_finished
    assert ledger.finish(_end(late, Status.DUPLICATE)).kind == "ignore"


def test_a_commit_that_arrives_after_the_quarantine_wins() -> None:
    ledger = _ledger("a", Caps(max_infra_retries=0))
    (lease,) = ledger.grant("w", 1, 0.0)
    assert ledger.expire(LEASE_S)[0].kind == "quarantine"
    assert ledger.finish(_end(lease)).kind == "done"
    assert ledger.counts == Counts(0, 0, done=1, quarantined=0, suspects=0)


def test_a_row_failure_quarantines_at_once_with_its_reason() -> None:
    ledger = _ledger("a")
    (lease,) = ledger.grant("w", 1, 0.0)
    decision = ledger.finish(_end(lease, Status.QUARANTINED, "no_face"))
    assert decision == Decision("quarantine", "a", "no_face", attempts=1)
    assert ledger.is_finished


def test_a_failure_is_tried_again_until_the_retries_are_exhausted() -> None:
    ledger = _ledger("a", Caps(max_infra_retries=2))
    decisions = []
    for _ in range(3):
        (lease,) = ledger.grant("w", 1, 0.0)
        decisions.append(ledger.finish(_end(lease, Status.FAILED, "storage")))
    assert decisions == [
        Decision("requeue", "a", "storage", attempts=1),
        Decision("requeue", "a", "storage", attempts=2),
        Decision("quarantine", "a", "retries_exhausted", attempts=3),
    ]


def test_a_failed_item_goes_to_the_end_of_the_queue() -> None:
    ledger = _ledger("abc")
    (lease,) = ledger.grant("w", 1, 0.0)
    ledger.finish(_end(lease, Status.FAILED))
    assert _ids(ledger.grant("w", 9, 0.0)) == "bca"


@pytest.mark.parametrize("status", [Status.QUARANTINED, Status.FAILED])
def test_a_stale_attempt_does_not_end_the_newer_lease(status: Status) -> None:
    ledger = _ledger("a")
    (stale,) = ledger.grant("w", 1, 0.0)
    ledger.expire(LEASE_S)
    (live,) = ledger.grant("v", 1, LEASE_S)
    assert ledger.finish(_end(stale, status)).kind == "ignore"
    assert ledger.leases_of("v") == [live]


def test_a_late_row_failure_quarantines_an_item_that_waits() -> None:
    ledger = _ledger("a")
    (lease,) = ledger.grant("w", 1, 0.0)
    ledger.lose_worker("w", crashed=False)
    assert ledger.finish(_end(lease, Status.QUARANTINED, "no_face")).kind == "quarantine"
    assert ledger.is_finished


def test_a_late_failure_of_an_item_that_waits_is_not_counted_again() -> None:
    ledger = _ledger("a", Caps(max_infra_retries=1))
    (lease,) = ledger.grant("w", 1, 0.0)
    ledger.expire(LEASE_S)
    assert ledger.finish(_end(lease, Status.FAILED)).kind == "ignore"
    assert ledger.counts.waiting == 1


@pytest.mark.parametrize("status", list(Status))
def test_an_outcome_of_an_unknown_item_changes_nothing(status: Status) -> None:
    ledger = _ledger("a")
    (lease,) = ledger.grant("w", 1, 0.0)
    assert ledger.finish(Outcome("x", "3-9", status)) == Decision("ignore", "x")
    assert ledger.finish(Outcome("x", lease.attempt, status)) == Decision("ignore", "x")
    assert ledger.leases_of("w") == [lease]
    assert [d.item_id for d in ledger.lose_worker("w", crashed=False)] == ["a"]


# Expiry


def test_an_expired_lease_returns_to_the_front_at_the_cost_of_a_retry() -> None:
    ledger = _ledger("abc", Caps(max_infra_retries=1))
    ledger.grant("w", 2, 0.0)
    assert ledger.expire(LEASE_S - 0.1) == []
    expired = ledger.expire(LEASE_S)
    assert {(d.kind, d.item_id, d.reason) for d in expired} == {
        ("requeue", "a", "lease_expired"),
        ("requeue", "b", "lease_expired"),
    }
    assert _ids(ledger.grant("v", 3, LEASE_S)) == "abc"
    again = ledger.expire(2 * LEASE_S)
    assert {(d.kind, d.item_id) for d in again} == {
        ("quarantine", "a"),
        ("quarantine", "b"),
        ("requeue", "c"),
    }


def test_a_renewed_lease_lives_longer_and_the_others_do_not() -> None:
    ledger = _ledger("ab")
    kept, _ = ledger.grant("w", 2, 0.0)
    ledger.renew("w", [kept.attempt, "3-99"], LEASE_S - 1)
    assert [d.item_id for d in ledger.expire(LEASE_S)] == ["b"]
    assert [d.item_id for d in ledger.expire(2 * LEASE_S - 1)] == ["a"]


def test_only_the_holder_renews_a_lease_and_nobody_shortens_it() -> None:
    ledger = _ledger("a")
    (lease,) = ledger.grant("w", 1, 100.0)
    ledger.renew("v", [lease.attempt], 200.0)
    ledger.renew("w", [lease.attempt], 50.0)
    assert ledger.leases_of("w") == [lease]


def test_an_expired_item_is_not_granted_to_the_worker_that_may_still_have_it() -> None:
    ledger = _ledger("ab")
    (lease,) = ledger.grant("w", 1, 0.0)
    ledger.expire(LEASE_S)
    assert ledger.attempts_inside("w") == [lease.attempt]
    assert _ids(ledger.grant("w", 9, LEASE_S)) == "b"
    ledger.renew("w", [], LEASE_S)
    assert ledger.attempts_inside("w") == ["3-2"]
    assert _ids(ledger.grant("w", 9, LEASE_S)) == "a"


def test_a_slow_worker_gets_its_expired_leases_back_and_the_retries_too() -> None:
    ledger = _ledger("ab", Caps(max_infra_retries=1))
    attempts = [lease.attempt for lease in ledger.grant("w", 2, 0.0)]
    for n in range(1, 4):
        assert [d.kind for d in ledger.expire(n * LEASE_S)] == ["requeue"] * 2
        ledger.renew("w", attempts, n * LEASE_S)
        assert [lease.attempt for lease in ledger.leases_of("w")] == attempts
        assert ledger.leases_of("w")[0].expires_at_s == (n + 1) * LEASE_S
    assert ledger.counts == Counts(waiting=0, leased=2, done=0, quarantined=0, suspects=0)


def test_a_slow_worker_does_not_get_back_what_another_has_by_now() -> None:
    ledger = _ledger("a")
    (early,) = ledger.grant("w", 1, 0.0)
    ledger.expire(LEASE_S)
    (late,) = ledger.grant("v", 1, LEASE_S)
    ledger.renew("w", [early.attempt], LEASE_S)
    assert (ledger.leases_of("w"), ledger.leases_of("v")) == ([], [late])
    assert ledger.attempts_inside("w") == [early.attempt]


def test_a_suspect_is_not_given_back_to_a_slow_worker_that_has_company_for_it() -> None:
    ledger = _ledger("abc")
    suspect, _ = ledger.grant("w", 2, 0.0)
    ledger.renew("w", ["3-2"], LEASE_S - 1)
    ledger.expire(LEASE_S)
    ledger.grant("v", 2, LEASE_S)
    ledger.lose_worker("v", crashed=True)
    ledger.renew("w", [suspect.attempt, "3-2"], LEASE_S)
    assert _ids(ledger.leases_of("w")) == "b"
    ledger.finish(Outcome("b", "3-2", Status.COMMITTED))
    ledger.renew("w", [suspect.attempt], LEASE_S)
    assert _ids(ledger.leases_of("w")) == "a"


# Lost workers, suspects, poison items


def test_a_preempted_worker_costs_its_items_nothing() -> None:
    ledger = _ledger("abc", Caps(max_infra_retries=0))
    for _ in range(5):
        ledger.grant("w", 2, 0.0)
        lost = ledger.lose_worker("w", crashed=False)
        assert {(d.kind, d.reason, d.suspect_crashes) for d in lost} == {
            ("requeue", "worker_lost", 0)
        }
    assert ledger.counts == Counts(waiting=3, leased=0, done=0, quarantined=0, suspects=0)
    assert _ids(ledger.grant("w", 9, 0.0)) == "abc"


def test_an_unknown_or_idle_worker_is_lost_without_consequence() -> None:
    ledger = _ledger("a")
    assert ledger.lose_worker("w", crashed=True) == []
    assert ledger.counts.suspects == 0


def test_a_crash_makes_suspects_of_all_that_were_inside_and_of_nothing_else() -> None:
    ledger = _ledger("abcd")
    left, _, _ = ledger.grant("w", 3, 0.0)
    ledger.finish(_end(left))
    decisions = ledger.lose_worker("w", crashed=True)
    assert {(d.kind, d.item_id, d.reason, d.suspect_crashes) for d in decisions} == {
        ("requeue", "b", "worker_crashed", 1),
        ("requeue", "c", "worker_crashed", 1),
    }
    assert ledger.counts == Counts(waiting=3, leased=0, done=1, quarantined=0, suspects=2)


def test_a_suspect_comes_first_on_an_idle_worker_and_stays_alone() -> None:
    ledger = _ledger("abcd")
    ledger.grant("w", 2, 0.0)
    ledger.lose_worker("w", crashed=True)
    (suspect,) = ledger.grant("w", 8, 0.0)
    assert _ids([suspect]) == "a"
    assert ledger.grant("w", 7, 0.0) == []
    assert _ids(ledger.grant("v", 8, 0.0)) == "b"
    assert _ids(ledger.grant("u", 8, 0.0)) == "cd"
    ledger.finish(_end(suspect))
    ledger.add([_item("e")])
    assert _ids(ledger.grant("w", 8, 0.0)) == "e"


def test_a_crash_alone_quarantines_the_poison_item_and_its_neighbour_is_done() -> None:
    ledger = _ledger("ab")
    ledger.grant("w", 2, 0.0)
    ledger.lose_worker("w", crashed=True)
    ledger.grant("w", 2, 0.0)
    (neighbour,) = ledger.grant("v", 2, 0.0)
    assert ledger.lose_worker("w", crashed=True) == [
        Decision("quarantine", "a", "crashed_its_worker", attempts=2, suspect_crashes=2)
    ]
    assert ledger.finish(_end(neighbour)).kind == "done"
    assert ledger.counts == Counts(0, 0, done=1, quarantined=1, suspects=0)


def test_an_item_that_is_alone_by_chance_is_quarantined_by_its_second_crash() -> None:
    ledger = _ledger("a")
    ledger.grant("w", 8, 0.0)
    (decision,) = ledger.lose_worker("w", crashed=True)
    assert (decision.kind, decision.suspect_crashes) == ("requeue", 1)
    ledger.grant("w", 8, 0.0)
    (decision,) = ledger.lose_worker("w", crashed=True)
    assert (decision.kind, decision.reason) == ("quarantine", "crashed_its_worker")


def test_kills_of_an_item_that_is_alone_quarantine_it_only_after_many_in_a_row() -> None:
    ledger = _ledger("a", Caps())
    reasons = []
    for _ in range(1 + Caps().max_kills_alone):  # the first makes a suspect of it
        ledger.grant("w", 8, 0.0)
        (decision,) = ledger.lose_worker("w", crashed=True, killed=True)
        reasons.append((decision.kind, decision.reason))
    assert reasons == [("requeue", "worker_killed")] * Caps().max_kills_alone + [
        ("quarantine", "crashed_its_worker")
    ]


def test_an_item_survives_three_kills_by_somebody_else() -> None:
    ledger = _ledger("a", Caps())
    for _ in range(3):
        ledger.grant("w", 8, 0.0)
        ledger.lose_worker("w", crashed=True, killed=True)
    (lease,) = ledger.grant("w", 8, 0.0)
    assert ledger.finish(_end(lease)).kind == "done"


@pytest.mark.parametrize("others", ["", "b", "bc"])
def test_where_others_are_killed_too_it_is_the_machine_and_not_the_item(others: str) -> None:
    """Another worker is killed in between: an idle one, or one with items of its own."""
    caps = Caps(max_infra_retries=100)
    ledger = Ledger(3, caps, {"a": 1})
    ledger.add([_item("a")])
    for n in range(20):
        assert _ids(ledger.grant("w", 1, 0.0)) == "a"
        if n % (caps.max_kills_alone - 1) == 0:
            ledger.add(_item(f"{name}{n}") for name in others)
            assert len(ledger.grant("v", 2, 0.0)) == len(others)
            ledger.lose_worker("v", crashed=True, killed=True)
            for _ in others:  # they are tried again alone, and done
                (lease,) = ledger.grant("v", 2, 0.0)
                ledger.finish(_end(lease))
        (decision,) = ledger.lose_worker("w", crashed=True, killed=True)
        assert (decision.item_id, decision.kind) == ("a", "requeue")


def test_two_items_that_kill_their_workers_by_turns_come_to_an_end_too() -> None:
    ledger = Ledger(3, Caps(), {"a": 1, "b": 1})
    ledger.add(map(_item, "ab"))
    ended = []
    for _ in range(Caps().max_infra_retries + 1):
        for worker in "wv":
            ledger.grant(worker, 1, 0.0)
        for worker in "wv":
            ended += [
                d for d in ledger.lose_worker(worker, True, killed=True) if d.kind != "requeue"
            ]
    assert [(d.item_id, d.reason) for d in ended] == [
        ("a", "retries_exhausted"),
        ("b", "retries_exhausted"),
    ]


def test_a_crash_with_a_word_counts_as_ever_whatever_was_killed_before() -> None:
    ledger = _ledger("a", Caps())
    kinds = []
    for killed in (True, True, False, True, False):
        ledger.grant("w", 8, 0.0)
        kinds += [d.kind for d in ledger.lose_worker("w", crashed=True, killed=killed)]
    assert kinds == ["requeue"] * 4 + ["quarantine"]


def test_a_returned_item_comes_first_is_resumed_and_has_cost_nothing() -> None:
    ledger = Ledger(3, Caps(), saved={"b"})
    ledger.add(map(_item, "ab"))
    (lease,) = ledger.grant("u", 1, 0)
    assert not lease.is_resumed
    for number in range(Caps().max_infra_retries + 2):
        returned = dataclasses.replace(
            _end(lease, Status.RETURNED, "preempted"), is_saved=number == 0
        )
        assert ledger.finish(returned).kind == "requeue"
        assert ledger.finish(returned).kind == "ignore"
        (lease,) = ledger.grant("v", 1, 0)
        assert (lease.item.item_id, lease.is_resumed) == ("a", True)
    assert [lease.is_resumed for lease in ledger.grant("v", 2, 0)] == [True]


def test_a_suspect_that_is_preempted_is_neither_quarantined_nor_cleared() -> None:
    ledger = _ledger("ab", a=1)
    ledger.grant("w", 8, 0.0)
    (decision,) = ledger.lose_worker("w", crashed=False)
    assert (decision.kind, decision.suspect_crashes) == ("requeue", 1)
    assert _ids(ledger.grant("w", 8, 0.0)) == "a"


def test_crashes_of_an_earlier_driver_make_a_suspect() -> None:
    ledger = _ledger("abc", b=1, unrelated=1)
    assert ledger.counts.suspects == 1
    assert _ids(ledger.grant("w", 8, 0.0)) == "b"
    assert ledger.counts.suspects == 1
    assert ledger.grant("w", 7, 0.0) == []
    assert _ids(ledger.grant("v", 8, 0.0)) == "ac"


def test_caps_above_one_allow_more_crashes_before_suspicion_and_quarantine() -> None:
    ledger = _ledger("ab", Caps(max_crashes=2, max_crashes_alone=2))
    ledger.grant("w", 2, 0.0)
    ledger.lose_worker("w", crashed=True)
    assert _ids(ledger.grant("w", 2, 0.0)) == "ab"
    ledger.lose_worker("w", crashed=True)
    kinds = []
    for _ in range(2):
        assert _ids(ledger.grant("w", 2, 0.0)) == "a"
        kinds += [d.kind for d in ledger.lose_worker("w", crashed=True)]
    assert kinds == ["requeue", "quarantine"]


def test_a_stale_attempt_is_a_co_resident_and_a_suspect() -> None:
    ledger = _ledger("ab")
    ledger.grant("w", 2, 0.0)
    ledger.renew("w", ["3-2"], LEASE_S - 1)
    ledger.expire(LEASE_S)
    decisions = ledger.lose_worker("w", crashed=True)
    assert {(d.kind, d.item_id) for d in decisions} == {("requeue", "a"), ("requeue", "b")}
    assert ledger.counts.suspects == 2


def test_a_stale_attempt_whose_item_runs_elsewhere_is_judged_there() -> None:
    ledger = _ledger("ab")
    ledger.grant("w", 1, 0.0)
    ledger.expire(LEASE_S)
    ledger.grant("v", 2, LEASE_S)
    assert ledger.lose_worker("w", crashed=True) == []
    assert _ids(ledger.leases_of("v")) == "ab"
    assert ledger.counts.suspects == 0


def test_a_suspect_waits_until_the_stale_attempts_of_an_idle_worker_have_gone() -> None:
    ledger = _ledger("ab")
    (slow,) = ledger.grant("w", 1, 0.0)
    ledger.expire(LEASE_S)
    ledger.grant("v", 2, LEASE_S)
    ledger.lose_worker("v", crashed=True)
    (suspect,) = ledger.grant("v", 2, LEASE_S)
    ledger.finish(_end(suspect))
    assert ledger.attempts_inside("w") == [slow.attempt]
    assert ledger.grant("w", 2, LEASE_S) == []
    ledger.finish(_end(slow, Status.DUPLICATE))
    assert _ids(ledger.grant("w", 2, LEASE_S)) == "b"


def test_one_busy_worker_is_run_empty_for_suspects_and_the_others_go_on() -> None:
    ledger = _ledger("abcdefgh")
    held = {worker: ledger.grant(worker, 2, 0.0) for worker in ("u", "v")}
    ledger.grant("w", 2, 0.0)
    ledger.lose_worker("w", crashed=True)
    for worker in held:
        ledger.finish(_end(held[worker].pop()))
    assert ledger.grant("u", 1, 0.0) == []
    assert _ids(ledger.grant("v", 1, 0.0)) == "g"
    ledger.finish(_end(held["u"].pop()))
    (first,) = ledger.grant("u", 2, 0.0)
    ledger.finish(_end(held["v"].pop()))
    assert _ids(ledger.grant("v", 1, 0.0)) == "h"
    ledger.finish(_end(first))
    assert _ids([first, *ledger.grant("u", 2, 0.0)]) == "ef"


def test_a_worker_that_is_run_empty_and_lost_is_replaced_by_another() -> None:
    ledger = _ledger("abcdef", f=1)
    (_, *rest) = ledger.grant("u", 1, 0.0)
    assert rest == []
    ledger.lose_worker("u", crashed=False)
    ledger = _ledger("abcd")
    ledger.grant("u", 1, 0.0)
    ledger.grant("v", 1, 0.0)
    ledger.grant("w", 2, 0.0)
    ledger.lose_worker("w", crashed=True)
    assert ledger.grant("u", 1, 0.0) == []
    ledger.lose_worker("u", crashed=False)
    assert ledger.grant("v", 1, 0.0) == []
    assert _ids(ledger.grant("u", 1, 0.0)) == "c"


def test_suspects_do_not_starve_while_new_work_keeps_coming() -> None:
    ledger = _ledger("abcd", y=1, z=1)
    running = {worker: collections.deque(ledger.grant(worker, 2, 0.0)) for worker in ("u", "v")}
    ledger.add([_item("y"), _item("z")])
    for n in range(12):
        ledger.add([_item(f"new-{n}-{k}") for k in range(2)])
        for worker, held in running.items():
            ledger.finish(_end(held.popleft()))
            held.extend(ledger.grant(worker, 2 - len(held), 0.0))
            if not held:
                held.extend(ledger.grant(worker, 2, 0.0))
    assert ledger.counts.suspects == 0
    assert ledger.counts.done == 24


def test_the_ledger_has_no_clock() -> None:
    source = inspect.getsource(leases)
    assert not [name for name in ("import time", "datetime", "random") if name in source]


# Any history at all

WORKERS = ("u", "v", "w")
SLOTS = 3
CAPS = Caps(
    max_infra_retries=1, max_crashes=1, max_crashes_alone=1, max_kills_alone=2, lease_s=10.0
)
# Stored by an earlier driver.
CRASHES = {"1": 1, "4": 2}

workers = st.sampled_from(WORKERS)
picks = st.integers(0, 1000)
statuses = st.sampled_from(Status)
fates = st.sampled_from(["read", "late", "lost"])


class LedgerHistory(RuleBasedStateMachine):
    """Workers, a mail that loses, repeats and reorders, and a store; the ledger sees only events.

    The workers' real contents are kept apart from the ledger's belief: a lease may expire while its
    attempt goes on, and an attempt may vanish without a word.
    """

    @initialize(count=st.integers(1, 8))
    def start(self, count: int) -> None:
        self.ledger = Ledger(7, CAPS, CRASHES)
        self.now_s = 0.0
        self.state: dict[str, str] = {}
        self.crashes = collections.Counter(CRASHES)
        self.grants: collections.Counter[str] = collections.Counter()
        self.infra_retries: collections.Counter[str] = collections.Counter()
        self.free_losses: collections.Counter[str] = collections.Counter()
        self.killed_alone: list[list[str]] = []  # by killed worker: the suspect that was alone
        self.inside: dict[str, list[Lease]] = {worker: [] for worker in WORKERS}
        self.committed: set[str] = set()
        self.mail: list[Outcome] = []
        self.read: list[Outcome] = []
        self.attempts: set[str] = set()
        self.items: dict[str, str] = {}  # by attempt
        self.absent: set[str] = set()
        self.feed(count)

    @precondition(lambda self: len(self.state) < 30)
    @rule(count=st.integers(1, 4))
    def feed(self, count: int) -> None:
        fresh = [str(len(self.state) + n) for n in range(count)]
        self.ledger.add(map(_item, fresh))
        self.state.update(dict.fromkeys(fresh, "waiting"))

    @rule(pick=picks)
    def feed_again_what_is_known(self, pick: int) -> None:
        known = list(self.state)[pick % len(self.state)]
        with pytest.raises(ValueError, match="already in the ledger"):
            self.ledger.add([_item(known)])

    @rule(worker=workers)
    def ask(self, worker: str) -> None:
        inside = {lease.item.item_id for lease in self.inside[worker]}
        self.absent.discard(worker)
        free_slots = SLOTS - len(self.inside[worker])
        granted = self.ledger.grant(worker, free_slots, self.now_s)
        assert len(granted) <= free_slots
        assert not granted or not any(self.crashes[item_id] for item_id in inside)
        for lease in granted:
            item_id = lease.item.item_id
            assert self.state[item_id] == "waiting"
            assert lease.attempt not in self.attempts
            assert item_id not in inside
            if self.crashes[item_id]:
                assert not inside
                assert len(granted) == 1
            self.attempts.add(lease.attempt)
            self.items[lease.attempt] = item_id
            self.state[item_id] = "leased"
            self.grants[item_id] += 1
        self.inside[worker].extend(granted)

    @rule(worker=workers, pick=picks, status=statuses, fate=fates)
    def ask_and_end_an_attempt(self, worker: str, pick: int, status: Status, fate: str) -> None:
        self.ask(worker)
        if not self.inside[worker]:
            return
        lease = self.inside[worker].pop(pick % len(self.inside[worker]))
        if fate != "lost":
            self.mail.append(self._outcome(lease, status))
        if fate == "read":
            self.read_any_letter(-1)

    @precondition(lambda self: self.mail)
    @rule(pick=picks)
    def read_any_letter(self, pick: int) -> None:
        outcome = self.mail.pop(pick % len(self.mail))
        self.read.append(outcome)
        self._read(outcome)

    @precondition(lambda self: self.read)
    @rule(pick=picks)
    def read_a_letter_again(self, pick: int) -> None:
        self._read(self.read[pick % len(self.read)])

    @precondition(lambda self: self.attempts)
    @rule(pick=picks, status=statuses)
    def read_nonsense(self, pick: int, status: Status) -> None:
        attempt = sorted(self.attempts)[pick % len(self.attempts)]
        assert self.ledger.finish(Outcome("nobody", attempt, status)).kind == "ignore"

    @rule(worker=workers)
    def renew(self, worker: str) -> None:
        alive = [lease.attempt for lease in self.inside[worker]]
        self.ledger.renew(worker, alive, self.now_s)
        for lease in self.ledger.leases_of(worker):
            item_id = lease.item.item_id
            if self.state[item_id] == "waiting":
                assert lease.attempt in alive
                self.state[item_id] = "leased"
                self.infra_retries[item_id] -= 1

    @rule(worker=workers)
    def crash(self, worker: str) -> None:
        inside = {lease.item.item_id for lease in self.inside[worker]}
        live = {lease.item.item_id for lease in self.ledger.leases_of(worker)}
        waiting = {item_id for item_id, state in self.state.items() if state == "waiting"}
        suspects = {item_id for item_id in live if self.crashes[item_id]}
        decisions = self._lose(worker, crashed=True)
        blamed = {decision.item_id for decision in decisions}
        poison = {decision.item_id for decision in decisions if decision.kind == "quarantine"}
        assert live | (inside & waiting) <= blamed <= live | waiting
        assert suspects <= poison, "it had crashed with co-residents, and now alone"
        assert not poison or inside <= blamed == poison, "it had co-residents"
        for decision in decisions:
            self.crashes[decision.item_id] += 1
            assert decision.suspect_crashes == self.crashes[decision.item_id]

    @rule(worker=workers)
    def kill(self, worker: str) -> None:
        """From outside: nothing is quarantined by it but a suspect that it hits again and again."""
        inside = [self.items[attempt] for attempt in self.ledger.attempts_inside(worker)]
        alone = inside if len(inside) == 1 and self.crashes[inside[0]] else []
        decisions = self._lose(worker, crashed=True, killed=True)
        self.killed_alone.append(alone)
        for decision in decisions:
            self.crashes[decision.item_id] += 1
            if decision.kind == "requeue":
                self.infra_retries[decision.item_id] += decision.item_id in alone
            elif decision.reason == "crashed_its_worker":
                last = self.killed_alone[-CAPS.max_kills_alone :]
                assert last == [[decision.item_id]] * CAPS.max_kills_alone
            else:  # whether it is exhausted, `_apply` has looked
                assert (alone, decision.reason) == ([decision.item_id], "retries_exhausted")

    @rule(worker=workers)
    def preempt(self, worker: str) -> None:
        for decision in self._lose(worker, crashed=False):
            assert decision.kind == "requeue"
            self.free_losses[decision.item_id] += 1

    @rule(seconds=st.sampled_from([1.0, CAPS.lease_s / 2, CAPS.lease_s]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        for decision in self.ledger.expire(self.now_s):
            assert self.state[decision.item_id] == "leased"
            self._apply(decision)

    @invariant()
    def every_item_is_in_exactly_one_state(self) -> None:
        counts = self.ledger.counts
        states = collections.Counter(self.state.values())
        assert states == +collections.Counter(
            waiting=counts.waiting,
            leased=counts.leased,
            done=counts.done,
            quarantined=counts.quarantined,
        )
        assert self.ledger.is_finished == (states["waiting"] + states["leased"] == 0)
        open_items = [i for i, state in self.state.items() if state in ("waiting", "leased")]
        assert counts.suspects == sum(self.crashes[item_id] > 0 for item_id in open_items)

    @invariant()
    def a_live_lease_is_one_workers_and_of_an_item_that_is_leased(self) -> None:
        live = [lease for worker in WORKERS for lease in self.ledger.leases_of(worker)]
        assert len({lease.attempt for lease in live}) == len(live)
        leased = {item_id for item_id, state in self.state.items() if state == "leased"}
        assert collections.Counter(lease.item.item_id for lease in live) == dict.fromkeys(leased, 1)

    @invariant()
    def a_suspect_is_never_in_company(self) -> None:
        for worker in WORKERS:
            held = [lease.item.item_id for lease in self.ledger.leases_of(worker)]
            assert len(held) <= 1 or not any(self.crashes[item_id] for item_id in held)

    @invariant()
    def the_ledger_forgets_nothing_that_is_inside_a_worker(self) -> None:
        for worker in WORKERS:
            believed = self.ledger.attempts_inside(worker)
            assert {lease.attempt for lease in self.inside[worker]} <= set(believed)

    @invariant()
    def attempts_are_bounded_by_the_caps(self) -> None:
        paid = 1 + CAPS.max_infra_retries + CAPS.max_crashes + CAPS.max_crashes_alone
        for item_id, grants in self.grants.items():
            assert grants <= paid + self.free_losses[item_id]

    def teardown(self) -> None:
        """From now on the workers answer, but for those just lost: all must end, and soon.

        First with new work for every slot that gets free, so that no worker is idle by itself.
        """
        if not hasattr(self, "ledger"):
            return
        present = [worker for worker in WORKERS if worker not in self.absent] or [WORKERS[0]]
        rounds_left = 2 * self.ledger.counts.suspects + 4 * SLOTS
        while self.ledger.counts.suspects:
            self.feed(len(present))
            self._answer_all(present)
            rounds_left -= 1
            assert rounds_left, "suspects starve"
        rounds_left = len(self.state) + 4 * SLOTS
        while not self.ledger.is_finished:
            self._answer_all(present)
            rounds_left -= 1
            assert rounds_left, "items starve"
        assert {i for i, state in self.state.items() if state == "done"} <= self.committed

    def _answer_all(self, present: list[str]) -> None:
        """Each worker names what it holds, asks for more, and ends one attempt."""
        self.pass_time(CAPS.lease_s / 4)
        for worker in present:
            self.renew(worker)
            self.ask(worker)
            if self.inside[worker]:
                self._read(self._outcome(self.inside[worker].pop(0), Status.COMMITTED))
        self.every_item_is_in_exactly_one_state()
        self.a_suspect_is_never_in_company()

    def _outcome(self, lease: Lease, status: Status) -> Outcome:
        """What the worker says; whether its commit is the first is for the store to say."""
        item_id = lease.item.item_id
        if status in (Status.COMMITTED, Status.DUPLICATE):
            first = item_id not in self.committed
            status = Status.COMMITTED if first else Status.DUPLICATE
            self.committed.add(item_id)
        reason = "preempted" if status is Status.RETURNED else "storage"
        return Outcome(item_id, lease.attempt, status, reason)

    def _read(self, outcome: Outcome) -> None:
        item_id = outcome.item_id
        before = self.state[item_id]
        live = {
            lease.item.item_id: lease.attempt
            for worker in WORKERS
            for lease in self.ledger.leases_of(worker)
        }
        is_stale = item_id in live and live[item_id] != outcome.attempt
        decision = self.ledger.finish(outcome)
        self._apply(decision)
        if outcome.status in (Status.COMMITTED, Status.DUPLICATE):
            assert self.state[item_id] == "done"
        elif before in ("done", "quarantined") or is_stale:
            assert decision.kind == "ignore"
        elif outcome.status is Status.QUARANTINED:
            assert self.state[item_id] == "quarantined"
        else:
            assert decision.kind == ("ignore" if before == "waiting" else decision.kind)

    def _lose(self, worker: str, *, crashed: bool, killed: bool = False) -> list[Decision]:
        self.inside[worker].clear()
        self.absent.add(worker)
        decisions = self.ledger.lose_worker(worker, crashed, killed=killed)
        for decision in decisions:
            assert self.state[decision.item_id] in ("waiting", "leased")
            self._apply(decision)
        assert self.ledger.leases_of(worker) == []
        return decisions

    def _apply(self, decision: Decision) -> None:
        """The model learns of every change from the decisions alone, as the driver does."""
        if decision.kind == "ignore":
            return
        assert decision.reason in REASONS
        before = self.state[decision.item_id]
        assert before != "done"
        grants = 0 if before == "quarantined" else self.grants[decision.item_id]
        assert decision.attempts == grants
        if decision.kind == "requeue" and decision.reason in ("storage", "lease_expired"):
            self.infra_retries[decision.item_id] += 1
        if decision.reason == "preempted":
            self.free_losses[decision.item_id] += 1
        used_up = self.infra_retries[decision.item_id] - CAPS.max_infra_retries
        assert used_up <= 0
        assert used_up == 0 or decision.reason != "retries_exhausted"
        new = {"done": "done", "quarantine": "quarantined", "requeue": "waiting"}
        self.state[decision.item_id] = new[decision.kind]


TestLedgerHistory = LedgerHistory.TestCase
TestLedgerHistory.settings = settings(
    max_examples=200,
    stateful_step_count=80,
)
