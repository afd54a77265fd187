-- Which secrets changed, told to whoever listens on the channel `secrets`: the id, and nothing that a key would tell.
--
-- Processes that keep sealed values forget them then. No read depends on it: what a process holds counts only if
-- grant_reads finds that it is what is to be read.
-- depends: 0340_secretstore_readers

set local role brokerflow_vault;

create function secretstore.secrets_announce() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform pg_notify('secrets', new.id::text);
    return null;
end;
$$;

create trigger secrets_announce
after update on secretstore.secrets
for each row execute function secretstore.secrets_announce();

comment on trigger secrets_announce on secretstore.secrets is
    'Tells of a new version, a deletion and its end. A constraint tells nobody, and a command would leave out what is done in SQL.';

create function secretstore.secret_versions_announce() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform pg_notify('secrets', new.secret_id::text);
    return null;
end;
$$;

create trigger secret_versions_announce
after update on secretstore.secret_versions
for each row execute function secretstore.secret_versions_announce();

comment on trigger secret_versions_announce on secretstore.secret_versions is
    'Tells of a version that was destroyed, so that no process keeps its data key, or wrapped by another master key.';
