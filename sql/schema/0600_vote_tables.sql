-- Votes: which APIs users want, one vote a user an API.
-- depends: 0480_agreement_access

set local role brokerflow_owner;

create table vote.votes (
    user_id uuid not null default shared.current_user_id() references shared.users (id) on delete cascade,
    api_identifier text not null,
    created_at timestamptz not null default shared.clock(),
    constraint votes_one_a_user_an_api primary key (user_id, api_identifier),
    constraint votes_api_identifier_is_a_name check (api_identifier ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$')
);

-- Serves the tallies.
create index votes_api_identifier_idx on vote.votes (api_identifier);

comment on table vote.votes is 'Votes. They are their users'', and go with them.';
comment on constraint votes_one_a_user_an_api on vote.votes is
    'Axiom A13: one vote a user an API. However often he votes, and from however many places at once.';
