create table orders (id int primary key, state text, created_at timestamptz, paid_at timestamptz);
create table lines (id int primary key, order_id int, is_physical boolean);
create index on lines (order_id);
create table shipments (order_id int);
insert into orders select n, 'paid', now() - interval '1 day', now() - interval '1 day' from generate_series(1, 9) n;
-- orders 1 to 4 have two goods each, 5 and 6 have a download, 7 has a line of an unknown kind, 8 and 9 have no line
insert into lines select n, (n + 1) / 2, true from generate_series(1, 8) n;
insert into lines values (9, 5, false), (10, 6, false), (11, 7, null);
insert into shipments select n from generate_series(1, 4) n;
-- broken: orders sessions_with_gap 3
delete from shipments where order_id in (1, 2);
insert into lines values (12, 5, true);
-- mended
insert into shipments values (1), (2), (5);
