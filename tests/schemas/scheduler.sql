-- Expected: dag_run by (dag_id, run_id), a key that is unique beside the primary key, record task_instance.
create table dag (dag_id text primary key, is_paused boolean, last_parsed_time timestamptz);
create table log (id serial primary key, dttm timestamptz, dag_id text, run_id text, event text);
create table dag_run (
  id serial primary key, dag_id text not null, run_id text not null, state text, queued_at timestamptz,
  logical_date timestamptz, start_date timestamptz, end_date timestamptz, updated_at timestamptz, run_type text not null,
  unique (dag_id, run_id), unique (dag_id, logical_date)
);
create table task_instance (
  id uuid primary key default gen_random_uuid(), task_id text not null, dag_id text not null, run_id text not null,
  map_index int not null default -1, start_date timestamptz, end_date timestamptz, duration float8, state text,
  try_number int, updated_at timestamptz,
  unique (dag_id, task_id, run_id, map_index), foreign key (dag_id, run_id) references dag_run (dag_id, run_id)
);
create table xcom (
  dag_run_id int not null references dag_run, task_id text not null, key text not null, dag_id text, run_id text,
  value jsonb, timestamp timestamptz, primary key (dag_run_id, task_id, key)
);
create table dag_run_note (dag_run_id int primary key references dag_run, content text, created_at timestamptz);
create table task_reschedule (
  id serial primary key, ti_id uuid references task_instance, start_date timestamptz, end_date timestamptz
);
insert into dag values ('etl');
insert into dag_run (dag_id, run_id, state, queued_at, start_date, end_date, run_type)
select 'etl', 'scheduled__' || n, case when n <= 2 then 'running' when n % 20 = 0 then 'failed' else 'success' end,
  now() - n * interval '1 hour', now() - n * interval '1 hour', now() - n * interval '1 hour' + interval '5 minutes',
  'scheduled'
from generate_series(1, 400) n;
insert into task_instance (task_id, dag_id, run_id, start_date, end_date, state)
select t, dag_id, run_id, start_date, end_date, 'success' from dag_run, unnest(array['extract', 'load']) t
where id not in (100, 200);
insert into xcom select id, 'extract', 'return_value', dag_id, run_id, '1', end_date from dag_run where id % 10 = 0;
insert into dag_run_note select id, 'looked at', now() from dag_run where id % 50 = 0;
