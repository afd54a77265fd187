-- name: create_environment(project_id, slug, type, secret_digest, secret_hint, public_digest, public_hint)<!
-- Create an environment of a project, with its first keys.
-- record: Environment
select e.id, e.organization_id, e.project_id, e.slug, e.type, e.created_at
from apiauth.create_environment(:project_id, :slug, :type, :secret_digest, :secret_hint, :public_digest, :public_hint) as e;

-- name: get_environment_type(id)$
-- Return the type of an environment that the caller may see.
select e.type as "type!" from shared.environments as e where e.id = :id;

-- name: issue_environment_keys(environment_id, secret_digest, secret_hint, public_digest, public_hint, grace)$
-- Rotate an environment's keys; the earlier ones work until the time returned.
select apiauth.issue_environment_keys(
    :environment_id, :secret_digest, :secret_hint, :public_digest, :public_hint, :grace
) as "previous_end_at!";
