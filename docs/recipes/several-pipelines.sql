create table orders (id int primary key, state text, created_at timestamptz, paid_at timestamptz);
create table invoices (order_id int);
create table uploads (id int primary key, status text, started_at timestamptz, finished_at timestamptz);
create table previews (upload_id int, size text);
insert into orders select n, 'paid', now() - interval '1 day', now() - interval '1 day' from generate_series(1, 5) n;
insert into orders values (6, 'cart', now() - interval '1 day', null);
insert into invoices select n from generate_series(1, 5) n;
insert into uploads select n, 'stored', now() - interval '2 hours', now() - interval '2 hours' from generate_series(1, 4) n;
insert into uploads values (5, 'stored', now() - interval '30 minutes', now() - interval '30 minutes');
insert into previews select n, size from generate_series(1, 4) n, unnest(array['small', 'large']) size;
-- broken: orders sessions_with_gap 2
-- broken: uploads sessions_with_gap 1
-- broken: uploads duplicate_records previews 1
delete from invoices where order_id in (2, 3);
delete from previews where upload_id = 4;
insert into previews values (1, 'small');
-- mended
insert into invoices values (2), (3);
insert into previews values (4, 'small');
delete from previews where ctid in (select max(ctid) from previews where upload_id = 1 and size = 'small');
