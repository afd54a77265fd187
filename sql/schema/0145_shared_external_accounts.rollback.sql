drop function shared.create_external_account(uuid, text, jsonb);
drop table shared.external_accounts;
