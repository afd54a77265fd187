drop schema archive;
drop schema partitions;
drop schema vote;
drop schema agreement;
drop schema secretstore;
drop schema apiauth;
drop schema shared;

alter default privileges for role brokerflow_owner, brokerflow_guard, brokerflow_vault
    grant execute on functions to public;
