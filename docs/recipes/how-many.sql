create table orders (id bigint primary key, state text, parcels int not null, created_at timestamptz, shipped_at timestamptz);
create table parcels (order_id bigint, delivered boolean not null);
insert into orders select n, 'shipped', n % 3, now() - interval '2 days', now() - interval '1 day' from generate_series(1, 6) n;
insert into parcels select o.id, true from orders o, generate_series(1, o.parcels);
-- broken: orders sessions_with_gap 3
delete from parcels where order_id = 1;
update parcels set delivered = false where ctid in (select ctid from parcels where order_id = 2 limit 1);
insert into parcels values (4, true);
-- mended
insert into parcels values (1, true);
update parcels set delivered = true where order_id = 2;
delete from parcels where ctid in (select ctid from parcels where order_id = 4 limit 1);
