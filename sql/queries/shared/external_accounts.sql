-- name: create_external_account(environment_id, identifier, metadata)<!
-- Create an account of an environment.
-- record: ExternalAccount
select a.id, a.environment_id, a.identifier, a.metadata, a.created_at
from shared.create_external_account(:environment_id, :identifier, :metadata) as a;

-- name: list_external_accounts(environment_id, identifier, after, limit)
-- List the accounts of an environment, in order of their creation, or the one of an identifier.
-- record: ExternalAccount
-- optional: identifier, after
select a.id, a.environment_id, a.identifier, a.metadata, a.created_at
from (
    -- One branch an index; of the two one is not run.
    (
        select *
        from shared.external_accounts as e
        where :identifier::text is null and e.environment_id = :environment_id
            and e.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
        order by e.id
        limit :limit
    )
    union all
    (
        select *
        from shared.external_accounts as i
        where i.environment_id = :environment_id and i.identifier = :identifier
            and i.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
    )
) as a
order by a.id
limit :limit;

-- name: get_external_account(environment_id, id)^
-- Return an account of an environment.
-- record: ExternalAccount
select a.id, a.environment_id, a.identifier, a.metadata, a.created_at
from shared.external_accounts as a
where a.id = :id and a.environment_id = :environment_id;

-- name: change_external_account(environment_id, id, metadata)^
-- Put other metadata in place of an account's.
-- record: ExternalAccount
update shared.external_accounts as a
set metadata = :metadata
where a.id = :id and a.environment_id = :environment_id
returning a.id, a.environment_id, a.identifier, a.metadata, a.created_at;

-- name: delete_external_account(environment_id, id)^
-- Delete an account; its identifier may be taken again.
-- record: ExternalAccount
delete from shared.external_accounts as a
where a.id = :id and a.environment_id = :environment_id
returning a.id, a.environment_id, a.identifier, a.metadata, a.created_at;

-- name: get_own_environment(id)^
-- Return an environment of the organization that the caller acts in.
-- record: Environment
select e.id, e.organization_id, e.project_id, e.slug, e.type, e.created_at
from shared.environments as e
where e.id = :id and e.organization_id = shared.required_organization(shared.current_actor(), 'accounts:read');
