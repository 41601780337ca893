-- How long the first order of a SKU takes in a session that has sold others.
SELECT ordflow.submit_order('warm', '[{"sku": "1", "quantity": 1, "unit_price": "10.00"}]') FROM generate_series(1, 10) \g /dev/null
\timing on
SELECT ordflow.submit_order('cold', '[{"sku": "cold", "quantity": 1, "unit_price": "10.00"}]');
