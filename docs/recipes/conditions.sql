create table orders (id bigint primary key, state text, total numeric, created_at timestamptz, shipped_at timestamptz);
create table payments (order_id bigint);
create table vouchers (order_id bigint);
create table disputes (order_id bigint);
create table lines (order_id bigint, amount numeric);
insert into orders select n, 'shipped', 20, now() - interval '2 days', now() - interval '1 day' from generate_series(1, 6) n;
insert into payments select n from generate_series(1, 4) n;
insert into vouchers values (5), (6);
insert into lines select n, 10 from generate_series(1, 6) n, generate_series(1, 2);
-- broken: orders sessions_with_gap 3
delete from vouchers where order_id = 5;
insert into disputes values (1);
delete from lines where ctid in (select ctid from lines where order_id = 2 limit 1);
-- mended
insert into payments values (5);
delete from disputes;
insert into lines values (2, 10);
