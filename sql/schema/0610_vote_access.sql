-- Who may see and cast votes. One's own are one's own; the sum is for every proved actor.
-- depends: 0600_vote_tables

set local role brokerflow_owner;

-- Crosses row security to count, and names nobody.
create function vote.tally(after text, max integer) returns table (api_identifier text, votes bigint)
language sql stable security definer
set search_path = ''
as $$
    select v.api_identifier, count(*)
    from vote.votes as v
    where (select (shared.current_actor()).kind) is not null and v.api_identifier > coalesce(tally.after, '')
    group by v.api_identifier
    order by v.api_identifier
    limit tally.max
$$;

comment on function vote.tally(text, integer) is 'Crosses row security: how many want each API, in the order of their names. Nothing for nobody.';
revoke execute on function vote.tally(text, integer) from public;
grant execute on function vote.tally(text, integer) to brokerflow_app;

alter table vote.votes enable row level security;

-- Update is not granted: a vote is cast or withdrawn.
create policy select_voter on vote.votes for select to brokerflow_app
using (user_id = (select shared.current_user_id()));
create policy insert_voter on vote.votes for insert to brokerflow_app
with check (user_id = (select shared.acting_person()) and (select shared.can_use('votes:write')));
create policy delete_voter on vote.votes for delete to brokerflow_app
using (user_id = (select shared.acting_person()) and (select shared.can_use('votes:write')));
grant select, insert (api_identifier), delete on vote.votes to brokerflow_app;

create policy select_auditor on vote.votes for select to brokerflow_auditor using (true);
grant select on vote.votes to brokerflow_auditor;
