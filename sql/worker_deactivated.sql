-- Where the server runs workers, make installcheck runs this file first: they would race with what the tests leave overdue.
SELECT ordflow.deactivate();
SELECT ordflow.is_active('timer');
