create table orders (id bigint primary key, state text, created_at timestamptz, shipped_at timestamptz);
insert into orders select n, 'shipped', now() - interval '4 days', now() - interval '3 days' from generate_series(1, 6) n;
create schema stock;  -- in the warehouse
create table stock.parcels (order_id bigint, packed_at timestamptz, weight numeric);
insert into stock.parcels select n, now() - interval '3 days', 1.5 from generate_series(1, 6) n;
-- broken: orders sessions_with_gap 2
-- broken: orders duplicate_records parcels 1
-- broken: orders orphaned_records parcels 1
delete from stock.parcels where order_id = 1;
update stock.parcels set weight = 0 where order_id = 2;
insert into stock.parcels values (3, now(), 1.5), (7, now(), 1.5);
-- mended
insert into stock.parcels values (1, now(), 1.5);
update stock.parcels set weight = 1.5 where order_id = 2;
delete from stock.parcels where order_id = 7;
delete from stock.parcels where order_id = 3 and packed_at > now() - interval '1 day';
