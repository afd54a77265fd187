-- name: cast_vote(api_identifier)<!
-- Vote for an API; voting again changes nothing.
-- record: Vote
with cast_now as (
    insert into vote.votes (api_identifier)
    values (:api_identifier)
    on conflict on constraint votes_one_a_user_an_api do nothing
    returning api_identifier
)
select :api_identifier::text as "api_identifier!", exists (select from cast_now) as "is_new_vote!";

-- name: withdraw_vote(api_identifier)<!
-- Withdraw the caller's vote for an API, if there is one.
-- record: Vote
with withdrawn as (
    delete from vote.votes as v
    where v.api_identifier = :api_identifier and v.user_id = shared.current_user_id()
    returning v.api_identifier
)
select :api_identifier::text as "api_identifier!", false as "is_new_vote!";

-- name: list_tallies(after, limit)
-- Count the votes of each API, in the order of their names.
-- record: Tally
-- optional: after
select
    t.api_identifier as "api_identifier!", t.votes as "votes!",
    exists (
        select from vote.votes as v where v.api_identifier = t.api_identifier and v.user_id = shared.current_user_id()
    ) as "is_mine!"
from vote.tally(:after, :limit) as t;
