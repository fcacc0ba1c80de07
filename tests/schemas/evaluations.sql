-- Expected: job_executions, whose own column job_output_score_id refers to its record in scores.
create table projects (id text primary key, name text, created_at timestamp default now());
create table traces (
  id text primary key, timestamp timestamp not null, name text, project_id text not null references projects,
  created_at timestamp not null default now(), updated_at timestamp
);
create table scores (
  id text primary key, timestamp timestamp not null, project_id text references projects, name text, value float8,
  trace_id text not null, source text not null, created_at timestamp not null default now()
);
create table job_configurations (
  id text primary key, project_id text references projects, job_type text, status text not null default 'ACTIVE',
  created_at timestamp not null default now(), updated_at timestamp
);
create table job_executions (
  id text primary key, project_id text not null references projects,
  job_configuration_id text not null references job_configurations, status text not null, start_time timestamp,
  end_time timestamp, error text, job_input_trace_id text references traces, job_output_score_id text,
  created_at timestamp not null default now(), updated_at timestamp
);
insert into projects values ('p', 'p');
insert into traces select 't' || n, now() - n * interval '20 minutes', 'trace', 'p' from generate_series(1, 500) n;
insert into job_configurations values ('c', 'p', 'EVAL');
insert into scores select 's' || n, now() - n * interval '20 minutes', 'p', 'quality', 1, 't' || n, 'EVAL', now() - n * interval '20 minutes'
from generate_series(1, 500) n where n % 12 <> 0 and n % 130 <> 0;
insert into job_executions (id, project_id, job_configuration_id, status, start_time, end_time, job_input_trace_id, job_output_score_id, created_at)
select 'j' || n, 'p', 'c', case when n % 12 = 0 then 'ERROR' else 'COMPLETED' end, now() - n * interval '20 minutes',
  now() - n * interval '20 minutes' + interval '1 minute', 't' || n, case when n % 12 <> 0 then 's' || n end, now() - n * interval '20 minutes'
from generate_series(1, 500) n;
