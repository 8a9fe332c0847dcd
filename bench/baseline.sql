-- (No colon stands before a letter or digit in a text here, since pgbench would take it for a variable.)
-- The same rows as a webhook's, written by the raw database: one transaction a payment, a statement for each table.
\set number :number + 1
\set trip :round * 100000000 + :client_id * 1000000 + :number
\set amount 5000 + :number * 37 % 90000
BEGIN;
INSERT INTO callbacks (tenant_id, callback_id, account_id, webhook_id, body, received_at, payment_id, handled_at)
VALUES ('bench', uuidv7(), 'bench.0123456789abcdef', 'msg_' || :trip, convert_to('{"type": "payment.completed","timestamp": "2026-01-01T000000.000+0000","data": {"transaction_id": "tx-' || :trip || '","request_id": "trip-' || :trip || '","amount": 50000,"currency": "KES","method": "mpesa","paid_at": "2026-01-01T000000.000+0000","fee": 25,"payer": {"name": "Client 1","phone": "+254700000001"}}}', 'UTF8'), now(), uuidv7(), now());
INSERT INTO payments (tenant_id, payment_id, account_id, transaction_id, request_id, status, flags, amount, applied, fee, currency, method, paid_at, payer_name, payer_phone, client_id, fleet_id, route_id, vehicle_id, payees, recorded_at, updated_at)
VALUES ('bench', uuidv7(), 'bench.0123456789abcdef', 'tx-' || :trip, 'trip-' || :trip, 'completed', '{}', :amount, :amount, 25, 'KES', 'mpesa', timestamptz '2026-01-01' + :number * interval '1 second', 'Client 1', '+254700000001', 'client-' || :number % 997, 'fleet-' || :number % 5, 'route-' || :number % 20, 'vehicle-' || :number % 200, '[{"payee_id": "driver-1", "share_bp": 10000}]', now(), now());
UPDATE requests SET status = 'completed', paid = amount, updated_at = now() WHERE tenant_id = 'bench' AND request_id = 'trip-' || :trip;
INSERT INTO outbox (tenant_id, event_id, topic, key, event, created_at)
VALUES ('bench', uuidv7(), 'payments', uuidv7()::text, ('{"id": "019aa5c0-0000-7000-8000-000000000000","source": "/takings/payments","type": "payment-completed","subject": "019aa5c0-0000-7000-8000-000000000001","time": "2026-01-01T000000.000000Z","tenantid": "bench","data": {"payment_id": "019aa5c0-0000-7000-8000-000000000001","account_id": "bench.0123456789abcdef","transaction_id": "tx-' || :trip || '","request_id": "trip-' || :trip || '","amount": 50000,"currency": "KES","method": "mpesa","paid_at": "2026-01-01T000000.00Z","client_id": "client-1","fleet_id": "fleet-1","route_id": "route-1","vehicle_id": "vehicle-1","platform": null,"payees": [{"payee_id": "driver-1","share_bp": 10000}],"applied": 50000,"fee": 25,"flags": []},"specversion": "1.0","datacontenttype": "application/json","traceparent": null}')::json, now());
COMMIT;
