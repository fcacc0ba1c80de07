create table orders (id bigint primary key, state text, created_at timestamptz, paid_at timestamptz, deliver_by timestamptz);
create table deliveries (order_id bigint);
insert into orders
select n, 'paid', now() - interval '3 days', now() - interval '3 days', now() - interval '1 day' from generate_series(1, 4) n;
insert into orders values
  (5, 'paid', now() - interval '3 days', now() - interval '3 days', now() + interval '2 days'),
  (6, 'paid', now() - interval '1 hour', now() - interval '1 hour', null);
insert into deliveries select n from generate_series(1, 4) n;
-- broken: orders sessions_with_gap 2
delete from deliveries where order_id = 1;
update orders set deliver_by = now() - interval '3 hours' where id = 5;
-- mended
insert into deliveries values (1), (5);
