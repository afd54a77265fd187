drop function secretstore.keep_master_key(text, bytea);
drop function secretstore.admit_master_keys(text[], bytea[]);
drop table secretstore.master_keys;
