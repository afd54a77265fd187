-- it is at version 2 and has 0, the last of them 0
insert into secretstore.secrets (organization_id, key, version) select id, 'planted', 2 from shared.organizations limit 1;
