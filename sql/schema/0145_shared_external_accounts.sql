-- External accounts: whom the programs of an environment know under identifiers of their own.
-- depends: 0140_shared_invitations

set local role brokerflow_owner;

create table shared.external_accounts (
    id uuid primary key default shared.uuidv7(),
    organization_id uuid not null,
    environment_id uuid not null,
    identifier text collate "C" not null,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default shared.clock(),
    constraint external_accounts_environment_of_organization foreign key (environment_id, organization_id)
        references shared.environments (id, organization_id) on delete cascade,
    constraint external_accounts_identifier_once_an_environment unique (environment_id, identifier),
    constraint external_accounts_identifier_is_visible check (identifier ~ '^[^[:cntrl:]]{1,255}$' and identifier !~ '^\s|\s$'),
    constraint external_accounts_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
    constraint external_accounts_metadata_is_at_most_64_kib check (octet_length(metadata::text) <= 65536)
);

-- Serve the foreign key, and the accounts of an environment, in order.
create index external_accounts_environment_id_organization_id_idx on shared.external_accounts (environment_id, organization_id);
create index external_accounts_environment_id_idx on shared.external_accounts (environment_id, id);

comment on table shared.external_accounts is 'Accounts elsewhere, such as an end user''s, by the identifier that they have there. A row here lets nobody in.';
comment on constraint external_accounts_environment_of_organization on shared.external_accounts is
    'Axiom A9: nobody touches another tenant''s rows. An account''s environment is one of its own organization.';

-- A command, since a plain INSERT would tell a stranger that he may not, rather than that there is no such thing.
create function shared.create_external_account(environment_id uuid, identifier text, metadata jsonb) returns shared.external_accounts
language plpgsql volatile
set search_path = ''
as $$
declare
    v_organization_id uuid := shared.required_organization(shared.current_actor(), 'accounts:write');
    v_account shared.external_accounts;
begin
    insert into shared.external_accounts as a (organization_id, environment_id, identifier, metadata)
    select e.organization_id, e.id, create_external_account.identifier, create_external_account.metadata
    from shared.environments as e
    where e.id = create_external_account.environment_id and e.organization_id = v_organization_id
    returning a.* into v_account;
    if not found then
        perform shared.refuse('not_found', 'there is no such environment, or it is not yours', 'no_data_found');
    end if;
    return v_account;
end;
$$;

comment on function shared.create_external_account(uuid, text, jsonb) is 'Creates an account of an environment in the actor''s organization; a key of an environment makes those of that one and no other.';
grant execute on function shared.create_external_account(uuid, text, jsonb) to brokerflow_app;

alter table shared.external_accounts enable row level security;

-- A key of an environment has the accounts of that one. The identifier is not granted on update: it is the account.
create policy select_member on shared.external_accounts for select to brokerflow_app
using (
    organization_id = (select shared.acting_organization('accounts:read'))
    and ((select shared.current_environment_id()) is null or environment_id = (select shared.current_environment_id()))
);
create policy insert_member on shared.external_accounts for insert to brokerflow_app
with check (
    organization_id = (select shared.acting_organization('accounts:write'))
    and ((select shared.current_environment_id()) is null or environment_id = (select shared.current_environment_id()))
);
create policy update_member on shared.external_accounts for update to brokerflow_app
using (
    organization_id = (select shared.acting_organization('accounts:write'))
    and ((select shared.current_environment_id()) is null or environment_id = (select shared.current_environment_id()))
);
create policy delete_member on shared.external_accounts for delete to brokerflow_app
using (
    organization_id = (select shared.acting_organization('accounts:write'))
    and ((select shared.current_environment_id()) is null or environment_id = (select shared.current_environment_id()))
);
grant select, insert (organization_id, environment_id, identifier, metadata), update (metadata), delete
on shared.external_accounts to brokerflow_app;

create policy select_auditor on shared.external_accounts for select to brokerflow_auditor using (true);
grant select on shared.external_accounts to brokerflow_auditor;
