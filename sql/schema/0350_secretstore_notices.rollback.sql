drop trigger secret_versions_announce on secretstore.secret_versions;
drop function secretstore.secret_versions_announce();
drop trigger secrets_announce on secretstore.secrets;
drop function secretstore.secrets_announce();
