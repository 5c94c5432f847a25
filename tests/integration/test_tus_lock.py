"""The lock of an upload by tus: who holds it, who is told to wait, and what a late holder finds."""

from datetime import timedelta

import pytest
from bucketscribe.settings import Settings
from bucketscribe.tus_lock import LEASE, Lock, Locked, LockLost, read_lock

from tests.conftest import LaterBucket

KEY = "tus/local/019aa5b2-7c1e-7d3a-9f00-0242ac120002/lock"
OVER = LEASE + timedelta(seconds=3)


def test_one_holds_it_and_who_comes_second_leaves_a_note(bucket: LaterBucket) -> None:
    lock = Lock.take(bucket, KEY, bucket.now())
    assert lock.renew() is False
    with pytest.raises(Locked):
        Lock.take(bucket, KEY, bucket.now())
    assert lock.renew() is True
    lock.release()
    assert bucket.find(KEY) is None
    Lock.take(bucket, KEY, bucket.now()).release()


def test_one_that_is_not_renewed_is_taken_over_and_its_holder_finds_that_out(
    bucket: LaterBucket, settings: Settings
) -> None:
    late = Lock.take(bucket, KEY, bucket.now())
    others = LaterBucket.connect(settings)
    others.later = OVER
    lock = Lock.take(others, KEY, others.now())
    with pytest.raises(LockLost):
        late.renew()
    late.release()
    content = read_lock(bucket, KEY)
    assert content is not None
    assert content.token == lock.content.token


def test_a_renewed_one_is_not_over_a_lease_after_it_was_taken(
    bucket: LaterBucket, settings: Settings
) -> None:
    lock = Lock.take(bucket, KEY, bucket.now())
    bucket.later = OVER
    lock.renew()
    # The renewal's answer has told it the later time.
    lock.renew()
    others = LaterBucket.connect(settings)
    others.later = OVER
    with pytest.raises(Locked):
        Lock.take(others, KEY, others.now())


def test_a_note_does_not_make_a_dead_holders_lease_longer(bucket: LaterBucket) -> None:
    Lock.take(bucket, KEY, bucket.now())
    bucket.later = OVER / 2
    with pytest.raises(Locked):
        Lock.take(bucket, KEY, bucket.now())
    bucket.later = OVER
    Lock.take(bucket, KEY, bucket.now()).release()


def test_what_must_outlive_a_writer_stays_when_it_lets_go(bucket: LaterBucket) -> None:
    lock = Lock.take(bucket, KEY, bucket.now())
    lock.settle(((2, "bad"),))
    lock.release()
    content = read_lock(bucket, KEY)
    assert content is not None
    assert (content.token, content.void) == (None, ((2, "bad"),))
    again = Lock.take(bucket, KEY, bucket.now())
    assert again.content.void == ((2, "bad"),)
    again.settle(())
    again.release()
    assert bucket.find(KEY) is None


def test_who_was_frozen_does_not_begin_to_write(bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock.take(bucket, KEY, bucket.now())
    lock.check()
    wall = 10.0
    monkeypatch.setattr("bucketscribe.tus_lock._clocks", lambda: (lock._renewed[0], lock._renewed[1] + wall))
    with pytest.raises(LockLost):
        lock.check()
