-- name: take_attempt(bucket, capacity, period)<!
-- Take one of the attempts that a bucket has for a period.
-- record: Attempt
select
    a.is_taken as "is_taken!", a.remaining as "remaining!", a.retry_after as "retry_after!", a.full_after as "full_after!"
from apiauth.take_attempt(:bucket, :capacity, :period) as a;

-- name: take_attempt_on(account, bucket, capacity, period)<!
-- Take one of the attempts that a bucket has on an account, in whatever spelling of its address.
-- record: Attempt
select
    a.is_taken as "is_taken!", a.remaining as "remaining!", a.retry_after as "retry_after!", a.full_after as "full_after!"
from apiauth.take_attempt(:bucket || ' ' || shared.address_key(:account), :capacity, :period) as a;

-- name: take_own_attempt(act, capacity, period)<!
-- Take one of the attempts that the caller's user has for a period, wherever he calls from.
-- record: Attempt
select
    a.is_taken as "is_taken!", a.remaining as "remaining!", a.retry_after as "retry_after!", a.full_after as "full_after!"
from apiauth.take_attempt(:act || ' of ' || shared.current_user_id(), :capacity, :period) as a;
