create table uploads (id int primary key, status text, started_at timestamptz, status_changed_at timestamptz,
  finished_at timestamptz);
create table previews (upload_id int);
insert into uploads select n, 'stored', now() - interval '1 day', now() - interval '1 day', now() - interval '1 day'
from generate_series(1, 3) n;
insert into previews select n from generate_series(1, 3) n;
-- an old session that has just begun to be processed, and a cancelled session
insert into uploads values (4, 'processing', now() - interval '3 days', now() - interval '5 minutes', null);
insert into uploads values (5, 'cancelled', now() - interval '3 days', now() - interval '3 days', null);
-- broken: uploads stuck_sessions 2
insert into uploads values (6, 'queued', now() - interval '5 hours', now() - interval '5 hours', null);
update uploads set status_changed_at = now() - interval '3 hours' where id = 4;
-- mended
update uploads set status = 'failed', status_changed_at = now() where id in (4, 6);
