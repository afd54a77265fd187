revoke all on vote.votes from brokerflow_app, brokerflow_auditor;

drop policy select_auditor on vote.votes;
drop policy delete_voter on vote.votes;
drop policy insert_voter on vote.votes;
drop policy select_voter on vote.votes;

alter table vote.votes disable row level security;

drop function vote.tally(text, integer);
