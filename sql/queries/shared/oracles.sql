-- name: become_auditor()!
-- Go on as the auditor to the end of the transaction, with an empty search path and time to think.
select
    set_config('role', 'brokerflow_auditor', true), set_config('search_path', '', true),
    set_config('statement_timeout', '0', true), set_config('jit', 'off', true), set_config('work_mem', '64MB', true);

-- name: record_oracle_results(results)!
-- Store how many violations each oracle found: a list of {oracle, axioms, violations, seconds}.
-- role: brokerflow_auditor
select shared.record_oracle_results(:results);
